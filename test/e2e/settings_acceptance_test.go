//go:build acceptance

package e2e

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestSettings changes the settings of a cluster of three control planes and a worker whose pods reach each other by routes:
// all at once, and back with three kills of the server; what was changed by hand is shown and put back; the store of bundles
// goes while a worker comes, and a worker falls silent. The API is written to while settings change. `make acceptance` runs it.
func TestSettings(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Minute)
	defer cancel()
	w := newWorld(t)
	w.ownStore(ctx)
	w.startServer(ctx)
	w.run(ctx, "sandbox", "up", "--data-dir", w.data, "--hosts", "5", "--register")
	w.verifyBundle(ctx)
	w.run(ctx, "cluster", "create", "demo", "--kubernetes", w.kubernetes, "--flannel-backend", "host-gw",
		"--control-plane", "sandbox-1,sandbox-2,sandbox-3", "--worker", "sandbox-4", "--virtual-ip", w.virtualIP(ctx))
	w.run(ctx, "cluster", "kubeconfig", "demo", "--break-glass", "--reason", "its API is asked past Slipway", "--output", w.kubeconfig)

	t.Run("pods talk by routes between hosts", func(t *testing.T) { w.byRoutes(ctx, t) })
	t.Run("settings change", func(t *testing.T) { w.changeSettings(ctx, t) })
	t.Run("what was changed by hand is put back", func(t *testing.T) { w.putBack(ctx, t) })
	t.Run("settings change back with three kills", func(t *testing.T) { w.changeBackWithKills(ctx, t) })
	t.Run("the store goes while a worker comes", func(t *testing.T) { w.storeGoes(ctx, t) })
	t.Run("a worker falls silent", func(t *testing.T) { w.workerFallsSilent(ctx, t) })
	w.run(ctx, "cluster", "delete", "demo", "--now", "--yes")
}

// nodeHosts gives the hosts of the cluster as it is created; the first three are its control planes.
func (w *world) nodeHosts(ctx context.Context) []sandboxHost {
	w.t.Helper()
	return w.sandboxHosts(ctx)[:4]
}

// byRoutes proves that the pod network has no device of its own: each host reaches the pods of another by that one's address.
func (w *world) byRoutes(ctx context.Context, t *testing.T) {
	w.podsTalk(ctx, t, "sandbox-3", "sandbox-4")
	if config := w.kubectl(ctx, t, "", "get", "configmap", "-n", "kube-flannel", "kube-flannel-cfg", "-o", "jsonpath={.data}"); !strings.Contains(config, `host-gw`) {
		t.Errorf("NET-02: flannel has %s", config)
	}
	networks := map[string]string{}
	for line := range strings.Lines(w.kubectl(ctx, t, "", "get", "nodes", "-o", `jsonpath={range .items[*]}{.metadata.name} {.spec.podCIDR}{"\n"}{end}`)) {
		name, network, _ := strings.Cut(strings.TrimSpace(line), " ")
		networks[name] = network
	}
	hosts := w.nodeHosts(ctx)
	for _, h := range hosts {
		out := w.onHost(ctx, h, "ip -o link; ip route")
		if strings.Contains(out, "flannel") {
			t.Errorf("NET-02: %s has a device of flannel:\n%s", h.Name, out)
		}
		for _, other := range hosts {
			if want := networks[other.Name] + " via " + other.Address + " "; other != h && !strings.Contains(out, want) {
				t.Errorf("NET-02: %s has no route %q:\n%s", h.Name, want, out)
			}
		}
	}
}

// auditPolicy logs what is written into ConfigMaps, and nothing else.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- level: Request
  resources: [{group: "", resources: [configmaps]}]
  verbs: [patch]
