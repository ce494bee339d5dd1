//go:build acceptance

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestRestore takes a cluster of three control planes through a backup, a drill with a kill of the server, the destruction
// of all etcd data, and a restore; then onto a new host in the place of one that was lost, which returns. It runs with the
// tag acceptance: `make acceptance`.
func TestRestore(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 18*time.Minute)
	defer cancel()
	w := newWorld(t)
	w.startServer(ctx)
	w.run(ctx, "sandbox", "up", "--data-dir", w.data, "--hosts", "4", "--register")
	w.verifyBundle(ctx)
	w.run(ctx, "cluster", "create", "demo", "--kubernetes", w.kubernetes, "--virtual-ip", w.virtualIP(ctx),
		"--control-plane", "sandbox-1,sandbox-2,sandbox-3")
	w.run(ctx, "cluster", "kubeconfig", "demo", "--output", w.kubeconfig)
	w.run(ctx, "backup", "location", "add", "local", "--directory", filepath.Join(w.data, "backups"))
	w.run(ctx, "grant", "add", "--backup-location", "local")

	w.kubectl(ctx, t, objects(), "apply", "--server-side", "-f", "-")
	before := w.objects(ctx, t)
	w.run(ctx, "backup", "create", "demo", "--location", "local")
	name := strings.TrimPrefix(strings.TrimSpace(w.run(ctx, "get", "backups", "-o", "name")), "backup.slipway.dev/")

	t.Run("drill", func(t *testing.T) { w.drill(ctx, t, name) })
	t.Run("all data destroyed", func(t *testing.T) {
		seen := w.watch(ctx, t)
		last := w.change(ctx, t)
		w.destroy(ctx, "sandbox-1", "sandbox-2", "sandbox-3")
		begun := time.Now()
		w.run(ctx, "cluster", "restore", "demo", "--backup", name, "--yes")
		logf(t, begun, "restored onto three control planes without data")
		w.restored(ctx, t, before)
		for _, revision := range seen() {
			if revision > last && revision < last+1_000_000 {
				t.Errorf("the watch has seen revision %d of a time that was taken back", revision)
			}
		}
	})
	t.Run("a new host in the place of a lost one", func(t *testing.T) {
		w.change(ctx, t)
		w.run(ctx, "sandbox", "kill", "sandbox-2", "--data-dir", w.data)
		w.run(ctx, "wait", "--for=condition=Reachable=false", "--timeout=180s", "host/sandbox-2")
		w.destroy(ctx, "sandbox-1", "sandbox-3")
		w.run(ctx, "cluster", "restore", "demo", "--backup", name, "--replace", "sandbox-2=sandbox-4", "--yes")
		w.restored(ctx, t, before)
		if nodes := strings.TrimSpace(w.kubectl(ctx, t, "", "get", "nodes", "-o", "name")); nodes != "node/sandbox-1\nnode/sandbox-3\nnode/sandbox-4" {
			t.Errorf("the nodes are %q", nodes)
		}
		w.run(ctx, "sandbox", "start", "sandbox-2", "--data-dir", w.data)
		until(ctx, t, "the lost host to be cleaned", func() bool {
			return w.run(ctx, "get", "hostclaims", "--field-selector", "metadata.name=sandbox-2", "-o", "name") == ""
		})
		for _, h := range w.sandboxHosts(ctx) {
			if h.Name == "sandbox-2" && strings.TrimSpace(w.onHost(ctx, h, "ls -d /var/lib/etcd /etc/kubernetes 2>/dev/null || true")) != "" {
				t.Error("the host that was lost still has its etcd")
			}
		}
	})
}

