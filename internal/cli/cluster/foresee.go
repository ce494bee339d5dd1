package cluster

import (
	"context"
	"fmt"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

// foreseeTime bounds how long a person who deletes a cluster waits for what that does to it, and takeBackTime the removal of
// the plan that said so.
const (
	foreseeTime  = 2 * time.Minute
	takeBackTime = 10 * time.Second
)

// foresee prints what a verb does to a cluster that runs. The plan that says so is made for that alone, and is gone again. What
// cannot be told is said to be unknown: nobody is kept from deleting a cluster by it.
func foresee(ctx context.Context, deps output.Deps, connection *output.Connection, cluster *v1alpha1.Cluster, verb v1alpha1.Verb) error {
	if cluster.DeletionTimestamp != nil || cluster.Status.Applied == nil {
		return nil // It never ran, or goes already.
	}
	looking, cancel := context.WithTimeout(ctx, foreseeTime)
	defer cancel()
	impact, err := impactOf(looking, deps, connection, cluster, verb)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	out := deps.Streams.ErrOut
	if err != nil || impact == nil {
		why := "the server did not say"
		if err != nil {
			why = output.Line(err.Error())
		}
		_, err = fmt.Fprintf(out, "What this does to the cluster is not known: %s\n", why)
	} else {
		err = output.PrintImpact(out, impact)
	}
	if err == nil {
		_, err = fmt.Fprintln(out)
	}
	return err
}

// impactOf has the server make a plan, and takes it back.
func impactOf(ctx context.Context, deps output.Deps, connection *output.Connection, cluster *v1alpha1.Cluster, verb v1alpha1.Verb) (_ *v1alpha1.OperationImpact, err error) {
	p := planning{deps: deps, connection: connection, name: cluster.Name, verb: verb, propose: true}
	op := newOperation(cluster.Namespace, cluster.Name, verb)
	op.Spec.Propose = true
	if err := connection.Client.Create(ctx, op); err != nil {
		return nil, err
	}
	defer func() {
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeBackTime)
		defer cancel()
		if removeErr := connection.Client.Delete(after, op); err == nil {
			err = client.IgnoreNotFound(removeErr)
		}
	}()
	planned, err := p.wait(ctx, op.Name)
	if err != nil {
		return nil, err
	}
	if planned.Status.Phase != v1alpha1.OperationPlanned {
		return nil, fmt.Errorf("the plan is refused: %s", reason(planned))
	}
	return planned.Status.Impact, nil
}
