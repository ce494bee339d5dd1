package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

func newUndelete(deps output.Deps, project *string) *cobra.Command {
	var noWait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "undelete NAME",
		Short: "Take a cluster back out of the recycle bin and start it",
		Args:  output.Args(cobra.ExactArgs(1)),
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
			if cluster.DeletionTimestamp != nil {
				return output.Refused("Deleting", "", "cannot take cluster %s back: it is being deleted", cluster.Name)
			}
			if !cluster.Spec.Recycle {
				return output.Refused("NotRecycled", "", "cannot take cluster %s back: it is not in the recycle bin", cluster.Name)
			}
			return switched(ctx, deps, connection, cluster, v1alpha1.VerbStart, noWait)
		},
	}
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait for the work")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "how long to wait (default: no limit)")
	return cmd
}

// recyclable says whether a cluster goes into the bin when it is deleted: one that never ran has nothing to take back.
func recyclable(cluster *v1alpha1.Cluster) bool {
	return cluster.DeletionTimestamp == nil && meta.IsStatusConditionTrue(cluster.Status.Conditions, v1alpha1.ClusterCreated)
}

// toBin puts a cluster into the recycle bin.
func toBin(ctx context.Context, deps output.Deps, connection *output.Connection, cluster *v1alpha1.Cluster, noWait bool) error {
	if err := switched(ctx, deps, connection, cluster, v1alpha1.VerbStop, noWait); err != nil {
		return err
	}
	until := "for a while"
	if last, err := get(ctx, connection, cluster.Name); err == nil && last.Status.DeletedAfter != nil {
		until = "until " + last.Status.DeletedAfter.UTC().Format(time.RFC3339)
	}
	_, err := fmt.Fprintf(deps.Streams.Out, "cluster %s is in the recycle bin %s, then it is deleted\ntake it back: %s\ndelete it now: %s\n", cluster.Name, until,
		connection.Suggest("slipway cluster undelete "+cluster.Name), connection.Suggest("slipway cluster delete "+cluster.Name+" --now"))
	return err
}

// switched asks for the cluster to be stopped or started and follows the operation that the server makes of it.
func switched(ctx context.Context, deps output.Deps, connection *output.Connection, cluster *v1alpha1.Cluster, verb v1alpha1.Verb, noWait bool) error {
	before := cluster.DeepCopy()
	cluster.Spec.Recycle = verb == v1alpha1.VerbStop
	if err := connection.Client.Patch(ctx, cluster, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("cannot %s cluster %s: %w", verb, cluster.Name, err)
	}
	if noWait {
		return nil
	}
	follower := output.NewFollower(deps, connection)
	op, err := follower.Follow(ctx, func(all []*v1alpha1.Operation) *v1alpha1.Operation {
		for _, op := range all {
			if op.Spec.Verb == verb && op.Spec.Generation >= cluster.Generation && op.Labels[v1alpha1.LabelClusterUID] == string(cluster.UID) {
				return op
			}
		}
		return nil
	}, client.MatchingLabels{v1alpha1.LabelCluster: cluster.Name})
	if err != nil {
		return connection.Left(err, op, fmt.Sprintf("the end of %s of cluster %s", verb, cluster.Name))
	}
	if op.Status.Phase == v1alpha1.OperationSucceeded {
		if _, err := fmt.Fprintf(deps.Streams.Out, "%s of cluster %s done in %s\n", verb, cluster.Name, output.Took(op)); err != nil {
			return err
		}
	}
	return finish(deps, connection, follower, op)
}