- level: None
`

// changeSettings changes everything in one operation.
func (w *world) changeSettings(ctx context.Context, t *testing.T) {
	policy := filepath.Join(w.data, "policy.yaml")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		t.Fatal(err)
	}
	mirror := w.startMirror(ctx, t)
	written := w.probed(ctx, t, "settings changed", func() {
		w.run(ctx, "cluster", "configure", "demo", "--yes",
			"--set", "components.apiServer.audit.enabled=true", "--set-file", "components.apiServer.audit.policy="+policy, "--set", "components.apiServer.audit.maxAge=14",
			"--set", "components.apiServer.audit.maxSize=3", "--set", "components.apiServer.audit.maxBackup=5",
			"--set", "components.logLevel=3", "--set", "network.nodePortRange=31000-32000",
			"--set", "endpoint.certSANs=[api.example.org]", "--set", "endpoint.externalAddress=198.51.100.7",
			"--set", "components.kubelet={kubeReserved: {cpu: 150m, memory: 200Mi}, systemReserved: {memory: 150Mi}}",
			"--host-record", "192.168.2.2 host1 host1.example.org", "--registry-mirror", "docker.io="+mirror.url)
	})
	if written.done == 0 {
		t.Errorf("the API was never written to: %s", written)
	}
	w.expectOneAfterAnother(ctx, t, w.lastOperation(ctx))
	w.expectChanged(ctx, t, mirror)
}

// probed writes to the API while work is done, and tells of both.
func (w *world) probed(ctx context.Context, t *testing.T, what string, work func()) probed {
	t.Helper()
	probing, stop := context.WithCancel(ctx)
	defer stop()
	writes := w.probeWrites(probing, t)
	begun := time.Now()
	work()
	logf(t, begun, "%s", what)
	stop()
	written := <-writes
	t.Logf("writes to the API while %s: %s", what, written)
	return written
}

// lastOperation gives the name of the operation that was made last.
func (w *world) lastOperation(ctx context.Context) string {
	w.t.Helper()
	return w.run(ctx, "get", "operations", "-l", "slipway.dev/cluster=demo", "--sort-by=.metadata.creationTimestamp", "-o", "jsonpath={.items[-1:].metadata.name}")
}

// expectOneAfterAnother proves that no two hosts were changed at once whose components or kubelets restart.
func (w *world) expectOneAfterAnother(ctx context.Context, t *testing.T, operation string) {
	t.Helper()
	var stages []struct {
		Name                  string
		StartedAt, FinishedAt time.Time
	}
	if err := json.Unmarshal([]byte(w.run(ctx, "get", "operation", operation, "-o", "jsonpath={.status.stages}")), &stages); err != nil {
		t.Fatal(err)
	}
	var names []string
	var free time.Time
	for _, s := range stages {
		if !strings.HasPrefix(s.Name, "control-plane-sandbox-") && !strings.HasPrefix(s.Name, "kubelet") {
			continue
		}
		if s.StartedAt.Before(free) || s.FinishedAt.IsZero() {
			t.Errorf("KUBE-13: stage %s began at %s, when the one before it had until %s", s.Name, s.StartedAt, free)
		}
		names, free = append(names, s.Name), s.FinishedAt
	}
	if len(names) < 7 {
		t.Errorf("KUBE-13: the operation had only the stages %v", names)
	}
}

// putBack changes files of one control plane by hand. It is shown, and a plan puts it back without touching another host.
func (w *world) putBack(ctx context.Context, t *testing.T) {
	if out := w.run(ctx, "cluster", "drift", "demo"); !strings.Contains(out, "nothing differs") {
		t.Fatalf("the cluster differs before anybody changed it:\n%s", out)
	}
	h := w.sandboxHosts(ctx)[1]
	const manifest, mirrors = "/etc/kubernetes/manifests/kube-scheduler.yaml", "/etc/containerd/certs.d/docker.io/hosts.toml"
	content := "cat " + manifest + " " + mirrors
	was := w.onHost(ctx, h, content)
	w.onHost(ctx, h, `sed -i 's/- --leader-elect=true/&\n    - --kube-api-qps=77/' `+manifest+` && echo '# by hand' >>`+mirrors)
	until(ctx, t, "a scheduler that was changed by hand", func() bool { return strings.Contains(w.onHost(ctx, h, "ps -eo args"), "--kube-api-qps=77") })

	begun := time.Now()
	out := w.refused(ctx, t, "", "cluster", "drift", "demo")
	logf(t, begun, "what was changed by hand was looked for")
	t.Logf("slipway cluster drift demo:\n%s", out)
	for _, want := range []string{"host sandbox-2\n", manifest + ": other content", mirrors} {
		if !strings.Contains(out, want) {
			t.Errorf("drift does not say %q", want)
		}
	}
	if strings.Count(out, "host sandbox-") != 1 {
		t.Error("drift names other hosts than the one that was changed")
	}
	before := w.processes(ctx)
	w.probed(ctx, t, "what was changed by hand was put back", func() { w.run(ctx, "cluster", "configure", "demo", "--yes") })
	if diff := cmp.Diff(was, w.onHost(ctx, h, content)); diff != "" {
		t.Errorf("the files are not what they were (-was +is):\n%s", diff)
	}
	if out := w.onHost(ctx, h, "ps -eo args | grep '^kube-scheduler '"); strings.Contains(out, "--kube-api-qps=77") {
		t.Error("the scheduler still runs as it was changed by hand")
	}
	if changed := w.changedHosts(ctx, t, w.lastOperation(ctx)); !slices.Equal(changed, []string{"sandbox-2"}) {
		t.Errorf("the operation changed something on hosts %v, want only sandbox-2", changed)
	}
	after := w.processes(ctx)
	delete(before, "sandbox-2")
	delete(after, "sandbox-2")
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("something restarted on hosts that nobody had changed (-before +after):\n%s", diff)
	}
	if out, err := w.command(ctx, "cluster", "drift", "demo").CombinedOutput(); err != nil || !strings.Contains(string(out), "nothing differs") {
		t.Errorf("something differs after it was put back: %v\n%s", err, out)
	}
}

// processes gives the processes of each node that a change could restart, with their numbers.
func (w *world) processes(ctx context.Context) map[string]string {
	w.t.Helper()
	all := map[string]string{}
	for _, h := range w.nodeHosts(ctx) {
		all[h.Name] = w.onHost(ctx, h, `ps -eo pid=,comm= | grep -E ' (kube-|kubelet|etcd|containerd$|flanneld|coredns)' | sort -n`)
	}
	return all
}

// changedHosts gives the hosts on which an operation had to change something.
func (w *world) changedHosts(ctx context.Context, t *testing.T, operation string) []string {
	t.Helper()
	var list struct {
		Items []struct {
			Spec   struct{ Host string }
			Status struct {
				Steps []struct {
					Name    string
					Changed bool
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(w.run(ctx, "get", "hostruns", "-l", "slipway.dev/operation="+operation, "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	hosts := map[string]bool{}
	for _, run := range list.Items {
		for _, s := range run.Status.Steps {
			if s.Changed {
				hosts[run.Spec.Host] = true
				t.Logf("changed on %s: %s", run.Spec.Host, s.Name)
			}
		}
	}
	return slices.Sorted(maps.Keys(hosts))
}
