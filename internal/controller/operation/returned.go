package operation

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"slipway.dev/slipway/api/v1alpha1"
)

// returned deals with hosts that an operation could not clean and that answer again: a deletion is retried, and for one that
// went on without them they are cleaned by an operation of their own. A host that answered all along is left to a person:
// what failed there would fail again.
func (r *Reconciler) returned(ctx context.Context, op *v1alpha1.Operation) error {
	if op.Status.FinishedAt == nil {
		return nil
	}
	failed := op.Status.Phase == v1alpha1.OperationPartial || op.Status.Phase == v1alpha1.OperationFailed
	deletes := op.Spec.Verb == v1alpha1.VerbDelete && failed && op.Spec.Attempt <= op.Status.Attempt
	without := op.Status.Phase == v1alpha1.OperationSucceeded && (op.Spec.Verb == v1alpha1.VerbRestore || op.Spec.Verb == v1alpha1.VerbScale)
	if !deletes && !without {
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
		since, err := r.answersSince(ctx, c.Name)
		if err != nil {
			return err
		}
		if since == nil || since.Before(op.Status.FinishedAt) {
			continue
		}
		if without {
			if err := r.clean(ctx, op, c.Name, since); err != nil {
				return err
			}
			continue
		}
		return r.again(ctx, op, c.Name)
	}
	return nil
}

// answersSince says since when a host answers, nil when it does not.
func (r *Reconciler) answersSince(ctx context.Context, name string) (*metav1.Time, error) {
	var h v1alpha1.Host
	if err := r.Client.Get(ctx, client.ObjectKey{Name: name}, &h); client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("cannot read host %s: %w", name, err)
	}
	reachable := meta.FindStatusCondition(h.Status.Conditions, v1alpha1.HostReachable)
	if reachable == nil || reachable.Status != metav1.ConditionTrue {
		return nil, nil
	}
	return &reachable.LastTransitionTime, nil
}

// clean has a host cleaned that a restore or a change has left out. One that could not be cleaned is tried again when the
// host has been away since.
func (r *Reconciler) clean(ctx context.Context, op *v1alpha1.Operation, host string, since *metav1.Time) error {
	c := &v1alpha1.Operation{
		ObjectMeta: metav1.ObjectMeta{Namespace: op.Namespace, Name: op.Name + "-clean-" + host, Labels: map[string]string{v1alpha1.LabelCluster: op.Spec.Cluster}},
		Spec:       v1alpha1.OperationSpec{Verb: v1alpha1.VerbClean, Cluster: op.Spec.Cluster, Parameters: &v1alpha1.OperationParameters{Lost: []string{host}}},
	}
	err := r.Client.Create(ctx, c)
	if !apierrors.IsAlreadyExists(err) {
		if err != nil {
			return fmt.Errorf("cannot clean host %s, which answers again: %w", host, err)
		}
		return nil
	}
	if err := r.Client.Get(ctx, client.ObjectKeyFromObject(c), c); err != nil {
		return fmt.Errorf("cannot read operation %s: %w", c.Name, err)
	}
	s := c.Status
	if s.Phase.Ended() && s.Phase != v1alpha1.OperationSucceeded && c.Spec.Attempt <= s.Attempt && s.FinishedAt != nil && s.FinishedAt.Before(since) {
		return r.again(ctx, c, host)
	}
	return nil
}

// again retries an operation.
func (r *Reconciler) again(ctx context.Context, op *v1alpha1.Operation, host string) error {
	before := op.DeepCopy()
	op.Spec.Attempt = op.Status.Attempt + 1
	if err := r.Client.Patch(ctx, op, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot retry operation %s, since host %s answers again: %w", op.Name, host, err)
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
