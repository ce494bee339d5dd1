package node

import (
	"context"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

type reader struct {
	client.Reader
	step.EtcdReader // nil: no step here asks etcd
}

func (reader) Ready(context.Context, string) error { return nil }

func (reader) Ask(context.Context, string, string) ([]byte, error) { return nil, nil }

func withReady(status corev1.ConditionStatus) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "w1"}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
		{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionTrue}, {Type: corev1.NodeReady, Status: status, Message: "no network yet"}}}}
}

func deployment(replicas *int32, generation, observed int64, available int32) *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "coredns", Generation: generation}, Spec: appsv1.DeploymentSpec{Replicas: replicas},
		Status: appsv1.DeploymentStatus{ObservedGeneration: observed, AvailableReplicas: available}}
}

func daemonSet(generation, observed int64, desired, available int32) *appsv1.DaemonSet {
	return &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kube-proxy", Generation: generation},
		Status: appsv1.DaemonSetStatus{ObservedGeneration: observed, DesiredNumberScheduled: desired, NumberAvailable: available}}
}

func TestWaiting(t *testing.T) {
	dns, proxy := Workloads{Deployments: []string{"kube-system/coredns"}}, Workloads{DaemonSets: []string{"kube-system/kube-proxy"}}
	cases := map[string]struct {
		reason string
		step   step.Step
		have   client.Object
		want   string
	}{
		"no node":          {reason: "it has not registered", step: Ready{}, want: "NodeNotRegistered"},
		"silent node":      {reason: "its kubelet has not reported", step: Ready{}, have: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "w1"}}, want: "NodeNotReady"},
		"node not ready":   {reason: "it says why", step: Ready{}, have: withReady(corev1.ConditionFalse), want: "NodeNotReady"},
		"node unknown":     {reason: "its kubelet is silent again", step: Ready{}, have: withReady(corev1.ConditionUnknown), want: "NodeNotReady"},
		"node ready":       {reason: "done", step: Ready{}, have: withReady(corev1.ConditionTrue)},
		"replica missing":  {reason: "one of two", step: dns, have: deployment(new(int32(2)), 1, 1, 1), want: "WorkloadNotAvailable"},
		"status is old":    {reason: "the counts speak of an earlier spec", step: dns, have: deployment(new(int32(1)), 2, 1, 1), want: "WorkloadNotAvailable"},
		"default replicas": {reason: "one", step: dns, have: deployment(nil, 1, 1, 1)},
		"none scheduled":   {reason: "the controller has not counted the nodes", step: proxy, have: daemonSet(1, 1, 0, 0), want: "WorkloadNotAvailable"},
		"one node missing": {reason: "two of three", step: proxy, have: daemonSet(1, 1, 3, 2), want: "WorkloadNotAvailable"},
		"on every node":    {reason: "done", step: proxy, have: daemonSet(1, 1, 3, 3)},
		"no deployment":    {reason: "nobody will make it: that is an error", step: dns, want: "Failed"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := clientfake.NewClientBuilder().WithScheme(scheme.Scheme)
			if tc.have != nil {
				b = b.WithObjects(tc.have)
			}
			drift, err := tc.step.Check(t.Context(), step.Reader{Target: step.Target{Name: "w1"}, Cluster: reader{Reader: b.Build()}})
			got := ""
			if err != nil {
				got = fault.ReasonOf(err)
			}
			if got != tc.want || !drift.Clean() {
				t.Errorf("%s: got %v and %v, want reason %q", tc.reason, drift, err, tc.want)
			}
			if waits := fault.ClassOf(err) == fault.Waiting; err != nil && waits != (tc.want != "Failed") {
				t.Errorf("%s: class %s", tc.reason, fault.ClassOf(err))
			}
		})
	}
}
