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
