package impact

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/step"
	"slipway.dev/slipway/internal/step/containerd"
	"slipway.dev/slipway/internal/step/etcd"
	"slipway.dev/slipway/internal/step/kubeadm"
	"slipway.dev/slipway/internal/step/kubelet"
	"slipway.dev/slipway/internal/step/node"
	"slipway.dev/slipway/internal/step/reset"
	"slipway.dev/slipway/internal/step/restore"
)

// stage gives one with steps that its hosts take side by side.
func stage(t *testing.T, hosts []string, steps ...step.Step) plan.Stage {
	t.Helper()
	s := plan.Stage{Hosts: hosts}
	for i, st := range steps {
		c, err := plan.NewCall(fmt.Sprint(i), st)
		if err != nil {
			t.Fatal(err)
		}
		s.Calls = append(s.Calls, c)
	}
	return s
}

func spec(controlPlanes []string, workers ...string) *v1alpha1.ClusterSpec {
	s := &v1alpha1.ClusterSpec{ControlPlane: v1alpha1.ControlPlaneSpec{Hosts: controlPlanes}}
	if len(workers) > 0 {
		s.WorkerPools = []v1alpha1.WorkerPool{{Name: "default", Hosts: workers}}
	}
	return s
}

func three() []string { return []string{"c1", "c2", "c3"} }

// input gives a plan of these stages over every host of both specs.
func input(applied, wanted *v1alpha1.ClusterSpec, stages ...plan.Stage) Input {
	p := &plan.Plan{Verb: v1alpha1.VerbScale, Cluster: "demo", Stages: stages}
	for _, name := range applied.AllHosts() {
		p.Hosts = append(p.Hosts, step.Target{Name: name})
	}
	for _, name := range wanted.AllHosts() {
		if _, known := p.Target(name); !known {
			p.Hosts = append(p.Hosts, step.Target{Name: name, Architecture: "amd64"})
		}
	}
	return Input{Plan: p, Applied: applied, Wanted: wanted, Hosts: map[string]v1alpha1.Host{}}
}

// worker is a node of 4 CPUs and 8Gi.
func worker(name string, change ...func(*corev1.Node)) corev1.Node {
	n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}},
		Status: corev1.NodeStatus{
			Allocatable: corev1.ResourceList{"cpu": resource.MustParse("4"), "memory": resource.MustParse("8Gi"), "pods": resource.MustParse("110")},
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		}}
	for _, c := range change {
		c(&n)
	}
	return n
}

func tainted(n *corev1.Node) {
	n.Spec.Taints = []corev1.Taint{{Key: controlPlaneTaint, Effect: corev1.TaintEffectNoSchedule}}
}

// pod is a ready one of a ReplicaSet named like its label app; "" is of nobody.
func pod(name, app, on string, change ...func(*corev1.Pod)) corev1.Pod {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name), Labels: map[string]string{"app": app}},
		Spec: corev1.PodSpec{NodeName: on, Containers: []corev1.Container{{Name: "c"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning,
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
	if app != "" {
		p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: app, UID: types.UID(app), Controller: new(true)}}
	}
	for _, c := range change {
		c(&p)
	}
	return p
}

func asks(cpu, memory string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse(cpu), "memory": resource.MustParse(memory)}
	}
}

func keeps(v corev1.VolumeSource) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: v}} }
}

func daemon(p *corev1.Pod) { p.OwnerReferences[0].Kind = "DaemonSet" }

func only(selector map[string]string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.NodeSelector = selector }
}

func budget(name, app string, allowed int32) policyv1.PodDisruptionBudget {
	return policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
		Spec:   policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}},
		Status: policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: allowed, CurrentHealthy: 1, DesiredHealthy: 1, ExpectedPods: 1}}
}

// moves takes pods off a worker that comes back.
func moves(t *testing.T, hosts ...string) plan.Stage {
	return stage(t, hosts, node.Cordon{}, node.Drain{}, containerd.Configure{}, node.Uncordon{})
}

