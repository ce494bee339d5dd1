package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// planOnly reads a plan for a cluster that does not exist, and proves that nothing has changed.
func (w *world) planOnly(ctx context.Context, t *testing.T, before map[string]state) {
	out := w.run(ctx, append([]string{"cluster", "plan"}, w.clusterArgs(ctx)...)...)
	for _, want := range []string{"sandbox-1", "sandbox-2", "sandbox-3", "/usr/local/bin/containerd", "after worker/containerd"} {
		if !strings.Contains(out, want) {
			t.Errorf("the plan does not name %s:\n%s", want, out)
		}
	}
	for name, found := range w.hosts(ctx) {
		if diff := cmp.Diff(before[name], found); diff != "" {
			t.Errorf("planning changed host %s (-before +after):\n%s", name, diff)
		}
	}
	if out := w.run(ctx, "get", "clusters", "-o", "name"); out != "" {
		t.Errorf("planning made %s before anyone approved", out)
	}
}

func (w *world) clusterArgs(ctx context.Context) []string {
	return []string{"demo", "--kubernetes", w.kubernetes, "--control-plane", "sandbox-1", "--pool", "default=sandbox-2,sandbox-3",
		"--label", "default:tier=web", "--cert-san", "demo.example.com", "--virtual-ip", w.virtualIP(ctx)}
}

// createWithKills approves the plan of the cluster demo, cuts the connections to all hosts once, and kills the server without warning
// when each of the steps has begun.
func (w *world) createWithKills(ctx context.Context, steps ...string) {
	w.t.Helper()
	begun := time.Now()
	op := strings.TrimPrefix(strings.TrimSpace(w.run(ctx, "get", "operations", "-l", "slipway.dev/cluster=demo", "-o", "name")), "operation.slipway.dev/")
	w.run(ctx, "operation", "approve", op, "--plan", w.run(ctx, "get", "operation", op, "-o", "jsonpath={.status.plan.hash}"))
	until(ctx, w.t, "step runtime-files", func() bool { return w.stepBegun(ctx, "runtime-files") })
	w.cutConnections(ctx)
	logf(w.t, begun, "cut every connection in or after step runtime-files")
	for _, step := range steps {
		until(ctx, w.t, "step "+step, func() bool { return w.stepBegun(ctx, step) })
		w.endServer(syscall.SIGKILL)
		logf(w.t, begun, "killed the server in or after step %s", step)
		w.startServer(ctx)
	}
	w.run(ctx, "wait", "--for=condition=Ready", "--timeout=10m", "cluster/demo")
	logf(w.t, begun, "cluster demo created with %d kills", len(steps))
}

// deleteWithKill deletes the cluster demo and kills the server without warning when the step has begun.
func (w *world) deleteWithKill(ctx context.Context, step string) {
	w.t.Helper()
	begun := time.Now()
	w.run(ctx, "cluster", "delete", "demo", "--now", "--yes", "--no-wait")
	until(ctx, w.t, "step "+step, func() bool { return w.stepBegun(ctx, step) })
	w.endServer(syscall.SIGKILL)
	logf(w.t, begun, "killed the server in or after step %s", step)
	w.startServer(ctx)
	w.run(ctx, "wait", "--for=delete", "--timeout=5m", "cluster/demo")
	logf(w.t, begun, "cluster demo deleted with a kill")
}

// cutConnections ends every SSH session of every host from the host's side, as a broken network would.
func (w *world) cutConnections(ctx context.Context) {
	w.t.Helper()
	for _, h := range w.sandboxHosts(ctx) {
		// It ends its own session too, so how the command itself ends says nothing.
		if out, err := w.ssh(ctx, h, "pkill -KILL -f '^sshd: root@notty'"); err == nil {
			w.t.Fatalf("the sessions of %s were not cut: %s", h.Name, out)
		}
	}
}

// stepBegun says whether a step whose name ends like that is on record on any host, in any operation or in one that is named.
func (w *world) stepBegun(ctx context.Context, step string, operation ...string) bool {
	args := []string{"get", "hostruns", "-o", "json"}
	if len(operation) > 0 {
		args = append(args, "-l", "slipway.dev/operation="+operation[0])
	}
	out, err := w.command(ctx, args...).Output()
	if err != nil {
		return false
	}
	var list struct {
		Items []struct {
			Status struct {
				Steps []struct{ Name string }
			}
		}
	}
	if err := json.Unmarshal(out, &list); err != nil {
		w.t.Fatalf("cannot read host runs: %v\n%s", err, out)
	}
	for _, run := range list.Items {
		for _, s := range run.Status.Steps {
			if s.Name == step || strings.HasSuffix(s.Name, "/"+step) {
				return true
			}
		}
	}
	return false
}

// expectNodes asks the cluster itself, not Slipway.
func (w *world) expectNodes(ctx context.Context, t *testing.T, count int) {
	w.kubectl(ctx, t, "", "wait", "--for=condition=Ready", "--timeout=60s", "nodes", "--all")
	if nodes := strings.Fields(w.kubectl(ctx, t, "", "get", "nodes", "-o", "name")); len(nodes) != count {
		t.Errorf("the cluster has nodes %v, want %d", nodes, count)
	}
	w.kubectl(ctx, t, "", "wait", "--for=condition=Available", "--timeout=60s", "-n", "kube-system", "deployment/coredns")
	if labelled := w.kubectl(ctx, t, "", "get", "nodes", "-l", "tier=web", "-o", "name"); len(strings.Fields(labelled)) != 2 {
		t.Errorf("nodes with the pool's label: %q, want two", labelled)
	}
}

