package operation

import (
	"context"
	"strconv"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/audit"
)

// record writes a line of the audit log when an operation begins or ends. It is in the name of who approved the plan,
// else of who asked for it, else of Slipway.
func (r *Reconciler) record(op *v1alpha1.Operation, phase v1alpha1.OperationPhase, failures []v1alpha1.Failure) {
	if r.Audit == nil || (phase != v1alpha1.OperationRunning && !phase.Ended()) {
		return
	}
	e := audit.Event{Actor: audit.Server, Verb: "operation", Object: "operations " + op.Namespace + "/" + op.Name, Project: op.Namespace, Result: audit.Allowed,
		Detail: map[string]string{"phase": string(phase), "verb": string(op.Spec.Verb), "cluster": op.Spec.Cluster, "attempt": strconv.Itoa(int(op.Spec.Attempt))}}
	for _, by := range []struct{ annotation, detail string }{
		{v1alpha1.AnnotationRequestedBy, "requestedBy"}, {v1alpha1.AnnotationApprovedBy, "approvedBy"},
	} {
		if name := op.Annotations[by.annotation]; name != "" {
			e.Actor, e.Detail[by.detail] = name, name
		}
	}
	if op.Status.Plan != nil {
		e.Detail["plan"] = op.Status.Plan.Hash
	}
	switch phase {
	case v1alpha1.OperationFailed, v1alpha1.OperationPartial, v1alpha1.OperationBlocked:
		e.Result = audit.Failed
		if len(failures) > 0 {
			e.Reason = failures[0].Reason
		}
	}
	r.Audit.Record(e)
}

// because says which operation uses credentials under the context.
func because(ctx context.Context, op *v1alpha1.Operation) context.Context {
	return audit.Because(ctx, "operation "+op.Namespace+"/"+op.Name)
}
