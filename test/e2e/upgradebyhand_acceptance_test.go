//go:build acceptance

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestUpgradeByHand takes three control planes over one minor version as a careful person does, with kubeadm on one host
// after the other, and tells for how long the API took no writes: what TestUpgrade tells is read beside it. etcd keeps its
// version, which the stored configuration names.
func TestUpgradeByHand(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	const from = "v1.35.4"
	w := newWorld(t)
	bits := t.TempDir()
	if out, err := exec.CommandContext(ctx, "go", "run", "../bench/prepare", w.store, w.kubernetes, bits).CombinedOutput(); err != nil {
		t.Fatalf("cannot take the programs and images out of the bundle: %v\n%s", err, out)
	}
	w.startServer(ctx)
	w.run(ctx, "sandbox", "up", "--data-dir", w.data, "--hosts", "3", "--register")
	w.run(ctx, "wait", "--for=create", "--timeout=1m", "bundle/"+from)
	w.run(ctx, "wait", "--for=condition=Verified", "--timeout=10m", "bundle/"+from)
	w.run(ctx, "cluster", "create", "demo", "--kubernetes", from, "--control-plane", "sandbox-1,sandbox-2,sandbox-3", "--virtual-ip", w.virtualIP(ctx))
	w.run(ctx, "cluster", "kubeconfig", "demo", "--break-glass", "--reason", "upgraded by hand, past Slipway", "--output", w.kubeconfig)

	probing, stop := context.WithCancel(ctx)
	defer stop()
	writes := w.probeWrites(probing, t)
	for n, h := range w.sandboxHosts(ctx) {
		begun := time.Now()
		w.feed(ctx, h, filepath.Join(bits, "control-plane-images.tar"), "ctr --namespace k8s.io images import --local - >/dev/null")
		w.feed(ctx, h, filepath.Join(bits, "kubernetes.tar"), "tar -xf - -C / --no-same-owner")
		verb := "node"
		if n == 0 {
			verb = "apply " + w.kubernetes + " --yes"
		}
		w.onHost(ctx, h, "kubeadm upgrade "+verb+" --ignore-preflight-errors=all && systemctl daemon-reload && systemctl restart kubelet")
		w.kubectl(ctx, t, "", "wait", "--for=condition=Ready", "--timeout=120s", "node/"+h.Name)
		logf(t, begun, "%s upgraded with kubeadm", h.Name)
	}
	stop()
	t.Logf("by hand, writes to the API: %s", <-writes)
	versions := w.kubectl(ctx, t, "", "get", "nodes", "-o", "jsonpath={.items[*].status.nodeInfo.kubeletVersion}")
	if want := strings.TrimSpace(strings.Repeat(w.kubernetes+" ", 3)); versions != want {
		t.Errorf("the kubelets have versions %q, want %q", versions, want)
	}
	w.run(ctx, "cluster", "delete", "demo", "--now", "--yes")
}

// feed runs a command on a sandbox host that reads a file of this machine.
func (w *world) feed(ctx context.Context, h sandboxHost, file, command string) {
	w.t.Helper()
	content, err := os.Open(file)
	if err != nil {
		w.t.Fatal(err)
	}
	defer content.Close()
	cmd := w.sshCommand(ctx, h, command)
	cmd.Stdin = content
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatal(fmt.Errorf("%s on %s: %w\n%s", command, h.Name, err, out))
	}
}