// podsTalk runs a server and a client on each of two nodes: each client reaches the Service that the other node backs, and
// resolves a name of the cluster.
func (w *world) podsTalk(ctx context.Context, t *testing.T, one, two string) {
	var manifest strings.Builder
	for _, node := range []string{one, two} {
		fmt.Fprintf(&manifest, podsManifest, node, w.image(ctx, t, "coredns"), w.image(ctx, t, "flannel"))
	}
	w.kubectl(ctx, t, manifest.String(), "apply", "-f", "-")
	w.kubectl(ctx, t, "", "wait", "--for=condition=Ready", "--timeout=120s", "pods", "-l", "role=server")
	for node, other := range map[string]string{one: two, two: one} {
		// The client ends well when it got an answer from the other node's server and resolved the name.
		job := fmt.Sprintf(clientManifest, node, other, w.image(ctx, t, "flannel"))
		w.kubectl(ctx, t, job, "apply", "-f", "-")
		w.kubectl(ctx, t, "", "wait", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=120s", "pod/client-"+node)
	}
	w.kubectl(ctx, t, "", "delete", "pods,services,configmaps", "-l", "journey=true", "--wait=true", "--timeout=120s")
}

// image gives the full name of an image that the cluster runs, by a part of it.
func (w *world) image(ctx context.Context, t *testing.T, part string) string {
	t.Helper()
	for _, name := range strings.Fields(w.kubectl(ctx, t, "", "get", "pods", "-A", "-o", "jsonpath={.items[*].spec.containers[*].image}")) {
		if strings.Contains(name, part) {
			return name
		}
	}
	t.Fatalf("no pod runs an image with %q in its name", part)
	return ""
}

const podsManifest = `
apiVersion: v1
kind: ConfigMap
metadata: {name: server-%[1]s, labels: {journey: "true"}}
data:
  Corefile: |
    .:1053 {
      health :8080
      whoami
    }
---
apiVersion: v1
kind: Pod
metadata: {name: server-%[1]s, labels: {journey: "true", role: server, on: %[1]s}}
spec:
  nodeName: %[1]s
  terminationGracePeriodSeconds: 0
  containers:
  - name: server
    image: %[2]s
    args: [-conf, /etc/coredns/Corefile]
    readinessProbe: {httpGet: {path: /health, port: 8080}, periodSeconds: 1}
    volumeMounts: [{name: config, mountPath: /etc/coredns}]
  volumes: [{name: config, configMap: {name: server-%[1]s}}]
---
apiVersion: v1
kind: Service
metadata: {name: server-%[1]s, labels: {journey: "true"}}
spec:
  selector: {on: %[1]s}
  ports: [{port: 80, targetPort: 8080}]
---
`

const clientManifest = `
apiVersion: v1
kind: Pod
metadata: {name: client-%[1]s, labels: {journey: "true"}}
spec:
  nodeName: %[1]s
  restartPolicy: OnFailure
  terminationGracePeriodSeconds: 0
  containers:
  - name: client
    image: %[3]s
    command: [busybox, sh, -ec]
    args:
    - |
      busybox nslookup kubernetes.default.svc.cluster.local
      # A static busybox resolves names only in nslookup.
      ip=$(busybox nslookup server-%[2]s.default.svc.cluster.local | busybox awk '/^Address: /{a=$2} END{print a}')
      printf 'GET /health HTTP/1.0\r\n\r\n' | busybox nc -w 5 "$ip" 80 | busybox grep -q OK
`

// rebootWithoutServer stops the server, cleans the images of a worker as the kubelet would when its disk is full,
// and reboots it: the node must come back by itself.
func (w *world) rebootWithoutServer(ctx context.Context, t *testing.T) {
	// The usual kubeconfig goes through the server.
	straight := filepath.Join(w.data, "straight.kubeconfig")
	w.run(ctx, "cluster", "kubeconfig", "demo", "--break-glass", "--reason", "the server is stopped in this test", "--output", straight)
	w.stopServer()
	defer w.startServer(ctx)
	h := w.sandboxHosts(ctx)[1]
	boot := w.onHost(ctx, h, "cat /proc/sys/kernel/random/boot_id; systemctl show -p UserspaceTimestampMonotonic --value")
	w.onHost(ctx, h, "crictl rmi --prune 2>&1")
	w.run(ctx, "sandbox", "reboot", h.Name, "--data-dir", w.data)
	if now := w.onHost(ctx, h, "cat /proc/sys/kernel/random/boot_id; systemctl show -p UserspaceTimestampMonotonic --value"); now == boot {
		t.Fatalf("host %s was not rebooted", h.Name)
	}
	// Its own kubelet says so, newer than the reboot: the node's status alone could still be from before.
	until(ctx, t, "the kubelet of "+h.Name, func() bool {
		out, err := w.ssh(ctx, h, "crictl ps -o json")
		return err == nil && strings.Contains(out, "kube-proxy") && strings.Contains(out, "kube-flannel")
	})
	w.kubectlBy(ctx, t, straight, "", "wait", "--for=condition=Ready", "--timeout=120s", "node/"+h.Name)
}