// TestPods says of each pod on a drained node what becomes of it.
func TestPods(t *testing.T) {
	others := []corev1.Node{worker("c1", tainted), worker("w1"), worker("w2")}
	type want struct{ Moving, Lost, LocalData, Alone, NoRoom []string }
	cases := map[string]struct {
		reason  string
		pods    []corev1.Pod
		nodes   []corev1.Node
		budgets []policyv1.PodDisruptionBudget
		drained []string
		want    want
		budget  []v1alpha1.BudgetImpact
	}{
		"two replicas": {reason: "one elsewhere serves on", pods: []corev1.Pod{pod("a", "web", "w1"), pod("b", "web", "w2")}, want: want{Moving: []string{"shop/a"}}},
		"single":       {reason: "nobody serves meanwhile", pods: []corev1.Pod{pod("a", "web", "w1")}, want: want{Moving: []string{"shop/a"}, Alone: []string{"shop/a"}}},
		"both drained": {reason: "the other one goes at the same time", drained: []string{"w1", "w2"}, nodes: append(others, worker("w3")),
			pods: []corev1.Pod{pod("a", "web", "w1"), pod("b", "web", "w2")}, want: want{Moving: []string{"shop/a", "shop/b"}, Alone: []string{"shop/a", "shop/b"}}},
		"unmanaged": {reason: "nothing makes it anew", pods: []corev1.Pod{pod("a", "", "w1")}, want: want{Lost: []string{"shop/a"}}},
		"emptyDir": {reason: "its data stays behind", pods: []corev1.Pod{pod("a", "web", "w1", keeps(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})), pod("b", "web", "w2")},
			want: want{Moving: []string{"shop/a"}, LocalData: []string{"shop/a"}}},
		"hostPath": {reason: "its data stays behind", pods: []corev1.Pod{pod("a", "web", "w1", keeps(corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/srv"}})), pod("b", "web", "w2")},
			want: want{Moving: []string{"shop/a"}, LocalData: []string{"shop/a"}}},
		"daemon set": {reason: "it belongs to the node", pods: []corev1.Pod{pod("a", "agent", "w1", daemon)}},
		"finished":   {reason: "it has done its work", pods: []corev1.Pod{pod("a", "job", "w1", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })}},
		"leaving":    {reason: "it goes anyway", pods: []corev1.Pod{pod("a", "web", "w1", func(p *corev1.Pod) { p.DeletionTimestamp = new(metav1.Now()) })}},
		"elsewhere":  {reason: "the other node is left alone", pods: []corev1.Pod{pod("a", "", "w2")}},
		"blocked": {reason: "a budget that lets none go", pods: []corev1.Pod{pod("a", "web", "w1")}, budgets: []policyv1.PodDisruptionBudget{budget("web", "web", 0)},
			want:   want{Moving: []string{"shop/a"}, Alone: []string{"shop/a"}},
			budget: []v1alpha1.BudgetImpact{{Name: "shop/web", Pods: 1, Why: "0 disruptions allowed: 1 of 1 pods are healthy and 1 must be"}}},
		"one at a time": {reason: "the second only waits for the first", pods: []corev1.Pod{pod("a", "web", "w1"), pod("b", "web", "w1"), pod("c", "web", "w2")},
			budgets: []policyv1.PodDisruptionBudget{budget("web", "web", 1)}, want: want{Moving: []string{"shop/a", "shop/b"}}},
		"two budgets": {reason: "Kubernetes evicts no pod that two count", pods: []corev1.Pod{pod("a", "web", "w1"), pod("b", "web", "w2")},
			budgets: []policyv1.PodDisruptionBudget{budget("one", "web", 1), budget("two", "web", 1)}, want: want{Moving: []string{"shop/a"}},
			budget: []v1alpha1.BudgetImpact{{Name: "shop/one", Pods: 1, Why: "two budgets count the same pod: Kubernetes evicts no such pod"}, {Name: "shop/two", Pods: 1, Why: "two budgets count the same pod: Kubernetes evicts no such pod"}}},
		"no CPU": {reason: "what is asked for counts, not what is used", pods: []corev1.Pod{pod("a", "web", "w1", asks("3", "1Gi")), pod("b", "web", "w2", asks("2", "1Gi"))},
			want: want{Moving: []string{"shop/a"}, NoRoom: []string{"shop/a"}}},
		"no memory": {reason: "two fit alone and not together", pods: []corev1.Pod{pod("a", "web", "w1", asks("1", "5Gi")), pod("b", "web", "w1", asks("1", "5Gi")), pod("c", "web", "w2")},
			want: want{Moving: []string{"shop/a", "shop/b"}, NoRoom: []string{"shop/b"}}},
		"no place for one more": {reason: "a kubelet takes so many pods", pods: []corev1.Pod{pod("a", "web", "w1"), pod("b", "web", "w2")},
			nodes: []corev1.Node{worker("w1"), worker("w2", func(n *corev1.Node) { n.Status.Allocatable["pods"] = resource.MustParse("1") })},
			want:  want{Moving: []string{"shop/a"}, NoRoom: []string{"shop/a"}}},
		"only there": {reason: "no other node has the label", pods: []corev1.Pod{pod("a", "web", "w1", only(map[string]string{"disk": "ssd"})), pod("b", "web", "w2")},
			want: want{Moving: []string{"shop/a"}, NoRoom: []string{"shop/a"}}},
		"cordoned": {reason: "a cordoned node takes none", nodes: []corev1.Node{worker("w1"), worker("w2", func(n *corev1.Node) { n.Spec.Unschedulable = true })},
			pods: []corev1.Pod{pod("a", "web", "w1"), pod("b", "web", "w2")}, want: want{Moving: []string{"shop/a"}, NoRoom: []string{"shop/a"}}},
		"not ready": {reason: "a node that is not ready takes none", nodes: []corev1.Node{worker("w1"), worker("w2", func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionUnknown })},
			pods: []corev1.Pod{pod("a", "web", "w1"), pod("b", "web", "w2")}, want: want{Moving: []string{"shop/a"}, NoRoom: []string{"shop/a"}}},
		"taint": {reason: "only the control plane is left", nodes: []corev1.Node{worker("c1", tainted), worker("w1")}, drained: []string{"w1"},
			pods: []corev1.Pod{pod("a", "web", "w1"), pod("b", "web", "c1")}, want: want{Moving: []string{"shop/a"}, NoRoom: []string{"shop/a"}}},
		"toleration": {reason: "and this one goes there", nodes: []corev1.Node{worker("c1", tainted), worker("w1")}, drained: []string{"w1"},
			pods: []corev1.Pod{pod("a", "web", "w1", func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}} }), pod("b", "web", "c1")},
			want: want{Moving: []string{"shop/a"}}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if tc.nodes == nil {
				tc.nodes = others
			}
			if tc.drained == nil {
				tc.drained = []string{"w1"}
			}
			applied := spec([]string{"c1"}, "w1", "w2")
			in := input(applied, applied, moves(t, tc.drained...))
			in.Seen = &Seen{Nodes: tc.nodes, Pods: tc.pods, Budgets: tc.budgets}
			got := Of(in)
			have := want{got.Moving.Names, got.Lost.Names, got.LocalData.Names, got.Alone.Names, got.NoRoom.Names}
			if diff := cmp.Diff(tc.want, have); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(tc.budget, got.Budgets); diff != "" {
				t.Errorf("%s: budgets (-want +got):\n%s", tc.reason, diff)
			}
			harmless := len(have.Lost)+len(have.LocalData)+len(have.Alone)+len(have.NoRoom)+len(got.Budgets) == 0
			if got.Harmless() != harmless {
				t.Errorf("%s: harmless %v, want %v", tc.reason, got.Harmless(), harmless)
			}
		})
	}
}

