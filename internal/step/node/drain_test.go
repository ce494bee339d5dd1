package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

// cluster is a managed cluster in memory. Its eviction counts down budgets, and asked keeps every request to go.
type cluster struct {
	client.WithWatch
	step.EtcdReader
	step.EtcdWriter
	asked []string
	// refuse, when set, is what the Eviction API answers.
	refuse error
}

func newCluster(objects ...client.Object) *cluster {
	return &cluster{WithWatch: clientfake.NewClientBuilder().WithScheme(scheme.Scheme).WithObjects(objects...).
		WithIndex(&corev1.Pod{}, "spec.nodeName", func(o client.Object) []string { return []string{o.(*corev1.Pod).Spec.NodeName} }).Build()}
}

func (c *cluster) Ready(context.Context, string) error { return nil }

func (c *cluster) Ask(context.Context, string, string) ([]byte, error) { return nil, nil }

func (c *cluster) Delete(ctx context.Context, o client.Object, opts ...client.DeleteOption) error {
	var all client.DeleteOptions
	all.ApplyOptions(opts)
	verb := "delete"
	if g := all.GracePeriodSeconds; g != nil {
		verb = fmt.Sprintf("delete in %d s", *g)
	}
	c.asked = append(c.asked, verb+" "+o.GetName())
	return client.IgnoreNotFound(c.WithWatch.Delete(ctx, o, opts...))
}

// Evict answers as the API does where one budget counts the pod.
func (c *cluster) Evict(ctx context.Context, namespace, name string, _ *int64) error {
	c.asked = append(c.asked, "evict "+name)
	if c.refuse != nil {
		return c.refuse
	}
	var pod corev1.Pod
	if err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &pod); err != nil {
		return err
	}
	var budgets policyv1.PodDisruptionBudgetList
	if err := c.List(ctx, &budgets, client.InNamespace(namespace)); err != nil {
		return err
	}
	for _, b := range budgets.Items {
		if b.Spec.Selector.MatchLabels["app"] != pod.Labels["app"] {
			continue
		}
		if b.Status.DisruptionsAllowed == 0 {
			return refused("The disruption budget " + b.Name + " needs 2 healthy pods and has 2 currently")
		}
		b.Status.DisruptionsAllowed--
		if err := c.Status().Update(ctx, &b); err != nil {
			return err
		}
	}
	return c.WithWatch.Delete(ctx, &pod)
}

func refused(why string) error {
	err := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", 0)
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Type: policyv1.DisruptionBudgetCause, Message: why})
	return err
}

func (c *cluster) reader() step.Reader {
	return step.Reader{Target: step.Target{Name: "cp1"}, Cluster: c}
}

func (c *cluster) writer() step.Writer {
	return step.Writer{Target: step.Target{Name: "cp1"}, Cluster: c, Reading: c.reader()}
}

func objectsOf(n *corev1.Node, pods []corev1.Pod, budgets []policyv1.PodDisruptionBudget) []client.Object {
	out := []client.Object{n}
	for i := range pods {
		out = append(out, &pods[i])
	}
	for i := range budgets {
		out = append(out, &budgets[i])
	}
	return out
}

// said gives class and message of an error.
func said(err error) string {
	if err == nil {
		return ""
	}
	return fmt.Sprintf("%s %s: %v", fault.ClassOf(err), fault.ReasonOf(err), err)
}

