package impact

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	requests "k8s.io/component-helpers/resource"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/step"
)

const (
	// podsByDefault is how many pods a kubelet takes, and keptByDefault the memory that it keeps back, in bytes.
	podsByDefault = 110
	keptByDefault = 100 << 20
	// controlPlaneTaint keeps pods off control planes where there are workers.
	controlPlaneTaint = "node-role.kubernetes.io/control-plane"
)

// amounts are resources in thousandths for CPU and in whole units for everything else.
type amounts map[corev1.ResourceName]int64

func amountsOf(list corev1.ResourceList) amounts {
	out := amounts{}
	for name, q := range list {
		if name == corev1.ResourceCPU {
			out[name] = q.MilliValue()
		} else {
			out[name] = q.Value()
		}
	}
	return out
}

// place is a node where pods may go.
type place struct {
	node *corev1.Node
	free amounts
}

// room is what is free on each node, by name. It counts as the scheduler does, but for spreading and anti-affinity.
type room struct {
	places map[string]*place
}

func newRoom(in Input) room {
	r := room{places: map[string]*place{}}
	if in.Seen == nil {
		return r
	}
	for i := range in.Seen.Nodes {
		n := &in.Seen.Nodes[i]
		if n.Spec.Unschedulable || !nodeReady(n) {
			continue
		}
		if len(in.Wanted.WorkerHosts()) == 0 {
			// Control planes begin to run pods before the last worker goes.
			n = n.DeepCopy()
			n.Spec.Taints = slices.DeleteFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == controlPlaneTaint })
		}
		r.places[n.Name] = &place{node: n, free: amountsOf(n.Status.Allocatable)}
	}
	for _, t := range in.Plan.Hosts {
		if slices.Contains(in.Wanted.WorkerHosts(), t.Name) && !slices.Contains(in.Applied.AllHosts(), t.Name) {
			r.places[t.Name] = coming(t, in.Hosts[t.Name])
		}
	}
	for i := range in.Seen.Pods {
		p := &in.Seen.Pods[i]
		if at := r.places[p.Spec.NodeName]; at != nil && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
			at.take(needs(p))
		}
	}
	return r
}

// coming is a node that joins before any leaves.
func coming(t step.Target, h v1alpha1.Host) *place {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: t.Name, Labels: map[string]string{
		corev1.LabelHostname: t.Name, corev1.LabelArchStable: t.Architecture, corev1.LabelOSStable: "linux",
	}}}
	maps.Copy(n.Labels, t.Labels)
	for _, taint := range t.Taints {
		key, effect, _ := strings.Cut(taint, ":")
		key, value, _ := strings.Cut(key, "=")
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffect(effect)})
	}
	free := amounts{corev1.ResourcePods: podsByDefault}
	if f := h.Status.Facts; f != nil {
		free[corev1.ResourceCPU], free[corev1.ResourceMemory] = int64(f.CPUs)*1000, f.MemoryBytes-keptByDefault
	}
	return &place{node: n, free: free}
}

// move finds a place for pods of nodes that are drained at the same time, the largest first, and gives those that have none.
// Unless the nodes come back, what was found stays taken and they are no place any more.
func (r *room) move(going []*corev1.Pod, drained []string, back bool) []*corev1.Pod {
	to := map[string]*place{}
	for name, at := range r.places {
		if !slices.Contains(drained, name) {
			to[name] = &place{node: at.node, free: maps.Clone(at.free)}
		}
	}
	slices.SortStableFunc(going, func(a, b *corev1.Pod) int {
		x, y := needs(a), needs(b)
		return cmp.Or(cmp.Compare(y[corev1.ResourceMemory], x[corev1.ResourceMemory]), cmp.Compare(y[corev1.ResourceCPU], x[corev1.ResourceCPU]))
	})
	var without []*corev1.Pod
	names := slices.Sorted(maps.Keys(to))
	for _, p := range going {
		want := needs(p)
		i := slices.IndexFunc(names, func(name string) bool { return to[name].fits(p, want) })
		if i < 0 {
			without = append(without, p)
			continue
		}
		to[names[i]].take(want)
	}
	if !back {
		r.places = to
	}
	return without
}

func (at *place) take(want amounts) {
	for name, n := range want {
		at.free[name] -= n
	}
}

func (at *place) fits(p *corev1.Pod, want amounts) bool {
	for name, n := range want {
		if n > at.free[name] {
			return false
		}
	}
	if ok, err := nodeaffinity.GetRequiredNodeAffinity(p).Match(at.node); err != nil || !ok {
		return false
	}
	keeps := func(t *corev1.Taint) bool { return t.Effect != corev1.TaintEffectPreferNoSchedule }
	_, kept := corev1helpers.FindMatchingUntoleratedTaint(klog.Logger{}, at.node.Spec.Taints, p.Spec.Tolerations, keeps, false)
	return !kept
}

// needs is what a pod asks for, its own place among the pods of a node included.
func needs(p *corev1.Pod) amounts {
	out := amountsOf(requests.PodRequests(p, requests.PodResourcesOptions{}))
	maps.DeleteFunc(out, func(_ corev1.ResourceName, n int64) bool { return n == 0 })
	out[corev1.ResourcePods] = 1
	return out
}

func nodeReady(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}
