// Package kubelet owns the steps that give a host the kubelet's systemd unit, stop all of Kubernetes there and start it again.
// It must never configure the kubelet: kubeadm does.
package kubelet

import (
	"context"
	"fmt"

	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// Where things are on a host; the same as in the packages that distributions make.
const (
	// Unit is the kubelet's systemd unit.
	Unit = "kubelet.service"
	// Program is the kubelet itself.
	Program    = "/usr/local/bin/kubelet"
	unitPath   = "/etc/systemd/system/" + Unit
	dropInPath = unitPath + ".d/10-kubeadm.conf"
)

const unit = `[Unit]
Description=kubelet: the Kubernetes node agent, installed by Slipway
Documentation=https://kubernetes.io/docs/
Wants=network-online.target containerd.service
After=network-online.target containerd.service

[Service]
ExecStart=/usr/local/bin/kubelet
Restart=always
StartLimitInterval=0
RestartSec=2

[Install]
WantedBy=multi-user.target
`

const dropIn = `[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
ExecStart=
ExecStart=/usr/local/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS
`

// InstallUnit writes the unit and enables it. kubeadm starts it when it has been configured.
type InstallUnit struct{}

// ID is stored in plans.
func (InstallUnit) ID() step.ID { return "kubelet.install-unit/v1" }

// Needs tells what must be there.
func (InstallUnit) Needs() []step.Output { return []step.Output{step.KubernetesFiles} }

// Check compares the files and asks whether the unit starts at boot.
func (InstallUnit) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	var drift step.Drift
	if err := drift.WantFile(ctx, r, unitPath, host.File{Content: []byte(unit)}); err != nil {
		return nil, err
	}
	if err := drift.WantFile(ctx, r, dropInPath, host.File{Content: []byte(dropIn)}); err != nil {
		return nil, err
	}
	units, err := host.QueryUnits(ctx, r, Unit)
	if err != nil {
		return nil, err
	}
	drift.Want(Unit+" at boot", units[0].UnitFileState, "enabled")
	return drift, nil
}

// Apply writes the files and enables the unit.
func (InstallUnit) Apply(ctx context.Context, w step.Writer) error {
	if err := w.WriteFile(ctx, unitPath, host.File{Content: []byte(unit)}); err != nil {
		return fmt.Errorf("cannot write the kubelet's unit: %w", err)
	}
	if err := w.WriteFile(ctx, dropInPath, host.File{Content: []byte(dropIn)}); err != nil {
		return fmt.Errorf("cannot write the kubelet's unit: %w", err)
	}
	for _, argv := range [][]string{{"systemctl", "daemon-reload"}, {"systemctl", "enable", Unit}} {
		if _, err := w.Run(ctx, host.Command{Argv: argv}); err != nil {
			return fmt.Errorf("cannot enable the kubelet: %w", err)
		}
	}
	return nil
}
