package e2e

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestBadInput gives the server what users get wrong, and expects a refusal that says what, where and how to mend it.
func TestBadInput(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	w := newWorld(t)
	w.startServer(ctx)
	w.run(ctx, "sandbox", "up", "--data-dir", w.data, "--hosts", "2", "--register")
	w.verifyBundle(ctx)
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
			want:   []string{"nowhere", "not lent to project default, or no host of that name"},
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

// TestTwoCreatesOnOneHost lets two clusters ask for the same host at once: one gets it, the other says who holds it. Slipway
// logs in to the host as an ordinary user, by password, and sudo asks for another. None of the secrets shows anywhere.
func TestTwoCreatesOnOneHost(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	w := newWorld(t)
	w.startServer(ctx)
	w.run(ctx, "sandbox", "up", "--data-dir", w.data, "--hosts", "1")
	hunted := w.startHunt(t)
	h := w.sandboxHosts(ctx)[0]
	hunted.people(ctx)
	w.addByPassword(ctx, h, hunted)
	w.verifyBundle(ctx)
	manifest := func(name string) string {
		return "apiVersion: slipway.dev/v1alpha1\nkind: Cluster\nmetadata: {name: " + name + "}\n" +
			"spec:\n  kubernetes: {version: " + w.kubernetes + ", dnsDomain: corp.local}\n  controlPlane: {hosts: [sandbox-1]}\n" +
			"  endpoint: {certSANs: [api.example.com, 192.0.2.7]}\n" +
			"  network: {podCIDR: 172.30.0.0/16, serviceCIDR: 10.99.0.0/16, kubeProxyMode: iptables}\n" +
			"  runtime: {dataDir: /data/containerd}\n  components: {etcd: {dataDir: /data/etcd}}\n---\n"
	}
	before := w.hosts(ctx)
	w.dryRun(ctx, t, manifest("first"))
	watched := w.watchClusters(ctx)
	w.apply(ctx, manifest("first")+manifest("second"))
	var winner string
	until(ctx, t, "the host's holder", func() bool {
		out, err := w.command(ctx, "get", "hostclaim", "sandbox-1", "-o", "jsonpath={.spec.cluster}").Output()
		winner = string(out)
		return err == nil && winner != ""
	})
	loser := map[string]string{"first": "second", "second": "first"}[winner]
	w.run(ctx, "wait", "--for=jsonpath={.status.state}=Failed", "--timeout=1m", "cluster/"+loser)
	out := w.run(ctx, "get", "operations", "-l", "slipway.dev/cluster="+loser, "-o", "jsonpath={.items[*].status.failures[*].message}")
	if !strings.Contains(out, "default/"+winner) {
		t.Errorf("the refusal does not say who holds the host: %s", out)
	}
	w.run(ctx, "wait", "--for=jsonpath={.status.state}=Active", "--timeout=3m", "cluster/"+winner)
	// A single-node cluster runs pods on its control plane (CRE-13): CoreDNS is one of them.
	w.run(ctx, "cluster", "kubeconfig", winner, "--output", w.kubeconfig)
	w.kubectl(ctx, t, "", "wait", "--for=condition=Available", "--timeout=60s", "-n", "kube-system", "deployment/coredns")
	w.expectSettings(ctx, t)
	hunted.cluster(ctx, winner)
	hunted.objects(ctx)
	w.run(ctx, "delete", "cluster", loser, "--timeout=60s")
	w.run(ctx, "delete", "cluster", winner, "--cascade=foreground", "--timeout=120s")
	seen := watched()
	for _, want := range []string{"ADDED", "Initializing", "Active", "Deleting", "DELETED"} {
		if !strings.Contains(seen, want) {
			t.Errorf("a watch from start to end did not see %s:\n%s", want, seen)
		}
	}
	if out := w.run(ctx, "get", "hostclaims", "-o", "name"); strings.TrimSpace(out) != "" {
		t.Errorf("hosts are still claimed: %s", out)
	}
	if diff := cmp.Diff(before, w.hosts(ctx)); diff != "" {
		t.Errorf("the host differs from before (-before +after):\n%s", diff)
	}
	hunted.onHost(ctx, h)
	hunted.objects(ctx)
	hunted.end()
}

// dryRun asks the server to judge a manifest without keeping it, and to explain its fields.
func (w *world) dryRun(ctx context.Context, t *testing.T, manifest string) {
	cmd := w.command(ctx, "apply", "--server-side", "--dry-run=server", "-f", "-")
	cmd.Stdin = strings.NewReader(manifest)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "server dry run") {
		t.Errorf("a dry run: %v\n%s", err, out)
	}
	if out := w.run(ctx, "get", "clusters,operations", "-o", "name"); out != "" {
		t.Errorf("a dry run left %s", out)
	}
	if out := w.run(ctx, "explain", "cluster.spec.network.podCIDR"); !strings.Contains(out, "172.25.0.0/16") && !strings.Contains(out, "where pods get addresses") {
		t.Errorf("the field is not explained:\n%s", out)
	}
}

