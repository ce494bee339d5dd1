package stages

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
)

// change is an operation that ended so many seconds in; begun says that it changed something.
func change(name string, phase v1alpha1.OperationPhase, at int64, begun bool) v1alpha1.Operation {
	op := v1alpha1.Operation{ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.OperationSpec{Verb: v1alpha1.VerbScale, Cluster: "demo", Wanted: &v1alpha1.ClusterSpec{ControlPlane: v1alpha1.ControlPlaneSpec{Hosts: []string{name}}}}}
	op.Status.Phase, op.Status.FinishedAt = phase, &metav1.Time{Time: time.Unix(at, 0)}
	if begun {
		op.Status.StartedAt = &metav1.Time{Time: time.Unix(at-1, 0)}
	}
	return op
}

func TestHistoryOf(t *testing.T) {
	no := func(change func(*v1alpha1.Operation), op v1alpha1.Operation) v1alpha1.Operation {
		change(&op)
		return op
	}
	cases := map[string]struct {
		reason      string
		operations  []v1alpha1.Operation
		applied     string
		tried, half []string
	}{
		"none":      {reason: "nothing was ever changed"},
		"succeeded": {reason: "it is what the cluster has", operations: []v1alpha1.Operation{change("a", v1alpha1.OperationSucceeded, 10, true)}, applied: "a"},
		"failed": {reason: "its hosts may be as it wanted or as before", operations: []v1alpha1.Operation{change("a", v1alpha1.OperationSucceeded, 10, true), change("b", v1alpha1.OperationFailed, 20, true)},
			applied: "a", tried: []string{"b"}, half: []string{"b"}},
		"every end": {reason: "stopped by a person, without some hosts, or without its plan is not the end of it", operations: []v1alpha1.Operation{
			change("a", v1alpha1.OperationAborted, 10, true), change("b", v1alpha1.OperationPartial, 20, true), change("c", v1alpha1.OperationBlocked, 30, true)},
			tried: []string{"a", "b", "c"}, half: []string{"a", "b", "c"}},
		"refused": {reason: "one that could not be planned has changed nothing", operations: []v1alpha1.Operation{change("a", v1alpha1.OperationFailed, 10, false)}, tried: []string{"a"}},
		"mended":  {reason: "what succeeds later has seen what was half done", operations: []v1alpha1.Operation{change("b", v1alpha1.OperationSucceeded, 20, true), change("a", v1alpha1.OperationFailed, 10, true)}, applied: "b"},
		"running": {reason: "it has not come to anything yet", operations: []v1alpha1.Operation{change("a", v1alpha1.OperationRunning, 10, true)}},
		"same second": {reason: "the later edit is the later operation", operations: []v1alpha1.Operation{
			no(func(op *v1alpha1.Operation) { op.Spec.Generation = 7 }, change("b", v1alpha1.OperationSucceeded, 10, true)),
			no(func(op *v1alpha1.Operation) { op.Spec.Generation = 6 }, change("a", v1alpha1.OperationFailed, 10, true))}, applied: "b"},
		"no change": {reason: "a backup that failed leaves nothing half done", operations: []v1alpha1.Operation{
			no(func(op *v1alpha1.Operation) { op.Spec.Verb = v1alpha1.VerbBackup }, change("a", v1alpha1.OperationFailed, 10, true))}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h := HistoryOf(c.operations)
			applied := ""
			if h.Applied != nil {
				applied = h.Applied.ControlPlane.Hosts[0]
			}
			if applied != c.applied {
				t.Errorf("%s: applied %q, want %q", c.reason, applied, c.applied)
			}
			if diff := cmp.Diff(c.tried, called(h.Tried)); diff != "" {
				t.Errorf("%s: tried (-want +got):\n%s", c.reason, diff)
			}
			if diff := cmp.Diff(c.half, called(h.Half())); diff != "" {
				t.Errorf("%s: half (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

func called(operations []v1alpha1.Operation) []string {
	var names []string
	for _, op := range operations {
		names = append(names, op.Name)
	}
	return names
}

// TestOf: a cluster of the same name that was deleted has left its operations.
func TestOf(t *testing.T) {
	c := &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "demo", UID: "new", CreationTimestamp: metav1.Unix(100, 0)}}
	own, by, before := change("own", "", 0, false), change("by a person", "", 0, false), change("before", "", 0, false)
	other, old := change("of the one before", "", 0, false), change("of another", "", 0, false)
	for _, op := range []*v1alpha1.Operation{&own, &by, &other, &old} {
		op.CreationTimestamp = metav1.Unix(200, 0)
	}
	before.CreationTimestamp = metav1.Unix(50, 0)
	own.Labels = map[string]string{v1alpha1.LabelClusterUID: "new"}
	other.Labels = map[string]string{v1alpha1.LabelClusterUID: "old"}
	old.Spec.Cluster = "demo2"
	if diff := cmp.Diff([]string{"own", "by a person"}, called(Of(c, []v1alpha1.Operation{own, by, before, other, old}))); diff != "" {
		t.Error(diff)
	}
}
