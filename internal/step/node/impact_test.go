package node

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// made gives a ready pod of namespace shop on w1 that a replica set named app made; "" is nobody.
func made(name, app string, changes ...func(*corev1.Pod)) corev1.Pod {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: map[string]string{"app": app}}, Spec: corev1.PodSpec{NodeName: "w1"},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
	if app != "" {
		p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: app, UID: types.UID(app), Controller: new(true)}}
	}
	for _, f := range changes {
		f(&p)
	}
	return p
}

func onNode(name string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = name } }
func inPhase(phase corev1.PodPhase) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.Phase = phase }
}
func unready(p *corev1.Pod) { p.Status.Conditions = nil }
func leaving(p *corev1.Pod) {
	p.DeletionTimestamp, p.Finalizers = new(metav1.Unix(1, 0)), []string{"example.org/kubelet"}
}
func emptyDir(p *corev1.Pod) {
	p.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
}
func ofKind(kind string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.OwnerReferences[0].Kind = kind }
}

// budget gives a budget of namespace shop for the pods of an app.
func budget(name, app string, allowed int32, changes ...func(*policyv1.PodDisruptionBudget)) policyv1.PodDisruptionBudget {
	b := policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
		Spec:   policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}},
		Status: policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: allowed}}
	for _, f := range changes {
		f(&b)
	}
	return b
}

