package kubeadm

import (
	"context"
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

// RestartProxy makes every kube-proxy start anew with the configuration of now, one node after another.
type RestartProxy struct {
	// Change is unique to what was changed: the same is done once.
	Change string `json:"change"`
}

// annotationChange is on the pods of kube-proxy.
const annotationChange = "slipway.dev/change"

// ID is stored in plans.
func (RestartProxy) ID() step.ID { return "kubeadm.restart-proxy/v1" }

// Needs tells what must be there.
func (RestartProxy) Needs() []step.Output { return []step.Output{step.API} }

// Check reads the DaemonSet, and waits until it has replaced every pod.
func (p RestartProxy) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	var proxy appsv1.DaemonSet
	found, err := get(ctx, r.Cluster, "kube-system", "kube-proxy", &proxy)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fault.NewTerminal("NoProxy", "put DaemonSet kube-system/kube-proxy back, then retry", fmt.Errorf("cannot restart kube-proxy: the cluster has none"))
	}
	var drift step.Drift
	if proxy.Spec.Template.Annotations[annotationChange] != p.Change {
		drift.Want("DaemonSet kube-system/kube-proxy", "runs since before the change", "restarted, one node after another")
		return drift, nil
	}
	s := proxy.Status
	if s.ObservedGeneration < proxy.Generation || s.UpdatedNumberScheduled < s.DesiredNumberScheduled || s.NumberAvailable < s.DesiredNumberScheduled {
		return nil, fault.NewWaiting("ProxyRestarting", fmt.Errorf("kube-proxy was restarted on %d of %d nodes, and is available on %d",
			s.UpdatedNumberScheduled, s.DesiredNumberScheduled, s.NumberAvailable))
	}
	return nil, nil
}

// Apply changes an annotation of its pods, which replaces them.
func (p RestartProxy) Apply(ctx context.Context, w step.Writer) error {
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{"metadata": map[string]any{"annotations": map[string]string{annotationChange: p.Change}}}}})
	if err != nil {
		return fmt.Errorf("cannot encode the restart of kube-proxy: %w", err)
	}
	proxy := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kube-proxy"}}
	if err := w.Cluster.Patch(ctx, proxy, client.RawPatch("application/merge-patch+json", patch)); err != nil {
		return fmt.Errorf("cannot restart kube-proxy: %w", err)
	}
	return nil
}