// watchClusters watches like any client does; what it gives ends the watch and gives all that was seen.
func (w *world) watchClusters(ctx context.Context) func() string {
	w.t.Helper()
	ctx, stop := context.WithCancel(ctx)
	var out bytes.Buffer
	cmd := w.command(ctx, "get", "clusters", "--watch", "--output-watch-events")
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	return func() string {
		stop()
		// It was ended by us, so how it ended says nothing.
		_ = cmd.Wait()
		return out.String()
	}
}

// expectSettings looks on the host and in the cluster for what the spec asked for.
func (w *world) expectSettings(ctx context.Context, t *testing.T) {
	h := w.sandboxHosts(ctx)[0]
	for _, c := range []struct{ row, command, want string }{
		{"CRE-32", "ps -eo args | grep '^etcd '", "--data-dir=/data/etcd"},
		{"RT-05", "containerd config dump 2>/dev/null | grep '^root'", "/data/containerd"},
		{"NET-25", "ps -eo args | grep '^kube-controller-manager '", "--cluster-cidr=172.30.0.0/16"},
		{"KUBE-09", "cat /var/lib/kubelet/config.yaml", "clusterDomain: corp.local"},
		{"kube-proxy", "iptables-save | grep -c KUBE-SVC || true", ""},
	} {
		if out := w.onHost(ctx, h, c.command); !strings.Contains(out, c.want) || strings.TrimSpace(out) == "0" {
			t.Errorf("%s: `%s` does not show %q:\n%s", c.row, c.command, c.want, out)
		}
	}
	if ip := w.kubectl(ctx, t, "", "get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}"); ip != "10.99.0.1" {
		t.Errorf("NET-14: the service kubernetes has %s, want 10.99.0.1", ip)
	}
	if ip := w.kubectl(ctx, t, "", "get", "pods", "-n", "kube-system", "-l", "k8s-app=kube-dns", "-o", "jsonpath={.items[0].status.podIP}"); !strings.HasPrefix(ip, "172.30.") {
		t.Errorf("NET-15: CoreDNS has %s, want an address of 172.30.0.0/16", ip)
	}
	block, _ := pem.Decode([]byte(w.onHost(ctx, h, "cat /etc/kubernetes/pki/apiserver.crt")))
	if block == nil {
		t.Fatal("CRE-33: the API server's certificate cannot be read")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatalf("CRE-33: the API server's certificate cannot be read: %v", err)
	}
	for _, name := range []string{"api.example.com", "192.0.2.7"} {
		if err := certificate.VerifyHostname(name); err != nil {
			t.Errorf("CRE-33: %v", err)
		}
	}
	if out := w.onHost(ctx, h, "crictl images -o json"); strings.Contains(out, ":latest") {
		t.Errorf("VER-33: a node image has the tag latest:\n%s", out)
	}
}

