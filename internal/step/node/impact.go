package node

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// Impact is what taking every pod off one node does.
type Impact struct {
	// Node names the node.
	Node string `json:"node"`
	// Pods are those that have to go, by namespace and name. Pods of daemon sets and static pods stay and are not in it.
	Pods []PodImpact `json:"pods,omitempty"`
}

// PodImpact is one pod that has to go.
type PodImpact struct {
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	UID       types.UID `json:"uid,omitempty"`
	// Controller is what makes a new one elsewhere, as KIND NAME; "" means that nothing does.
	Controller string `json:"controller,omitempty"`
	// LocalData says that what it keeps in an emptyDir is lost.
	LocalData bool `json:"localData,omitempty"`
	// Alone says that its controller has no other ready pod on another node. It means something only where all pods of
	// the cluster were given.
	Alone bool `json:"alone,omitempty"`
	// Finished says that it ran to its end.
	Finished bool `json:"finished,omitempty"`
	// Leaving says that it was asked to go and has not stopped yet.
	Leaving bool `json:"leaving,omitempty"`
	// Forced says that it was deleted without waiting for it to stop.
	Forced bool `json:"forced,omitempty"`
	// Budgets names the disruption budgets that count it, as NAMESPACE/NAME.
	Budgets []string `json:"budgets,omitempty"`
	// Held says why its budget does not let it go now; "" when it may go.
	Held string `json:"held,omitempty"`
}

// String gives NAMESPACE/NAME.
func (p PodImpact) String() string { return p.Namespace + "/" + p.Name }

// Lost says that nothing makes the pod anew.
func (p PodImpact) Lost() bool { return p.Controller == "" && !p.Finished && !p.Leaving }

// Lost gives the pods that nothing makes anew.
func (i Impact) Lost() []PodImpact { return i.pick(PodImpact.Lost) }

// Held gives the pods that a budget does not let go now.
func (i Impact) Held() []PodImpact { return i.pick(func(p PodImpact) bool { return p.Held != "" }) }

// Free gives the pods that may be asked to go now.
func (i Impact) Free() []PodImpact {
	return i.pick(func(p PodImpact) bool { return !p.Leaving && p.Held == "" })
}

// Leaving gives the pods that were asked to go and have not stopped yet.
func (i Impact) Leaving() []PodImpact { return i.pick(func(p PodImpact) bool { return p.Leaving }) }

func (i Impact) pick(wanted func(PodImpact) bool) []PodImpact {
	var out []PodImpact
	for _, p := range i.Pods {
		if wanted(p) {
			out = append(out, p)
		}
	}
	return out
}

// Blocking names the budgets that hold pods, in alphabetical order.
func (i Impact) Blocking() []string {
	var out []string
	for _, p := range i.Held() {
		out = append(out, p.Budgets...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Affected says what taking every pod off the named node does. Pods are those of that node at least, budgets all of
// the cluster. It follows the rules of the Eviction API, so what it calls free is what that lets go. It fails when a budget's
// selector cannot be read.
func Affected(pods []corev1.Pod, budgets []policyv1.PodDisruptionBudget, node string) (Impact, error) {
	counted, err := parse(budgets)
	if err != nil {
		return Impact{}, err
	}
	elsewhere := map[types.UID]bool{}
	for i := range pods {
		p := &pods[i]
		if owner := metav1.GetControllerOf(p); owner != nil && p.Spec.NodeName != node && p.DeletionTimestamp == nil && ready(p) {
			elsewhere[owner.UID] = true
		}
	}
	impact := Impact{Node: node}
	for _, p := range sorted(pods) {
		if p.Spec.NodeName != node || stays(p) {
			continue
		}
		affected := describe(p)
		if owner := metav1.GetControllerOf(p); owner != nil {
			affected.Alone = !elsewhere[owner.UID]
		}
		counted.judge(p, &affected)
		impact.Pods = append(impact.Pods, affected)
	}
	return impact, nil
}

func sorted(pods []corev1.Pod) []*corev1.Pod {
	out := make([]*corev1.Pod, len(pods))
	for i := range pods {
		out[i] = &pods[i]
	}
	slices.SortFunc(out, func(a, b *corev1.Pod) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return out
}

// stays says that draining leaves the pod alone: it belongs to the node itself.
func stays(p *corev1.Pod) bool {
	if _, mirror := p.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return true
	}
	owner := metav1.GetControllerOf(p)
	return owner != nil && owner.Kind == "DaemonSet"
}

func describe(p *corev1.Pod) PodImpact {
	out := PodImpact{
		Namespace: p.Namespace, Name: p.Name, UID: p.UID, Leaving: p.DeletionTimestamp != nil,
		Finished:  p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed,
		LocalData: slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return v.EmptyDir != nil }),
	}
	out.Forced = out.Leaving && p.DeletionGracePeriodSeconds != nil && *p.DeletionGracePeriodSeconds == 0
	if owner := metav1.GetControllerOf(p); owner != nil {
		out.Controller = owner.Kind + " " + owner.Name
	}
	return out
}

func ready(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// allowance is one budget and what it still allows.
type allowance struct {
	*policyv1.PodDisruptionBudget
	selector labels.Selector
	left     int32
}

func (a *allowance) name() string { return a.Namespace + "/" + a.Name }

type allowances []*allowance

func parse(budgets []policyv1.PodDisruptionBudget) (allowances, error) {
	var out allowances
	for i := range budgets {
		b := &budgets[i]
		selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err != nil {
			return nil, fmt.Errorf("cannot read the selector of budget %s/%s: %w", b.Namespace, b.Name, err)
		}
		out = append(out, &allowance{PodDisruptionBudget: b, selector: selector, left: b.Status.DisruptionsAllowed})
	}
	return out, nil
}

// judge notes which budgets count the pod and whether they let it go, as the Eviction API decides.
func (all allowances) judge(p *corev1.Pod, out *PodImpact) {
	var mine allowances
	for _, a := range all {
		if a.Namespace == p.Namespace && a.selector.Matches(labels.Set(p.Labels)) {
			mine = append(mine, a)
			out.Budgets = append(out.Budgets, a.name())
		}
	}
	if len(mine) == 0 || out.Leaving || out.Finished || p.Status.Phase == corev1.PodPending {
		return
	}
	if len(mine) > 1 {
		out.Held = fmt.Sprintf("is held by budgets %s: Kubernetes evicts no pod that two budgets count", strings.Join(out.Budgets, " and "))
		return
	}
	a, held := mine[0], "is held by budget "+mine[0].name()
	switch {
	case !ready(p) && a.sparesUnready():
	case a.Status.ObservedGeneration < a.Generation:
		out.Held = held + ": its controller has not counted the pods yet"
	case a.left > 0:
		a.left--
	case a.Status.DisruptionsAllowed > 0:
		out.Held = fmt.Sprintf("%s: %d at a time", held, a.Status.DisruptionsAllowed)
	default:
		out.Held = held + ": 0 disruptions allowed"
	}
}

// sparesUnready says that a pod that is not ready may go without being counted.
func (a *allowance) sparesUnready() bool {
	policy := a.Spec.UnhealthyPodEvictionPolicy
	if policy != nil && *policy == policyv1.AlwaysAllow {
		return true
	}
	return a.Status.DesiredHealthy > 0 && a.Status.CurrentHealthy >= a.Status.DesiredHealthy
}
