// Package e2e owns the one real journey of a cluster on sandbox hosts. It drives the built program and the API only,
// as a user would, and must never reach into the server's packages to make something true.
package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestJourney takes bare hosts to a cluster and back: a plan that is read and approved, a create with a cut of every
// connection and three kills of the server, pods that talk to each other, a node that reboots while the server is down,
// control planes that come, reboot and go, and a delete with a kill that leaves the hosts as they were found.
func TestJourney(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	w := newWorld(t)
	w.startServer(ctx)
	w.run(ctx, "sandbox", "up", "--data-dir", w.data, "--hosts", "5", "--register")
	w.verifyBundle(ctx)
	before := w.hosts(ctx)

	t.Run("plan changes nothing", func(t *testing.T) { w.planOnly(ctx, t, before) })
	w.createWithKills(ctx, "containerd", "serve-api", "join")
	w.run(ctx, "cluster", "kubeconfig", "demo", "--output", w.kubeconfig)
	t.Run("nodes", func(t *testing.T) { w.expectNodes(ctx, t, 3) })
	t.Run("a member sees and cannot change", func(t *testing.T) { w.memberLooks(ctx, t) })
	t.Run("pods talk across nodes", func(t *testing.T) { w.podsTalk(ctx, t, "sandbox-2", "sandbox-3") })
	t.Run("a node comes back without the server", func(t *testing.T) { w.rebootWithoutServer(ctx, t) })
	t.Run("control planes and workers come and go", func(t *testing.T) { w.comeAndGo(ctx, t, before) })
	w.deleteWithKill(ctx, "files")
	t.Run("hosts are as they were found", func(t *testing.T) {
		for name, found := range w.hosts(ctx) {
			if diff := cmp.Diff(before[name], found); diff != "" {
				t.Errorf("host %s differs from before (-before +after):\n%s", name, diff)
			}
		}
	})
	t.Run("nothing is left in the API", func(t *testing.T) {
		for _, kind := range []string{"clusters", "hostclaims"} {
			if out := w.run(ctx, "get", kind, "-A", "-o", "name"); strings.TrimSpace(out) != "" {
				t.Errorf("%s are left: %s", kind, out)
			}
		}
	})
}
