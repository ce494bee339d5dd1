package kubeadm

import (
	"context"
	"fmt"
	"time"

	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// servingRest is how long a kubelet's own serving certificate must be good for at least. The kubelet makes it for a year, and
// never looks at it again.
const servingRest = 30 * 24 * time.Hour

const (
	kubeletConfig  = Directory + "/kubelet.conf"
	servingCert    = "/var/lib/kubelet/pki/kubelet.crt"
	servingKey     = "/var/lib/kubelet/pki/kubelet.key"
	kubeletService = "kubelet.service"
)

// RenewKubelet gives a kubelet whose client certificate has ended a new one. A kubelet renews it by itself while it runs; one
// that was off too long cannot. On a control plane kubeadm issues it, on a worker the kubelet asks for it with the bootstrap
// token. A serving certificate that is about to end is made anew.
type RenewKubelet struct{}

// ID is stored in plans.
func (RenewKubelet) ID() step.ID { return "kubeadm.renew-kubelet/v1" }

// Needs tells what must be there.
func (RenewKubelet) Needs() []step.Output {
	return []step.Output{step.KubernetesFiles, step.KubeadmConfig}
}

// Check reads both certificates, and asks whether the kubelet runs.
func (RenewKubelet) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	var drift step.Drift
	units, err := host.QueryUnits(ctx, r, kubeletService)
	if err != nil {
		return nil, err
	}
	// It restarts by itself while it has nothing to log in with.
	if state := units[0].ActiveState; state != "activating" {
		drift.Want(kubeletService, state, "active")
	}
	login, err := loginProblem(ctx, r)
	if err != nil {
		return nil, err
	}
	drift.Want(kubeletConfig, login, "")
	serving, err := readCertificateIfExists(ctx, r, servingCert)
	if err != nil {
		return nil, err
	}
	if serving != nil && time.Until(serving.NotAfter) < servingRest {
		drift.Want(servingCert, "ends "+serving.NotAfter.UTC().Format(time.RFC3339), "")
	}
	return drift, nil
}

// loginProblem says why the kubelet cannot log in, or "". One that asks for its certificate can.
func loginProblem(ctx context.Context, r step.Reader) (string, error) {
	info, err := r.Stat(ctx, kubeletConfig, bootstrapKubeconfig)
	if err != nil {
		return "", fmt.Errorf("cannot look for the kubelet's kubeconfig: %w", err)
	}
	if !info[0].Exists && info[1].Exists && !r.Target.ControlPlane {
		return "", nil
	}
	leaf, err := clientCertificate(ctx, r, kubeletConfig)
	switch {
	case err != nil:
		return "", err
	case leaf == nil:
		return "no certificate", nil
	case leaf.NotAfter.Before(time.Now()):
		return "ended " + leaf.NotAfter.UTC().Format(time.RFC3339), nil
	default:
		return "", nil
	}
}

// Apply stops the kubelet, replaces what has ended and starts it. A cut leaves it stopped, which the next Check sees.
func (s RenewKubelet) Apply(ctx context.Context, w step.Writer) error {
	if _, err := w.Run(ctx, host.Command{Argv: []string{"systemctl", "stop", kubeletService}}); err != nil {
		return fmt.Errorf("cannot stop the kubelet: %w", err)
	}
	serving, err := readCertificateIfExists(ctx, w, servingCert)
	if err != nil {
		return err
	}
	if serving != nil && time.Until(serving.NotAfter) < servingRest {
		if err := w.Remove(ctx, servingCert, servingKey); err != nil {
			return fmt.Errorf("cannot remove the kubelet's serving certificate: %w", err)
		}
	}
	problem, err := loginProblem(ctx, w.Reading)
	if err != nil {
		return err
	}
	if problem != "" {
		if err := s.reissue(ctx, w); err != nil {
			return err
		}
	}
	return restartKubelet(ctx, w)
}

func (RenewKubelet) reissue(ctx context.Context, w step.Writer) error {
	// The kubelet would take the one that has ended before the one in its kubeconfig.
	if err := w.Remove(ctx, rotatingCertificate, kubeletConfig); err != nil {
		return fmt.Errorf("cannot remove the kubelet's certificate: %w", err)
	}
	if w.Target.ControlPlane {
		return runPhase(ctx, w, "init", "kubeconfig", "kubelet")
	}
	// It names the endpoint and the token, as kubeadm's own bootstrap kubeconfig does.
	discovery, err := w.ReadFile(ctx, DiscoveryPath)
	if err != nil {
		return fmt.Errorf("cannot read how the kubelet joins: %w", err)
	}
	if err := w.WriteFile(ctx, bootstrapKubeconfig, host.File{Content: discovery, Mode: 0o600}); err != nil {
		return fmt.Errorf("cannot write %s: %w", bootstrapKubeconfig, err)
	}
	return nil
}
