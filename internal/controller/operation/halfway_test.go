package operation

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/operation"
	"slipway.dev/slipway/internal/plan"
)

// applied gives the Cluster the spec that it was created with, as its controller does.
func (w *world) applied(s v1alpha1.ClusterSpec) {
	w.t.Helper()
	c := w.cluster("dev", "demo")
	c.Status.Applied = &s
	if err := w.client.Status().Update(w.t.Context(), c); err != nil {
		w.t.Fatal(err)
	}
}

// TestPlanned: an operation says what spec of the Cluster it was planned from, also when that is edited while it runs.
func TestPlanned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, clusterOf("dev", "demo", spec("c1")), approval("create"))
		w.create(operationOf("dev", "op", creates("demo")))
		w.settle()
		edit := func(workers ...string) {
			c := w.cluster("dev", "demo")
			c.Spec.WorkerPools = spec("c1", workers...).WorkerPools
			if err := w.client.Update(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		approve := func() {
			w.edit("dev", "op", func(op *v1alpha1.Operation) { op.Spec.ApprovedPlan = op.Status.Plan.Hash })
			w.settle()
		}
		edit("w1") // Between the plan and its approval: people read another plan.
		approve()
		if got := w.phase("dev", "op", v1alpha1.OperationPlanned).Status.Planned.AllHosts(); !slices.Equal(got, []string{"c1", "w1"}) {
			t.Fatalf("planned for %v, want c1 and w1", got)
		}
		w.engine.ends = func(_ context.Context, _ *v1alpha1.Operation, _ *plan.Plan, _ <-chan struct{}) (v1alpha1.OperationPhase, error) {
			edit("w1", "w2") // While it runs.
			return v1alpha1.OperationFailed, nil
		}
		approve()
		w.engine.ends = nil
		w.edit("dev", "op", func(op *v1alpha1.Operation) { op.Spec.Attempt++ })
		w.settle()
		op := w.phase("dev", "op", v1alpha1.OperationSucceeded)
		if got := op.Status.Planned.AllHosts(); !slices.Equal(got, []string{"c1", "w1"}) {
			t.Errorf("the cluster was created with %v, want what the plan says: c1 and w1", got)
		}
		if strings.Contains(string(w.planOf(op)), `"w2"`) {
			t.Error("a retry runs another plan than the one that began")
		}
	})
}

// TestHalfDone: while a change is half done, only that one goes on or back, and its plan knows what was changed.
func TestHalfDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, clusterOf("dev", "demo", spec("c1")))
		w.create(operationOf("dev", "op", creates("demo")))
		w.settle()
		w.applied(spec("c1"))
		scaled := func(name string, workers ...string) {
			wanted := spec("c1", workers...)
			w.create(operationOf("dev", name, v1alpha1.OperationSpec{Verb: v1alpha1.VerbScale, Cluster: "demo", Wanted: &wanted, Generation: 1}))
			w.settle()
		}
		w.engine.ends = func(ctx context.Context, op *v1alpha1.Operation, _ *plan.Plan, _ <-chan struct{}) (v1alpha1.OperationPhase, error) {
			run := &v1alpha1.HostRun{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: operation.HostRunName(op.Name, "w1")}, Spec: v1alpha1.HostRunSpec{Operation: op.Name, Host: "w1"},
				Status: v1alpha1.HostRunStatus{Steps: []v1alpha1.StepRecord{{Name: "worker/mark", Changed: true}, {Name: "worker/kernel"}}}}
			return v1alpha1.OperationFailed, w.client.Create(ctx, run)
		}
		scaled("in", "w1")
		w.phase("dev", "in", v1alpha1.OperationFailed)
		w.engine.ends = nil

		newer := spec("c1")
		newer.Kubernetes.Version = "v1.37.1"
		w.create(operationOf("dev", "up", v1alpha1.OperationSpec{Verb: v1alpha1.VerbUpgrade, Cluster: "demo", Wanted: &newer, Generation: 1}))
		w.settle()
		up := w.phase("dev", "up", v1alpha1.OperationFailed)
		if reasonOf(up) != "Unfinished" || !strings.Contains(up.Status.Failures[0].Fix, "slipway operation retry in") {
			t.Errorf("the refusal is %+v, want one that names the operation to go on with", up.Status.Failures)
		}

		back := operationOf("dev", "back", v1alpha1.OperationSpec{Verb: v1alpha1.VerbScale, Cluster: "demo", Wanted: new(spec("c1"))})
		in, err := w.reconcile.observe(t.Context(), back)
		if err != nil {
			t.Fatal(err)
		}
		if len(in.Attempted) != 1 || !slices.Equal(in.Attempted[0].WorkerHosts(), []string{"w1"}) || !slices.Equal(in.Changed["w1"], []string{"worker/mark"}) {
			t.Errorf("attempted %v, changed %v, want w1 and the call that changed something", in.Attempted, in.Changed)
		}
		scaled("out")
		w.phase("dev", "out", v1alpha1.OperationSucceeded)
		if read(w, client.ObjectKey{Name: "w1"}, &v1alpha1.HostClaim{}) != nil {
			t.Error("a host that was brought in half-way is still held after the cluster went back")
		}
		if in, err = w.reconcile.observe(t.Context(), back); err != nil || len(in.Attempted) > 0 {
			t.Errorf("still half done: %v %v", in.Attempted, err)
		}
	})
}
