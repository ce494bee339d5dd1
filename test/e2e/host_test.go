package e2e

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// addByPassword makes an ordinary user with sudo on a bare host, and adds the host by that user's password.
func (w *world) addByPassword(ctx context.Context, h sandboxHost) {
	w.t.Helper()
	password := filepath.Join(w.data, "password")
	if err := os.WriteFile(password, []byte(rand.Text()), 0o600); err != nil {
		w.t.Fatal(err)
	}
	text, err := os.ReadFile(password)
	if err != nil {
		w.t.Fatal(err)
	}
	w.onHost(ctx, h, "useradd --create-home --shell /bin/bash ops && echo 'ops:"+string(text)+"' | chpasswd"+
		" && echo 'ops ALL=(ALL:ALL) ALL' >/etc/sudoers.d/ops && echo 'PasswordAuthentication yes' >/etc/ssh/sshd_config.d/00-password.conf && systemctl reload ssh")
	w.run(ctx, "host", "add", h.Name, "--address", h.Address, "--user", "ops", "--password-file", password, "--yes")
}

// TestSmallHost asks for a cluster on a host that is too small, and then on one whose disk fills up in the middle.
func TestSmallHost(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	w := newWorld(t)
	w.startServer(ctx)
	w.run(ctx, "sandbox", "up", "--data-dir", w.data, "--hosts", "1", "--memory", "1Gi", "--disk", "3Gi", "--register")
	w.verifyBundle(ctx)
	before := w.hosts(ctx)
	create := []string{"cluster", "create", "small", "--kubernetes", w.kubernetes, "--control-plane", "sandbox-1"}

	out := w.refused(ctx, t, "", create...)
	for _, want := range []string{"sandbox-1", "memory: found 1Gi, needs 1.7Gi", "disk: found", "needs 5Gi"} {
		if !strings.Contains(out, want) {
			t.Errorf("HOST-14: a small host: the answer does not say %q:\n%s", want, out)
		}
	}
	w.run(ctx, "cluster", "delete", "small", "--yes")

	// An organisation may ask for less; then the disk itself says when it is full.
	w.apply(ctx, "apiVersion: slipway.dev/v1alpha1\nkind: Setting\nmetadata: {name: precheck}\n"+
		"spec: {precheck: {controlPlane: {memory: 900Mi}, freeDisk: 1Mi}}\n")
	h := w.sandboxHosts(ctx)[0]
	w.onHost(ctx, h, `fallocate -l $(($(df --output=avail -k / | tail -n 1) - 153600))K /ballast`)
	out = w.refused(ctx, t, "", create...)
	if !strings.Contains(out, "sandbox-1") || !strings.Contains(strings.ToLower(out), "no space left on device") {
		t.Errorf("a full disk: the answer does not name host and reason:\n%s", out)
	}
	w.run(ctx, "cluster", "delete", "small", "--yes")
	w.onHost(ctx, h, "rm /ballast")
	if diff := cmp.Diff(before, w.hosts(ctx)); diff != "" {
		t.Errorf("the host differs from before (-before +after):\n%s", diff)
	}
	if out := w.run(ctx, "get", "clusters,hostclaims", "-o", "name"); strings.TrimSpace(out) != "" {
		t.Errorf("left behind: %s", out)
	}
}
