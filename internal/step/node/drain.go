package node

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

const (
	// defaultDrain is how long a drain may take.
	defaultDrain = 2 * time.Hour
	// mostPods is how many pods a drift or an error names.
	mostPods = 20
	// lookAgain is the wait between two looks at pods that cannot go yet.
	lookAgain = 2 * time.Second
)

// Drain takes every pod off a node but those of daemon sets and static pods, by the Eviction API, so that disruption
// budgets are respected. It comes after Cordon, which it does not do itself. What pods keep in an emptyDir is lost.
type Drain struct {
	// Node names the node; "" is that of the host itself.
	Node string `json:"node,omitempty"`
	// TimeoutSeconds bounds the drain; 0 is two hours.
	TimeoutSeconds int64 `json:"timeoutSeconds,omitempty"`
	// Force also takes pods that nothing makes anew, and deletes those that a budget holds. Grace periods are respected.
	Force bool `json:"force,omitempty"`
	// IgnoreUnreachable says that the host is dead: as soon as the cluster has no news of its kubelet the node is marked
	// out of service and its pods are deleted without waiting for them to stop. As long as the kubelet reports, the node is
	// drained like any other.
	IgnoreUnreachable bool `json:"ignoreUnreachable,omitempty"`
}

// ID is stored in plans.
func (Drain) ID() step.ID { return "node.drain/v1" }

// Passes says that the node gets pods again later.
func (Drain) Passes() {}

// Deadline is the limit of the drain.
func (d Drain) Deadline() time.Duration {
	if d.TimeoutSeconds <= 0 {
		return defaultDrain
	}
	return time.Duration(d.TimeoutSeconds) * time.Second
}

// Check lists the pods that have to go. It says Waiting while none of them can be asked to, and stops before the first
// when one would be lost.
func (d Drain) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	look, err := d.look(ctx, r.Cluster, r.Target.Name)
	if err != nil || look == nil {
		return nil, err
	}
	var drift step.Drift
	if look.dead && !tainted(look.node, outOfService) {
		drift.Want("taint "+outOfService.ToString(), "", "present")
	}
	if len(look.todo) == 0 && drift.Clean() {
		return nil, look.waiting()
	}
	to := slices.DeleteFunc(slices.Clone(look.impact.Pods), func(p PodImpact) bool { return p.Forced || (p.Leaving && !look.dead) })
	for _, p := range to[:min(len(to), mostPods)] {
		drift.Want("pod "+p.String(), have(p), "off node "+look.node.Name)
	}
	if more := len(to) - mostPods; more > 0 {
		drift.Want(fmt.Sprintf("%d more pods", more), "on the node", "off node "+look.node.Name)
	}
	return drift, nil
}

// Apply asks every pod that may go to do so. It says Waiting while any is left.
func (d Drain) Apply(ctx context.Context, w step.Writer) error {
	look, err := d.look(ctx, w.Cluster, w.Target.Name)
	if err != nil || look == nil {
		return err
	}
	if look.dead {
		if err := taint(ctx, w, look.node.Name, outOfService); err != nil {
			return err
		}
	}
	var refused []string
	for _, p := range look.todo {
		message, err := d.send(ctx, w, p, look.dead)
		if err != nil {
			return fmt.Errorf("cannot take pod %s off node %s: %w", p, look.node.Name, err)
		}
		if message != "" {
			refused = append(refused, message)
		}
	}
	if len(refused) > 0 {
		return held(refused)
	}
	after, err := d.look(ctx, w.Cluster, w.Target.Name)
	if err != nil || after == nil {
		return err
	}
	return after.waiting()
}

// send asks one pod to go. It gives the message when a budget that Check thought free refuses.
func (d Drain) send(ctx context.Context, w step.Writer, p PodImpact, dead bool) (string, error) {
	if !dead && !p.Finished && p.Held == "" {
		err := w.Cluster.Evict(ctx, p.Namespace, p.Name, nil)
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return "", nil // All of the namespace's pods are about to go.
		}
		if !apierrors.HasStatusCause(err, policyv1.DisruptionBudgetCause) {
			return "", err
		}
		if !d.Force {
			return refusal(p, err), nil
		}
	}
	// Another pod of that name, such as the next of a stateful set, is left alone.
	options := []client.DeleteOption{client.Preconditions{UID: &p.UID}}
	if dead {
		options = append(options, client.GracePeriodSeconds(0))
	}
	err := w.Cluster.Delete(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name}}, options...)
	if apierrors.IsConflict(err) {
		return "", nil
	}
	return "", err
}

