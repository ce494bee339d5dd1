package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

const driftLong = `Show what somebody has changed by hand on the hosts of a cluster: programs, files that Slipway wrote, kernel parameters, units,
certificates, the static pods of control planes, and the settings that the cluster stores. Nothing is changed. Ends with
exit code 1 when something differs.

The look is a plan that puts all of it back: approve it as it was shown, or run slipway cluster configure without a setting.`

func newDrift(deps output.Deps, project *string) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "drift NAME",
		Short: "Show what was changed by hand on the hosts of a cluster; changes nothing",
		Long:  driftLong,
		Args:  output.Args(cobra.ExactArgs(1)),
	}
	format := output.FormatFlag(cmd, output.FormatJSON, output.FormatYAML)
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "how long to wait for the look; 0 means no limit")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		connection, err := deps.Connect(*project)
		if err != nil {
			return err
		}
		ctx, cancel := limit(cmd.Context(), timeout)
		defer cancel()
		cluster, err := get(ctx, connection, args[0])
		if err != nil {
			return err
		}
		if cluster.Status.Applied == nil {
			return output.Refused("NotCreated", "wait until it is created", "cannot look at cluster %s: it is not created yet", cluster.Name)
		}
		// What the hosts must have is what was applied, whatever an edit since then wants.
		p := planning{deps: deps, connection: connection, name: cluster.Name, verb: v1alpha1.VerbConfigure, wanted: cluster.Status.Applied.DeepCopy()}
		op, err := p.make(ctx)
		if err != nil {
			return err
		}
		view, _, err := connection.Plan(ctx, op.Name)
		if err != nil {
			return err
		}
		differ := differing(view)
		if format.Machine() {
			b, err := json.Marshal(differ)
			if err != nil {
				return fmt.Errorf("cannot encode what differs: %w", err)
			}
			if err := output.PrintValue(deps.Streams.Out, *format, json.RawMessage(b)); err != nil {
				return err
			}
		} else if err := printDiffering(deps, view, differ); err != nil {
			return err
		}
		if err := output.PlanRefusal(view); err != nil || len(differ) == 0 {
			return err
		}
		if _, err := fmt.Fprintf(deps.Streams.ErrOut, "To put it back as planned:\n  %s\n",
			connection.Suggest("slipway operation approve "+op.Name+" --plan "+op.Status.Plan.Hash)); err != nil {
			return err
		}
		return errors.New("cluster " + cluster.Name + " differs from what was applied to it")
	}
	return cmd
}

// differing gives the steps that found something, in the order of the plan's hosts.
func differing(view *output.PlanView) []output.Preview {
	all := []output.Preview{}
	for _, p := range view.Preview {
		if p.State == output.PreviewDrift || p.State == output.PreviewError {
			all = append(all, p)
		}
	}
	return all
}

func printDiffering(deps output.Deps, view *output.PlanView, all []output.Preview) error {
	out := deps.Streams.Out
	if len(all) == 0 {
		_, err := fmt.Fprintln(out, "nothing differs")
		return err
	}
	host := ""
	for _, p := range all {
		if p.Host != host {
			host = p.Host
			if _, err := fmt.Fprintf(out, "host %s\n", output.Line(host)); err != nil {
				return err
			}
		}
		if err := output.PrintStep(out, deps.Terminal, p.Step, &p); err != nil {
			return err
		}
	}
	later := 0
	for _, p := range view.Preview {
		if p.State == output.PreviewAfter {
			later++
		}
	}
	if later == 0 {
		return nil
	}
	_, err := fmt.Fprintf(out, "%d more steps can be looked at only once this is put back\n", later)
	return err
}
