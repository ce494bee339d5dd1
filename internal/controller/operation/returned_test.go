package operation

import (
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

// TestReturned: a host that could not be cleaned is cleaned when it answers again, once.
func TestReturned(t *testing.T) {
	const before, after = -time.Hour, time.Hour // Than the deletion ended.
	cases := map[string]struct {
		reason    string
		verb      v1alpha1.Verb
		phase     v1alpha1.OperationPhase
		marked    string
		reachable metav1.ConditionStatus
		since     time.Duration
		want      int32
	}{
		"came back":        {"it is cleaned", v1alpha1.VerbDelete, v1alpha1.OperationPartial, "op", metav1.ConditionTrue, after, 1},
		"none was cleaned": {"a deletion that failed altogether goes on too", v1alpha1.VerbDelete, v1alpha1.OperationFailed, "op", metav1.ConditionTrue, after, 1},
		"still away":       {"nobody could do anything", v1alpha1.VerbDelete, v1alpha1.OperationPartial, "op", metav1.ConditionFalse, after, 0},
		"never away":       {"what failed there would fail again: a person decides", v1alpha1.VerbDelete, v1alpha1.OperationPartial, "op", metav1.ConditionTrue, before, 0},
		"of another":       {"the operation that the claim names does it", v1alpha1.VerbDelete, v1alpha1.OperationPartial, "other", metav1.ConditionTrue, after, 0},
		"not held":         {"somebody else may have the host", v1alpha1.VerbDelete, v1alpha1.OperationPartial, "", metav1.ConditionTrue, after, 0},
		"no deletion":      {"other verbs have plans that a person must want again", v1alpha1.VerbScale, v1alpha1.OperationPartial, "op", metav1.ConditionTrue, after, 0},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				ended := metav1.Now()
				w.create(operationOf("dev", "op", v1alpha1.OperationSpec{Verb: tc.verb, Cluster: "demo"}))
				w.set("dev", "op", v1alpha1.OperationStatus{Phase: tc.phase, FinishedAt: &ended})
				claim := claimOf("w1", "dev", "demo", "uid")
				if tc.marked != "" {
					claim.Annotations = map[string]string{v1alpha1.AnnotationNeedsCleaning: tc.marked}
				}
				w.create(claim)
				h := machine("w1", "10.9.0.21")
				if err := w.client.Get(t.Context(), client.ObjectKeyFromObject(h), h); err != nil {
					t.Fatal(err)
				}
				h.Status.Conditions = []metav1.Condition{{Type: v1alpha1.HostReachable, Status: tc.reachable, LastTransitionTime: metav1.NewTime(ended.Add(tc.since))}}
				if err := w.client.Status().Update(t.Context(), h); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					if err := w.reconcile.returned(t.Context(), w.op("dev", "op")); err != nil {
						t.Fatal(err)
					}
				}
				if got := w.op("dev", "op").Spec.Attempt; got != tc.want {
					t.Errorf("%s: attempt %d, want %d", tc.reason, got, tc.want)
				}
				woken := len(w.reconcile.uncleaned(t.Context(), w.client, h)) > 0
				if want := tc.marked != "" && tc.reachable == metav1.ConditionTrue; woken != want {
					t.Errorf("%s: an event of the host wakes an operation: %t", tc.reason, woken)
				}
			})
		})
	}
}

// TestReturned_Lost: a host that a restore went on without is cleaned by an operation of its own when it answers again.
func TestReturned_Lost(t *testing.T) {
	cases := map[string]struct {
		reason string
		verb   v1alpha1.Verb
		since  time.Duration
		want   bool
	}{
		"came back":   {"its etcd has the old data", v1alpha1.VerbRestore, time.Hour, true},
		"after scale": {"the same for one that was replaced", v1alpha1.VerbScale, time.Hour, true},
		"never away":  {"a person was wrong, and decides", v1alpha1.VerbRestore, -time.Hour, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				started, ended := metav1.Now(), metav1.Now()
				spec := v1alpha1.OperationSpec{Verb: tc.verb, Cluster: "demo", Wanted: &v1alpha1.ClusterSpec{}, Parameters: &v1alpha1.OperationParameters{Lost: []string{"w1"}}}
				w.create(operationOf("dev", "op", spec))
				w.create(claimOf("w1", "dev", "demo", "uid"))
				w.create(claimOf("w2", "dev", "demo", "uid"))
				w.set("dev", "op", v1alpha1.OperationStatus{Phase: v1alpha1.OperationSucceeded, StartedAt: &started, FinishedAt: &ended})
				if tc.verb == v1alpha1.VerbRestore {
					if err := w.reconcile.release(t.Context(), w.op("dev", "op")); err != nil {
						t.Fatal(err)
					}
				} else {
					mark(w, "w1", "op")
				}
				if marks := w.marks(); marks["w1"] != "op" || marks["w2"] != "" {
					t.Fatalf("hosts that need cleaning: %v", marks)
				}
				h := machine("w1", "10.9.0.21")
				if err := w.client.Get(t.Context(), client.ObjectKeyFromObject(h), h); err != nil {
					t.Fatal(err)
				}
				h.Status.Conditions = []metav1.Condition{{Type: v1alpha1.HostReachable, Status: metav1.ConditionTrue, LastTransitionTime: metav1.NewTime(ended.Add(tc.since))}}
				if err := w.client.Status().Update(t.Context(), h); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					if err := w.reconcile.returned(t.Context(), w.op("dev", "op")); err != nil {
						t.Fatal(err)
					}
				}
				var cleaning v1alpha1.Operation
				err := w.client.Get(t.Context(), client.ObjectKey{Namespace: "dev", Name: "op-clean-w1"}, &cleaning)
				if made := err == nil && cleaning.Spec.Verb == v1alpha1.VerbClean && cleaning.Spec.Parameters.Lost[0] == "w1"; made != tc.want {
					t.Fatalf("%s: an operation to clean it: %t, %v", tc.reason, made, err)
				}
				if !tc.want {
					return
				}
				w.set("dev", "op-clean-w1", v1alpha1.OperationStatus{Phase: v1alpha1.OperationSucceeded, StartedAt: &metav1.Time{Time: ended.Add(2 * time.Hour)}, FinishedAt: &ended})
				if err := w.reconcile.release(t.Context(), w.op("dev", "op-clean-w1")); err != nil {
					t.Fatal(err)
				}
				if _, held := w.marks()["w1"]; held {
					t.Error("a host that was cleaned is still held")
				}
				if _, held := w.marks()["w2"]; !held {
					t.Error("another host of the cluster was let go")
				}
			})
		})
	}
}

// marks gives, for every host that is held, the operation that could not clean it.
func (w *world) marks() map[string]string {
	w.t.Helper()
	var all v1alpha1.HostClaimList
	if err := w.client.List(w.t.Context(), &all); err != nil {
		w.t.Fatal(err)
	}
	marks := map[string]string{}
	for _, c := range all.Items {
		marks[c.Name] = c.Annotations[v1alpha1.AnnotationNeedsCleaning]
	}
	return marks
}

func mark(w *world, host, operation string) {
	w.t.Helper()
	var c v1alpha1.HostClaim
	if err := w.client.Get(w.t.Context(), client.ObjectKey{Name: host}, &c); err != nil {
		w.t.Fatal(err)
	}
	c.Annotations = map[string]string{v1alpha1.AnnotationNeedsCleaning: operation}
	if err := w.client.Update(w.t.Context(), &c); err != nil {
		w.t.Fatal(err)
	}
}