// TestChangedHostKey pins a key that the machine does not have: nothing logs in, and the reason is on the host.
func TestChangedHostKey(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	w := newWorld(t)
	w.startServer(ctx)
	w.run(ctx, "sandbox", "up", "--data-dir", w.data, "--hosts", "1", "--register")
	address := w.sandboxHosts(ctx)[0].Address
	out := w.refused(ctx, t, "not-the-password\n", "host", "add", "wrong-login", "--address", address, "--user", "root", "--password-stdin", "--yes")
	for _, want := range []string{"LoginRefused", "fix:"} {
		if !strings.Contains(out, want) {
			t.Errorf("a wrong password: the answer does not say %q:\n%s", want, out)
		}
	}
	if out := w.run(ctx, "get", "hosts", "-o", "name"); strings.Contains(out, "wrong-login") {
		t.Errorf("a wrong password: the host that could not be added is left behind: %s", out)
	}
	other := "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpEta08W+6fdalgbPG31TAD5WTlyFEi7XYqlJqwaqV2"
	w.apply(ctx, "apiVersion: slipway.dev/v1alpha1\nkind: Host\nmetadata: {name: sandbox-1}\n"+
		"spec: {address: "+address+", credential: sandbox, hostKey: \""+other+"\"}\n")
	w.run(ctx, "wait", "--for=jsonpath={.status.conditions[?(@.type==\"Reachable\")].reason}=HostKeyChanged", "--timeout=60s", "host/sandbox-1")
	if out := w.run(ctx, "get", "host", "sandbox-1", "-o", "yaml"); strings.Count(out, "SHA256:") < 2 {
		t.Errorf("a changed key: both fingerprints must be named:\n%s", out)
	}
}

// TestFlippedBit changes one bit of one blob: the bundle is refused before any host is touched.
func TestFlippedBit(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	w := newWorld(t)
	w.ownStore(ctx)
	blob := largestBlob(t, w.store)
	content, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := os.Remove(blob); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(blob, content, 0o644); err != nil {
		t.Fatal(err)
	}
	w.startServer(ctx)
	w.run(ctx, "wait", "--for=create", "--timeout=1m", "bundle/"+w.kubernetes)
	w.run(ctx, "wait", "--for=condition=Verified=false", "--timeout=2m", "bundle/"+w.kubernetes)
	if out := w.run(ctx, "get", "bundle", w.kubernetes, "-o", "yaml"); !strings.Contains(out, filepath.Base(blob)[:12]) {
		t.Errorf("the condition does not name the damaged blob %s:\n%s", filepath.Base(blob), out)
	}
	out := w.refused(ctx, t, "", "cluster", "create", "bad", "--kubernetes", w.kubernetes, "--control-plane", "nowhere")
	if !strings.Contains(out, "bundle") {
		t.Errorf("the refusal does not name the bundle:\n%s", out)
	}
}

// ownStore gives the world a store that it may damage, of one bundle alone: others share most blobs with it, and not all.
func (w *world) ownStore(ctx context.Context) {
	w.t.Helper()
	own, carried := filepath.Join(w.t.TempDir(), "bundles"), filepath.Join(w.t.TempDir(), "bundle.tar")
	w.run(ctx, "bundle", "export", w.kubernetes, carried, "--store", w.store)
	w.run(ctx, "bundle", "import", carried, "--store", own)
	w.store = own
	if err := os.Remove(carried); err != nil {
		w.t.Fatal(err)
	}
}

func largestBlob(t *testing.T, store string) string {
	t.Helper()
	blobs, err := filepath.Glob(filepath.Join(store, "blobs", "sha256", "*"))
	if err != nil || len(blobs) == 0 {
		t.Fatalf("the store has no blobs: %v", err)
	}
	var largest string
	var size int64
	for _, b := range blobs {
		info, err := os.Stat(b)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > size {
			largest, size = b, info.Size()
		}
	}
	return largest
}

// apply gives manifests to the platform as kubectl would.
func (w *world) apply(ctx context.Context, manifests string) {
	w.t.Helper()
	cmd := w.command(ctx, "apply", "--server-side", "--force-conflicts", "-f", "-")
	cmd.Stdin = bytes.NewReader([]byte(manifests))
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("cannot apply: %v\n%s", err, out)
	}
}
