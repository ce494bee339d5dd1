package node

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

// Remove deletes the Node object. A kubelet that starts again afterwards registers anew, so it comes after the host's
// kubelet has stopped for good, or is dead.
type Remove struct {
	// Node names the node; "" is that of the host itself.
	Node string `json:"node,omitempty"`
}

// ID is stored in plans.
func (Remove) ID() step.ID { return "node.remove/v1" }

// Check looks for the node.
func (s Remove) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	n, err := read(ctx, r.Cluster, cmp.Or(s.Node, r.Target.Name))
	if n == nil || err != nil {
		return nil, err
	}
	if n.DeletionTimestamp != nil {
		return nil, fault.NewWaiting("NodeBeingDeleted", fmt.Errorf("node %s is kept by its finalizers %s", n.Name, strings.Join(n.Finalizers, ", ")))
	}
	var drift step.Drift
	drift.Want("node "+n.Name, "present", "absent")
	return drift, nil
}

// Apply deletes it, and no other of the same name that has registered since.
func (s Remove) Apply(ctx context.Context, w step.Writer) error {
	n, err := read(ctx, w.Cluster, cmp.Or(s.Node, w.Target.Name))
	if n == nil || err != nil {
		return err
	}
	if err := w.Cluster.Delete(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.Name}}, client.Preconditions{UID: &n.UID}); err != nil {
		return fmt.Errorf("cannot delete node %s: %w", n.Name, err)
	}
	return nil
}
