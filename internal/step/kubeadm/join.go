package kubeadm

import (
	"context"
	"fmt"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

// Join configures and starts the kubelet of a worker, which then asks for its certificate.
type Join struct{}

// ID is stored in plans.
func (Join) ID() step.ID { return "kubeadm.join/v1" }

// Needs tells what must be there.
func (Join) Needs() []step.Output {
	return []step.Output{step.Runtime, step.KubernetesFiles, step.KubeadmConfig, step.JoinInformation}
}

// Check looks for the kubelet's configuration, its running unit and a kubeconfig it can use.
func (Join) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	drift, err := kubeletDrift(ctx, r)
	if err != nil {
		return nil, err
	}
	info, err := r.Stat(ctx, Directory+"/kubelet.conf", bootstrapKubeconfig)
	if err != nil {
		return nil, fmt.Errorf("cannot look for the kubelet's kubeconfig: %w", err)
	}
	if !info[0].Exists && !info[1].Exists {
		drift.Want(Directory+"/kubelet.conf", "", "present")
	}
	return drift, nil
}

// Apply lets kubeadm start the kubelet.
func (Join) Apply(ctx context.Context, w step.Writer) error {
	return runPhase(ctx, w, "join", "kubelet-start")
}

const bootstrapKubeconfig = Directory + "/bootstrap-kubelet.conf"

// FinishJoin waits until the kubelet has its own certificate, and then removes the token from the host.
type FinishJoin struct{}

// ID is stored in plans.
func (FinishJoin) ID() step.ID { return "kubeadm.finish-join/v1" }

// Check looks for both kubeconfigs.
func (FinishJoin) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	info, err := r.Stat(ctx, Directory+"/kubelet.conf", bootstrapKubeconfig)
	if err != nil {
		return nil, fmt.Errorf("cannot look for the kubelet's kubeconfig: %w", err)
	}
	if !info[0].Exists {
		return nil, fault.NewWaiting("KubeletBootstrapping", fmt.Errorf("cannot see the certificate of kubelet %s yet", r.Target.Name))
	}
	var drift step.Drift
	if info[1].Exists {
		drift.Want(bootstrapKubeconfig, "present", "absent")
	}
	return drift, nil
}

// Apply removes the bootstrap kubeconfig.
func (FinishJoin) Apply(ctx context.Context, w step.Writer) error {
	return w.Remove(ctx, bootstrapKubeconfig)
}
