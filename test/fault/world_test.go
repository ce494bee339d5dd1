package fault

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	quantity "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/app"
	"slipway.dev/slipway/internal/bundle"
	fakehost "slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/operation"
	"slipway.dev/slipway/internal/operation/operationtest"
	"slipway.dev/slipway/internal/pki"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/plan/create"
	"slipway.dev/slipway/internal/plan/delete"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/step"
	"slipway.dev/slipway/internal/step/kubeadm"
)

const (
	registryToken  = "registry-token-value"
	bootstrapToken = "abcdef.0123456789abcdef"
	kubernetes     = "v1.36.3"
	platform       = "192.0.2.250:8443"
)

// shape is what a world is built for.
type shape struct {
	workers int
	// controlPlanes is how many there are; 0 means one. With vip they share an address that moves.
	controlPlanes int
	vip           bool
	// spare are further hosts, which no cluster has.
	spare []string
	// setup allows everything that hostSetup can allow, on hosts that need all of it, and sets time servers.
	setup bool
	// settings sets everything that can be changed later.
	settings bool
	proxy    string
}

// keys are those of the cluster, the same in every world.
type keys struct {
	secrets map[string][]byte
	notary  *notary
}

func newKeys(t testing.TB) keys {
	t.Helper()
	k := keys{notary: &notary{issued: map[string][2][]byte{}}, secrets: map[string][]byte{
		kubeadm.Token: []byte(bootstrapToken), kubeadm.RegistryToken: []byte(registryToken)}}
	for name, files := range map[string][2]string{
		"kubernetes": {kubeadm.CACert, kubeadm.CAKey}, "front-proxy-ca": {kubeadm.FrontProxyCert, kubeadm.FrontProxyKey}, "etcd-ca": {kubeadm.EtcdCert, kubeadm.EtcdKey},
	} {
		ca, err := pki.NewCA(name, 40*365*24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		k.secrets[files[0]], k.secrets[files[1]] = ca.CertPEM(), ca.KeyPEM()
	}
	private, public, err := pki.NewServiceAccountKey()
	if err != nil {
		t.Fatal(err)
	}
	k.secrets[kubeadm.AccountKey], k.secrets[kubeadm.AccountPublic] = private, public
	return k
}

// Secret is step.Secrets'.
func (k keys) Secret(_ context.Context, ref step.SecretRef) ([]byte, error) {
	value, ok := k.secrets[ref.Key]
	if !ok || ref.Name != "cluster-demo" {
		return nil, fmt.Errorf("cannot read secret %s/%s: there is none", ref.Name, ref.Key)
	}
	return value, nil
}

// world is one installation with its hosts, before anything was done.
type world struct {
	t      testing.TB
	keys   keys
	notary *notary
	nodes  []*node
	// sessions are the hosts.
	sessions fakehost.Sessions
	cluster  *managed
	input    stages.Input
	blobs    map[string]string
	backups  shelf
	deps     operation.Deps
	// made is when the certificates that are made now begin to be good: the same in every world.
	made time.Time
	// dataDir is the runtime's, etcdDir etcd's.
	dataDir, etcdDir string
}

// newWorld builds a world and lets time pass in it until the test ends.
func newWorld(t testing.TB, k keys, s shape) *world {
	t.Helper()
	w := &world{t: t, keys: k, notary: k.notary, cluster: newManaged(), blobs: map[string]string{}, backups: shelf{}, made: time.Now(), dataDir: "/var/lib/containerd", etcdDir: "/var/lib/etcd"}
	w.input = stages.Input{
		Namespace: "dev", Name: "demo", UID: "uid-1", Secret: "cluster-demo",
		// Without PlatformCA nobody asks who answers at the server's address; test/hostile does.
		Hosts: map[string]v1alpha1.Host{}, Platform: map[string]string{}, ServerMachineID: "server", ServerArchitecture: "amd64",
		Grants:  []v1alpha1.GrantSpec{{Kind: v1alpha1.GrantHost, Name: v1alpha1.GrantEverything}, {Kind: v1alpha1.GrantBundle, Name: v1alpha1.GrantEverything}},
		Systems: []stages.System{{ID: "debian", Versions: []string{"12"}, KernelMin: "3.10", Tools: []string{"tar"}, AnyOf: [][]string{{"nft", "iptables"}}}},
		Bundle:  w.bundle(kubernetes), Claims: map[string]v1alpha1.HostClaimSpec{}, Operation: "uid-op",
	}
	w.input.Spec = spec(s)
	if s.setup {
		w.input.TimeServers = []string{"192.0.2.123"}
	}
	w.sessions = fakehost.Sessions{}
	for i, name := range append(w.input.Spec.AllHosts(), s.spare...) {
		n := w.newNode(name, i, s)
		w.nodes = append(w.nodes, n)
		w.sessions[name] = n.host
	}
	w.deps = operation.Deps{Client: newPlatformAPI(), Sessions: w.sessions, Secrets: k, Blobs: w, Backups: w.backups, Logs: &logs{blobs: map[string][]byte{}}, Owner: "home", Log: slog.New(slog.DiscardHandler),
		Cluster: func(string, string) (step.ClusterReader, step.ClusterWriter) { return w.cluster, w.cluster }}
	var err error
	if w.deps.Steps, err = app.Steps(); err != nil {
		t.Fatal(err)
	}
	w.cluster.image = func(host, pod string) string {
		for _, n := range w.nodes {
			if n.name == host {
				return n.processes[pod].image
			}
		}
		return ""
	}
	go w.live(t.Context())
	return w
}

func spec(s shape) v1alpha1.ClusterSpec {
	pool := v1alpha1.WorkerPool{Name: "general", Labels: map[string]string{"pool": "general"},
		Taints: []v1alpha1.Taint{{Key: "only", Value: "batch", Effect: "PreferNoSchedule"}}}
	for i := range s.workers {
		pool.Hosts = append(pool.Hosts, "w"+strconv.Itoa(i+1))
	}
	spec := v1alpha1.ClusterSpec{
		Kubernetes:   v1alpha1.KubernetesSpec{Version: kubernetes, DNSDomain: "cluster.local"},
		ControlPlane: v1alpha1.ControlPlaneSpec{Hosts: []string{"cp1"}},
		Endpoint:     v1alpha1.EndpointSpec{Port: 6443, CertSANs: []string{"demo.example.org"}},
		Network:      v1alpha1.NetworkSpec{PodCIDR: "172.25.0.0/16", ServiceCIDR: "10.96.0.0/16", CNI: "flannel", KubeProxyMode: s.proxy},
		Runtime:      v1alpha1.RuntimeSpec{DataDir: "/var/lib/containerd"},
		Components:   v1alpha1.ComponentsSpec{Etcd: v1alpha1.EtcdSpec{DataDir: "/var/lib/etcd"}},
		HostSetup:    v1alpha1.HostSetupSpec{DisableFirewall: s.setup, PermissiveSELinux: s.setup, DisableSwap: s.setup},
	}
	for i := 2; i <= s.controlPlanes; i++ {
		spec.ControlPlane.Hosts = append(spec.ControlPlane.Hosts, "cp"+strconv.Itoa(i))
	}
	if s.vip {
		spec.Endpoint.Provider, spec.Endpoint.Host = v1alpha1.EndpointKubeVIP, "192.0.2.200"
	}
	if len(pool.Hosts) > 0 {
		spec.WorkerPools = []v1alpha1.WorkerPool{pool}
	}
	if s.settings {
		settings(&spec)
	}
	return spec
}

// settings sets everything that can be changed later.
func settings(spec *v1alpha1.ClusterSpec) {
	spec.Endpoint.CertSANs, spec.Endpoint.ExternalAddress = []string{"api.example.org"}, "198.51.100.7"
	spec.Network.NodePortRange = "31000-32000"
	spec.Components.LogLevel, spec.Components.APIServer.Audit.Enabled = 4, true
	spec.Components.Kubelet.KubeReserved.Memory = new(quantity.MustParse("100Mi"))
	spec.Runtime.RegistryMirrors = []v1alpha1.RegistryMirror{{Registry: "docker.io", Endpoints: []string{"https://mirror.example"}}}
	spec.HostSetup.HostRecords = []v1alpha1.HostRecord{{Address: "192.0.2.77", Names: []string{"files"}}}
}

// newer is the version that upgrades go to; it brings another minor version of etcd.
const newer = "v1.37.1"

// patch is a version from which there is a way back: it has the same etcd.
const patch = "v1.36.9"

// bundle makes a bundle of tiny programs for two architectures and keeps their content.
func (w *world) bundle(version string) *bundle.Manifest {
	etcd, dns := "3.6.8-0", "v1.14.2"
	if version == newer {
		etcd, dns = "3.7.0-0", "v1.14.3"
	}
	m := &bundle.Manifest{Name: version, KubernetesVersion: version, Architectures: []string{"amd64", "arm64"}}
	for _, arch := range m.Architectures {
		for name := range strings.FieldsSeq("containerd containerd-shim-runc-v2 ctr runc crictl bridge host-local loopback portmap kubeadm kubelet kubectl etcdutl") {
			content := program(name, version, arch)
			w.blobs[digestOf(content)] = content
			m.Files = append(m.Files, bundle.File{Name: name, Architecture: arch, NodeRole: bundle.NodeRoleAll, Digest: digest.Digest(digestOf(content)), Mode: 0o755})
		}
		for _, i := range []struct{ role, name, nodes string }{
			{bundle.RoleKubeAPIServer, "registry.k8s.io/kube-apiserver:" + version, bundle.NodeRoleControlPlane},
			{bundle.RoleKubeControllerManager, "registry.k8s.io/kube-controller-manager:" + version, bundle.NodeRoleControlPlane},
			{bundle.RoleKubeScheduler, "registry.k8s.io/kube-scheduler:" + version, bundle.NodeRoleControlPlane},
			{bundle.RoleEtcd, "registry.k8s.io/etcd:" + etcd, bundle.NodeRoleControlPlane},
			{bundle.RoleCoreDNS, "registry.k8s.io/coredns/coredns:" + dns, bundle.NodeRoleControlPlane},
			{bundle.RoleKubeProxy, "registry.k8s.io/kube-proxy:" + version, bundle.NodeRoleAll},
			{bundle.RolePause, "registry.k8s.io/pause:3.10.2", bundle.NodeRoleAll},
			{bundle.RoleFlannel, "ghcr.io/flannel-io/flannel:v0.26.7", bundle.NodeRoleAll},
			{bundle.RoleKubeVIP, "ghcr.io/kube-vip/kube-vip:v0.9.1", bundle.NodeRoleControlPlane},
		} {
			m.Images = append(m.Images, bundle.Image{Name: i.name, Role: i.role, NodeRole: i.nodes, Architecture: arch, Digest: w.manifest(i.name + arch)})
		}
	}
	return m
}

// manifest puts an image without layers into the blobs.
func (w *world) manifest(of string) digest.Digest {
	config := w.blob(`{"of":"` + of + `"}`)
	return w.blob(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"digest":"` + config.String() + `"},"layers":[]}`)
}

func (w *world) blob(content string) digest.Digest {
	d := digest.FromString(content)
	w.blobs[d.String()] = content
	return d
}

func (w *world) architecture(name string) string {
	return w.input.Hosts[name].Status.Facts.Architecture
}

// Blob is step.Blobs'.
func (w *world) Blob(_ context.Context, digest string) (io.ReadSeekCloser, int64, error) {
	content, ok := w.blobs[digest]
	if !ok {
		return nil, 0, fmt.Errorf("cannot find blob %s", digest)
	}
	return reading(content), int64(len(content)), nil
}

// newNode makes a bare host. The first is amd64 with cgroup v2, the others arm64 with cgroup v1.
func (w *world) newNode(name string, i int, s shape) *node {
	address := netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + i)})
	facts := &v1alpha1.HostFacts{
		Hostname: name, MachineID: "machine-" + name, OS: v1alpha1.HostOS{ID: "debian", Version: "12", Name: "Debian 12"}, Kernel: "6.1.0",
		Architecture: "amd64", CPUs: 2, MemoryBytes: 4 << 30, CgroupVersion: 2, Capabilities: []string{"CAP_SYS_RESOURCE"},
		Tools: []string{"tar", "nft"}, KernelFeatures: []string{"overlay", "vxlan", "bridge", "nf_tables"}, TimeZone: "UTC",
		NICs: []v1alpha1.HostNIC{{Name: "eth0", MTU: 1500, Addresses: []string{address.String() + "/24"}}},
	}
	if i > 0 {
		facts.Architecture, facts.CgroupVersion, facts.Capabilities = "arm64", 1, nil
	}
	if s.setup {
		facts.Swap, facts.Firewall, facts.SELinux = true, "firewalld", "Enforcing"
	}
	n := &node{name: name, address: address, host: fakehost.New(name, *facts), cluster: w.cluster, world: w, processes: map[string]process{}, lastPID: 2000}
	h := v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: v1alpha1.HostStatus{InternalAddress: address.String(), Facts: facts,
		Conditions: []metav1.Condition{{Type: v1alpha1.HostReachable, Status: metav1.ConditionTrue}}}}
	w.input.Hosts[name], w.input.Platform[name] = h, platform
	n.host.SetReach(func(a netip.AddrPort) bool {
		return a.Port() == 22 || a.String() == platform || a.Port() == 443 && n.proxies() || a.String() == w.input.Spec.Endpoint.Host+":6443" && w.answers()
	})
	n.host.SetAbsent(func(a netip.AddrPort) bool { return a.Addr().String() == w.input.Spec.Endpoint.Host })
	n.host.SetDialer(n.dial)
	n.programs()
	n.host.Do(func(state *fakehost.State) { w.check(furnish(state, s)) })
	return n
}

// furnish gives a host what a bare one has: settings, rules and services that must all be there again in the end.
func furnish(s *fakehost.State, wanted shape) error {
	for _, key := range strings.Fields("kernel.keys.root_maxbytes kernel.keys.root_maxkeys kernel.panic kernel.panic_on_oops " +
		"net.ipv4.conf.all.route_localnet net.ipv6.conf.all.forwarding vm.overcommit_memory vm.panic_on_oom") {
		s.Sysctls[key] = "0"
	}
	s.IPTables = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p icmp -j ACCEPT\nCOMMIT\n"
	s.NFTables = addTable(addTable("", "inet admin"), "ip filter")
	files := map[string]string{"/proc/swaps": swapHead, "/etc/fstab": "/dev/vda1 / ext4 defaults 0 1\n", "/etc/hosts": "127.0.0.1 localhost\n",
		"/etc/systemd/system/multi-user.target.wants/README": ""}
	if wanted.setup {
		files["/proc/swaps"] += "/dev/vda2" + swapTail
		files["/etc/fstab"] += "/dev/vda2 none swap sw 0 0\n"
		files["/sys/fs/selinux/enforce"] = "1"
		files["/etc/selinux/config"] = "SELINUX=enforcing\nSELINUXTYPE=targeted\n"
		files["/usr/lib/systemd/system/systemd-timesyncd.service"] = "[Service]\n"
		files["/usr/lib/systemd/system/firewalld.service"] = "[Service]\n"
	}
	for path, content := range files {
		mode := fs.FileMode(0o644)
		if path == "/proc/swaps" {
			mode = 0o444
		}
		if err := s.WriteFile(path, []byte(content), mode); err != nil {
			return err
		}
	}
	if wanted.setup {
		for _, unit := range []string{"firewalld", "systemd-timesyncd"} {
			if r := s.Exec(fakehost.Call{Argv: []string{"systemctl", "enable", "--now", unit}}); r.ExitCode != 0 {
				return fmt.Errorf("cannot enable %s: %s", unit, r.Stderr)
			}
		}
	}
	return nil
}

// create gives the trial of the cluster's creation.
func (w *world) create() *operationtest.World {
	w.t.Helper()
	p, err := create.Plan(w.input)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.trial(v1alpha1.VerbCreate, p)
}

// delete gives the trial of its end.
func (w *world) delete() *operationtest.World {
	w.t.Helper()
	in := delete.Input{Namespace: "dev", Name: "demo", Spec: w.input.Spec}
	for _, name := range w.input.Spec.AllHosts() {
		in.Hosts = append(in.Hosts, step.Target{Name: name})
	}
	p, err := delete.Plan(in)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.trial(v1alpha1.VerbDelete, p)
}

// day2 gives the trial of an operation on the cluster that runs; edit changes its spec, nil leaves it.
func (w *world) day2(verb v1alpha1.Verb, planner func(stages.Input) (*plan.Plan, error), edit func(*stages.Input)) *operationtest.World {
	w.t.Helper()
	w.input.Applied, w.input.Since = w.input.Spec.DeepCopy(), time.Now()
	for _, name := range w.input.Applied.AllHosts() {
		w.input.Claims[name] = v1alpha1.HostClaimSpec{Namespace: "dev", Cluster: "demo", ClusterUID: "uid-1"}
	}
	if edit != nil {
		edit(&w.input)
	}
	p, err := planner(w.input)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.trial(verb, p)
}

func (w *world) trial(verb v1alpha1.Verb, p *plan.Plan) *operationtest.World {
	w.t.Helper()
	op := &v1alpha1.Operation{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: "demo-" + strings.ToLower(string(verb)), UID: "1"},
		Spec: v1alpha1.OperationSpec{Verb: verb, Cluster: "demo"}}
	if err := w.deps.Client.Create(w.t.Context(), op); err != nil {
		w.t.Fatal(err)
	}
	return &operationtest.World{Deps: w.deps, Operation: op, Plan: p, Digest: w.digest}
}

// run runs a trial's operation with an engine that edges may kill.
func (w *world) run(trial *operationtest.World, edges func(context.Context, operation.Edge) error) (operation.Outcome, error) {
	w.t.Helper()
	deps := w.deps
	deps.Edges = edges
	engine, err := operation.New(deps)
	if err != nil {
		w.t.Fatal(err)
	}
	var op v1alpha1.Operation
	if err := deps.Client.Get(w.t.Context(), client.ObjectKeyFromObject(trial.Operation), &op); err != nil {
		w.t.Fatal(err)
	}
	return engine.Run(w.t.Context(), &op, trial.Plan, nil)
}

// succeed runs a trial's operation to its success.
func (w *world) succeed(trial *operationtest.World) {
	w.t.Helper()
	if out, err := w.run(trial, nil); err != nil || out.Phase != v1alpha1.OperationSucceeded {
		w.t.Fatalf("%s: %v %+v", trial.Operation.Name, err, out)
	}
}

// settle waits until nothing moves any more by itself.
func (w *world) settle(ctx context.Context) {
	timer := time.NewTimer(settled)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// digest describes the hosts and the managed cluster.
func (w *world) digest(ctx context.Context) (string, error) {
	w.settle(ctx)
	cluster, err := w.cluster.digest()
	kept := strings.Join(slices.Sorted(maps.Keys(w.backups)), " ")
	return w.hosts() + cluster + "backups " + kept + "\n", err
}

// hosts describes the hosts. The order of firewall rules from different programs means nothing.
func (w *world) hosts() string {
	var out strings.Builder
	for _, n := range w.nodes {
		for line := range strings.Lines(n.host.Snapshot()) {
			kind, rules, _ := strings.Cut(line, " ")
			if slices.Contains([]string{"nftables", "iptables", "ip6tables"}, kind) {
				parts := strings.Split(rules, `\n`)
				slices.Sort(parts)
				line = kind + " " + strings.Join(parts, " ") + "\n"
			}
			out.WriteString(n.name + " " + line)
		}
	}
	return out.String()
}

var _ step.Blobs = (*world)(nil)
