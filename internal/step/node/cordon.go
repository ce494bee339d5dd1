package node

import (
	"cmp"
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

// CordonedAnnotation is on a node that Slipway has cordoned. A node that is cordoned without it was cordoned by somebody
// else and stays so.
const CordonedAnnotation = "slipway.dev/cordoned"

// Cordon keeps new pods off a node. A node that is gone needs none.
type Cordon struct {
	// Node names the node; "" is that of the host itself.
	Node string `json:"node,omitempty"`
}

// ID is stored in plans.
func (Cordon) ID() step.ID { return "node.cordon/v1" }

// Passes says that the node gets pods again later.
func (Cordon) Passes() {}

// Check reads the node.
func (c Cordon) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	n, err := read(ctx, r.Cluster, cmp.Or(c.Node, r.Target.Name))
	if n == nil || err != nil {
		return nil, err
	}
	var drift step.Drift
	drift.Want("node "+n.Name, scheduling(n), "cordoned")
	return drift, nil
}

// Apply cordons the node and remembers that it was not.
func (c Cordon) Apply(ctx context.Context, w step.Writer) error {
	return change(ctx, w, cmp.Or(c.Node, w.Target.Name), func(n *corev1.Node) {
		if n.Spec.Unschedulable {
			return
		}
		n.Spec.Unschedulable = true
		annotate(n, CordonedAnnotation, "true")
	})
}

// Uncordon lets pods come again, unless somebody else had cordoned the node before Slipway did.
type Uncordon struct {
	// Node names the node; "" is that of the host itself.
	Node string `json:"node,omitempty"`
}

// ID is stored in plans.
func (Uncordon) ID() step.ID { return "node.uncordon/v1" }

// Check reads the node.
func (u Uncordon) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	n, err := read(ctx, r.Cluster, cmp.Or(u.Node, r.Target.Name))
	if n == nil || err != nil {
		return nil, err
	}
	var drift step.Drift
	if _, ours := n.Annotations[CordonedAnnotation]; ours {
		drift.Want("node "+n.Name, "cordoned by Slipway", "schedulable")
	}
	return drift, nil
}

// Apply takes back what Cordon did.
func (u Uncordon) Apply(ctx context.Context, w step.Writer) error {
	return change(ctx, w, cmp.Or(u.Node, w.Target.Name), func(n *corev1.Node) {
		if _, ours := n.Annotations[CordonedAnnotation]; !ours {
			return
		}
		n.Spec.Unschedulable = false
		delete(n.Annotations, CordonedAnnotation)
	})
}

func scheduling(n *corev1.Node) string {
	if n.Spec.Unschedulable {
		return "cordoned"
	}
	return "schedulable"
}

func annotate(n *corev1.Node, key, value string) {
	if n.Annotations == nil {
		n.Annotations = map[string]string{}
	}
	n.Annotations[key] = value
}

// read gives the node, or nil when there is none.
func read(ctx context.Context, c client.Reader, name string) (*corev1.Node, error) {
	var n corev1.Node
	err := c.Get(ctx, client.ObjectKey{Name: name}, &n)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read node %s: %w", name, err)
	}
	return &n, nil
}

// change patches what f changes of the node, if it is there, and nothing when somebody else has changed it since it
// was read: the list of taints is replaced as a whole.
func change(ctx context.Context, w step.Writer, name string, f func(*corev1.Node)) error {
	n, err := read(ctx, w.Cluster, name)
	if n == nil || err != nil {
		return err
	}
	before := n.DeepCopy()
	f(n)
	err = w.Cluster.Patch(ctx, n, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	switch {
	case apierrors.IsConflict(err):
		return fault.NewTransient("NodeChanged", fmt.Errorf("cannot change node %s: somebody else changed it at the same time", name))
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("cannot change node %s: %w", name, err)
	}
	return nil
}
