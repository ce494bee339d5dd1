package node

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

// outOfService lets Kubernetes detach the volumes of a node that is dead.
var outOfService = corev1.Taint{Key: corev1.TaintNodeOutOfService, Value: "nodeshutdown", Effect: corev1.TaintEffectNoExecute}

// Labels changes labels and taints of a node that is there, through the API: the kubelet itself may not set all of them.
// What it does not name is left alone.
type Labels struct {
	// Node names the node; "" is that of the host itself.
	Node string `json:"node,omitempty"`
	// Labels are set to these values.
	Labels map[string]string `json:"labels,omitempty"`
	// Taints are set; each reads key=value:Effect, or key:Effect. One of the same key and effect gets the new value.
	Taints []string `json:"taints,omitempty"`
	// RemoveLabels names labels that must not be there.
	RemoveLabels []string `json:"removeLabels,omitempty"`
	// RemoveTaints are taints that must not be there; each reads key, for every effect, or key:Effect.
	RemoveTaints []string `json:"removeTaints,omitempty"`
}

// ID is stored in plans.
func (Labels) ID() step.ID { return "node.labels/v1" }

// Check reads the node, which must have registered.
func (l Labels) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	name := cmp.Or(l.Node, r.Target.Name)
	n, err := read(ctx, r.Cluster, name)
	if err != nil {
		return nil, err
	}
	if n == nil {
		return nil, fault.NewWaiting("NodeNotRegistered", fmt.Errorf("cannot see node %s in the cluster yet", name))
	}
	wanted := n.DeepCopy()
	if err := l.mend(wanted); err != nil {
		return nil, err
	}
	var drift step.Drift
	for _, key := range slices.Sorted(maps.Keys(l.Labels)) {
		have, there := n.Labels[key]
		if want := l.Labels[key]; !there || have != want {
			drift = append(drift, step.Difference{What: "label " + key, Have: word(have, there), Want: word(want, true)})
		}
	}
	for _, key := range l.RemoveLabels {
		if value, there := n.Labels[key]; there {
			drift = append(drift, step.Difference{What: "label " + key, Have: word(value, true), Want: "absent"})
		}
	}
	for _, t := range wanted.Spec.Taints {
		if !tainted(n, t) {
			drift.Want("taint "+t.ToString(), "", "present")
		}
	}
	for _, t := range n.Spec.Taints {
		if !tainted(wanted, t) {
			drift.Want("taint "+t.ToString(), "present", "absent")
		}
	}
	return drift, nil
}

// Apply changes what differs.
func (l Labels) Apply(ctx context.Context, w step.Writer) error {
	if err := l.mend(&corev1.Node{}); err != nil {
		return err
	}
	return change(ctx, w, cmp.Or(l.Node, w.Target.Name), func(n *corev1.Node) {
		_ = l.mend(n) // It has just worked, and depends on the step alone.
	})
}

// mend makes the node as it should be. It fails when a taint cannot be read.
func (l Labels) mend(n *corev1.Node) error {
	if n.Labels == nil {
		n.Labels = map[string]string{}
	}
	maps.Copy(n.Labels, l.Labels)
	for _, key := range l.RemoveLabels {
		delete(n.Labels, key)
	}
	for _, text := range l.RemoveTaints {
		t := parseTaint(text)
		n.Spec.Taints = slices.DeleteFunc(n.Spec.Taints, func(have corev1.Taint) bool {
			return have.Key == t.Key && (t.Effect == "" || have.Effect == t.Effect)
		})
	}
	for _, text := range l.Taints {
		t := parseTaint(text)
		if t.Key == "" || t.Effect == "" {
			return fault.NewBug(fmt.Errorf("cannot read taint %q: it reads key=value:Effect", text))
		}
		put(n, t)
	}
	return nil
}

func parseTaint(text string) corev1.Taint {
	keyValue, effect, _ := strings.Cut(text, ":")
	key, value, _ := strings.Cut(keyValue, "=")
	return corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffect(effect)}
}

func word(value string, there bool) string {
	switch {
	case !there:
		return ""
	case value == "":
		return "set, without a value"
	}
	return value
}

// tainted says whether the node has the taint, value included.
func tainted(n *corev1.Node, t corev1.Taint) bool {
	return slices.ContainsFunc(n.Spec.Taints, func(have corev1.Taint) bool { return have.MatchTaint(&t) && have.Value == t.Value })
}

// put adds a taint, or gives the one of the same key and effect its value.
func put(n *corev1.Node, t corev1.Taint) {
	for i := range n.Spec.Taints {
		if have := &n.Spec.Taints[i]; have.MatchTaint(&t) {
			have.Value = t.Value
			return
		}
	}
	n.Spec.Taints = append(n.Spec.Taints, t)
}

// taint puts one taint on a node that has it not.
func taint(ctx context.Context, w step.Writer, name string, t corev1.Taint) error {
	return change(ctx, w, name, func(n *corev1.Node) { put(n, t) })
}
