// Package impact owns what a plan does to a cluster that runs, said before it is done: what restarts, which pods go and
// whether they can, and what is left of room and of etcd's majority. It is a pure function of what it is given. It must
// never ask a cluster, nor call none what is not known.
package impact

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/plan"
)

// Input is everything that an impact is made from.
type Input struct {
	Plan *plan.Plan
	// Applied is the spec that the cluster has, Wanted the one that the plan brings about; the same where it changes none.
	Applied, Wanted *v1alpha1.ClusterSpec
	// Hosts holds those that are to join, by name.
	Hosts map[string]v1alpha1.Host
	// Seen is what the cluster says of itself; nil when it was not asked, or could not be, which Problem says then.
	Seen    *Seen
	Problem string
	// Earlier are operations of the cluster that are over.
	Earlier []v1alpha1.Operation
	// Warnings are what was found besides.
	Warnings []string
}

// Seen is what a cluster says of itself.
type Seen struct {
	At      time.Time
	Nodes   []corev1.Node
	Pods    []corev1.Pod
	Budgets []policyv1.PodDisruptionBudget
	// Silent names the control planes whose etcd does not answer.
	Silent []string
}

const (
	// most is how many names a list holds.
	most = 20
	// mostText is the longest text from a cluster that is kept, in bytes.
	mostText = 400
)

// Felt says whether anybody feels the plan, so that the cluster must be asked before Of can say who. A plan with a step of
// which nobody knows what it does is felt.
func Felt(p *plan.Plan, applied *v1alpha1.ClusterSpec) bool {
	for _, s := range p.Stages {
		for _, c := range s.Calls {
			all, err := Effects(c)
			if err != nil {
				return true
			}
			for _, e := range all {
				old := e.Node != "" || slices.ContainsFunc(s.Hosts, func(h string) bool { return slices.Contains(applied.AllHosts(), h) })
				if e.Kind == EtcdJoins || old && e.Kind != StartsAgain {
					return true
				}
			}
		}
	}
	return false
}

// Of gives the impact, with every list cut to what an object can hold.
func Of(in Input) v1alpha1.OperationImpact {
	w := newWalk(in)
	for _, s := range in.Plan.Stages {
		w.stage(s)
	}
	out := w.out
	out.Etcd, out.APIAway = w.etcd.worst, w.etcd.apiAway
	out.LastTime = lastTime(in)
	for _, text := range in.Warnings[:min(len(in.Warnings), most)] {
		out.Warnings = append(out.Warnings, host.Shorten(text, mostText))
	}
	if in.Problem != "" {
		out.Unknown = host.Shorten(in.Problem, mostText)
	}
	if in.Seen != nil {
		out.LookedAt = &metav1.Time{Time: in.Seen.At}
	}
	w.nodes(&out)
	budgets := slices.SortedFunc(w.blocked(), func(a, b v1alpha1.BudgetImpact) int { return cmp.Compare(a.Name, b.Name) })
	out.Budgets = budgets[:min(len(budgets), most)]
	out.MoreBudgets = int32(len(budgets) - len(out.Budgets))
	return out
}

// lastTime finds the newest operation of the same verb that succeeded.
func lastTime(in Input) *v1alpha1.EarlierRun {
	var newest *v1alpha1.Operation
	for i := range in.Earlier {
		op := &in.Earlier[i]
		s := op.Status
		if op.Spec.Verb != in.Plan.Verb || op.Spec.Cluster != in.Plan.Cluster || s.Phase != v1alpha1.OperationSucceeded || s.StartedAt == nil || s.FinishedAt == nil {
			continue
		}
		if newest == nil || newest.Status.FinishedAt.Before(s.FinishedAt) {
			newest = op
		}
	}
	if newest == nil {
		return nil
	}
	return &v1alpha1.EarlierRun{Operation: newest.Name, Took: metav1.Duration{Duration: newest.Status.FinishedAt.Sub(newest.Status.StartedAt.Time)}}
}

// note counts a pod and names it while there is room for names.
func note(list *v1alpha1.PodNames, p *corev1.Pod) {
	list.Count++
	if len(list.Names) < most {
		list.Names = append(list.Names, host.Shorten(fmt.Sprintf("%s/%s", p.Namespace, p.Name), mostText))
	}
}