func TestAffected(t *testing.T) {
	const zero = "is held by budget shop/web: 0 disruptions allowed"
	healthy := func(b *policyv1.PodDisruptionBudget) { b.Status.DesiredHealthy, b.Status.CurrentHealthy = 1, 1 }
	type pods = []corev1.Pod
	type budgets = []policyv1.PodDisruptionBudget
	cases := map[string]struct {
		reason  string
		pods    pods
		budgets budgets
		want    []PodImpact
	}{
		"stays": {reason: "what belongs to the node, or is elsewhere", pods: pods{made("a", "x", onNode("w2")), made("proxy", "x", ofKind("DaemonSet")),
			made("etcd", "", func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} })}},
		"moves": {reason: "another replica is ready elsewhere", pods: pods{made("a", "web"), made("b", "web", onNode("w2"))},
			want: []PodImpact{{Namespace: "shop", Name: "a", Controller: "ReplicaSet web"}}},
		"alone": {reason: "the only other replica is not ready", pods: pods{made("a", "web"), made("b", "web", onNode("w2"), unready)},
			want: []PodImpact{{Namespace: "shop", Name: "a", Controller: "ReplicaSet web", Alone: true}}},
		"lost": {reason: "nothing makes it anew, and its data is local", pods: pods{made("a", "", emptyDir)}, want: []PodImpact{{Namespace: "shop", Name: "a", LocalData: true}}},
		"finished": {reason: "nobody needs it", pods: pods{made("a", "", inPhase(corev1.PodSucceeded))}, budgets: budgets{budget("web", "", 0)},
			want: []PodImpact{{Namespace: "shop", Name: "a", Finished: true, Budgets: []string{"shop/web"}}}},
		"held": {reason: "the budget allows none", pods: pods{made("a", "web")}, budgets: budgets{budget("web", "web", 0)},
			want: []PodImpact{{Namespace: "shop", Name: "a", Controller: "ReplicaSet web", Alone: true, Budgets: []string{"shop/web"}, Held: zero}}},
		"one at a time": {reason: "the budget allows one of two", pods: pods{made("b", "web"), made("a", "web")}, budgets: budgets{budget("web", "web", 1)},
			want: []PodImpact{{Namespace: "shop", Name: "a", Controller: "ReplicaSet web", Alone: true, Budgets: []string{"shop/web"}},
				{Namespace: "shop", Name: "b", Controller: "ReplicaSet web", Alone: true, Budgets: []string{"shop/web"}, Held: "is held by budget shop/web: 1 at a time"}}},
		"two budgets": {reason: "Kubernetes refuses that for ever", pods: pods{made("a", "web")}, budgets: budgets{budget("one", "web", 5), budget("two", "web", 5)},
			want: []PodImpact{{Namespace: "shop", Name: "a", Controller: "ReplicaSet web", Alone: true, Budgets: []string{"shop/one", "shop/two"},
				Held: "is held by budgets shop/one and shop/two: Kubernetes evicts no pod that two budgets count"}}},
		"of others": {reason: "another namespace, and a budget without a selector", pods: pods{made("a", "web")},
			budgets: budgets{budget("web", "web", 0, func(b *policyv1.PodDisruptionBudget) { b.Namespace = "dev" }), budget("none", "web", 0, func(b *policyv1.PodDisruptionBudget) { b.Spec.Selector = nil })},
			want:    []PodImpact{{Namespace: "shop", Name: "a", Controller: "ReplicaSet web", Alone: true}}},
		"stale budget": {reason: "its counts speak of an earlier spec", pods: pods{made("a", "web")},
			budgets: budgets{budget("web", "web", 5, func(b *policyv1.PodDisruptionBudget) { b.Generation = 2 })},
			want: []PodImpact{{Namespace: "shop", Name: "a", Controller: "ReplicaSet web", Alone: true, Budgets: []string{"shop/web"},
				Held: "is held by budget shop/web: its controller has not counted the pods yet"}}},
		"unready": {reason: "what does not serve is not counted while enough others do", pods: pods{made("a", "web", unready)}, budgets: budgets{budget("web", "web", 0, healthy)},
			want: []PodImpact{{Namespace: "shop", Name: "a", Controller: "ReplicaSet web", Alone: true, Budgets: []string{"shop/web"}}}},
		"unready, too few": {reason: "it may be about to serve", pods: pods{made("a", "web", unready)}, budgets: budgets{budget("web", "web", 0)},
			want: []PodImpact{{Namespace: "shop", Name: "a", Controller: "ReplicaSet web", Alone: true, Budgets: []string{"shop/web"}, Held: zero}}},
		"unready, always": {reason: "the budget says so", pods: pods{made("a", "web", unready)},
			budgets: budgets{budget("web", "web", 0, func(b *policyv1.PodDisruptionBudget) { b.Spec.UnhealthyPodEvictionPolicy = new(policyv1.AlwaysAllow) })},
			want:    []PodImpact{{Namespace: "shop", Name: "a", Controller: "ReplicaSet web", Alone: true, Budgets: []string{"shop/web"}}}},
		"pending": {reason: "it has not begun", pods: pods{made("a", "web", inPhase(corev1.PodPending))}, budgets: budgets{budget("web", "web", 0)},
			want: []PodImpact{{Namespace: "shop", Name: "a", Controller: "ReplicaSet web", Alone: true, Budgets: []string{"shop/web"}}}},
		"leaving": {reason: "it was asked already", pods: pods{made("a", "web", leaving)}, budgets: budgets{budget("web", "web", 0)},
			want: []PodImpact{{Namespace: "shop", Name: "a", Controller: "ReplicaSet web", Alone: true, Leaving: true, Budgets: []string{"shop/web"}}}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := Affected(tc.pods, tc.budgets, "w1")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(Impact{Node: "w1", Pods: tc.want}, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestImpactInGroups(t *testing.T) {
	impact, err := Affected([]corev1.Pod{made("free", "web"), made("held", "db"), made("held-too", "db"), made("lone", ""), made("old", "web", leaving)},
		[]policyv1.PodDisruptionBudget{budget("db", "db", 0)}, "w1")
	if err != nil {
		t.Fatal(err)
	}
	names := func(pods []PodImpact) (out []string) {
		for _, p := range pods {
			out = append(out, p.Name)
		}
		return out
	}
	got := [][]string{names(impact.Free()), names(impact.Held()), names(impact.Lost()), names(impact.Leaving()), impact.Blocking()}
	want := [][]string{{"free", "lone"}, {"held", "held-too"}, {"lone"}, {"old"}, {"shop/db"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAffected_UnreadableSelector(t *testing.T) {
	bad := budget("web", "web", 1, func(b *policyv1.PodDisruptionBudget) {
		b.Spec.Selector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}}}
	})
	if _, err := Affected(nil, []policyv1.PodDisruptionBudget{bad}, "w1"); err == nil {
		t.Error("a budget that cannot be read was taken for one that allows everything")
	}
}
