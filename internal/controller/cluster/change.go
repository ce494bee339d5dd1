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
	"slipway.dev/slipway/internal/plan/stages"
)

// next gives the first change on the way from what is applied to what is wanted, and the spec that it ends in; "" when
// nothing differs. What is half done comes first: to its end, or back to what was before. Then hosts come before the version:
// new ones move with the others, and removed ones need not.
func next(applied, wanted *v1alpha1.ClusterSpec, half []v1alpha1.Operation) (v1alpha1.Verb, *v1alpha1.ClusterSpec) {
	if len(half) > 0 {
		verb := half[0].Spec.Verb
		return verb, part(verb, applied, wanted)
	}
	for _, verb := range stages.Changes() {
		if step := part(verb, applied, wanted); !equality.Semantic.DeepEqual(applied, step) {
			return verb, step
		}
	}
	return "", nil
}

// part gives the applied spec with what one verb changes of it.
func part(verb v1alpha1.Verb, applied, wanted *v1alpha1.ClusterSpec) *v1alpha1.ClusterSpec {
	is, wanted := applied.DeepCopy(), wanted.DeepCopy()
	wanted.Recycle = applied.Recycle // It starts and stops, and changes nothing.
	switch verb {
	case v1alpha1.VerbScale:
		is.ControlPlane, is.WorkerPools = wanted.ControlPlane, wanted.WorkerPools
		return is
	case v1alpha1.VerbUpgrade:
		is.Kubernetes.Version = wanted.Kubernetes.Version
		return is
	default:
		wanted.ControlPlane, wanted.WorkerPools, wanted.Kubernetes.Version = is.ControlPlane, is.WorkerPools, is.Kubernetes.Version
		return wanted
	}
}

// change notes what changes have come to, gives the operation that brings the spec about, and begins it when nothing else is
// under way; nil when nothing differs. One that was tried is given again: it is retried, or the spec is edited. half are the
// changes that have begun and were not finished.
func (r *Reconciler) change(ctx context.Context, c *v1alpha1.Cluster) (op *v1alpha1.Operation, half []v1alpha1.Operation, err error) {
	if c.Status.Applied == nil {
		return nil, nil, nil
	}
	var all v1alpha1.OperationList
	if err := r.Client.List(ctx, &all, client.InNamespace(c.Namespace), client.MatchingLabels{v1alpha1.LabelCluster: c.Name}); err != nil {
		return nil, nil, fmt.Errorf("cannot list the operations of cluster %s: %w", c.Name, err)
	}
	own := stages.Of(c, all.Items)
	history := stages.HistoryOf(own)
	if history.Applied != nil {
		c.Status.Applied, c.Status.Version = history.Applied, history.Applied.Kubernetes.Version
	}
	half = history.Half()
	verb, wanted := next(c.Status.Applied, &c.Spec, half)
	if verb == "" {
		return nil, nil, nil
	}
	if i := slices.IndexFunc(own, func(op v1alpha1.Operation) bool { return underWay(&op) }); i >= 0 {
		return &own[i], half, nil
	}
	if i := slices.IndexFunc(half, func(op v1alpha1.Operation) bool { return op.Spec.Verb == v1alpha1.VerbRestore }); i >= 0 {
		return &half[i], half, nil // Nothing else may touch what is left of the cluster.
	}
	for i := range slices.Backward(history.Tried) {
		op := &history.Tried[i]
		// What a person has asked for and was refused, or failed, is not tried again unasked.
		asked := op.Spec.Generation == 0 && equality.Semantic.DeepEqual(op.Spec.Wanted, wanted)
		if op.Spec.Verb == verb && (asked || op.Spec.Generation == c.Generation) {
			return op, half, nil
		}
	}
	// One of that name is from before a later change, which an older operation that was retried may have been.
	name := changeName(c, verb)
	for n := 2; slices.ContainsFunc(own, func(op v1alpha1.Operation) bool { return op.Name == name }); n++ {
		name = fmt.Sprintf("%s-%d", changeName(c, verb), n)
	}
	op = newOperation(c, verb, name)
	op.Spec.Wanted, op.Spec.Generation = wanted, c.Generation
	op, err = r.create(ctx, c, op)
	return op, half, err
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

// upToDate says whether the cluster is as its spec wants it. It never is while its creation or a change is half done, whatever
// its spec says.
func upToDate(c *v1alpha1.Cluster, create, op *v1alpha1.Operation, half []v1alpha1.Operation) {
	condition := metav1.Condition{Type: v1alpha1.ClusterUpToDate, Status: metav1.ConditionTrue, ObservedGeneration: c.Generation,
		Reason: "AsWanted", Message: "the cluster is as its spec says"}
	if op == nil && leftOut(c, create) {
		op = create
	}
	if op != nil {
		condition.Status, condition.Reason = metav1.ConditionFalse, "Planning"
		if op.Status.Phase != "" {
			condition.Reason = string(op.Status.Phase)
		}
		condition.Message = fmt.Sprintf("operation %s: %s", op.Name, op.Status.Message)
	}
	if len(half) > 0 && !underWay(op) {
		first := half[0]
		condition.Message += fmt.Sprintf("; %s began to %s the cluster and did not end: `slipway operation retry %s` goes on, and a spec as it was before takes it back",
			first.Name, first.Spec.Verb, first.Name)
	}
	meta.SetStatusCondition(&c.Status.Conditions, condition)
}

// leftOut says that hosts are missing which the creation of a cluster left out, until that is retried or a change has come
// behind it.
func leftOut(c *v1alpha1.Cluster, create *v1alpha1.Operation) bool {
	return create != nil && create.Spec.Verb == v1alpha1.VerbCreate && create.Status.Phase == v1alpha1.OperationPartial &&
		equality.Semantic.DeepEqual(c.Status.Applied, planned(create))
}
