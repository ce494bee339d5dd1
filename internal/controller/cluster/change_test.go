package cluster

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
)

// modify changes the spec as a person does: the generation grows.
func (w *world) modify(change func(*v1alpha1.ClusterSpec)) {
	w.t.Helper()
	c := w.cluster()
	change(&c.Spec)
	c.Generation++
	if err := w.client.Update(w.t.Context(), c); err != nil {
		w.t.Fatal(err)
	}
	w.settle()
}

// came writes how an operation that had begun has ended.
func (w *world) came(name string, phase v1alpha1.OperationPhase) {
	w.t.Helper()
	o := w.op(name)
	if o == nil {
		w.t.Fatalf("there is no operation %s", name)
	}
	<-time.After(time.Minute) // Of the bubble.
	now := metav1.Now()
	o.Status.Phase, o.Status.StartedAt, o.Status.FinishedAt = phase, &now, &now
	if err := w.client.Status().Update(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
	w.settle()
}

// upToDate fails unless the condition has the reason and its message names what must be named.
func (w *world) upToDate(status metav1.ConditionStatus, reason string, names ...string) {
	w.t.Helper()
	c := meta.FindStatusCondition(w.cluster().Status.Conditions, v1alpha1.ClusterUpToDate)
	if c == nil || c.Status != status || c.Reason != reason {
		w.t.Fatalf("UpToDate is %+v, want %s %s", c, status, reason)
	}
	for _, name := range names {
		if !strings.Contains(c.Message, name) {
			w.t.Errorf("UpToDate says %q and does not name %q", c.Message, name)
		}
	}
}

func workers(names ...string) func(*v1alpha1.ClusterSpec) {
	return func(s *v1alpha1.ClusterSpec) {
		s.WorkerPools = nil
		if len(names) > 0 {
			s.WorkerPools = []v1alpha1.WorkerPool{{Name: "default", Hosts: names}}
		}
	}
}

func to(version string) func(*v1alpha1.ClusterSpec) {
	return func(s *v1alpha1.ClusterSpec) { s.Kubernetes.Version = version }
}

func TestChange(t *testing.T) {
	cases := map[string]struct {
		reason string
		play   func(t *testing.T, w *world)
	}{
		"edit while it is created": {reason: "what was planned is what there is: the edit is a change that follows", play: func(t *testing.T, w *world) {
			w.settle()
			o := w.op(createOperation)
			o.Status.Phase, o.Status.Planned = v1alpha1.OperationRunning, w.cluster().Spec.DeepCopy()
			if err := w.client.Status().Update(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			w.modify(workers("w1"))
			w.came(createOperation, v1alpha1.OperationSucceeded)
			if got := w.cluster().Status.Applied.AllHosts(); !slices.Equal(got, []string{"c1"}) {
				t.Errorf("applied are %v, want what was planned: c1", got)
			}
			w.upToDate(metav1.ConditionFalse, "Planning", "demo-scale-2-abcde")
			w.came("demo-scale-2-abcde", v1alpha1.OperationSucceeded)
			w.upToDate(metav1.ConditionTrue, "AsWanted")
			if got := w.cluster().Status.Applied.AllHosts(); !slices.Equal(got, []string{"c1", "w1"}) {
				t.Errorf("applied are %v, want c1 and w1", got)
			}
		}},
		"created but for some hosts": {reason: "what creation left out is missing, until a retry brings it or nobody wants it any more", play: func(t *testing.T, w *world) {
			w.settle()
			o := w.op(createOperation)
			o.Status.Phase, o.Status.Planned, o.Status.Message = v1alpha1.OperationRunning, w.cluster().Spec.DeepCopy(), "w1 left out"
			if err := w.client.Status().Update(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			w.came(createOperation, v1alpha1.OperationPartial)
			w.upToDate(metav1.ConditionFalse, "Partial", createOperation, "w1 left out")
			w.came(createOperation, v1alpha1.OperationSucceeded)
			w.upToDate(metav1.ConditionTrue, "AsWanted")
			w.came(createOperation, v1alpha1.OperationPartial)
			w.modify(workers("w2"))
			w.came("demo-scale-2-abcde", v1alpha1.OperationSucceeded)
			w.upToDate(metav1.ConditionTrue, "AsWanted")
		}},
		"hosts before the version": {reason: "new hosts move with the others", play: func(t *testing.T, w *world) {
			active(w)
			w.modify(func(s *v1alpha1.ClusterSpec) { workers("w1")(s); to("v1.37.1")(s) })
			w.came("demo-scale-2-abcde", v1alpha1.OperationSucceeded)
			w.came("demo-upgrade-2-abcde", v1alpha1.OperationSucceeded)
			w.upToDate(metav1.ConditionTrue, "AsWanted")
			if s := w.cluster().Status; s.Version != "v1.37.1" {
				t.Errorf("version %s, want v1.37.1", s.Version)
			}
		}},
		"failed and edited back": {reason: "a cluster that was half moved is not as its spec wants it, whatever that says: the hosts go back", play: func(t *testing.T, w *world) {
			active(w)
			w.modify(to("v1.37.1"))
			w.came("demo-upgrade-2-abcde", v1alpha1.OperationFailed)
			w.upToDate(metav1.ConditionFalse, "Failed", "slipway operation retry demo-upgrade-2-abcde")
			w.modify(to("v1.36.3"))
			w.upToDate(metav1.ConditionFalse, "Planning", "demo-upgrade-3-abcde")
			if o := w.op("demo-upgrade-3-abcde"); o == nil || o.Spec.Verb != v1alpha1.VerbUpgrade || o.Spec.Wanted.Kubernetes.Version != "v1.36.3" {
				t.Fatalf("the way back is %+v", o)
			}
			w.came("demo-upgrade-3-abcde", v1alpha1.OperationFailed)
			w.upToDate(metav1.ConditionFalse, "Failed", "demo-upgrade-2-abcde")
			w.came("demo-upgrade-3-abcde", v1alpha1.OperationSucceeded)
			w.upToDate(metav1.ConditionTrue, "AsWanted")
		}},
		"failed and retried": {reason: "the other way on", play: func(t *testing.T, w *world) {
			active(w)
			w.modify(workers("w1"))
			w.came("demo-scale-2-abcde", v1alpha1.OperationPartial)
			w.upToDate(metav1.ConditionFalse, "Partial")
			made := w.creates
			w.settle()
			if w.creates != made {
				t.Error("a change that failed was begun again unasked")
			}
			w.came("demo-scale-2-abcde", v1alpha1.OperationSucceeded)
			w.upToDate(metav1.ConditionTrue, "AsWanted")
		}},
		"another change meanwhile": {reason: "what is half done comes first: nobody could say what the hosts are like", play: func(t *testing.T, w *world) {
			active(w)
			w.modify(to("v1.37.1"))
			w.came("demo-upgrade-2-abcde", v1alpha1.OperationAborted)
			w.modify(func(s *v1alpha1.ClusterSpec) { workers("w1")(s); to("v1.36.3")(s) })
			if w.op("demo-scale-3-abcde") != nil {
				t.Fatal("hosts are brought into a cluster that is half moved")
			}
			w.came("demo-upgrade-3-abcde", v1alpha1.OperationSucceeded)
			w.came("demo-scale-3-abcde", v1alpha1.OperationSucceeded)
			w.upToDate(metav1.ConditionTrue, "AsWanted")
		}},
		"refused and edited back": {reason: "nothing was changed", play: func(t *testing.T, w *world) {
			active(w)
			w.modify(workers("w1"))
			w.end("demo-scale-2-abcde", v1alpha1.OperationFailed)
			w.settle()
			w.upToDate(metav1.ConditionFalse, "Failed", "demo-scale-2-abcde")
			w.modify(workers())
			w.upToDate(metav1.ConditionTrue, "AsWanted")
		}},
		"a person's plan that failed": {reason: "who approved one run did not approve a second one", play: func(t *testing.T, w *world) {
			active(w)
			o := op("scale-by-hand", v1alpha1.VerbScale, v1alpha1.OperationRunning)
			o.Labels = map[string]string{v1alpha1.LabelCluster: "demo"}
			o.Spec.Wanted = w.cluster().Spec.DeepCopy()
			workers("w1")(o.Spec.Wanted)
			if err := w.client.Create(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			made := w.creates
			w.modify(workers("w1"))
			w.upToDate(metav1.ConditionFalse, "Running", "scale-by-hand")
			w.came("scale-by-hand", v1alpha1.OperationFailed)
			w.upToDate(metav1.ConditionFalse, "Failed", "scale-by-hand")
			if w.creates != made {
				t.Error("an operation was begun that nobody asked for")
			}
			w.came("scale-by-hand", v1alpha1.OperationSucceeded)
			w.upToDate(metav1.ConditionTrue, "AsWanted")
		}},
		"a restore that failed": {reason: "nothing else may touch what is left of the cluster, and no edit begins another restore", play: func(t *testing.T, w *world) {
			active(w)
			o := op("restore-by-hand", v1alpha1.VerbRestore, v1alpha1.OperationRunning)
			o.Labels = map[string]string{v1alpha1.LabelCluster: "demo"}
			o.Spec.Wanted = w.cluster().Spec.DeepCopy()
			o.Spec.Wanted.ControlPlane.Hosts = []string{"c2"}
			if err := w.client.Create(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			w.modify(func(s *v1alpha1.ClusterSpec) { s.ControlPlane.Hosts = []string{"c2"} })
			w.came("restore-by-hand", v1alpha1.OperationFailed)
			made := w.creates
			w.modify(workers("w1"))
			w.upToDate(metav1.ConditionFalse, "Failed", "slipway operation retry restore-by-hand")
			if w.creates != made {
				t.Error("an operation was begun beside a restore that has failed")
			}
			w.came("restore-by-hand", v1alpha1.OperationSucceeded)
			w.upToDate(metav1.ConditionFalse, "Planning")
		}},
		"an older one retried": {reason: "what it brings about is not what is wanted now, and the newer one has to be done once more", play: func(t *testing.T, w *world) {
			active(w)
			w.modify(workers("w1"))
			w.came("demo-scale-2-abcde", v1alpha1.OperationFailed)
			w.modify(workers("w1", "w2"))
			w.came("demo-scale-3-abcde", v1alpha1.OperationSucceeded)
			w.upToDate(metav1.ConditionTrue, "AsWanted")
			w.came("demo-scale-2-abcde", v1alpha1.OperationSucceeded)
			w.upToDate(metav1.ConditionFalse, "Planning", "demo-scale-3-abcde-2")
			w.came("demo-scale-3-abcde-2", v1alpha1.OperationSucceeded)
			w.upToDate(metav1.ConditionTrue, "AsWanted")
			if got := w.cluster().Status.Applied.WorkerHosts(); !slices.Equal(got, []string{"w1", "w2"}) {
				t.Errorf("applied are the workers %v, want w1 and w2", got)
			}
		}},
		"two operators at once": {reason: "the second edit waits for the first, and is a change of what that brings about", play: func(t *testing.T, w *world) {
			active(w)
			w.modify(workers("w1"))
			w.end("demo-scale-2-abcde", v1alpha1.OperationRunning)
			w.modify(workers("w1", "w2"))
			if w.op("demo-scale-3-abcde") != nil {
				t.Fatal("two changes of one cluster at the same time")
			}
			w.upToDate(metav1.ConditionFalse, "Running", "demo-scale-2-abcde")
			w.came("demo-scale-2-abcde", v1alpha1.OperationSucceeded)
			if o := w.op("demo-scale-3-abcde"); o == nil || !slices.Equal(o.Spec.Wanted.WorkerHosts(), []string{"w1", "w2"}) {
				t.Fatalf("the second edit became %+v", o)
			}
		}},
	}
	secret := keys(t, "dev")
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				t.Log(tc.reason)
				tc.play(t, newWorld(t, demo(nil), controlPlane(), secret.DeepCopy()))
			})
		})
	}
}
