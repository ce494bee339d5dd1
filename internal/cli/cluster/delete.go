package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

func newDelete(deps output.Deps, project *string) *cobra.Command {
	var yes, noWait, now bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Put a cluster into the recycle bin, or delete it now",
		Long: "Put a cluster into the recycle bin: everything of it is stopped and its hosts stay held. It can be taken back with\n" +
			"\"slipway cluster undelete\" until its time is over (two hours, or what Setting retention says); then it is deleted.\n" +
			"With --now, or when it was never created, it is deleted at once: its hosts are left as they were found, and one that\n" +
			"cannot be cleaned is named. Interrupting the command leaves the work running on the server.",
		Args: output.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
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
			bin := !now && recyclable(cluster)
			if bin && cluster.Spec.Recycle {
				return output.Refused("Recycled", "delete it with --now, or take it back: slipway cluster undelete "+cluster.Name,
					"cannot delete cluster %s: it is in the recycle bin", cluster.Name)
			}
			if err := confirm(ctx, deps, connection, cluster, yes, bin); err != nil {
				return err
			}
			if bin {
				return toBin(ctx, deps, connection, cluster, noWait)
			}
			return remove(ctx, deps, connection, cluster, noWait)
		},
	}
	cmd.Flags().BoolVar(&now, "now", false, "do not put it into the recycle bin: delete it for good")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait for the work")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "how long to wait (default: no limit)")
	return cmd
}

// confirm has a person type the name of the cluster that will be gone, or stopped in the recycle bin.
func confirm(ctx context.Context, deps output.Deps, connection *output.Connection, cluster *v1alpha1.Cluster, yes, bin bool) error {
	if yes {
		return nil
	}
	if !deps.Terminal {
		return output.Usagef("cannot ask whether cluster %s shall be deleted: give --yes", cluster.Name)
	}
	what, verb := "deletes cluster %s and all that runs on its %d hosts", v1alpha1.VerbDelete
	if bin {
		what, verb = "stops cluster %s and all that runs on its %d hosts, and deletes it when its time in the recycle bin is over", v1alpha1.VerbStop
	}
	if err := foresee(ctx, deps, connection, cluster, verb); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(deps.Streams.ErrOut, "This "+what+".\nType its name to go on: ", cluster.Name, len(cluster.Spec.AllHosts())); err != nil {
		return err
	}
	answer, err := readLine(ctx, deps)
	if err != nil {
		return err
	}
	if answer != cluster.Name {
		return output.Refused("NotConfirmed", "", "cannot delete cluster %s: not confirmed", cluster.Name)
	}
	return nil
}

func remove(ctx context.Context, deps output.Deps, connection *output.Connection, cluster *v1alpha1.Cluster, noWait bool) error {
	err := connection.Client.Delete(ctx, cluster, client.Preconditions{UID: &cluster.UID}, client.PropagationPolicy(metav1.DeletePropagationForeground))
	if err != nil {
		return fmt.Errorf("cannot delete cluster %s: %w", cluster.Name, err)
	}
	if noWait {
		_, err := fmt.Fprintf(deps.Streams.Out, "cluster %s is being deleted\n", cluster.Name)
		return err
	}
	return followDelete(ctx, deps, connection, cluster)
}

// followDelete prints the progress of the delete operation until the cluster has gone, or the operation has stopped.
func followDelete(ctx context.Context, deps output.Deps, connection *output.Connection, cluster *v1alpha1.Cluster) error {
	following, stop := context.WithCancel(ctx)
	defer stop()
	gone := make(chan error, 1)
	go func() {
		gone <- waitGone(following, connection, cluster)
		stop()
	}()
	follower := output.NewFollower(deps, connection)
	choose := newest(cluster, v1alpha1.VerbDelete)
	label := client.MatchingLabels{v1alpha1.LabelCluster: cluster.Name}
	op, err := follower.Follow(following, choose, label)
	if ctx.Err() != nil {
		return connection.Left(ctx.Err(), op, "the end of deleting cluster "+cluster.Name)
	}
	if err != nil && following.Err() == nil {
		return connection.Left(err, op, "the end of deleting cluster "+cluster.Name)
	}
	if op != nil && stopped(op) && following.Err() == nil {
		return finish(deps, connection, follower, op)
	}
	if err := <-gone; err != nil {
		return connection.Left(err, op, "the end of deleting cluster "+cluster.Name)
	}
	return tellGone(ctx, deps, connection, follower, cluster, op)
}

// stopped says that the operation has ended and left the cluster there.
func stopped(op *v1alpha1.Operation) bool {
	switch op.Status.Phase {
	case v1alpha1.OperationFailed, v1alpha1.OperationAborted, v1alpha1.OperationBlocked, v1alpha1.OperationPlanned:
		return true
	default:
		return false
	}
}

// waitGone waits until the cluster is no more; another one of the same name does not count.
func waitGone(ctx context.Context, connection *output.Connection, cluster *v1alpha1.Cluster) error {
	return output.Watch(ctx, connection.Client, &v1alpha1.ClusterList{}, nil, func(all []*v1alpha1.Cluster) (bool, error) {
		return len(all) == 0 || all[0].UID != cluster.UID, nil
	}, output.Named(cluster.Name), client.InNamespace(connection.Project))
}

// tellGone prints how the deletion went, from the operation's last word when it is still there.
func tellGone(ctx context.Context, deps output.Deps, connection *output.Connection, follower *output.Follower,
	cluster *v1alpha1.Cluster, op *v1alpha1.Operation,
) error {
	if op != nil {
		var last v1alpha1.Operation
		err := connection.Client.Get(ctx, client.ObjectKeyFromObject(op), &last)
		if err == nil {
			op = &last
			follower.Show(ctx, op)
		} else if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("cannot see how the deletion of cluster %s went: %w", cluster.Name, err)
		}
	}
	if _, err := fmt.Fprintf(deps.Streams.Out, "cluster %s deleted\n", cluster.Name); err != nil {
		return err
	}
	if op == nil || !op.Status.Phase.Ended() {
		return nil
	}
	return finish(deps, connection, follower, op)
}