// TestRoomIsUsedUp: what moves off the first node that leaves takes the room from the second; where nodes come back it
// does not, and a node that joins brings its own.
func TestRoomIsUsedUp(t *testing.T) {
	gone := func(name string) plan.Stage {
		return stage(t, []string{name}, node.Cordon{}, node.Drain{}, reset.Kubernetes{})
	}
	applied := spec([]string{"c1"}, "w1", "w2", "w3")
	seen := &Seen{Nodes: []corev1.Node{worker("c1", tainted), worker("w1"), worker("w2"), worker("w3")},
		Pods: []corev1.Pod{pod("a", "x", "w1", asks("3", "1Gi")), pod("b", "x", "w2", asks("3", "1Gi")), pod("c", "x", "c1")}}
	cases := map[string]struct {
		reason string
		in     Input
		want   int32
	}{
		"leave":     {"w3 has room for one of the two", input(applied, spec([]string{"c1"}, "w3"), gone("w1"), gone("w2")), 1},
		"come back": {"each time w3 and the other have room", input(applied, applied, moves(t, "w1"), moves(t, "w2")), 0},
		"joins": {"the new one takes the second", input(applied, spec([]string{"c1"}, "w3", "w4"),
			stage(t, []string{"w4"}, kubeadm.Join{}), gone("w1"), gone("w2")), 0},
		"joins too small": {"a new host of one CPU takes none", input(applied, spec([]string{"c1"}, "w3", "w5"),
			stage(t, []string{"w5"}, kubeadm.Join{}), gone("w1"), gone("w2")), 1},
		"last worker": {"the control plane runs pods then", input(spec([]string{"c1"}, "w1"), spec([]string{"c1"}), gone("w1")), 0},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			tc.in.Hosts["w4"] = v1alpha1.Host{Status: v1alpha1.HostStatus{Facts: &v1alpha1.HostFacts{CPUs: 4, MemoryBytes: 4 << 30}}}
			tc.in.Hosts["w5"] = v1alpha1.Host{Status: v1alpha1.HostStatus{Facts: &v1alpha1.HostFacts{CPUs: 1, MemoryBytes: 4 << 30}}}
			tc.in.Seen = seen
			if got := Of(tc.in).NoRoom.Count; got != tc.want {
				t.Errorf("%s: %d pods have no room, want %d", tc.reason, got, tc.want)
			}
		})
	}
}

