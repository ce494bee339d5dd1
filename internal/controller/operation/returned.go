package operation

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"slipway.dev/slipway/api/v1alpha1"
)

// returned retries a deletion once a host that it could not clean answers again. One that answered all along is left to a
// person: what failed there would fail again.
func (r *Reconciler) returned(ctx context.Context, op *v1alpha1.Operation) error {
	failed := op.Status.Phase == v1alpha1.OperationPartial || op.Status.Phase == v1alpha1.OperationFailed
	if op.Spec.Verb != v1alpha1.VerbDelete || !failed || op.Status.FinishedAt == nil || op.Spec.Attempt > op.Status.Attempt {
		return nil
	}
	claims, err := r.claims(ctx, op)
	if err != nil {
		return err
	}
	for _, c := range claims {
		if c.Annotations[v1alpha1.AnnotationNeedsCleaning] != op.Name {
			continue
		}
		var h v1alpha1.Host
		if err := r.Client.Get(ctx, client.ObjectKey{Name: c.Name}, &h); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("cannot read host %s: %w", c.Name, err)
		}
		reachable := meta.FindStatusCondition(h.Status.Conditions, v1alpha1.HostReachable)
		if reachable == nil || reachable.Status != "True" || reachable.LastTransitionTime.Before(op.Status.FinishedAt) {
			continue
		}
		before := op.DeepCopy()
		op.Spec.Attempt = op.Status.Attempt + 1
		if err := r.Client.Patch(ctx, op, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("cannot retry operation %s, since host %s answers again: %w", op.Name, c.Name, err)
		}
		return nil
	}
	return nil
}

// uncleaned gives the operation that could not clean a host which answers.
func (r *Reconciler) uncleaned(ctx context.Context, cache client.Reader, h *v1alpha1.Host) []reconcile.Request {
	if !meta.IsStatusConditionTrue(h.Status.Conditions, v1alpha1.HostReachable) {
		return nil
	}
	var claim v1alpha1.HostClaim
	if err := cache.Get(ctx, client.ObjectKey{Name: h.Name}, &claim); err != nil {
		if client.IgnoreNotFound(err) != nil {
			r.Log.Error("cannot look who holds a host that answers", "host", h.Name, "error", err)
		}
		return nil
	}
	name := claim.Annotations[v1alpha1.AnnotationNeedsCleaning]
	if name == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: claim.Spec.Namespace, Name: name}}}
}
