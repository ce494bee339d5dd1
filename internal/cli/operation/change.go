package operation

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

// change is what a verb does to an operation's spec: it gives what to tell, or why it is refused.
type change func(op *v1alpha1.Operation) (string, error)

func newApprove(deps output.Deps, project *string) *cobra.Command {
	var hash string
	cmd := &cobra.Command{
		Use:   "approve NAME",
		Short: "Agree to the plan of an operation, so that it runs",
		Long: "Agree to the plan of an operation, so that it runs. Exactly that plan runs: if the hosts have changed since,\n" +
			"the server plans again and asks again. With --plan only the plan of that hash is agreed to.",
		Args: output.Args(cobra.ExactArgs(1)),
	}
	cmd.Flags().StringVar(&hash, "plan", "", "hash of the plan that was read (default: the plan as it is now)")
	return changing(cmd, deps, project, func(op *v1alpha1.Operation) (string, error) { return approve(op, hash) })
}

func approve(op *v1alpha1.Operation, hash string) (string, error) {
	plan := op.Status.Plan
	switch {
	case op.Status.Phase != v1alpha1.OperationPlanned:
		return "", output.Refused("NotPlanned", "look: slipway operation show "+op.Name,
			"cannot approve operation %s: it is %s", op.Name, phase(op))
	case plan == nil:
		return "", output.Refused("NotPlanned", "wait until the server has planned it", "cannot approve operation %s: it has no plan yet", op.Name)
	case hash != "" && hash != plan.Hash:
		return "", output.Refused("PlanChanged", "read the new plan, then approve "+plan.Hash,
			"cannot approve operation %s: its plan is %s now, not %s", op.Name, plan.Hash, hash)
	}
	op.Spec.ApprovedPlan = plan.Hash
	return fmt.Sprintf("%s\noperation %s approved: plan %s", plan.Summary, op.Name, plan.Hash), nil
}

func newRetry(deps output.Deps, project *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "retry NAME",
		Short: "Try a failed, partial, blocked or aborted operation again, from the step that failed",
		Args:  output.Args(cobra.ExactArgs(1)),
	}
	return changing(cmd, deps, project, retry)
}

func retry(op *v1alpha1.Operation) (string, error) {
	switch {
	case op.Spec.Attempt > op.Status.Attempt:
		return "", output.Refused("AlreadyAsked", "", "cannot retry operation %s: attempt %d is asked for already", op.Name, op.Spec.Attempt+1)
	case op.Status.Phase == v1alpha1.OperationSucceeded:
		return "", output.Refused("Succeeded", "", "cannot retry operation %s: it has succeeded", op.Name)
	case !op.Status.Phase.Ended() && op.Status.Phase != v1alpha1.OperationBlocked:
		return "", output.Refused("NotEnded", "wait for it, or abort it first", "cannot retry operation %s: it is %s", op.Name, phase(op))
	}
	op.Spec.Attempt, op.Spec.Abort = op.Status.Attempt+1, false
	return fmt.Sprintf("operation %s: attempt %d asked for", op.Name, op.Spec.Attempt+1), nil
}

func newAbort(deps output.Deps, project *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "abort NAME",
		Short: "Stop an operation after the steps in flight",
		Args:  output.Args(cobra.ExactArgs(1)),
	}
	return changing(cmd, deps, project, abort)
}

func abort(op *v1alpha1.Operation) (string, error) {
	switch {
	case op.Spec.Abort:
		return fmt.Sprintf("operation %s: abort is asked for already", op.Name), nil
	case op.Status.Phase.Ended() && op.Spec.Attempt <= op.Status.Attempt && op.Status.Phase != v1alpha1.OperationFailed:
		return "", output.Refused("Ended", "", "cannot abort operation %s: it is %s", op.Name, phase(op))
	}
	op.Spec.Abort = true
	return fmt.Sprintf("operation %s: abort asked for; the steps in flight are finished first", op.Name), nil
}

func phase(op *v1alpha1.Operation) string {
	if op.Status.Phase == "" {
		return "not planned yet"
	}
	return string(op.Status.Phase)
}

// changing makes cmd do apply to the operation it names, and with --wait follow what comes of it.
func changing(cmd *cobra.Command, deps output.Deps, project *string, apply change) *cobra.Command {
	var wait bool
	cmd.Flags().BoolVar(&wait, "wait", false, "follow the operation until it ends")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		connection, err := deps.Connect(*project)
		if err != nil {
			return err
		}
		op, err := get(cmd.Context(), connection, args[0])
		if err != nil {
			return err
		}
		before := op.DeepCopy()
		text, err := apply(op)
		if err != nil {
			return err
		}
		if err := connection.Client.Patch(cmd.Context(), op, client.MergeFrom(before)); err != nil {
			return fmt.Errorf("cannot %s operation %s: %w", cmd.Name(), op.Name, err)
		}
		if _, err := fmt.Fprintln(deps.Streams.Out, output.Clean(text)); err != nil {
			return err
		}
		if !wait {
			_, err := fmt.Fprintln(deps.Streams.ErrOut, "follow it: "+connection.Suggest("slipway operation logs -f "+op.Name))
			return err
		}
		return follow(cmd.Context(), deps, connection, op.Name, op.Spec.Abort)
	}
	return cmd
}

// follow prints the progress of an operation to its end. An abort that was asked for is no failure.
func follow(ctx context.Context, deps output.Deps, connection *output.Connection, name string, aborting bool) error {
	follower := output.NewFollower(deps, connection)
	op, err := follower.Follow(ctx, func(all []*v1alpha1.Operation) *v1alpha1.Operation {
		if len(all) == 0 {
			return nil
		}
		return all[0]
	}, output.Named(name))
	if err != nil {
		return connection.Left(err, op, "the end of operation "+name)
	}
	if op == nil {
		return output.Refused("Removed", "", "cannot follow operation %s: it has been removed", name)
	}
	if err := follower.Times(deps.Streams.Out, op); err != nil {
		return err
	}
	if err := output.Failures(deps.Streams.Out, deps.Terminal, op.Status.Failures); err != nil {
		return err
	}
	if aborting && op.Status.Phase == v1alpha1.OperationAborted {
		return nil
	}
	return connection.Outcome(op)
}