// TestMajority says how near etcd comes to losing its majority, and whether the API is away.
func TestMajority(t *testing.T) {
	move := func(name string) plan.Stage {
		return stage(t, []string{name}, kubeadm.Manifests{Only: kubeadm.OnlyAPI}, kubeadm.Manifests{Only: kubeadm.OnlyEtcd})
	}
	one, all := spec([]string{"c1"}), spec(three())
	cases := map[string]struct {
		reason string
		in     Input
		silent []string
		want   *v1alpha1.EtcdImpact
		away   bool
	}{
		"one of three at a time":  {"two answer and two must", input(all, all, move("c1"), move("c2"), move("c3")), nil, &v1alpha1.EtcdImpact{Members: 3, Answering: 2, Needed: 2}, false},
		"one is down already":     {"then the next restart loses the majority", input(all, all, move("c1")), []string{"c2"}, &v1alpha1.EtcdImpact{Members: 3, Answering: 1, Needed: 2}, true},
		"the silent one restarts": {"nothing gets worse by that", input(all, all, move("c2")), []string{"c2"}, &v1alpha1.EtcdImpact{Members: 3, Answering: 2, Needed: 2}, false},
		"the only one":            {"there is no other", input(one, one, move("c1")), nil, &v1alpha1.EtcdImpact{Members: 1, Answering: 0, Needed: 1}, true},
		"API alone":               {"etcd is left alone", input(one, one, stage(t, []string{"c1"}, kubeadm.Manifests{Only: kubeadm.OnlyAPI})), nil, nil, true},
		"all side by side":        {"a restore stops them all", input(all, all, stage(t, three(), restore.Stop{}), stage(t, three(), restore.Start{Pods: controlPlane()})), nil, &v1alpha1.EtcdImpact{Members: 3, Answering: 0, Needed: 2}, true},
		"one to three":            {"two of two must answer for a moment", input(one, all, stage(t, []string{"c2"}, kubeadm.StartKubelet{}, etcd.PromoteMember{}), stage(t, []string{"c3"}, kubeadm.StartKubelet{}, etcd.PromoteMember{})), nil, &v1alpha1.EtcdImpact{Members: 1, Answering: 1, Needed: 1}, false},
		"three to one": {"the same on the way back", input(all, one, stage(t, []string{"c3"}, etcd.RemoveMember{Name: "c3"}, reset.Kubernetes{}), stage(t, []string{"c2"}, etcd.RemoveMember{Name: "c2"}, reset.Kubernetes{})),
			nil, &v1alpha1.EtcdImpact{Members: 2, Answering: 2, Needed: 2}, false},
		"lost one forgotten": {"it does not answer before either", input(all, spec([]string{"c1", "c3"}), stage(t, []string{"c1"}, etcd.RemoveMember{Name: "c2"}, node.Remove{Node: "c2"})), []string{"c2"},
			&v1alpha1.EtcdImpact{Members: 3, Answering: 2, Needed: 2}, false},
		"a worker": {"etcd is not touched", input(spec([]string{"c1"}, "w1"), spec([]string{"c1"}, "w1"), moves(t, "w1")), nil, nil, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			tc.in.Seen = &Seen{Silent: tc.silent}
			got := Of(tc.in)
			if diff := cmp.Diff(tc.want, got.Etcd); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			if got.APIAway != tc.away {
				t.Errorf("%s: API away %v, want %v", tc.reason, got.APIAway, tc.away)
			}
		})
	}
}

