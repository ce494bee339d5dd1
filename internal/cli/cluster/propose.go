package cluster

import (
	"bufio"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

// proposed gives cmd the flags and the run of a change that is shown before it is done: edit makes the wanted spec of the
// one that is there and says what else the operation must know.
func proposed(cmd *cobra.Command, deps output.Deps, project *string, verb v1alpha1.Verb,
	edit func(*v1alpha1.ClusterSpec) (*v1alpha1.OperationParameters, error),
) *cobra.Command {
	var yes, noWait bool
	var timeout time.Duration
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait for the work")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "how long to wait (default: no limit)")
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
		wanted := cluster.Spec.DeepCopy()
		parameters, err := edit(wanted)
		if err != nil {
			return err
		}
		if !yes && !deps.Terminal {
			return output.Usagef("cannot ask whether to %s cluster %s: give --yes, or use kubectl or slipway apply", verb, cluster.Name)
		}
		p := planning{deps: deps, connection: connection, name: cluster.Name, verb: verb, wanted: wanted, parameters: parameters}
		op, err := p.make(ctx)
		if err != nil {
			return err
		}
		if err := p.print(ctx, op); err != nil {
			return err
		}
		if op.Status.Unasked {
			return runsUnasked(ctx, deps, connection, op, noWait)
		}
		if !yes {
			if err := agree(ctx, deps, op); err != nil {
				return err
			}
		}
		return approveAndFollow(ctx, deps, connection, op, noWait)
	}
	return cmd
}

// agree asks a person who has read the plan.
func agree(ctx context.Context, deps output.Deps, op *v1alpha1.Operation) error {
	if _, err := fmt.Fprintf(deps.Streams.ErrOut, "\nDo exactly this? [y/N] "); err != nil {
		return err
	}
	answer, err := readLine(ctx, deps)
	if err != nil {
		return err
	}
	if answer = strings.ToLower(answer); answer != "y" && answer != "yes" {
		return output.Refused("NotConfirmed", "", "cannot run operation %s: not confirmed; it is gone after a day", op.Name)
	}
	return nil
}

// readLine gives what a person types, "" when the input is closed.
func readLine(ctx context.Context, deps output.Deps) (string, error) {
	answers := make(chan string, 1)
	go func() {
		// A closed input is an empty answer, which means no.
		line, _ := bufio.NewReader(deps.Streams.In).ReadString('\n')
		answers <- strings.TrimSpace(line)
	}()
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case answer := <-answers:
		return answer, ctx.Err()
	}
}

// runsUnasked follows an operation that nobody needs to approve.
func runsUnasked(ctx context.Context, deps output.Deps, connection *output.Connection, op *v1alpha1.Operation, noWait bool) error {
	if _, err := fmt.Fprintf(deps.Streams.Out, "\nIt is harmless and runs without approval, as Setting approval says.\n"); err != nil || noWait {
		return err
	}
	return followOne(ctx, deps, connection, op)
}

func approveAndFollow(ctx context.Context, deps output.Deps, connection *output.Connection, op *v1alpha1.Operation, noWait bool) error {
	before := op.DeepCopy()
	op.Spec.ApprovedPlan = op.Status.Plan.Hash
	if err := connection.Client.Patch(ctx, op, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("cannot approve operation %s: %w", op.Name, err)
	}
	if noWait {
		_, err := fmt.Fprintf(deps.Streams.Out, "operation %s is approved\n", op.Name)
		return err
	}
	return followOne(ctx, deps, connection, op)
}

// followOne prints the progress of one operation until it has ended.
func followOne(ctx context.Context, deps output.Deps, connection *output.Connection, op *v1alpha1.Operation) error {
	follower := output.NewFollower(deps, connection)
	ended, err := follower.Follow(ctx, func(all []*v1alpha1.Operation) *v1alpha1.Operation {
		if len(all) == 0 {
			return nil
		}
		return all[0]
	}, output.Named(op.Name))
	if err != nil {
		return connection.Left(err, ended, "the end of operation "+op.Name)
	}
	if ended.Status.Phase == v1alpha1.OperationSucceeded {
		if _, err := fmt.Fprintf(deps.Streams.Out, "%s of cluster %s done in %s\n", op.Spec.Verb, op.Spec.Cluster, output.Took(ended)); err != nil {
			return err
		}
	}
	return finish(deps, connection, follower, ended)
}

// newOperation gives one that a person asks for.
func newOperation(project, cluster string, verb v1alpha1.Verb) *v1alpha1.Operation {
	return &v1alpha1.Operation{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: project, GenerateName: cluster + "-" + string(verb) + "-",
			Labels: map[string]string{v1alpha1.LabelCluster: cluster},
		},
		Spec: v1alpha1.OperationSpec{Verb: verb, Cluster: cluster},
	}
}
