package cluster

import (
	"testing"
	"testing/synctest"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
)

// TestRestoreOntoAnotherHost: while a restore that replaces a control plane is not done, nothing else touches what is left
// of the cluster; once it is, its spec is the one that the cluster has.
func TestRestoreOntoAnotherHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, demo(nil), controlPlane(), keys(t, "dev"))
		active(w)
		c := w.cluster()
		c.Spec.ControlPlane.Hosts = []string{"c2"}
		c.Generation++
		now := metav1.Now()
		restore := op("demo-restore", v1alpha1.VerbRestore, v1alpha1.OperationRunning)
		restore.Labels = map[string]string{v1alpha1.LabelCluster: "demo"}
		restore.Spec.Wanted, restore.Status.StartedAt = c.Spec.DeepCopy(), &now
		status := restore.Status
		if err := w.client.Create(t.Context(), restore); err != nil {
			t.Fatal(err)
		}
		restore.Status = status
		if err := w.client.Status().Update(t.Context(), restore); err != nil {
			t.Fatal(err)
		}
		if err := w.client.Update(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		made := w.creates
		for _, phase := range []v1alpha1.OperationPhase{v1alpha1.OperationRunning, v1alpha1.OperationFailed, v1alpha1.OperationRunning, v1alpha1.OperationSucceeded} {
			w.end("demo-restore", phase)
			w.settle()
			if w.creates != made {
				t.Fatalf("while the restore is %s, another operation is made", phase)
			}
			done := phase == v1alpha1.OperationSucceeded
			if applied := w.cluster().Status.Applied.ControlPlane.Hosts[0]; (applied == "c2") != done {
				t.Errorf("while the restore is %s, the cluster is said to have %s", phase, applied)
			}
		}
	})
}
