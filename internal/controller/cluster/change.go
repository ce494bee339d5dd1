package cluster

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

// changes are the verbs that bring a cluster from one spec to another.
func changes() []v1alpha1.Verb {
	return []v1alpha1.Verb{v1alpha1.VerbScale, v1alpha1.VerbUpgrade, v1alpha1.VerbConfigure}
}

// next gives the first change on the way from what is applied to what is wanted, and the spec that it ends in; "" when
// nothing differs. Hosts come before the version: new ones then move with the others, and removed ones need not.
func next(applied, wanted *v1alpha1.ClusterSpec) (v1alpha1.Verb, *v1alpha1.ClusterSpec) {
	wanted = wanted.DeepCopy()
	wanted.Recycle = applied.Recycle // It starts and stops, and changes nothing.
	if equality.Semantic.DeepEqual(applied, wanted) {
		return "", nil
	}
	step := applied.DeepCopy()
	step.ControlPlane, step.WorkerPools = *wanted.ControlPlane.DeepCopy(), wanted.DeepCopy().WorkerPools
	if !equality.Semantic.DeepEqual(applied, step) {
		return v1alpha1.VerbScale, step
	}
	step.Kubernetes.Version = wanted.Kubernetes.Version
	if applied.Kubernetes.Version != wanted.Kubernetes.Version {
		return v1alpha1.VerbUpgrade, step
	}
	return v1alpha1.VerbConfigure, wanted.DeepCopy()
}

// change gives the operation that brings the spec about, and begins it when nothing else is under way; nil when nothing
// differs. One that failed is given again: it is retried, or the spec is edited.
func (r *Reconciler) change(ctx context.Context, c *v1alpha1.Cluster) (*v1alpha1.Operation, error) {
	if c.Status.Applied == nil {
		return nil, nil
	}
	if err := r.apply(ctx, c); err != nil {
		return nil, err
	}
	verb, wanted := next(c.Status.Applied, &c.Spec)
	if verb == "" {
		return nil, nil
	}
	var all v1alpha1.OperationList
	if err := r.Client.List(ctx, &all, client.InNamespace(c.Namespace), client.MatchingLabels{v1alpha1.LabelCluster: c.Name}); err != nil {
		return nil, fmt.Errorf("cannot list the operations of cluster %s: %w", c.Name, err)
	}
	name := changeName(c, verb)
	var tried *v1alpha1.Operation
	for i := range all.Items {
		switch op := &all.Items[i]; {
		case op.Spec.Cluster != c.Name:
		case underWay(op):
			return op, nil
		case op.Name == name:
			tried = op
		}
	}
	if tried != nil {
		return tried, nil
	}
	op := newOperation(c, verb, name)
	op.Spec.Wanted, op.Spec.Generation = wanted, c.Generation
	return r.create(ctx, c, op)
}

// apply notes what the operation that was under way has brought about.
func (r *Reconciler) apply(ctx context.Context, c *v1alpha1.Cluster) error {
	if c.Status.Operation == "" || equality.Semantic.DeepEqual(c.Status.Applied, &c.Spec) {
		return nil
	}
	var op v1alpha1.Operation
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: c.Status.Operation}, &op)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot read operation %s: %w", c.Status.Operation, err)
	}
	if err == nil && op.Status.Phase == v1alpha1.OperationSucceeded && op.Spec.Wanted != nil && slices.Contains(changes(), op.Spec.Verb) {
		c.Status.Applied = op.Spec.Wanted.DeepCopy()
		c.Status.Version = op.Spec.Wanted.Kubernetes.Version
	}
	return nil
}

// changeName is the same for every look at the same edit, so that one operation is never made twice.
func changeName(c *v1alpha1.Cluster, verb v1alpha1.Verb) string {
	uid := string(c.UID)
	return fmt.Sprintf("%s-%s-%d-%s", c.Name, verb, c.Generation, uid[:min(5, len(uid))])
}

// underWay says that an operation runs, or will without anybody's doing.
func underWay(op *v1alpha1.Operation) bool {
	switch op.Status.Phase {
	case v1alpha1.OperationRunning, v1alpha1.OperationQueued:
		return true
	case v1alpha1.OperationPlanned, "":
		return op.Spec.Generation > 0 || (op.Status.Plan != nil && op.Spec.ApprovedPlan == op.Status.Plan.Hash)
	default:
		return false
	}
}

// upToDate says whether the cluster is as its spec wants it.
func upToDate(c *v1alpha1.Cluster, op *v1alpha1.Operation) {
	condition := metav1.Condition{Type: v1alpha1.ClusterUpToDate, Status: metav1.ConditionTrue, ObservedGeneration: c.Generation,
		Reason: "AsWanted", Message: "the cluster is as its spec says"}
	if op != nil {
		condition.Status, condition.Reason = metav1.ConditionFalse, "Planning"
		if op.Status.Phase != "" {
			condition.Reason = string(op.Status.Phase)
		}
		condition.Message = fmt.Sprintf("operation %s: %s", op.Name, op.Status.Message)
	}
	meta.SetStatusCondition(&c.Status.Conditions, condition)
}