// drill proves the backup with a kill of the server on the way: nothing of it is left running, and it is proven after all.
func (w *world) drill(ctx context.Context, t *testing.T, name string) {
	begun := time.Now()
	w.run(ctx, "backup", "drill", name, "--no-wait")
	programs := func() string {
		out, err := exec.CommandContext(ctx, "pgrep", "-f", "^/(etcd|kube-apiserver) .*(listen-client-urls|etcd-servers)=unix:///etcd.sock").Output()
		if err != nil && len(out) > 0 {
			t.Fatal(err)
		}
		return string(out)
	}
	until(ctx, t, "a drill that runs", func() bool { return strings.Count(programs(), "\n") == 2 })
	w.endServer(syscall.SIGKILL)
	until(ctx, t, "the end of the drill's programs", func() bool { return programs() == "" })
	w.startServer(ctx)
	w.run(ctx, "wait", "--for=condition=Proven", "--timeout=120s", "backup/"+name)
	logf(t, begun, "proven with a kill of the server")
	if out := w.run(ctx, "backup", "list"); !strings.Contains(out, " ago") {
		t.Errorf("the list does not say when it was proven:\n%s", out)
	}
}

// objects are what people have in the cluster.
func objects() string {
	docs := []string{"apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n"}
	for i := range 30 {
		docs = append(docs, fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c%d, namespace: shop}\ndata: {v: 'old %d'}\n", i, i),
			fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: s%d, namespace: shop}\nstringData: {v: 'old %d'}\n", i, i))
	}
	return strings.Join(docs, "---\n")
}

// objects lists what is in the cluster now, with its UIDs and content.
func (w *world) objects(ctx context.Context, t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, kind := range []string{"namespaces", "configmaps", "secrets", "serviceaccounts", "services", "deployments", "daemonsets", "clusterroles", "rolebindings"} {
		all.WriteString(w.kubectl(ctx, t, "", "get", kind, "-A", "-o",
			`jsonpath={range .items[*]}`+kind+` {.metadata.namespace}/{.metadata.name} {.metadata.uid} {.data}{.spec}{"\n"}{end}`))
	}
	return all.String()
}

// change does what a restore takes back, and gives the last revision.
func (w *world) change(ctx context.Context, t *testing.T) int64 {
	t.Helper()
	w.kubectl(ctx, t, "", "delete", "configmap", "-n", "shop", "c1", "c2")
	w.kubectl(ctx, t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: newer, namespace: shop}\ndata: {a: b}\n", "apply", "--server-side", "-f", "-")
	out := w.kubectl(ctx, t, "", "get", "configmap", "-n", "shop", "newer", "-o", "jsonpath={.metadata.resourceVersion}")
	revision, err := strconv.ParseInt(out, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return revision
}

// destroy removes all of etcd's data, as a broken disk does.
func (w *world) destroy(ctx context.Context, names ...string) {
	w.t.Helper()
	for _, h := range w.sandboxHosts(ctx) {
		for _, name := range names {
			if h.Name == name {
				w.onHost(ctx, h, "rm -rf /var/lib/etcd/member; pkill -9 -x etcd || true")
			}
		}
	}
}

// restored says that the cluster has what it had, and works.
func (w *world) restored(ctx context.Context, t *testing.T, before string) {
	t.Helper()
	if diff := cmp.Diff(strings.Split(before, "\n"), strings.Split(w.objects(ctx, t), "\n")); diff != "" {
		t.Errorf("objects (-backup +restored):\n%s", diff)
	}
	w.kubectl(ctx, t, "", "wait", "--for=condition=Ready", "--timeout=120s", "nodes", "--all")
}

// watch follows objects and gives the revisions that it has seen.
func (w *world) watch(ctx context.Context, t *testing.T) func() []int64 {
	t.Helper()
	ctx, stop := context.WithCancel(ctx)
	t.Cleanup(stop)
	cmd := exec.CommandContext(ctx, w.slipway, "--kubeconfig", w.kubeconfig, "get", "configmaps", "-n", "shop", "--watch", "-o", `jsonpath=revision {.metadata.resourceVersion}{"\n"}`)
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() []int64 {
		stop()
		_ = cmd.Wait() // It was ended, or the API server has ended it.
		var seen []int64
		for _, found := range regexp.MustCompile(`revision (\d+)`).FindAllStringSubmatch(out.String(), -1) {
			revision, err := strconv.ParseInt(found[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			seen = append(seen, revision)
		}
		if len(seen) == 0 {
			t.Error("the watch has seen nothing")
		}
		return seen
	}
}
