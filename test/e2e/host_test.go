package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// addByPassword makes an ordinary user on a bare host, for whom sudo asks for root's password. The host is added by a
// private key with a passphrase, forgotten, and added by that user's password.
func (w *world) addByPassword(ctx context.Context, h sandboxHost, hunted *hunt) {
	w.t.Helper()
	password, sudo, passphrase := hunted.file("password"), hunted.file("sudo password"), hunted.file("passphrase")
	key, public := hunted.key(hunted.known["passphrase"])
	w.onHost(ctx, h, "useradd --create-home --shell /bin/bash ops && echo 'PasswordAuthentication yes' >/etc/ssh/sshd_config.d/00-password.conf"+
		" && printf 'Defaults:ops rootpw\nops ALL=(ALL:ALL) ALL\n' >/etc/sudoers.d/ops && systemctl reload ssh")
	w.give(ctx, h, "ops:"+hunted.known["password"]+"\nroot:"+hunted.known["sudo password"]+"\n", "chpasswd")
	w.give(ctx, h, public, "install -d -o ops /home/ops/.ssh && install -o ops /dev/stdin /home/ops/.ssh/authorized_keys")
	w.run(ctx, "host", "add", h.Name, "--address", h.Address, "--user", "ops", "--key", key, "--passphrase-file", passphrase, "--sudo-password-file", sudo, "--yes")
	w.run(ctx, "host", "remove", h.Name, "--yes")
	w.run(ctx, "host", "add", h.Name, "--address", h.Address, "--user", "ops", "--password-file", password, "--sudo-password-file", sudo, "--yes")
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
	w.run(ctx, "cluster", "delete", "small", "--now", "--yes")

	// An organisation may ask for less; then the disk itself says when it is full.
	w.apply(ctx, "apiVersion: slipway.dev/v1alpha1\nkind: Setting\nmetadata: {name: precheck}\n"+
		"spec: {precheck: {controlPlane: {memory: 900Mi}, freeDisk: 1Mi}}\n")
	h := w.sandboxHosts(ctx)[0]
	w.onHost(ctx, h, `fallocate -l $(($(df --output=avail -k / | tail -n 1) - 153600))K /ballast`)
	out = w.refused(ctx, t, "", create...)
	if !strings.Contains(out, "sandbox-1") || !strings.Contains(strings.ToLower(out), "no space left on device") {
		t.Errorf("a full disk: the answer does not name host and reason:\n%s", out)
	}
	w.run(ctx, "cluster", "delete", "small", "--now", "--yes")
	w.onHost(ctx, h, "rm /ballast")
	if diff := cmp.Diff(before, w.hosts(ctx)); diff != "" {
		t.Errorf("the host differs from before (-before +after):\n%s", diff)
	}
	if out := w.run(ctx, "get", "clusters,hostclaims", "-o", "name"); strings.TrimSpace(out) != "" {
		t.Errorf("left behind: %s", out)
	}
}
