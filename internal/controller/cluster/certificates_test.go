package cluster

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

// servers answers with certificates by "HOST ADDRESS"; others do not answer.
type servers map[string]time.Time

func (s servers) ControlPlanes(context.Context) ([]string, int32, error) {
	return []string{"c1", "c2"}, 6443, nil
}

func (s servers) Served(_ context.Context, host, address, _ string) (time.Time, error) {
	ends, found := s[host+" "+address]
	if !found {
		return time.Time{}, errors.New("connection refused")
	}
	return ends, nil
}

func TestServed(t *testing.T) {
	at := func(days int) time.Time { return time.Date(2030, 1, days, 0, 0, 0, 0, time.UTC) }
	seen := servers{
		"c1 127.0.0.1:6443": at(1), "c1 127.0.0.1:2379": at(2), "c2 127.0.0.1:6443": at(3),
		// The first control plane does not reach c1's own kubelet; the second does.
		"c2 10.9.0.11:10250": at(9), "c1 10.9.0.21:10250": at(5), "c1 10.9.0.22:10250": at(7),
	}
	nodes := map[string]*corev1.Node{}
	for name, address := range map[string]string{"c1": "10.9.0.11", "w1": "10.9.0.21", "w2": "10.9.0.22", "w3": "10.9.0.23", "liar": "evil.example"} {
		nodes[name] = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}}}
	}
	got := map[string]int{}
	for _, c := range served(t.Context(), seen, kubeletAddresses(nodes)) {
		got[c.Name] = c.ExpiresAt.Day()
	}
	// What does not answer is left out, and of the kubelets only the worst is named.
	want := map[string]int{"c1/apiserver": 1, "c1/etcd": 2, "c2/apiserver": 3, "w1/kubelet": 5}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("certificates (-want +got):\n%s", diff)
	}
}

// TestNoteCertificates: what was seen before stays while its host is a control plane, and the authorities stay always.
func TestNoteCertificates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := func(name string, days int) v1alpha1.ClusterCertificate {
			return v1alpha1.ClusterCertificate{Name: name, ExpiresAt: metav1.NewTime(time.Now().Add(time.Duration(days) * day))}
		}
		c := demo(func(c *v1alpha1.Cluster) {
			c.Status.Applied = c.Spec.DeepCopy()
			c.Status.Certificates = []v1alpha1.ClusterCertificate{ends("ca.crt", 3000), ends("c1/apiserver", 1), ends("c1/etcd", 2), ends("gone/etcd", 3), ends("w9/kubelet", 4)}
		})
		w := newWorld(t, c)
		key := client.ObjectKeyFromObject(c)
		w.reconcile.nodes.running[key] = &watcher{stop: func() {}, report: report{certificates: []v1alpha1.ClusterCertificate{ends("c1/apiserver", 365), ends("w1/kubelet", 300)}}}
		w.reconcile.noteCertificates(c, time.Now())
		want := []v1alpha1.ClusterCertificate{ends("ca.crt", 3000), ends("c1/etcd", 2), ends("c1/apiserver", 365), ends("w1/kubelet", 300)}
		if diff := cmp.Diff(want, c.Status.Certificates); diff != "" {
			t.Errorf("certificates (-want +got):\n%s", diff)
		}
	})
}