// TestNodes says what is done to each node.
func TestNodes(t *testing.T) {
	applied := spec([]string{"c1"}, "w1")
	seen := &Seen{Nodes: []corev1.Node{worker("c1", tainted), worker("w1")}, Pods: []corev1.Pod{pod("a", "web", "w1"), pod("b", "", "w1"), pod("c", "proxy", "w1", daemon)}}
	cases := map[string]struct {
		reason     string
		in         Input
		want       []v1alpha1.NodeImpact
		everywhere []string
		lost, stop int32
	}{
		"moved": {reason: "drained, then restarted", in: input(applied, applied, moves(t, "w1")), lost: 1,
			want: []v1alpha1.NodeImpact{{Name: "w1", Drains: true, Pods: 2, Restarts: []string{"containerd"}}}},
		"renewed": {reason: "a control plane and its kubelet", in: input(applied, applied, stage(t, []string{"c1"}, kubeadm.RenewCertificates{}, kubeadm.ServeCertificates{}), stage(t, []string{"w1"}, kubeadm.RenewKubelet{})),
			want: []v1alpha1.NodeImpact{{Name: "c1", Restarts: append([]string{"kubelet"}, controlPlane()...)}, {Name: "w1", Restarts: []string{"kubelet"}}}},
		"stopped": {reason: "everything stops, and what the node keeps stays", in: input(applied, applied, stage(t, []string{"w1"}, kubelet.Stop{})), stop: 2,
			want: []v1alpha1.NodeImpact{{Name: "w1", Change: v1alpha1.NodeStops, Pods: 2}}},
		"deleted": {reason: "what was not drained is lost", in: input(applied, applied, stage(t, []string{"c1", "w1"}, reset.Kubernetes{})), lost: 2,
			want: []v1alpha1.NodeImpact{{Name: "c1", Change: v1alpha1.NodeLeaves}, {Name: "w1", Change: v1alpha1.NodeLeaves, Pods: 2}}},
		"joins": {reason: "a new node disturbs nobody", in: input(applied, spec([]string{"c1"}, "w1", "w2"), stage(t, []string{"w2"}, containerd.Configure{}, kubeadm.Join{})),
			want: []v1alpha1.NodeImpact{{Name: "w2", Change: v1alpha1.NodeJoins}}},
		"rolled out": {reason: "what the whole cluster gets", in: input(applied, applied, stage(t, []string{"c1"}, kubeadm.Proxy{}, kubeadm.DNS{})), everywhere: []string{"kube-proxy", "CoreDNS"}},
		"evicting taint": {reason: "such a taint ends pods like a drain", in: input(applied, applied, stage(t, []string{"w1"}, node.Labels{Taints: []string{"a=b:NoExecute"}})), lost: 1,
			want: []v1alpha1.NodeImpact{{Name: "w1", Drains: true, Pods: 2}}},
		"looked at": {reason: "a look is no impact", in: input(applied, applied, stage(t, []string{"c1", "w1"}, node.Ready{}))},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			tc.in.Seen = seen
			got := Of(tc.in)
			if diff := cmp.Diff(tc.want, got.Nodes); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(tc.everywhere, got.Everywhere); diff != "" {
				t.Errorf("%s: everywhere (-want +got):\n%s", tc.reason, diff)
			}
			if got.Lost.Count != tc.lost || got.Stopping.Count != tc.stop {
				t.Errorf("%s: %d lost and %d stopping, want %d and %d", tc.reason, got.Lost.Count, got.Stopping.Count, tc.lost, tc.stop)
			}
		})
	}
}

// TestFelt: a cluster is asked only where somebody feels the plan, so that adding one host asks nobody.
func TestFelt(t *testing.T) {
	applied := spec([]string{"c1"}, "w1")
	cases := map[string]struct {
		reason string
		stage  plan.Stage
		want   bool
	}{
		"join":          {"a new host is nobody's yet", stage(t, []string{"w2"}, containerd.Configure{}, kubeadm.Join{}), false},
		"drain":         {"pods go", stage(t, []string{"w1"}, node.Drain{}), true},
		"lost":          {"pods of another node go", stage(t, []string{"w2"}, node.Drain{Node: "w1"}), true},
		"control plane": {"etcd gets a voter", stage(t, []string{"c2"}, etcd.PromoteMember{}), true},
		"look":          {"looking is not felt", stage(t, []string{"c1"}, etcd.Healthy{}), false},
		"start":         {"what is stopped has nothing to lose", stage(t, []string{"c1"}, kubelet.Start{}), false},
		"unheard of":    {"nobody knows what it does", plan.Stage{Hosts: []string{"c1"}, Calls: []plan.Call{{ID: "new.step/v1"}}}, true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := Felt(&plan.Plan{Stages: []plan.Stage{tc.stage}}, applied); got != tc.want {
				t.Errorf("%s: felt %v, want %v", tc.reason, got, tc.want)
			}
		})
	}
}

