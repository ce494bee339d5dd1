package impact

import (
	"fmt"
	"iter"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step/node"
)

// pods knows those of a cluster. One without pods is a cluster that nobody has looked at.
type pods struct {
	on      map[string][]corev1.Pod
	budgets []policyv1.PodDisruptionBudget
	// ready counts, by controller and node, the pods that serve.
	ready map[types.UID]map[string]int
	held  map[string]*v1alpha1.BudgetImpact
	done  map[string]bool
}

func newPods(seen *Seen) pods {
	p := pods{on: map[string][]corev1.Pod{}, ready: map[types.UID]map[string]int{}, held: map[string]*v1alpha1.BudgetImpact{}, done: map[string]bool{}}
	if seen == nil {
		return p
	}
	p.budgets = seen.Budgets
	for i := range seen.Pods {
		pod := &seen.Pods[i]
		p.on[pod.Spec.NodeName] = append(p.on[pod.Spec.NodeName], *pod)
		owner := metav1.GetControllerOf(pod)
		if owner == nil || pod.DeletionTimestamp != nil || !isReady(pod) {
			continue
		}
		if p.ready[owner.UID] == nil {
			p.ready[owner.UID] = map[string]int{}
		}
		p.ready[owner.UID][pod.Spec.NodeName]++
	}
	return p
}

// leaving gives the pods of a node that go with a drain, each beside what the Eviction API would say. A second call for the
// same node gives none.
func (p *pods) leaving(name string) (iter.Seq2[node.PodImpact, *corev1.Pod], error) {
	nobody := func(func(node.PodImpact, *corev1.Pod) bool) {}
	if p.done[name] {
		return nobody, nil
	}
	p.done[name] = true
	affected, err := node.Affected(p.on[name], p.budgets, name)
	if err != nil {
		return nobody, err
	}
	byName := map[string]*corev1.Pod{}
	for i := range p.on[name] {
		pod := &p.on[name][i]
		byName[pod.Namespace+"/"+pod.Name] = pod
	}
	return func(yield func(node.PodImpact, *corev1.Pod) bool) {
		for _, a := range affected.Pods {
			if a.Finished || a.Leaving {
				continue
			}
			if !yield(a, byName[a.String()]) {
				return
			}
		}
	}, nil
}

// drain notes what becomes of the pods of a node, and gives those that need another place. Pods on the other nodes that are
// drained at the same time are no help.
func (p *pods) drain(out *v1alpha1.OperationImpact, a *v1alpha1.NodeImpact, drained []string) ([]*corev1.Pod, error) {
	all, err := p.leaving(a.Name)
	if err != nil {
		return nil, err
	}
	var moving []*corev1.Pod
	for affected, pod := range all {
		a.Pods++
		p.judge(affected)
		if localData(pod) {
			note(&out.LocalData, pod)
		}
		if affected.Lost() {
			note(&out.Lost, pod)
			continue
		}
		note(&out.Moving, pod)
		if p.alone(pod, drained) {
			note(&out.Alone, pod)
		}
		moving = append(moving, pod)
	}
	return moving, nil
}

// stop notes the pods that stop with a node.
func (p *pods) stop(out *v1alpha1.OperationImpact, a *v1alpha1.NodeImpact) {
	p.each(out, a, &out.Stopping)
}

// lose notes the pods that go with a node that nobody has drained.
func (p *pods) lose(out *v1alpha1.OperationImpact, a *v1alpha1.NodeImpact) {
	p.each(out, a, &out.Lost)
}

func (p *pods) each(out *v1alpha1.OperationImpact, a *v1alpha1.NodeImpact, list *v1alpha1.PodNames) {
	all, err := p.leaving(a.Name)
	if err != nil {
		out.Unknown = host.Shorten(err.Error(), mostText)
	}
	for _, pod := range all {
		a.Pods++
		note(list, pod)
	}
}

// alone says that the controller of a pod has no ready pod on a node that stays.
func (p *pods) alone(pod *corev1.Pod, drained []string) bool {
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return false
	}
	for name := range p.ready[owner.UID] {
		if !slices.Contains(drained, name) {
			return false
		}
	}
	return true
}

// judge notes a budget that blocks. One that lets some go at a time only makes the others wait.
func (p *pods) judge(a node.PodImpact) {
	if a.Held == "" {
		return
	}
	for _, name := range a.Budgets {
		i := slices.IndexFunc(p.budgets, func(b policyv1.PodDisruptionBudget) bool { return b.Namespace+"/"+b.Name == name })
		if i < 0 {
			continue
		}
		b := &p.budgets[i]
		if len(a.Budgets) == 1 && b.Status.DisruptionsAllowed > 0 && b.Status.ObservedGeneration >= b.Generation {
			return
		}
		if p.held[name] == nil {
			p.held[name] = &v1alpha1.BudgetImpact{Name: host.Shorten(name, mostText), Why: why(a, b)}
		}
		p.held[name].Pods++
	}
}

// why says what the budget has against it, and of what it counts.
func why(a node.PodImpact, b *policyv1.PodDisruptionBudget) string {
	switch {
	case len(a.Budgets) > 1:
		return "two budgets count the same pod: Kubernetes evicts no such pod"
	case b.Status.ObservedGeneration < b.Generation:
		return "its controller has not counted the pods yet"
	default:
		return fmt.Sprintf("0 disruptions allowed: %d of %d pods are healthy and %d must be", b.Status.CurrentHealthy, b.Status.ExpectedPods, b.Status.DesiredHealthy)
	}
}

// blocked gives the budgets that block, in no order.
func (w *walk) blocked() iter.Seq[v1alpha1.BudgetImpact] {
	return func(yield func(v1alpha1.BudgetImpact) bool) {
		for b := range maps.Values(w.pods.held) {
			if !yield(*b) {
				return
			}
		}
	}
}

// localData says that a pod keeps something on its node that does not come along.
func localData(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.EmptyDir != nil || v.HostPath != nil })
}

func isReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}
