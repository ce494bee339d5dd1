package cluster

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

const (
	stopOperation  = "demo-stop-2-abcde"
	startOperation = "demo-start-3-abcde"
)

// active is a cluster that was created.
func active(w *world) {
	w.t.Helper()
	w.settle()
	w.end(createOperation, v1alpha1.OperationSucceeded)
	w.settle()
}

// bin edits spec.recycle, as an API server does: the generation grows.
func (w *world) bin(recycle bool) {
	w.t.Helper()
	c := w.cluster()
	c.Spec.Recycle = recycle
	c.Generation++
	if err := w.client.Update(w.t.Context(), c); err != nil {
		w.t.Fatal(err)
	}
	w.settle()
}

// later lets time pass and has the cluster looked at again, as it asked for.
func (w *world) later(d time.Duration) {
	w.t.Helper()
	<-time.After(d) // Of the bubble: nobody waits.
	if _, err := w.reconcile.Reconcile(w.t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "dev", Name: "demo"}}); err != nil {
		w.t.Fatal(err)
	}
}

func TestRecycle(t *testing.T) {
	cases := map[string]struct {
		reason string
		play   func(t *testing.T, w *world)
	}{
		"stops once": {reason: "however often it is looked at and edited", play: func(t *testing.T, w *world) {
			w.bin(true)
			if op := w.op(stopOperation); op == nil || op.Spec.Verb != v1alpha1.VerbStop || op.Spec.Wanted != nil {
				t.Fatalf("the operation is %+v", op)
			}
			w.end(stopOperation, v1alpha1.OperationSucceeded)
			made := w.creates
			w.bin(true)
			if w.creates != made {
				t.Error("an edit of what is in the bin stops it again")
			}
			c := w.cluster()
			ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ClusterReady)
			if c.Status.State != v1alpha1.ClusterRecycled || ready.Reason != "Recycled" || c.Status.DeletedAfter == nil {
				t.Errorf("state %s, Ready %s, deleted after %v", c.Status.State, ready.Reason, c.Status.DeletedAfter)
			}
		}},
		"starts again": {reason: "what is taken back is as it was, and nothing else changes", play: func(t *testing.T, w *world) {
			w.bin(true)
			w.end(stopOperation, v1alpha1.OperationSucceeded)
			w.bin(false)
			if op := w.op(startOperation); op == nil || op.Spec.Verb != v1alpha1.VerbStart {
				t.Fatalf("the operation is %+v", op)
			}
			if c := w.cluster(); c.Status.State != v1alpha1.ClusterUpdating || c.Status.DeletedAfter != nil {
				t.Errorf("state %s, deleted after %v", c.Status.State, c.Status.DeletedAfter)
			}
			w.end(startOperation, v1alpha1.OperationSucceeded)
			w.settle()
			c := w.cluster()
			if c.Status.RecycledAt != nil || c.Status.State == v1alpha1.ClusterRecycled || c.Status.State == v1alpha1.ClusterUpdating {
				t.Errorf("state %s, recycled at %v", c.Status.State, c.Status.RecycledAt)
			}
			made := w.creates
			w.later(3 * time.Hour)
			if w.cluster() == nil || w.creates != made {
				t.Error("one that was taken back is deleted or changed hours later")
			}
		}},
		"taken back while it stops": {reason: "it starts after it has stopped: nothing is half stopped", play: func(t *testing.T, w *world) {
			w.bin(true)
			w.end(stopOperation, v1alpha1.OperationRunning)
			w.bin(false)
			if w.op(startOperation) == nil {
				t.Error("nothing will start it")
			}
		}},
		"deleted in time": {reason: "two hours, and not before", play: func(t *testing.T, w *world) {
			w.bin(true)
			w.end(stopOperation, v1alpha1.OperationSucceeded)
			w.later(2*time.Hour - time.Minute)
			if w.cluster().DeletionTimestamp != nil {
				t.Fatal("it is deleted too early")
			}
			w.later(2 * time.Minute)
			if w.cluster().DeletionTimestamp == nil {
				t.Fatal("it is never deleted")
			}
			w.settle()
			if w.op(deleteOperation) == nil {
				t.Error("nobody cleans the hosts")
			}
		}},
		"a setting says how long": {reason: "an organisation may keep them longer", play: func(t *testing.T, w *world) {
			setting := &v1alpha1.Setting{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.SettingRetention}, Spec: v1alpha1.SettingSpec{Retention: &v1alpha1.RetentionSetting{RecycleMinutes: 600}}}
			if err := w.client.Create(t.Context(), setting); err != nil {
				t.Fatal(err)
			}
			w.bin(true)
			w.end(stopOperation, v1alpha1.OperationSucceeded)
			w.later(9 * time.Hour)
			if w.cluster().DeletionTimestamp != nil {
				t.Error("it is deleted before the setting says so")
			}
			w.later(61 * time.Minute)
			if w.cluster().DeletionTimestamp == nil {
				t.Error("it is never deleted")
			}
		}},
		"deleted by the API": {reason: "a plain delete skips the bin", play: func(t *testing.T, w *world) {
			w.bin(true)
			w.end(stopOperation, v1alpha1.OperationSucceeded)
			if err := w.client.Delete(t.Context(), w.cluster()); err != nil {
				t.Fatal(err)
			}
			w.settle()
			if w.op(deleteOperation) == nil || w.cluster().Status.State != v1alpha1.ClusterDeleting {
				t.Error("it is not deleted")
			}
		}},
		"stopping failed": {reason: "it ends all the same: what could not be stopped is cleaned", play: func(t *testing.T, w *world) {
			w.bin(true)
			w.end(stopOperation, v1alpha1.OperationFailed)
			w.later(3 * time.Hour)
			if w.cluster().DeletionTimestamp == nil {
				t.Error("it is never deleted")
			}
		}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Log(tc.reason)
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, demo(nil), controlPlane(), keys(t, "dev"))
				active(w)
				tc.play(t, w)
			})
		})
	}
}

