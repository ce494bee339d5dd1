// Package containerd owns the steps that configure and run the container runtime and fill its image store.
// It must never pull from anywhere but the server's own registry.
package containerd

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// Where things are on a host.
const (
	// Program is the daemon, Client its command line.
	Program = "/usr/local/bin/containerd"
	Client  = "/usr/local/bin/ctr"
	// Socket is where the daemon listens.
	Socket = "/run/containerd/containerd.sock"
	// Unit is its systemd unit.
	Unit       = "containerd.service"
	unitPath   = "/etc/systemd/system/" + Unit
	configPath = "/etc/containerd/config.toml"
	hostsDir   = "/etc/containerd/certs.d"
	mirrorPath = hostsDir + "/_default/hosts.toml"
	mirrorCA   = hostsDir + "/slipway-ca.crt"
	crictlPath = "/etc/crictl.yaml"
)

// Configure writes containerd's configuration and unit and makes it run.
type Configure struct {
	// DataDir holds images and containers.
	DataDir string `json:"dataDir"`
	// PauseImage is the sandbox image's full name.
	PauseImage string `json:"pauseImage"`
	// CA is the certificate authority of the server, PEM.
	CA string `json:"ca"`
	// Token lets the host read bundles.
	Token step.SecretRef `json:"token"`
}

// ID is stored in plans.
func (Configure) ID() step.ID { return "containerd.configure/v1" }

// Needs tells what must be there.
func (Configure) Needs() []step.Output { return []step.Output{step.RuntimeFiles} }

// Gives tells what later steps find.
func (Configure) Gives() []step.Output { return []step.Output{step.Runtime} }

type placed struct {
	path string
	file host.File
}

func (c Configure) files(ctx context.Context, secrets step.Secrets, t step.Target) ([]placed, error) {
	token, err := secrets.Secret(ctx, c.Token)
	if err != nil {
		return nil, fmt.Errorf("cannot read the registry token: %w", err)
	}
	return []placed{
		{configPath, host.File{Content: []byte(c.config(t))}},
		{mirrorCA, host.File{Content: []byte(c.CA)}},
		{mirrorPath, host.File{Content: []byte(mirror(t.Platform, string(token))), Mode: 0o600}},
		{crictlPath, host.File{Content: []byte("runtime-endpoint: unix://" + Socket + "\nimage-endpoint: unix://" + Socket + "\n")}},
		{unitPath, host.File{Content: []byte(unit)}},
	}, nil
}

func (c Configure) config(t step.Target) string {
	lines := []string{
		"version = 3",
		"root = " + quoted(c.DataDir),
		`state = "/run/containerd"`,
		"",
		`[grpc]`,
		"address = " + quoted(Socket),
		"",
		`[plugins."io.containerd.cri.v1.images".pinned_images]`,
		"sandbox = " + quoted(c.PauseImage),
		"",
		`[plugins."io.containerd.cri.v1.images".registry]`,
		"config_path = " + quoted(hostsDir),
		"",
		`[plugins."io.containerd.cri.v1.runtime"]`,
		fmt.Sprintf("restrict_oom_score_adj = %t", t.RestrictOOMScore),
		"",
		`[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]`,
		`runtime_type = "io.containerd.runc.v2"`,
		"",
		`[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]`,
		// The kubelet takes its cgroup driver from here. systemd manages cgroups well only in version 2.
		fmt.Sprintf("SystemdCgroup = %t", !t.CgroupV1),
		`BinaryName = "/usr/local/bin/runc"`,
		"",
	}
	return strings.Join(lines, "\n")
}

// quoted gives s as a string of TOML, whose escapes are those of JSON.
func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // A string always encodes.
	}
	return strings.ReplaceAll(string(b), "\x7f", `\u007f`)
}

const unit = `[Unit]
Description=containerd container runtime, installed by Slipway
After=network.target dbus.service

[Service]
ExecStart=/usr/local/bin/containerd
Type=notify
Delegate=yes
KillMode=process
Restart=always
RestartSec=2
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity

[Install]
WantedBy=multi-user.target
`

// Check compares the files and asks systemd for the unit.
func (c Configure) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	files, err := c.files(ctx, r.Secrets, r.Target)
	if err != nil {
		return nil, err
	}
	var drift step.Drift
	for _, f := range files {
		if err := drift.WantFile(ctx, r, f.path, f.file); err != nil {
			return nil, err
		}
	}
	units, err := host.QueryUnits(ctx, r, Unit)
	if err != nil {
		return nil, err
	}
	drift.Want(Unit, units[0].ActiveState, "active")
	drift.Want(Unit+" at boot", units[0].UnitFileState, "enabled")
	return drift, nil
}

// Apply writes the files and restarts the daemon, which leaves containers running.
func (c Configure) Apply(ctx context.Context, w step.Writer) error {
	files, err := c.files(ctx, w.Secrets, w.Target)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := w.WriteFile(ctx, f.path, f.file); err != nil {
			return fmt.Errorf("cannot write %s: %w", f.path, err)
		}
	}
	for _, argv := range [][]string{
		{"systemctl", "daemon-reload"},
		{"systemctl", "enable", Unit},
		{"systemctl", "restart", Unit},
	} {
		if _, err := w.Run(ctx, host.Command{Argv: argv}); err != nil {
			return fmt.Errorf("cannot run containerd: %w", err)
		}
	}
	return nil
}