// refusal says which budget holds a pod, from the API's answer.
func refusal(p PodImpact, err error) string {
	why := err.Error()
	if cause, ok := apierrors.StatusCause(err, policyv1.DisruptionBudgetCause); ok && cause.Message != "" {
		why = cause.Message
	}
	return fmt.Sprintf("pod %s is held by budget %s: %s", p, strings.Join(p.Budgets, " and "), why)
}

// drainLook is what a drain sees.
type drainLook struct {
	node   *corev1.Node
	impact Impact
	// dead says that the cluster has no news of the node, and that the host was said to be dead.
	dead bool
	// todo are the pods that Apply asks to go.
	todo []PodImpact
}

// look reads the node, its pods and the budgets. It gives nil when the node is gone: nobody runs its pods.
func (d Drain) look(ctx context.Context, c client.Reader, self string) (*drainLook, error) {
	n, err := read(ctx, c, cmp.Or(d.Node, self))
	if n == nil || err != nil {
		return nil, err
	}
	var pods corev1.PodList
	if err := c.List(ctx, &pods, client.MatchingFields{"spec.nodeName": n.Name}); err != nil {
		return nil, fmt.Errorf("cannot list the pods of node %s: %w", n.Name, err)
	}
	var budgets policyv1.PodDisruptionBudgetList
	if err := c.List(ctx, &budgets); err != nil {
		return nil, fmt.Errorf("cannot list the disruption budgets: %w", err)
	}
	out := &drainLook{node: n, dead: d.IgnoreUnreachable && silent(n)}
	if out.impact, err = Affected(pods.Items, budgets.Items, n.Name); err != nil {
		return nil, err
	}
	switch lost := out.impact.Lost(); {
	case out.dead:
		out.todo = out.impact.pick(func(p PodImpact) bool { return !p.Forced })
	case d.Force:
		out.todo = out.impact.pick(func(p PodImpact) bool { return !p.Leaving })
	case len(lost) > 0:
		var names []string
		for _, p := range lost {
			names = append(names, p.String())
		}
		return nil, d.refuse(fmt.Errorf("cannot drain node %s: nothing makes these pods anew: %s", n.Name, some(names, ", ")))
	default:
		out.todo = out.impact.Free()
	}
	return out, nil
}

// refuse stops the drain before pods are lost. Those of a dead host are lost already, so that one is waited for until the
// cluster notices.
func (d Drain) refuse(err error) error {
	const reason, fix = "PodsWouldBeLost", "delete them yourself or give them a controller such as a Deployment, or drain with force"
	if d.IgnoreUnreachable {
		return &fault.Error{Class: fault.Waiting, Reason: reason, Fix: fix, After: lookAgain, Err: err}
	}
	return fault.NewTerminal(reason, fix, err)
}

// waiting says what the drain waits for, and gives nil when every pod is gone.
func (l *drainLook) waiting() error {
	var messages []string
	for _, p := range l.impact.Held() {
		messages = append(messages, fmt.Sprintf("pod %s %s", p, p.Held))
	}
	if len(messages) > 0 {
		return held(messages)
	}
	for _, p := range l.impact.Pods {
		state := "is next"
		if p.Leaving {
			state = "is stopping"
		}
		messages = append(messages, fmt.Sprintf("pod %s %s", p, state))
	}
	if len(messages) == 0 {
		return nil
	}
	return &fault.Error{Class: fault.Waiting, Reason: "PodsStopping", After: lookAgain, Err: fmt.Errorf("%s", some(messages, "; ")),
		Fix: "look why the pods do not stop: their grace period, their finalizers, or the node's kubelet; then retry"}
}

func held(messages []string) error {
	return &fault.Error{Class: fault.Waiting, Reason: "HeldByBudget", After: lookAgain, Err: fmt.Errorf("%s", some(messages, "; ")),
		Fix: "raise the replicas of what the budget counts or make its pods ready, change the budget, or drain with force; then retry"}
}

// have says what is worth to know about a pod before it goes.
func have(p PodImpact) string {
	words := []string{"on the node"}
	if p.Controller == "" && !p.Finished {
		words = append(words, "nothing makes it anew")
	}
	if p.LocalData && !p.Finished {
		words = append(words, "loses what it keeps in an emptyDir")
	}
	if p.Held != "" {
		words = append(words, p.Held)
	}
	return strings.Join(words, ", ")
}

// some joins at most mostPods of all and counts the rest.
func some(all []string, separator string) string {
	if len(all) <= mostPods {
		return strings.Join(all, separator)
	}
	return fmt.Sprintf("%s%sand %d more", strings.Join(all[:mostPods], separator), separator, len(all)-mostPods)
}

// silent says that the cluster has no news of the node's kubelet. A node that itself says it is not ready is not silent: its
// pods may run, and deleting them would let a second copy start.
func silent(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionUnknown
	})
}
