package cluster

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

const restoreExample = `  # back to what a backup holds
  slipway cluster restore demo --backup demo-nightly-x7k2qp

  # the same without a control plane whose machine is gone for good
  slipway cluster restore demo --backup demo-nightly-x7k2qp --lost cp2`

func newRestore(deps output.Deps, project *string) *cobra.Command {
	var backup string
	var lost []string
	var yes, noWait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "restore NAME --backup BACKUP",
		Short: "Take a cluster back to what a backup holds",
		Long: "Take a cluster back to what a backup holds: what was made or changed since is gone. The backup is proven first, and\n" +
			"nothing stops before. The API does not answer for a minute or so; what runs on workers runs on meanwhile.",
		Example: restoreExample,
		Args:    output.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if backup == "" {
				return output.Usagef("cannot tell what to restore: give --backup; slipway backup list shows them")
			}
			connection, err := deps.Connect(*project)
			if err != nil {
				return err
			}
			ctx, cancel := limit(cmd.Context(), timeout)
			defer cancel()
			if err := confirmRestore(ctx, deps, connection, args[0], backup, lost, yes); err != nil {
				return err
			}
			op := newOperation(connection.Project, args[0], v1alpha1.VerbRestore)
			op.Spec.Parameters = &v1alpha1.OperationParameters{Backup: backup, Lost: lost}
			if err := connection.Client.Create(ctx, op); err != nil {
				return fmt.Errorf("cannot restore cluster %s: %w", args[0], err)
			}
			if noWait {
				_, err := fmt.Fprintf(deps.Streams.Out, "operation %s restores cluster %s\n", op.Name, args[0])
				return err
			}
			return followOne(ctx, deps, connection, op)
		},
	}
	cmd.Flags().StringVar(&backup, "backup", "", "backup to bring back")
	cmd.Flags().StringSliceVar(&lost, "lost", nil, "control plane that is gone for good and must never start again; repeat")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait for the work")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "how long to wait (default: no limit)")
	return cmd
}

// confirmRestore has a person type the name of the cluster whose newer objects will be gone.
func confirmRestore(ctx context.Context, deps output.Deps, connection *output.Connection, name, backup string, lost []string, yes bool) error {
	cluster, err := get(ctx, connection, name)
	if err != nil {
		return err
	}
	var b v1alpha1.Backup
	if err := connection.Client.Get(ctx, client.ObjectKey{Namespace: connection.Project, Name: backup}, &b); err != nil {
		return fmt.Errorf("cannot find backup %s: %w", backup, err)
	}
	if yes {
		return nil
	}
	if !deps.Terminal {
		return output.Usagef("cannot ask whether cluster %s shall be restored: give --yes", cluster.Name)
	}
	taken := "an unknown time"
	if b.Status.File != nil {
		taken = b.Status.File.TakenAt.UTC().Format(time.RFC3339)
	}
	text := fmt.Sprintf("This takes cluster %s back to %s: what was made or changed in it since is gone.\n", cluster.Name, taken)
	if len(lost) > 0 {
		text += fmt.Sprintf("It is restored without %s, which must never start again.\n", output.Line(strings.Join(lost, ", ")))
	}
	if _, err := fmt.Fprint(deps.Streams.ErrOut, text+"Type its name to go on: "); err != nil {
		return err
	}
	answer, err := readLine(ctx, deps)
	if err != nil {
		return err
	}
	if answer != cluster.Name {
		return output.Refused("NotConfirmed", "", "cannot restore cluster %s: not confirmed", cluster.Name)
	}
	return nil
}
