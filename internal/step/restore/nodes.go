package restore

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// MatchNodes removes the nodes of the snapshot whose hosts the cluster no longer has.
type MatchNodes struct {
	// Hosts are all hosts of the cluster.
	Hosts []string `json:"hosts"`
}

// ID is stored in plans.
func (MatchNodes) ID() step.ID { return "restore.match-nodes/v1" }

// Needs tells what must be there.
func (MatchNodes) Needs() []step.Output { return []step.Output{step.API} }

// Check lists the nodes.
func (m MatchNodes) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	foreign, err := m.foreign(ctx, r.Cluster)
	if err != nil {
		return nil, err
	}
	var drift step.Drift
	for _, n := range foreign {
		drift.Want("node "+n.Name, "present", "absent")
	}
	return drift, nil
}

func (m MatchNodes) foreign(ctx context.Context, c client.Reader) ([]corev1.Node, error) {
	var all corev1.NodeList
	if err := c.List(ctx, &all); err != nil {
		return nil, fmt.Errorf("cannot list nodes: %w", err)
	}
	return slices.DeleteFunc(all.Items, func(n corev1.Node) bool { return slices.Contains(m.Hosts, n.Name) || n.DeletionTimestamp != nil }), nil
}

// Apply deletes them.
func (m MatchNodes) Apply(ctx context.Context, w step.Writer) error {
	foreign, err := m.foreign(ctx, w.Cluster)
	if err != nil {
		return err
	}
	for _, n := range foreign {
		if err := w.Cluster.Delete(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.Name}}, client.Preconditions{UID: &n.UID}); err != nil {
			return fmt.Errorf("cannot delete node %s: %w", n.Name, err)
		}
	}
	return nil
}

// RestartKubelet starts the kubelet anew, once a restore: it forgets what it knew of the API, and registers where the
// snapshot does not know the node.
type RestartKubelet struct {
	// Restore is unique to this restore.
	Restore string `json:"restore"`
}

// ID is stored in plans.
func (RestartKubelet) ID() step.ID { return "restore.restart-kubelet/v1" }

// Needs tells what must be there.
func (RestartKubelet) Needs() []step.Output { return []step.Output{step.API} }

// Check reads for which restore it was started last.
func (k RestartKubelet) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	have, err := read(ctx, r, restarted)
	if err != nil {
		return nil, err
	}
	var drift step.Drift
	if have != k.Restore {
		drift.Want(kubelet, "started before the restore", "started after it")
	}
	return drift, nil
}

// Apply restarts it, and notes that: a cut in between restarts it twice, which does no harm.
func (k RestartKubelet) Apply(ctx context.Context, w step.Writer) error {
	if err := run(ctx, w, "systemctl", "restart", kubelet); err != nil {
		return fmt.Errorf("cannot restart the kubelet: %w", err)
	}
	if err := w.WriteFile(ctx, restarted, host.File{Content: []byte(k.Restore), Mode: 0o600}); err != nil {
		return fmt.Errorf("cannot note that the kubelet was restarted: %w", err)
	}
	return nil
}