func TestDrain(t *testing.T) {
	pair := []corev1.Pod{made("web-1", "web"), made("web-2", "web")}
	none := []policyv1.PodDisruptionBudget{budget("web", "web", 0)}
	const stopping, lost = "Waiting PodsStopping: pod shop/web-1 is stopping", "PodsWouldBeLost: cannot drain node w1: nothing makes these pods anew: shop/lone"
	taint := step.Difference{What: "taint node.kubernetes.io/out-of-service=nodeshutdown:NoExecute", Want: "present"}
	pod := func(name, have string) step.Difference {
		return step.Difference{What: "pod shop/" + name, Have: have, Want: "off node w1"}
	}
	cases := map[string]struct {
		reason  string
		step    Drain
		node    *corev1.Node
		pods    []corev1.Pod
		budgets []policyv1.PodDisruptionBudget
		// check is the error of Check; drift what it finds, which is then applied.
		check string
		drift step.Drift
		// apply is the error of Apply; asked what was asked to go; left how many pods are there afterwards.
		apply string
		asked []string
		left  int
	}{
		"empty": {reason: "nothing to do", pods: []corev1.Pod{made("a", "x", ofKind("DaemonSet"))}, left: 1},
		"no budget": {reason: "all at once, with what they lose said before", pods: []corev1.Pod{made("web-1", "web", emptyDir), pair[1]},
			drift: step.Drift{pod("web-1", "on the node, loses what it keeps in an emptyDir"), pod("web-2", "on the node")}, asked: []string{"evict web-1", "evict web-2"}},
		"finished": {reason: "deleted: there is nothing to protect", pods: []corev1.Pod{made("job", "", inPhase(corev1.PodFailed))}, drift: step.Drift{pod("job", "on the node")}, asked: []string{"delete job"}},
		"one at a time": {reason: "the second waits until the budget allows it", pods: pair, budgets: []policyv1.PodDisruptionBudget{budget("web", "web", 1)},
			drift: step.Drift{pod("web-1", "on the node"), pod("web-2", "on the node, is held by budget shop/web: 1 at a time")},
			apply: "Waiting HeldByBudget: pod shop/web-2 is held by budget shop/web: 0 disruptions allowed", asked: []string{"evict web-1"}, left: 1},
		"held": {reason: "nothing is asked in vain, and the one to blame is named", pods: pair[:1], budgets: none,
			check: "Waiting HeldByBudget: pod shop/web-1 is held by budget shop/web: 0 disruptions allowed", left: 1},
		"held, forced": {reason: "told to: its grace period is respected", step: Drain{Force: true}, pods: pair[:1], budgets: none,
			drift: step.Drift{pod("web-1", "on the node, is held by budget shop/web: 0 disruptions allowed")}, asked: []string{"delete web-1"}},
		"lost": {reason: "stops before the first pod goes", pods: []corev1.Pod{made("lone", ""), pair[0]}, check: "Terminal " + lost, left: 2},
		"lost, forced": {reason: "told to", step: Drain{Force: true}, pods: []corev1.Pod{made("lone", "")},
			drift: step.Drift{pod("lone", "on the node, nothing makes it anew")}, asked: []string{"evict lone"}},
		"stopping":         {reason: "it was asked once and takes its time", pods: []corev1.Pod{made("web-1", "web", leaving)}, check: stopping, left: 1},
		"stopping, forced": {reason: "its grace period is its own", step: Drain{Force: true}, pods: []corev1.Pod{made("web-1", "web", leaving)}, check: stopping, left: 1},
		"dead": {reason: "the taint first, then what a dead kubelet will never stop", step: Drain{IgnoreUnreachable: true}, node: withReady(corev1.ConditionUnknown),
			pods: []corev1.Pod{made("lone", ""), made("web-1", "web")}, budgets: none,
			drift: step.Drift{taint, pod("lone", "on the node, nothing makes it anew"), pod("web-1", "on the node, is held by budget shop/web: 0 disruptions allowed")},
			asked: []string{"delete in 0 s lone", "delete in 0 s web-1"}},
		"dead, stopping": {reason: "a dead kubelet never says that it stopped", step: Drain{IgnoreUnreachable: true}, node: withReady(corev1.ConditionUnknown),
			pods: []corev1.Pod{made("web-1", "web", leaving)}, drift: step.Drift{taint, pod("web-1", "on the node")}, apply: stopping, asked: []string{"delete in 0 s web-1"}, left: 1},
		"dead, not noticed": {reason: "the cluster still believes in it: nothing is forced", step: Drain{IgnoreUnreachable: true}, node: withReady(corev1.ConditionTrue), pods: pair[:1],
			drift: step.Drift{pod("web-1", "on the node")}, asked: []string{"evict web-1"}},
		"dead, not noticed, lost": {reason: "it waits for the cluster to notice", step: Drain{IgnoreUnreachable: true}, node: withReady(corev1.ConditionTrue), pods: []corev1.Pod{made("lone", "")},
			check: "Waiting " + lost, left: 1},
		"not ready, not silent": {reason: "its kubelet lives and its pods may run: a second copy would start", step: Drain{IgnoreUnreachable: true}, node: withReady(corev1.ConditionFalse), pods: pair[:1],
			drift: step.Drift{pod("web-1", "on the node")}, asked: []string{"evict web-1"}},
		"silent, not said": {reason: "nobody said that the host is dead", node: withReady(corev1.ConditionUnknown), pods: []corev1.Pod{made("web-1", "web", leaving)}, check: stopping, left: 1},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if tc.node == nil {
				tc.node = withReady(corev1.ConditionTrue)
			}
			tc.step.Node = "w1"
			c := newCluster(objectsOf(tc.node, tc.pods, tc.budgets)...)
			drift, err := tc.step.Check(t.Context(), c.reader())
			if got := said(err); got != tc.check {
				t.Errorf("%s: Check says %q, want %q", tc.reason, got, tc.check)
			}
			if diff := cmp.Diff(tc.drift, drift); diff != "" {
				t.Errorf("%s: drift (-want +got):\n%s", tc.reason, diff)
			}
			if !drift.Clean() {
				if got := said(tc.step.Apply(t.Context(), c.writer())); got != tc.apply {
					t.Errorf("%s: Apply says %q, want %q", tc.reason, got, tc.apply)
				}
			}
			var left corev1.PodList
			if err := c.List(t.Context(), &left); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.asked, c.asked); diff != "" || len(left.Items) != tc.left {
				t.Errorf("%s: %d pods are left, want %d; asked to go (-want +got):\n%s", tc.reason, len(left.Items), tc.left, diff)
			}
			if n, err := read(t.Context(), c, "w1"); err != nil || tainted(n, outOfService) != (len(tc.drift) > 0 && tc.drift[0] == taint) {
				t.Errorf("%s: %v, taints %v", tc.reason, err, n.Spec.Taints)
			}
		})
	}
}

