// Package cluster owns the command `slipway cluster`: planning, creating, changing, looking at and deleting clusters. It must
// never decide what an operation does: it writes what is wanted, and shows what the server makes of it.
package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

// New gives the command `cluster` with its sub-commands.
func New(deps output.Deps) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "cluster",
		Aliases: []string{"clusters"},
		Short:   "Plan, create, change, look at and delete clusters",
	}
	project := output.ProjectFlag(cmd)
	return output.Noun(cmd, newPlan(deps, project), newCreate(deps, project), newScale(deps, project), newRestore(deps, project), newUpgrade(deps, project), newConfigure(deps, project), newDrift(deps, project), newStatus(deps, project),
		newList(deps, project), newKubeconfig(deps, project), newSaveTemplate(deps, project), newRenew(deps, project), newDelete(deps, project), newUndelete(deps, project))
}

func get(ctx context.Context, connection *output.Connection, name string) (*v1alpha1.Cluster, error) {
	var cluster v1alpha1.Cluster
	if err := connection.Client.Get(ctx, client.ObjectKey{Namespace: connection.Project, Name: name}, &cluster); err != nil {
		return nil, fmt.Errorf("cannot find cluster %s: %w", name, err)
	}
	return &cluster, nil
}

// finish prints how an operation ended and gives its error.
func finish(deps output.Deps, connection *output.Connection, follower *output.Follower, op *v1alpha1.Operation) error {
	out := deps.Streams.Out
	if len(op.Status.Stages) > 0 {
		if err := follower.Times(out, op); err != nil {
			return err
		}
	}
	if err := output.Failures(out, deps.Terminal, op.Status.Failures); err != nil {
		return err
	}
	return connection.Outcome(op)
}

// newest gives the operation of that verb that was created last, of those that this cluster brought about: not an
// earlier one of the same name, and not a person who only wants to read a plan.
func newest(cluster *v1alpha1.Cluster, verb v1alpha1.Verb) func([]*v1alpha1.Operation) *v1alpha1.Operation {
	return func(all []*v1alpha1.Operation) *v1alpha1.Operation {
		for i := len(all) - 1; i >= 0; i-- {
			op := all[i]
			if op.Spec.Verb == verb && op.Spec.Wanted == nil && op.Labels[v1alpha1.LabelClusterUID] == string(cluster.UID) {
				return op
			}
		}
		return nil
	}
}

// invalid makes what the API refuses about a cluster an error for people; others are only named.
func invalid(verb, name string, err error) error {
	var status apierrors.APIStatus
	if apierrors.IsInvalid(err) && errors.As(err, &status) && status.Status().Details != nil {
		var text string
		for _, cause := range status.Status().Details.Causes {
			text += "; " + cause.Field + ": " + cause.Message
		}
		if text != "" {
			return output.Refused("Invalid", "mend what is named", "cannot %s cluster %s: %s", verb, name, text[2:])
		}
	}
	return fmt.Errorf("cannot %s cluster %s: %w", verb, name, err)
}
