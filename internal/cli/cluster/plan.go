package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

func newPlan(deps output.Deps, project *string) *cobra.Command {
	var flags specFlags
	var remove bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "plan NAME",
		Short: "Show what creating (or deleting) a cluster would do on each host; changes nothing",
		Long: "Show what creating a cluster, or with --delete deleting one, would do on each host: which steps, and what differs\n" +
			"now. Changes nothing. The plan can be approved as it was shown; unapproved it is gone after a day.",
		Args: output.Args(cobra.ExactArgs(1)),
	}
	flags.add(cmd)
	format := output.FormatFlag(cmd, output.FormatJSON, output.FormatYAML)
	cmd.Flags().BoolVar(&remove, "delete", false, "plan the deletion of the cluster")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "how long to wait for the plan; 0 means no limit")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		connection, err := deps.Connect(*project)
		if err != nil {
			return err
		}
		ctx, cancel := limit(cmd.Context(), timeout)
		defer cancel()
		p := planning{deps: deps, connection: connection, name: args[0], verb: v1alpha1.VerbCreate, format: *format}
		if remove {
			p.verb = v1alpha1.VerbDelete
		} else {
			cluster, err := flags.cluster(ctx, connection, args[0], deps.Streams.In)
			if err != nil {
				return err
			}
			p.wanted = &cluster.Spec
		}
		return p.run(ctx)
	}
	return cmd
}

// planning is one run of `cluster plan`.
type planning struct {
	deps       output.Deps
	connection *output.Connection
	name       string
	verb       v1alpha1.Verb
	wanted     *v1alpha1.ClusterSpec
	parameters *v1alpha1.OperationParameters
	// propose makes a plan to be read of a verb that would run at once.
	propose bool
	format  output.Format
}

func (p *planning) run(ctx context.Context) error {
	if err := p.suits(ctx); err != nil {
		return err
	}
	op, err := p.make(ctx)
	if err != nil {
		return err
	}
	return p.show(ctx, op)
}

// make has the server make the plan, and gives the operation that holds it.
func (p *planning) make(ctx context.Context) (*v1alpha1.Operation, error) {
	op := newOperation(p.connection.Project, p.name, p.verb)
	op.Spec.Wanted, op.Spec.Parameters, op.Spec.Propose = p.wanted, p.parameters, p.propose
	if err := p.connection.Client.Create(ctx, op); err != nil {
		return nil, invalid("plan", p.name, err)
	}
	name := op.Name
	if _, err := fmt.Fprintf(p.deps.Streams.ErrOut, "operation %s: the server plans and looks at each host\n", name); err != nil {
		return nil, err
	}
	op, err := p.wait(ctx, name)
	if err != nil {
		return nil, output.WaitError(err, "the plan of operation "+name, "look later: "+p.connection.Suggest("slipway operation show "+name))
	}
	if op.Status.Phase != v1alpha1.OperationPlanned && !op.Status.Unasked {
		if err := output.Failures(p.deps.Streams.ErrOut, p.deps.Terminal, op.Status.Failures); err != nil {
			return nil, err
		}
		return nil, output.Refused(string(op.Status.Phase), "mend what is named above and plan again; nothing was changed",
			"cannot plan to %s cluster %s: %s", p.verb, p.name, reason(op))
	}
	return op, nil
}

// suits refuses plans whose end is known: creating what exists, deleting what does not.
func (p *planning) suits(ctx context.Context) error {
	_, err := get(ctx, p.connection, p.name)
	switch {
	case p.verb == v1alpha1.VerbDelete:
		return err
	case err == nil:
		return output.Refused("AlreadyExists", "look at it: "+p.connection.Suggest("slipway cluster status "+p.name),
			"cannot plan cluster %s: a cluster of that name exists", p.name)
	case apierrors.IsNotFound(err):
		return nil
	default:
		return err
	}
}

func (p *planning) wait(ctx context.Context, name string) (*v1alpha1.Operation, error) {
	var op *v1alpha1.Operation
	follower := output.NewFollower(p.deps, p.connection)
	follower.Out = p.deps.Streams.ErrOut
	err := output.Watch(ctx, p.connection.Client, &v1alpha1.OperationList{}, follower.Lost, func(all []*v1alpha1.Operation) (bool, error) {
		if len(all) == 0 {
			return false, output.Refused("Removed", "plan again", "cannot plan cluster %s: operation %s has been removed", p.name, name)
		}
		op = all[0]
		switch op.Status.Phase {
		case "", v1alpha1.OperationQueued:
			return false, nil
		case v1alpha1.OperationPlanned:
			return op.Status.Plan != nil, nil
		default:
			return true, nil
		}
	}, output.Named(name), client.InNamespace(p.connection.Project))
	return op, err
}

// show prints the plan and how to approve it.
func (p *planning) show(ctx context.Context, op *v1alpha1.Operation) error {
	if err := p.print(ctx, op); err != nil || p.format.Machine() {
		return err
	}
	_, err := fmt.Fprintf(p.deps.Streams.Out, "\nNothing was changed. To do exactly this:\n  %s\n",
		p.connection.Suggest("slipway operation approve "+op.Name+" --plan "+op.Status.Plan.Hash))
	return err
}

// print prints the plan; one that its preview refuses is an error.
func (p *planning) print(ctx context.Context, op *v1alpha1.Operation) error {
	view, raw, err := p.connection.Plan(ctx, op.Name)
	if err != nil {
		return err
	}
	if p.format.Machine() {
		err = output.PrintValue(p.deps.Streams.Out, p.format, json.RawMessage(raw))
	} else {
		err = output.PrintPlan(p.deps.Streams.Out, p.deps.Terminal, view)
		if err == nil && op.Status.Impact != nil {
			_, err = fmt.Fprintln(p.deps.Streams.Out)
		}
		if err == nil {
			err = output.PrintImpact(p.deps.Streams.Out, op.Status.Impact)
		}
	}
	if err != nil {
		return err
	}
	return output.PlanRefusal(view)
}

func reason(op *v1alpha1.Operation) string {
	if op.Status.Message != "" {
		return output.Line(op.Status.Message)
	}
	return "operation " + op.Name + " is " + string(op.Status.Phase)
}
