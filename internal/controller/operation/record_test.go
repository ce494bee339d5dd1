package operation

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/audit"
	"slipway.dev/slipway/internal/plan"
)

type lines []audit.Event

func (l *lines) Record(e audit.Event) { *l = append(*l, e) }

// TestRecord: the audit log says that an operation began and what came of it, once each and in whose name.
func TestRecord(t *testing.T) {
	line := func(actor, phase, attempt string, result audit.Result, reason string, more map[string]string) audit.Event {
		e := audit.Event{Actor: actor, Verb: "operation", Object: "operations dev/op", Project: "dev", Result: result, Reason: reason,
			Detail: map[string]string{"phase": phase, "verb": "create", "cluster": "demo", "attempt": attempt}}
		for k, v := range more {
			e.Detail[k] = v
		}
		return e
	}
	for name, tc := range map[string]struct {
		reason      string
		annotations map[string]string
		ends        v1alpha1.OperationPhase
		host        string
		want        []audit.Event
	}{
		"Succeeded": {"two lines, and Slipway's own when nobody asked", nil, v1alpha1.OperationSucceeded, "c1",
			[]audit.Event{line(audit.Server, "Running", "0", audit.Allowed, "", nil), line(audit.Server, "Succeeded", "0", audit.Allowed, "", nil)}},
		"Requested": {"in the name of who asked", map[string]string{v1alpha1.AnnotationRequestedBy: "alice"}, v1alpha1.OperationFailed, "c1",
			[]audit.Event{line("alice", "Running", "0", audit.Allowed, "", map[string]string{"requestedBy": "alice"}),
				line("alice", "Failed", "0", audit.Failed, "", map[string]string{"requestedBy": "alice"})}},
		"Approved": {"who approved let it happen", map[string]string{v1alpha1.AnnotationRequestedBy: "alice", v1alpha1.AnnotationApprovedBy: "bob"}, v1alpha1.OperationAborted, "c1",
			[]audit.Event{line("bob", "Running", "0", audit.Allowed, "", map[string]string{"requestedBy": "alice", "approvedBy": "bob"}),
				line("bob", "Aborted", "0", audit.Allowed, "", map[string]string{"requestedBy": "alice", "approvedBy": "bob"})}},
		"Refused": {"one that has no plan never began", nil, "", "w9", []audit.Event{line(audit.Server, "Failed", "0", audit.Failed, "PrecheckFailed", nil)}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, clusterOf("dev", "demo", spec(tc.host)))
				var got lines
				w.reconcile.Audit = &got
				var why string
				w.engine.ends = func(ctx context.Context, _ *v1alpha1.Operation, _ *plan.Plan, _ <-chan struct{}) (v1alpha1.OperationPhase, error) {
					why = audit.Why(ctx)
					return tc.ends, nil
				}
				op := operationOf("dev", "op", creates("demo"))
				op.Annotations = tc.annotations
				w.create(op)
				w.settle()
				w.settle()
				ignored := cmpopts.IgnoreMapEntries(func(key, _ string) bool { return key == "plan" })
				if diff := cmp.Diff(lines(tc.want), got, ignored); diff != "" {
					t.Errorf("%s: -want +got\n%s", tc.reason, diff)
				}
				if tc.ends == "" {
					return
				}
				if got[0].Detail["plan"] != w.op("dev", "op").Status.Plan.Hash {
					t.Errorf("the line does not name the plan: %v", got[0].Detail)
				}
				if why != "operation dev/op" {
					t.Errorf("the engine uses credentials because of %q", why)
				}
			})
		})
	}
}
