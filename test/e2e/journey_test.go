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

// TestJourney takes three bare hosts to a cluster and back: create with two kills of the server, pods that talk to each
// other, a node that reboots while the server is down, and a delete that leaves the hosts as they were found.
func TestJourney(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	w := newWorld(t)
	w.startServer(ctx)
	w.run(ctx, "sandbox", "up", "--data-dir", w.data, "--hosts", "3", "--register")
	w.run(ctx, "wait", "--for=condition=Verified", "--timeout=10m", "bundle/"+w.kubernetes)
	before := w.hosts(ctx)

	t.Run("plan changes nothing", func(t *testing.T) { w.planOnly(ctx, t, before) })
	w.createWithKills(ctx, "containerd", "serve-api")
	w.run(ctx, "cluster", "kubeconfig", "demo", "--output", w.kubeconfig)
	t.Run("nodes", func(t *testing.T) { w.expectNodes(ctx, t, 3) })
	t.Run("pods talk across nodes", func(t *testing.T) { w.podsTalk(ctx, t) })
	t.Run("a node comes back without the server", func(t *testing.T) { w.rebootWithoutServer(ctx, t) })
	w.run(ctx, "cluster", "delete", "demo", "--yes")
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

// TestBadInput gives the server what users get wrong, and expects a refusal that says what, where and how to mend it.
func TestBadInput(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	w := newWorld(t)
	w.startServer(ctx)
	w.run(ctx, "sandbox", "up", "--data-dir", w.data, "--hosts", "2", "--register")
	w.run(ctx, "wait", "--for=condition=Verified", "--timeout=10m", "bundle/"+w.kubernetes)
	for name, c := range map[string]struct {
		reason string
		args   []string
		stdin  string
		want   []string
	}{
		"a second server": {
			reason: "two servers on one data directory would both own the hosts",
			args:   []string{"server", "--data-dir", w.data, "--listen", "127.0.0.1:0"},
			want:   []string{"cannot lock data directory", "another server"},
		},
		"overlapping networks": {
			reason: "pods and services that share addresses never work",
			args: []string{"cluster", "create", "bad", "--kubernetes", w.kubernetes, "--control-plane", "sandbox-1",
				"--pod-cidr", "10.96.0.0/15"},
			want: []string{"overlap"},
		},
		"pod network over the hosts": {
			reason: "a pod network over the hosts' own would cut them off",
			args: []string{"cluster", "create", "bad", "--kubernetes", w.kubernetes, "--control-plane", "sandbox-1",
				"--pod-cidr", "10.0.0.0/8", "--service-cidr", "192.168.0.0/16"},
			want: []string{"sandbox-1", "network", "overlaps"},
		},
		"no such host": {
			reason: "a host must exist before a cluster can use it",
			args:   []string{"cluster", "create", "bad", "--kubernetes", w.kubernetes, "--control-plane", "nowhere"},
			want:   []string{"nowhere", "no Host of that name"},
		},
		"no such version": {
			reason: "only a bundle that is here can be installed",
			args:   []string{"cluster", "create", "bad", "--kubernetes", "v1.99.0", "--control-plane", "sandbox-1"},
			want:   []string{"bundle", "v1.99.0"},
		},
		"unknown field": {
			reason: "a field with a typo must not be dropped in silence",
			args:   []string{"apply", "--server-side", "-f", "-"},
			stdin:  "apiVersion: slipway.dev/v1alpha1\nkind: Cluster\nmetadata: {name: bad}\nspec: {kubernets: {version: v1.36.3}, controlPlane: {hosts: [sandbox-1]}}\n",
			want:   []string{"kubernets"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			out := w.refused(ctx, t, c.stdin, c.args...)
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("%s: the answer does not say %q:\n%s", c.reason, want, out)
				}
			}
			// A refused cluster leaves an object that says why; it goes without touching a host.
			w.run(ctx, "delete", "cluster", "bad", "--ignore-not-found", "--timeout=60s")
			if out := w.run(ctx, "get", "hostclaims", "-o", "name"); strings.TrimSpace(out) != "" {
				t.Errorf("%s: hosts are still claimed: %s", c.reason, out)
			}
		})
	}
}
