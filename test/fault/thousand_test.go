package fault

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	fakehost "slipway.dev/slipway/internal/host/fake"
)

// grown gives a world whose cluster has that many hosts: one control plane and a worker that live, and others that only
// answer, and count what they are asked. Host w2 is spare.
func grown(t testing.TB, k keys, hosts int) *world {
	t.Helper()
	w := newWorld(t, k, shape{workers: 1, spare: []string{"w2"}})
	w.succeed(w.create())
	w.settle(t.Context())
	pool := &w.input.Spec.WorkerPools[0]
	for i := range hosts - 2 {
		name := fmt.Sprintf("many%d", i)
		address := netip.AddrFrom4([4]byte{10, 0, byte(i / 250), byte(1 + i%250)})
		h := w.input.Hosts["w1"]
		h.Name, h.Status.InternalAddress = name, address.String()
		h.Status.Facts = h.Status.Facts.DeepCopy()
		h.Status.Facts.Hostname, h.Status.Facts.MachineID = name, "machine-"+name
		w.input.Hosts[name], w.input.Platform[name] = h, platform
		pool.Hosts = append(pool.Hosts, name)
		w.sessions[name] = fakehost.New(name, *h.Status.Facts)
		w.cluster.mu.Lock()
		w.check(w.cluster.store.put(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name},
			Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}}))
		w.cluster.mu.Unlock()
	}
	return w
}

// add brings w2 in and says how long that took, from the look at the spec to the end of the operation, and the plan alone.
func (w *world) add() (all, planned time.Duration) {
	w.t.Helper()
	began := time.Now()
	trial := scaled([]string{"cp1"}, append(w.input.Spec.WorkerHosts(), "w2")...)(w)
	planned = time.Since(began)
	w.succeed(trial)
	return time.Since(began), planned
}

// mostRatio is how much longer it may take to add a host to a cluster of a thousand than to one of ten.
const mostRatio = 1.2

// TestAddHost: a host comes into a cluster of 1,000 as it comes into one of 10, and no other host gets a command.
func TestAddHost(t *testing.T) {
	k := newKeys(t)
	// Waits are jittered, and one more of them is a third of the whole: the fastest of some rounds says what a host costs.
	const rounds = 20
	took := map[int]time.Duration{10: time.Hour, 1000: time.Hour}
	ratio := 0.0
	for range rounds {
		took[10], took[1000] = min(took[10], added(t, k, 10)), min(took[1000], added(t, k, 1000))
		if ratio = took[1000].Seconds() / took[10].Seconds(); ratio <= mostRatio {
			return
		}
	}
	t.Errorf("a host comes in %s into 10 and in %s into 1,000: %.2f times, more than %.1f", took[10], took[1000], ratio, mostRatio)
}

// added says how long a host takes to come into a cluster of that many, and wants no command for any other.
func added(t *testing.T, k keys, hosts int) (took time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := grown(t, k, hosts)
		all := w.sessions
		before := map[string]int{}
		for name, h := range all {
			before[name] = h.Commands()
		}
		took, _ = w.add()
		if all["w2"].Commands() == before["w2"] {
			t.Error("the new host got no command: nothing was done")
		}
		delete(all, "w2")
		for name, h := range all {
			if n := h.Commands() - before[name]; n > 0 {
				t.Errorf("of %d hosts, %s got %d commands, and is not the one that comes", hosts, name, n)
			}
		}
		w.cluster.mu.Lock()
		defer w.cluster.mu.Unlock()
		if find[*corev1.Node](w.cluster.store, "", "w2") == nil {
			t.Error("the new host is no node")
		}
	})
	return took
}

// BenchmarkAddHost takes the time of the same in real seconds, with all the work of the server: plan, record and log.
func BenchmarkAddHost(b *testing.B) {
	k := newKeys(b)
	took, plans := map[int]time.Duration{}, map[int]time.Duration{}
	for b.Loop() {
		for _, hosts := range []int{10, 1000} {
			w := grown(b, k, hosts)
			all, planned := w.add()
			took[hosts], plans[hosts] = took[hosts]+all, plans[hosts]+planned
		}
	}
	b.ReportMetric(plans[1000].Seconds()*1000/float64(b.N), "ms-plan-at-1000")
	b.ReportMetric(took[10].Seconds()/float64(b.N), "s-into-10")
	b.ReportMetric(took[1000].Seconds()/float64(b.N), "s-into-1000")
	b.ReportMetric(took[1000].Seconds()/took[10].Seconds(), "ratio")
}