// TestUnknown: what is not known is said, and is never harmless.
func TestUnknown(t *testing.T) {
	applied := spec([]string{"c1"}, "w1")
	in := input(applied, applied, moves(t, "w1"))
	in.Problem = "the cluster\x1b[31m does not answer"
	got := Of(in)
	if got.Unknown != "the cluster[31m does not answer" || got.Harmless() || got.LookedAt != nil {
		t.Errorf("a cluster that nobody could ask: %+v", got)
	}
	in = input(applied, applied, plan.Stage{Hosts: []string{"w1"}, Calls: []plan.Call{{ID: "new.step/v1"}}})
	in.Seen = &Seen{}
	if got := Of(in); got.Unknown != "nobody has said what step new.step/v1 does to a node" || got.Harmless() {
		t.Errorf("a step that nobody has declared: %+v", got)
	}
	var none *v1alpha1.OperationImpact
	if none.Harmless() {
		t.Error("what does not exist yet passes for harmless")
	}
}

// TestBounds: an object holds the first of many and counts the rest.
func TestBounds(t *testing.T) {
	var names []string
	seen := &Seen{}
	for i := range 50 {
		name := fmt.Sprintf("w%02d", i)
		names = append(names, name)
		seen.Nodes = append(seen.Nodes, worker(name))
		seen.Pods = append(seen.Pods, pod("p"+name, "app"+name, name))
		seen.Budgets = append(seen.Budgets, budget("b"+name, "app"+name, 0))
	}
	applied := spec([]string{"c1"}, names...)
	in := input(applied, applied, moves(t, names[0]))
	in.Plan.Stages = nil
	for _, name := range names {
		in.Plan.Stages = append(in.Plan.Stages, moves(t, name))
		in.Warnings = append(in.Warnings, name)
	}
	in.Seen = seen
	got := Of(in)
	counts := []int{len(got.Nodes), int(got.MoreNodes), len(got.Moving.Names), int(got.Moving.Count), len(got.Budgets), int(got.MoreBudgets), len(got.Warnings)}
	if diff := cmp.Diff([]int{20, 30, 20, 50, 20, 30, 20}, counts); diff != "" {
		t.Errorf("names and counts (-want +got):\n%s", diff)
	}
}

// TestLastTime finds the newest operation of the same verb that has succeeded.
func TestLastTime(t *testing.T) {
	at := func(minutes int) *metav1.Time {
		return &metav1.Time{Time: time.Date(2026, 1, 1, 0, minutes, 0, 0, time.UTC)}
	}
	op := func(name string, verb v1alpha1.Verb, phase v1alpha1.OperationPhase, from, to int) v1alpha1.Operation {
		return v1alpha1.Operation{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.OperationSpec{Verb: verb, Cluster: "demo"},
			Status: v1alpha1.OperationStatus{Phase: phase, StartedAt: at(from), FinishedAt: at(to)}}
	}
	applied := spec([]string{"c1"})
	in := input(applied, applied)
	if got := Of(in).LastTime; got != nil {
		t.Errorf("nothing was done before: %+v", got)
	}
	in.Earlier = []v1alpha1.Operation{op("old", v1alpha1.VerbScale, v1alpha1.OperationSucceeded, 1, 2), op("new", v1alpha1.VerbScale, v1alpha1.OperationSucceeded, 5, 8),
		op("failed", v1alpha1.VerbScale, v1alpha1.OperationFailed, 9, 10), op("other", v1alpha1.VerbRenew, v1alpha1.OperationSucceeded, 9, 10)}
	want := &v1alpha1.EarlierRun{Operation: "new", Took: metav1.Duration{Duration: 3 * time.Minute}}
	if diff := cmp.Diff(want, Of(in).LastTime); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
