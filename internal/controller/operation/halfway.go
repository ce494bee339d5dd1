package operation

import (
	"context"
	"fmt"
	"slices"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/operation"
	"slipway.dev/slipway/internal/plan/stages"
)

// observeHistory finds what is applied and what was begun and not finished, for a change of a cluster. While a change is half
// done, one of another kind is refused: nobody could say what the hosts are like then.
func (r *Reconciler) observeHistory(ctx context.Context, op *v1alpha1.Operation, in *stages.Input) error {
	if !slices.Contains(stages.Changes(), op.Spec.Verb) {
		return nil
	}
	c, err := r.cluster(ctx, op)
	if err != nil || c == nil {
		return err
	}
	var all v1alpha1.OperationList
	if err := r.Client.List(ctx, &all, client.InNamespace(op.Namespace), client.MatchingLabels{v1alpha1.LabelCluster: op.Spec.Cluster}); err != nil {
		return fault.NewTransient("APIUnreachable", fmt.Errorf("cannot list operations: %w", err))
	}
	history := stages.HistoryOf(stages.Of(c, all.Items))
	if history.Applied != nil {
		in.Applied = history.Applied
	}
	in.Changed = map[string][]string{}
	for _, half := range history.Half() {
		if half.Spec.Verb != op.Spec.Verb {
			return fault.NewTerminal("Unfinished", fmt.Sprintf("go on with `slipway operation retry %s`, or give the cluster the spec that it had before", half.Name),
				fmt.Errorf("cannot %s cluster %s: operation %s began to %s it and did not end", op.Spec.Verb, op.Spec.Cluster, half.Name, half.Spec.Verb))
		}
		in.Attempted = append(in.Attempted, *half.Spec.Wanted)
		if err := r.observeRuns(ctx, &half, in.Changed); err != nil {
			return err
		}
	}
	return nil
}

// observeRuns adds the calls that have changed something, by host.
func (r *Reconciler) observeRuns(ctx context.Context, op *v1alpha1.Operation, changed map[string][]string) error {
	var all v1alpha1.HostRunList
	if err := r.Client.List(ctx, &all, client.InNamespace(op.Namespace)); err != nil {
		return fault.NewTransient("APIUnreachable", fmt.Errorf("cannot list the records of operation %s: %w", op.Name, err))
	}
	for _, run := range all.Items {
		if run.Spec.Operation != op.Name || run.Name != operation.HostRunName(op.Name, run.Spec.Host) {
			continue
		}
		for _, s := range run.Status.Steps {
			if s.Changed && !slices.Contains(changed[run.Spec.Host], s.Name) {
				changed[run.Spec.Host] = append(changed[run.Spec.Host], s.Name)
			}
		}
	}
	return nil
}
