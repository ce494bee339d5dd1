//go:build acceptance

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// changeBackWithKills takes settings back, and kills the server without warning when each of three steps has begun.
func (w *world) changeBackWithKills(ctx context.Context, t *testing.T) {
	w.probed(ctx, t, "settings changed back with three kills of the server", func() {
		w.run(ctx, "cluster", "configure", "demo", "--yes", "--no-wait", "--unset", "components.apiServer.audit", "--unset", "components.logLevel",
			"--unset", "network.nodePortRange", "--unset", "endpoint.certSANs", "--set", "components.kubelet.kubeReserved.memory=160Mi")
		operation := w.lastOperation(ctx)
		for _, step := range []string{"sandbox-1/manifests", "sandbox-2/serve-settings", "kubelet-sandbox-3/kubelet-restart"} {
			until(ctx, t, "step "+step, func() bool { return w.stepBegun(ctx, step, operation) })
			w.endServer(syscall.SIGKILL)
			t.Logf("killed the server in or after step %s", step)
			w.startServer(ctx)
		}
		w.run(ctx, "wait", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=10m", "operation/"+operation)
		w.expectOneAfterAnother(ctx, t, operation)
	})
	w.run(ctx, "wait", "--for=condition=UpToDate", "--timeout=1m", "cluster/demo")
	w.expectChangedBack(ctx, t)
}

// storeGoes takes the store of bundles away while a worker comes: what is missing is said, and a retry goes on.
func (w *world) storeGoes(ctx context.Context, t *testing.T) {
	w.run(ctx, "cluster", "scale", "demo", "--add-worker", "sandbox-5", "--yes", "--no-wait")
	operation := w.lastOperation(ctx)
	until(ctx, t, "step runtime-files", func() bool { return w.stepBegun(ctx, "runtime-files", operation) })
	blobs, away := filepath.Join(w.store, "blobs"), filepath.Join(w.store, "..", "away")
	if err := os.Rename(blobs, away); err != nil {
		t.Fatal(err)
	}
	gone := time.Now()
	phase, failures := w.ended(ctx, t, operation)
	logf(t, gone, "the operation without its store ended %s: %s", phase, failures)
	if phase == "Succeeded" || !strings.Contains(failures, "sandbox-5") || !strings.Contains(failures, "not found") {
		t.Errorf("the operation does not say what is missing on which host: it ended %s, %s", phase, failures)
	}
	if err := os.Rename(away, blobs); err != nil {
		t.Fatal(err)
	}
	w.run(ctx, "operation", "retry", operation, "--wait")
	w.kubectl(ctx, t, "", "wait", "--for=condition=Ready", "--timeout=60s", "node/sandbox-5")
}

// ended waits until an operation has ended, and gives how and what failed.
func (w *world) ended(ctx context.Context, t *testing.T, operation string) (phase, failures string) {
	t.Helper()
	until(ctx, t, "the end of operation "+operation, func() bool {
		out, err := w.command(ctx, "get", "operation", operation, "-o", "jsonpath={.status.phase}").Output()
		if err != nil {
			t.Fatal(err)
		}
		phase = string(out)
		return slices.Contains([]string{"Succeeded", "Partial", "Failed", "Blocked"}, phase)
	})
	return phase, w.run(ctx, "get", "operation", operation, "-o", "jsonpath={.status.failures}")
}

// workerFallsSilent stops the SSH server of one of two workers in the middle: it takes connections and never says a word.
func (w *world) workerFallsSilent(ctx context.Context, t *testing.T) {
	w.run(ctx, "cluster", "configure", "demo", "--yes", "--no-wait", "--set", "components.kubelet.kubeReserved.memory=180Mi", "--max-unavailable", "2")
	operation := w.lastOperation(ctx)
	until(ctx, t, "step kubelet-restart", func() bool { return w.stepBegun(ctx, "kubelet-sandbox-2/kubelet-restart", operation) })
	hosts := w.sandboxHosts(ctx)
	silencing, stop := context.WithTimeout(ctx, 5*time.Second)
	defer stop()
	// It silences its own session too, so how the command itself ends says nothing.
	_, _ = w.ssh(silencing, hosts[4], "pkill -STOP sshd")
	silent := time.Now()
	phase, failures := w.ended(ctx, t, operation)
	logf(t, silent, "the operation with a silent worker ended %s: %s", phase, failures)
	if phase == "Succeeded" || !strings.Contains(failures, "sandbox-5") || strings.Contains(failures, "sandbox-4") {
		t.Errorf("it ended %s with %s, want a failure of sandbox-5 alone", phase, failures)
	}
	reserved := func(h sandboxHost) string {
		return w.onHost(ctx, h, "grep -A2 kubeReserved /var/lib/kubelet/config.yaml")
	}
	if out := reserved(hosts[3]); !strings.Contains(out, "180Mi") {
		t.Errorf("the other worker has not finished: %s", out)
	}
	w.run(ctx, "sandbox", "kill", "sandbox-5", "--data-dir", w.data)
	w.run(ctx, "sandbox", "start", "sandbox-5", "--data-dir", w.data)
	w.run(ctx, "wait", "--for=condition=Reachable", "--timeout=120s", "host/sandbox-5")
	w.run(ctx, "operation", "retry", operation, "--wait")
	if out := reserved(hosts[4]); !strings.Contains(out, "180Mi") {
		t.Errorf("the worker that came back has not what a retry brings: %s", out)
	}
	w.kubectl(ctx, t, "", "wait", "--for=condition=Ready", "--timeout=120s", "nodes", "--all")
	if nodes := strings.Fields(w.kubectl(ctx, t, "", "get", "nodes", "-o", "name")); len(nodes) != 5 {
		t.Errorf("the cluster has nodes %v, want five", nodes)
	}
	w.run(ctx, "wait", "--for=condition=UpToDate", "--timeout=1m", "cluster/demo")
}