// TestDrain_Rounds: one budget that allows one pod at a time never ends the drain as fruitless.
func TestDrain_Rounds(t *testing.T) {
	web := budget("web", "web", 1)
	var pods []corev1.Pod
	for i := range 5 {
		pods = append(pods, made(fmt.Sprintf("web-%d", i), "web"))
	}
	c := newCluster(objectsOf(withReady(corev1.ConditionTrue), pods, []policyv1.PodDisruptionBudget{web})...)
	d := Drain{Node: "w1"}
	for i := range pods {
		if drift, err := d.Check(t.Context(), c.reader()); err != nil || drift.Clean() {
			t.Fatalf("round %d: %v %v", i, drift, err)
		}
		err := d.Apply(t.Context(), c.writer())
		if last := i == len(pods)-1; (err == nil) != last || (!last && (fault.ReasonOf(err) != "HeldByBudget" || !strings.Contains(fault.FixOf(err), "raise the replicas"))) {
			t.Fatalf("round %d: %v", i, err)
		}
		// A new pod elsewhere is ready.
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(&web), &web); err != nil {
			t.Fatal(err)
		}
		web.Status.DisruptionsAllowed = 1
		if err := c.Status().Update(t.Context(), &web); err != nil {
			t.Fatal(err)
		}
	}
	if drift, err := d.Check(t.Context(), c.reader()); err != nil || !drift.Clean() {
		t.Errorf("in the end: %v %v", drift, err)
	}
}

func TestDrain_Answers(t *testing.T) {
	terminating := apierrors.NewForbidden(policyv1.Resource("pods"), "web-1", errors.New("it is being deleted"))
	terminating.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	cases := map[string]struct {
		reason string
		answer error
		want   string
	}{
		"a budget says no after all": {reason: "somebody else was faster: it is tried again", answer: fmt.Errorf("wrapped: %w", refused("it needs 2 healthy pods and has 2 currently")),
			want: "Waiting HeldByBudget: pod shop/web-1 is held by budget shop/web: it needs 2 healthy pods and has 2 currently"},
		"the API is gone":        {reason: "its class stays", answer: fault.NewTransient("APIUnreachable", errors.New("cut")), want: "Transient APIUnreachable: cannot take pod shop/web-1 off node w1: cut"},
		"the namespace is going": {reason: "its pods go with it", answer: terminating, want: "Waiting PodsStopping: pod shop/web-1 is next"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := newCluster(objectsOf(withReady(corev1.ConditionTrue), []corev1.Pod{made("web-1", "web")}, []policyv1.PodDisruptionBudget{budget("web", "web", 1)})...)
			c.refuse = tc.answer
			if got := said(Drain{Node: "w1"}.Apply(t.Context(), c.writer())); got != tc.want {
				t.Errorf("%s: got %q, want %q", tc.reason, got, tc.want)
			}
		})
	}
}

func TestDrain_Many(t *testing.T) {
	var pods []corev1.Pod
	for i := range 33 {
		pods = append(pods, made(fmt.Sprintf("web-%02d", i), "web"))
	}
	c := newCluster(objectsOf(withReady(corev1.ConditionTrue), pods, nil)...)
	drift, err := Drain{Node: "w1"}.Check(t.Context(), c.reader())
	if err != nil || len(drift) != mostPods+1 || drift[mostPods].What != "13 more pods" {
		t.Errorf("got %d lines, %v: %v", len(drift), drift[len(drift)-1], err)
	}
	c = newCluster(objectsOf(withReady(corev1.ConditionTrue), pods, []policyv1.PodDisruptionBudget{budget("web", "web", 0)})...)
	if _, err = (Drain{Node: "w1"}).Check(t.Context(), c.reader()); err == nil || !strings.HasSuffix(err.Error(), "; and 13 more") {
		t.Errorf("got %v", err)
	}
}

func TestDrain_Deadline(t *testing.T) {
	for seconds, want := range map[int64]time.Duration{0: 2 * time.Hour, 90: 90 * time.Second} {
		if got := (Drain{TimeoutSeconds: seconds}).Deadline(); got != want {
			t.Errorf("%d: %s, want %s", seconds, got, want)
		}
	}
}