// TestRecycleBeforeCreated: one that never ran has nothing to stop.
func TestRecycleBeforeCreated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, demo(nil), controlPlane(), keys(t, "dev"))
		w.settle()
		w.end(createOperation, v1alpha1.OperationFailed)
		w.bin(true)
		if w.op(stopOperation) != nil {
			t.Error("it is stopped")
		}
		w.later(3 * time.Hour)
		if w.cluster().DeletionTimestamp == nil {
			t.Error("it is never deleted")
		}
	})
}

func TestCertificatesValid(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	cases := map[string]struct {
		reason string
		left   time.Duration
		status metav1.ConditionStatus
		want   string
	}{
		"years":   {"nobody is bothered", 91 * day, metav1.ConditionTrue, "Valid"},
		"90 days": {"the first warning", 90 * day, metav1.ConditionTrue, "EndWithin90Days"},
		"30 days": {"the second", 30 * day, metav1.ConditionTrue, "EndWithin30Days"},
		"7 days":  {"the last", 7 * day, metav1.ConditionTrue, "EndWithin7Days"},
		"ended":   {"no warning any more", -time.Second, metav1.ConditionFalse, "Ended"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := demo(func(c *v1alpha1.Cluster) {
				c.Status.Certificates = []v1alpha1.ClusterCertificate{
					{Name: "ca.crt", ExpiresAt: metav1.NewTime(now.Add(3650 * day))}, {Name: "c1/apiserver", ExpiresAt: metav1.NewTime(now.Add(tc.left))},
				}
			})
			got := certificatesValid(c, now)
			if got.Status != tc.status || got.Reason != tc.want || !strings.Contains(got.Message, "c1/apiserver") {
				t.Errorf("%s: %s %s %q", tc.reason, got.Status, got.Reason, got.Message)
			}
			if warns := strings.Contains(got.Message, "slipway cluster renew-certs demo"); warns != (tc.want != "Valid") {
				t.Errorf("%s: the message is %q", tc.reason, got.Message)
			}
		})
	}
}
