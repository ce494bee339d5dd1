package node

import (
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

// TestSince: what a cluster says of a kubelet, or of replicas, from before a start or a restore is no news.
func TestSince(t *testing.T) {
	began := metav1.NewTime(time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC))
	heard := func(after time.Duration, status corev1.ConditionStatus) client.Object {
		n := withReady(status)
		n.Status.Conditions[1].LastHeartbeatTime = metav1.NewTime(began.Add(after))
		return n
	}
	lease := func(namespace, name string, after time.Duration) client.Object {
		return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: coordinationv1.LeaseSpec{RenewTime: new(metav1.NewMicroTime(began.Add(after)))}}
	}
	nodes, proxy := Ready{Since: &began}, Workloads{Since: &began, DaemonSets: []string{"kube-system/kube-proxy"}}
	counted := daemonSet(1, 1, 3, 3)
	cases := map[string]struct {
		reason string
		step   step.Step
		have   []client.Object
		want   string
	}{
		"stale":           {"the kubelet reported before it was stopped, and the cluster has not noticed", nodes, []client.Object{heard(-30*time.Second, corev1.ConditionTrue)}, "NodeSilent"},
		"stale lease":     {"so was the lease", nodes, []client.Object{heard(-time.Hour, corev1.ConditionTrue), lease("kube-node-lease", "w1", -5*time.Second)}, "NodeSilent"},
		"just renewed":    {"a kubelet renews its lease before it looks at its runtime", nodes, []client.Object{heard(-time.Hour, corev1.ConditionTrue), lease("kube-node-lease", "w1", 2*time.Second)}, "NodeSilent"},
		"reported":        {"it has started and says that all is well", nodes, []client.Object{heard(2*time.Second, corev1.ConditionTrue)}, ""},
		"reported ill":    {"it has started and says what it lacks", nodes, []client.Object{heard(2*time.Second, corev1.ConditionFalse)}, "NodeNotReady"},
		"never stopped":   {"one that has nothing new to say renews its lease", nodes, []client.Object{heard(-time.Hour, corev1.ConditionTrue), lease("kube-node-lease", "w1", 65*time.Second)}, ""},
		"no controller":   {"the counts are from before", proxy, []client.Object{counted.DeepCopy()}, "ControllersStarting"},
		"old controller":  {"so is the lease of who counts", proxy, []client.Object{counted.DeepCopy(), lease("kube-system", "kube-controller-manager", -time.Second)}, "ControllersStarting"},
		"counted again":   {"somebody who counts is at work", proxy, []client.Object{counted.DeepCopy(), lease("kube-system", "kube-controller-manager", time.Second)}, ""},
		"counted too few": {"and finds one missing", proxy, []client.Object{daemonSet(1, 1, 3, 2), lease("kube-system", "kube-controller-manager", time.Second)}, "WorkloadNotAvailable"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			api := clientfake.NewClientBuilder().WithScheme(scheme.Scheme).WithObjects(c.have...).Build()
			drift, err := c.step.Check(t.Context(), step.Reader{Target: step.Target{Name: "w1"}, Cluster: reader{Reader: api}})
			got := ""
			if err != nil {
				got = fault.ReasonOf(err)
			}
			if got != c.want || !drift.Clean() || (err != nil && fault.ClassOf(err) != fault.Waiting) {
				t.Errorf("%s: got %v and %v, want to wait with reason %q", c.reason, drift, err, c.want)
			}
		})
	}
}
