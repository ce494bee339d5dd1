package create

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/plan"
)

// wanted gives the input of a cluster of one control plane and some workers that breaks no rule.
func wanted(workers int) Input {
	in := Input{
		Namespace: "dev", Name: "demo", UID: "uid-1", Secret: "cluster-demo", PlatformCA: "CERTIFICATE\n", ServerMachineID: "server",
		Hosts: map[string]v1alpha1.Host{}, Claims: map[string]v1alpha1.HostClaimSpec{}, Platform: map[string]string{}, Bundle: manifest(),
		Grants:  []v1alpha1.GrantSpec{{Kind: v1alpha1.GrantHost, Name: v1alpha1.GrantEverything}, {Kind: v1alpha1.GrantBundle, Name: v1alpha1.GrantEverything}},
		Systems: []System{{ID: "debian", Versions: []string{"12", "13"}, KernelMin: "4.19", Tools: []string{"systemctl", "tar"}, AnyOf: [][]string{{"nft", "iptables"}}}},
		Spec: v1alpha1.ClusterSpec{
			Kubernetes:   v1alpha1.KubernetesSpec{Version: "v1.36.3", DNSDomain: "cluster.local"},
			ControlPlane: v1alpha1.ControlPlaneSpec{Hosts: []string{"cp1"}},
			Endpoint:     v1alpha1.EndpointSpec{Port: 6443},
			Network:      v1alpha1.NetworkSpec{PodCIDR: "172.25.0.0/16", ServiceCIDR: "10.96.0.0/16", CNI: "flannel"},
			Runtime:      v1alpha1.RuntimeSpec{DataDir: "/var/lib/containerd"},
			Components:   v1alpha1.ComponentsSpec{Etcd: v1alpha1.EtcdSpec{DataDir: "/var/lib/etcd"}},
		},
	}
	pool := v1alpha1.WorkerPool{Name: "general", Labels: map[string]string{"pool": "general"},
		Taints: []v1alpha1.Taint{{Key: "only", Value: "batch", Effect: "NoSchedule"}}}
	for i := range workers {
		pool.Hosts = append(pool.Hosts, "w"+strconv.Itoa(i+1))
	}
	if workers > 0 {
		in.Spec.WorkerPools = []v1alpha1.WorkerPool{pool}
	}
	for i, name := range in.Spec.AllHosts() {
		in.Hosts[name] = bare(name, fmt.Sprintf("192.0.2.%d", 10+i))
		in.Platform[name] = "192.0.2.1:8443"
	}
	return in
}

// bare gives a host that fits.
func bare(name, address string) v1alpha1.Host {
	return v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.HostSpec{Region: "north"}, Status: v1alpha1.HostStatus{
		InternalAddress: address, Conditions: []metav1.Condition{{Type: v1alpha1.HostReachable, Status: metav1.ConditionTrue}},
		Facts: &v1alpha1.HostFacts{
			Hostname: name, MachineID: "machine-" + name, OS: v1alpha1.HostOS{ID: "debian", Version: "12", Name: "Debian GNU/Linux 12"},
			Kernel: "6.1.0-31-amd64", Architecture: "amd64", CPUs: 4, MemoryBytes: 8 << 30, CgroupVersion: 2, TimeZone: "Etc/UTC",
			FreeBytes: map[string]int64{"/var/lib": 50 << 30, "/usr": 50 << 30}, Capabilities: []string{"CAP_SYS_RESOURCE"},
			Tools: []string{"systemctl", "tar", "nft"}, KernelFeatures: []string{"overlay", "vxlan", "bridge", "nf_tables"},
			NICs: []v1alpha1.HostNIC{{Name: "eth0", MTU: 1500, Addresses: []string{address + "/24"}}},
		},
	}}
}

func manifest() *bundle.Manifest {
	m := &bundle.Manifest{Name: "v1.36.3", KubernetesVersion: "v1.36.3", Architectures: []string{"amd64", "arm64"}}
	for _, arch := range m.Architectures {
		for name := range strings.FieldsSeq("containerd containerd-shim-runc-v2 ctr runc crictl bridge host-local loopback portmap vlan kubeadm kubelet kubectl") {
			m.Files = append(m.Files, bundle.File{Name: name, Architecture: arch, NodeRole: bundle.NodeRoleAll, Digest: digest.FromString(name + arch), Mode: 0o755})
		}
		for role, image := range map[string]string{
			bundle.RoleKubeAPIServer: "registry.k8s.io/kube-apiserver:v1.36.3", bundle.RoleKubeControllerManager: "registry.k8s.io/kube-controller-manager:v1.36.3",
			bundle.RoleKubeScheduler: "registry.k8s.io/kube-scheduler:v1.36.3", bundle.RoleEtcd: "registry.k8s.io/etcd:3.6.8-0",
			bundle.RoleCoreDNS: "registry.k8s.io/coredns/coredns:v1.14.2", bundle.RoleKubeProxy: "registry.k8s.io/kube-proxy:v1.36.3",
			bundle.RolePause: "registry.k8s.io/pause:3.10.2", bundle.RoleFlannel: "ghcr.io/flannel-io/flannel:v0.26.7",
		} {
			nodes := bundle.NodeRoleControlPlane
			if role == bundle.RoleKubeProxy || role == bundle.RolePause || role == bundle.RoleFlannel {
				nodes = bundle.NodeRoleAll
			}
			m.Images = append(m.Images, bundle.Image{Name: image, Role: role, NodeRole: nodes, Architecture: arch, Digest: digest.FromString(image + arch)})
		}
	}
	slices.SortFunc(m.Images, func(a, b bundle.Image) int { return strings.Compare(a.Name+a.Architecture, b.Name+b.Architecture) })
	return m
}

// lendOnly lends one host and one bundle.
func lendOnly(host, bundle string) []v1alpha1.GrantSpec {
	return []v1alpha1.GrantSpec{{Kind: v1alpha1.GrantHost, Name: host}, {Kind: v1alpha1.GrantBundle, Name: bundle}}
}

func withoutRole(images []bundle.Image, role string) []bundle.Image {
	return slices.DeleteFunc(images, func(i bundle.Image) bool { return i.Role == role })
}

// change changes the facts of one host.
func change(name string, f func(*v1alpha1.HostFacts)) func(*Input) {
	return func(in *Input) { f(in.Hosts[name].Status.Facts) }
}

// alter changes one host.
func alter(name string, f func(*v1alpha1.Host)) func(*Input) {
	return func(in *Input) {
		h := in.Hosts[name]
		f(&h)
		in.Hosts[name] = h
	}
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if os.Getenv("UPDATE_GOLDEN") == "1" {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; UPDATE_GOLDEN=1 writes it", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("plan (-%s +now); UPDATE_GOLDEN=1 writes it:\n%s", path, diff)
	}
}

func TestPlan(t *testing.T) {
	cases := map[string]struct {
		reason  string
		workers int
		change  func(*Input)
	}{
		"three-nodes": {"workers are prepared while the control plane starts, and join when it serves", 2, change("w2", func(f *v1alpha1.HostFacts) {
			f.Architecture, f.CgroupVersion, f.Capabilities, f.Virtualization = "arm64", 1, nil, "systemd-nspawn"
		})},
		"single-node": {"a cluster without workers runs pods on its control plane", 0, func(*Input) {}},
		"host-setup": {"what may be changed on hosts comes before everything else, and time servers are set", 1, func(in *Input) {
			in.Spec.HostSetup = v1alpha1.HostSetupSpec{DisableFirewall: true, PermissiveSELinux: true, DisableSwap: true}
			in.TimeServers = []string{"192.0.2.123", "ntp.example.org"}
			in.Spec.Endpoint = v1alpha1.EndpointSpec{Host: "demo.example.org", Port: 8443, CertSANs: []string{"198.51.100.7"}}
			in.Spec.Components.Etcd.DataDir = "/srv/etcd"
		}},
		"iptables": {"where one host lacks nf_tables, kube-proxy uses iptables on all", 1, change("w1", func(f *v1alpha1.HostFacts) {
			f.KernelFeatures, f.Tools = []string{"overlay", "vxlan", "bridge"}, []string{"systemctl", "tar", "iptables"}
		})},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in := wanted(c.workers)
			c.change(&in)
			p, err := Plan(in)
			if err != nil {
				t.Fatalf("%s: %v", c.reason, err)
			}
			b, err := p.Encode()
			if err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("testdata", name, "plan.golden"), b)
			back, err := plan.Decode(b)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(p.Steps(), back.Steps()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestPlan_Facts: what changes by itself is no fact, what decides the plan is one.
func TestPlan_Facts(t *testing.T) {
	cases := map[string]struct {
		reason string
		change func(*Input)
		same   bool
	}{
		"clock":    {"a clock drifts all the time", change("w1", func(f *v1alpha1.HostFacts) { f.ClockSkewMillis = 20 }), true},
		"free":     {"the room on a disk changes all the time", change("w1", func(f *v1alpha1.HostFacts) { f.FreeBytes["/usr"] -= 1 << 20 }), true},
		"machine":  {"another machine behind the same address is another host", change("w1", func(f *v1alpha1.HostFacts) { f.MachineID = "new" }), false},
		"address":  {"the address is in certificates and configuration", alter("w1", func(h *v1alpha1.Host) { h.Status.InternalAddress = "192.0.2.99" }), false},
		"cgroup":   {"the cgroup version decides the runtime's configuration", change("w1", func(f *v1alpha1.HostFacts) { f.CgroupVersion = 1 }), false},
		"grants":   {"by which grant a host is lent decides nothing", func(in *Input) { in.Grants = append(in.Grants, lendOnly("w1", "v1.36.3")...) }, true},
		"no-facts": {"the same input gives the same plan", func(*Input) {}, true},
	}
	before, err := Plan(wanted(1))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in := wanted(1)
			c.change(&in)
			after, err := Plan(in)
			if err != nil {
				t.Fatal(err)
			}
			if (before.Facts == after.Facts) != c.same {
				t.Errorf("%s: same facts is %t, want %t", c.reason, !c.same, c.same)
			}
		})
	}
}

func TestRules(t *testing.T) {
	cases := map[string]struct {
		reason string
		change func(*Input)
		want   []string
	}{
		"bundle-missing": {"a version without a bundle cannot be installed", func(in *Input) {
			in.Bundle, in.BundleProblem = nil, "no Bundle v1.36.3"
		}, []string{"host cp1: bundle: found no Bundle v1.36.3, needs a verified, enabled Bundle v1.36.3"}},
		"bundle-broken": {"a bundle with a problem is as good as none", func(in *Input) { in.BundleProblem = "blob sha256:1 is damaged" },
			[]string{"host cp1: bundle: found blob sha256:1 is damaged, needs a verified, enabled Bundle v1.36.3"}},
		"bundle-unexplained": {"a missing bundle is never found to be nothing", func(in *Input) { in.Bundle = nil },
			[]string{"host cp1: bundle: found none, needs a verified, enabled Bundle v1.36.3"}},
		"bundle-incomplete": {"every role needs an image", func(in *Input) { in.Bundle.Images = withoutRole(in.Bundle.Images, bundle.RoleFlannel) },
			[]string{"host cp1: bundle: found no image for flannel on amd64, needs a complete bundle",
				"host w1: bundle: found no image for flannel on amd64, needs a complete bundle"}},
		"architecture": {"the bundle must hold the host's architecture", change("w1", func(f *v1alpha1.HostFacts) { f.Architecture = "riscv64" }),
			[]string{"host w1: architecture: found riscv64, needs one of the bundle's: amd64, arm64"}},
		"host": {"a host must exist", func(in *Input) { delete(in.Hosts, "w1") },
			[]string{"host w1: granted: found not lent to project dev, or no host of that name, needs a Grant of Host w1 in project dev"}},
		"not-lent": {"a host of others is answered like one that does not exist, whatever is known of it", func(in *Input) {
			in.Grants = lendOnly("cp1", "v1.36.3")
			in.Claims["w1"] = v1alpha1.HostClaimSpec{Namespace: "ops", Cluster: "secret", ClusterUID: "uid-2"}
			change("w1", func(f *v1alpha1.HostFacts) {
				f.CPUs, f.Architecture, f.TimeZone, f.MachineID = 1, "riscv64", "Asia/Shanghai", in.Hosts["cp1"].Status.Facts.MachineID
			})(in)
		}, []string{"host w1: granted: found not lent to project dev, or no host of that name, needs a Grant of Host w1 in project dev"}},
		"not-lent-name": {"the cluster's own name must not tell whether a host has it", func(in *Input) {
			in.Grants, in.Name = lendOnly("cp1", "v1.36.3"), "w1"
		}, []string{"host w1: granted: found not lent to project dev, or no host of that name, needs a Grant of Host w1 in project dev"}},
		"not-lent-bundle": {"nor does anything of a bundle of others show", func(in *Input) {
			in.Grants, in.Bundle, in.BundleProblem = lendOnly("*", "v1.35.9"), nil, "bundle v1.36.3 is disabled"
		}, []string{"host cp1: granted: found not lent to project dev, or no bundle of that name, needs a Grant of Bundle v1.36.3 in project dev"}},
		"lent-by-name": {"a grant of one host and one bundle is enough for them", func(in *Input) {
			in.Grants = append(lendOnly("cp1", "v1.36.3"), lendOnly("w1", "v1.36.3")...)
		}, nil},
		"claim": {"a host has one cluster", func(in *Input) {
			in.Claims["w1"] = v1alpha1.HostClaimSpec{Namespace: "dev", Cluster: "other", ClusterUID: "uid-2"}
		}, []string{"host w1: claim: found held by cluster dev/other, needs a free host"}},
		"claim-elsewhere": {"who uses a host in another project is no business of this one", func(in *Input) {
			in.Claims["w1"] = v1alpha1.HostClaimSpec{Namespace: "ops", Cluster: "secret", ClusterUID: "uid-2"}
		}, []string{"host w1: claim: found held by a cluster of another project, needs a free host"}},
		"claim-own": {"the cluster's own claim is no reason", func(in *Input) {
			in.Claims["w1"] = v1alpha1.HostClaimSpec{Namespace: "dev", Cluster: "demo", ClusterUID: "uid-1"}
		}, nil},
		"reachable": {"a host must answer", alter("w1", func(h *v1alpha1.Host) {
			h.Status.Conditions = []metav1.Condition{{Type: v1alpha1.HostReachable, Status: metav1.ConditionFalse, Message: "no route to host"}}
		}), []string{"host w1: reachable: found no route to host, needs a host that Slipway can log in to"}},
		"reachable-new": {"a host that was never seen has no facts", alter("w1", func(h *v1alpha1.Host) { h.Status = v1alpha1.HostStatus{} }),
			[]string{"host w1: reachable: found not seen yet, needs a host that Slipway can log in to"}},
		"cpu": {"kubeadm refuses one processor", change("w1", func(f *v1alpha1.HostFacts) { f.CPUs = 1 }), []string{"host w1: cpu: found 1, needs 2"}},
		"memory": {"a worker needs a gibibyte", change("w1", func(f *v1alpha1.HostFacts) { f.MemoryBytes = 512 << 20 }),
			[]string{"host w1: memory: found 512Mi, needs 1Gi"}},
		"memory-control-plane": {"a control plane needs more", change("cp1", func(f *v1alpha1.HostFacts) { f.MemoryBytes = 1 << 30 }),
			[]string{"host cp1: memory: found 1Gi, needs 1.7Gi"}},
		"memory-setting": {"an organisation asks for more than the floor", func(in *Input) {
			in.Precheck = v1alpha1.PrecheckSetting{
				ControlPlane: v1alpha1.MachineMinimum{CPUs: new(int32(8)), Memory: new(resource.MustParse("8Gi"))},
				Worker:       v1alpha1.MachineMinimum{Memory: new(resource.MustParse("16Gi"))},
				FreeDisk:     new(resource.MustParse("100Gi")), MaxClockSkewMilliseconds: new(int32(500)),
			}
			for _, name := range []string{"cp1", "w1"} {
				f := in.Hosts[name].Status.Facts
				f.CPUs, f.MemoryBytes, f.FreeBytes, f.ClockSkewMillis = 4, 4<<30, map[string]int64{"/usr": 50 << 30}, 700
			}
		}, []string{
			"host cp1: cpu: found 4, needs 8", "host cp1: memory: found 4Gi, needs 8Gi", "host cp1: disk: found 50Gi free on /usr, needs 100Gi",
			"host cp1: clock: found 0.7 s off the server's clock, needs at most 0.5 s; set Setting ntp or the host's time service",
			"host w1: memory: found 4Gi, needs 16Gi", "host w1: disk: found 50Gi free on /usr, needs 100Gi",
			"host w1: clock: found 0.7 s off the server's clock, needs at most 0.5 s; set Setting ntp or the host's time service"}},
		"disk": {"images and programs need room", change("w1", func(f *v1alpha1.HostFacts) { f.FreeBytes["/var/lib"] = 1 << 30 }),
			[]string{"host w1: disk: found 1Gi free on /var/lib, needs 5Gi"}},
		"server": {"a node must not share the server's machine", change("w1", func(f *v1alpha1.HostFacts) { f.MachineID = "server" }),
			[]string{"host w1: server: found the machine Slipway's server runs on, needs another machine: a node must not share it"}},
		"clock": {"certificates need clocks that agree", change("w1", func(f *v1alpha1.HostFacts) { f.ClockSkewMillis = -15_500 }),
			[]string{"host w1: clock: found -15.5 s off the server's clock, needs at most 10.0 s; set Setting ntp or the host's time service"}},
		"os": {"an unknown operating system was never tried", change("w1", func(f *v1alpha1.HostFacts) { f.OS = v1alpha1.HostOS{ID: "plan9", Name: "Plan 9"} }),
			[]string{"host w1: os: found Plan 9, needs a supported operating system: debian 12/13"}},
		"kernel": {"an old kernel lacks what containers need", change("w1", func(f *v1alpha1.HostFacts) { f.Kernel = "4.9.0-19-amd64" }),
			[]string{"host w1: kernel: found 4.9.0-19-amd64, needs 4.19 or newer"}},
		"tool": {"a tool that steps run must be there", change("w1", func(f *v1alpha1.HostFacts) { f.Tools = []string{"systemctl", "nft"} }),
			[]string{"host w1: tool: found no tar, needs tar installed"}},
		"tool-any": {"one of the firewall tools is enough, none is not", change("w1", func(f *v1alpha1.HostFacts) { f.Tools = []string{"systemctl", "tar"} }),
			[]string{"host w1: tool: found none of nft, iptables, needs one of them installed"}},
		"swap": {"the kubelet refuses swap", change("w1", func(f *v1alpha1.HostFacts) { f.Swap = true }),
			[]string{"host w1: swap: found on, needs off; or set hostSetup.disableSwap"}},
		"swap-allowed": {"what may be turned off is no reason", func(in *Input) {
			in.Hosts["w1"].Status.Facts.Swap = true
			in.Spec.HostSetup.DisableSwap = true
		}, nil},
		"firewall": {"an active firewall cuts nodes off", change("w1", func(f *v1alpha1.HostFacts) { f.Firewall = "ufw" }),
			[]string{"host w1: firewall: found ufw is active, needs none; or set hostSetup.disableFirewall"}},
		"selinux": {"an enforcing SELinux stops the runtime", change("w1", func(f *v1alpha1.HostFacts) { f.SELinux = "Enforcing" }),
			[]string{"host w1: selinux: found enforcing, needs permissive or disabled; or set hostSetup.permissiveSELinux"}},
		"kernel-feature": {"flannel needs VXLAN", change("w1", func(f *v1alpha1.HostFacts) { f.KernelFeatures = []string{"overlay", "bridge", "nf_tables"} }),
			[]string{"host w1: kernel: found no vxlan, needs a kernel with vxlan"}},
		"kernel-nftables": {"nftables was asked for", func(in *Input) {
			in.Spec.Network.KubeProxyMode = "nftables"
			in.Hosts["w1"].Status.Facts.KernelFeatures = []string{"overlay", "vxlan", "bridge"}
		}, []string{"host w1: kernel: found no nf_tables, needs a kernel with nf_tables, or kubeProxyMode iptables"}},
		"network-pods": {"the pod network must not hide the host's own", change("w1", func(f *v1alpha1.HostFacts) {
			f.NICs = append(f.NICs, v1alpha1.HostNIC{Name: "eth1", Addresses: []string{"172.25.3.4/24"}})
		}), []string{"host w1: network: found 172.25.3.0/24 on eth1 overlaps the pod network 172.25.0.0/16, needs networks that do not overlap"}},
		"network-services": {"nor may the service network", change("w1", func(f *v1alpha1.HostFacts) {
			f.NICs = append(f.NICs, v1alpha1.HostNIC{Name: "eth1", Addresses: []string{"10.0.0.4/8"}})
		}), []string{"host w1: network: found 10.0.0.0/8 on eth1 overlaps the service network 10.96.0.0/16, needs networks that do not overlap"}},
		"network-each-other": {"pods and Services must not share addresses", func(in *Input) { in.Spec.Network.ServiceCIDR = "172.25.8.0/24" },
			[]string{"host cp1: network: found the pod network 172.25.0.0/16 overlaps the service network 172.25.8.0/24, needs networks that do not overlap"}},
		"network-unreadable": {"an address is no network", func(in *Input) { in.Spec.Network.PodCIDR = "many" }, []string{
			"host cp1: network: found many and 10.96.0.0/16, needs two networks in CIDR form",
			"host w1: network: found many and 10.96.0.0/16, needs two networks in CIDR form"}},
		"region": {"a cluster is in one region", alter("w1", func(h *v1alpha1.Host) { h.Spec.Region = "south" }),
			[]string{`host w1: region: found "south", needs "north", as on cp1`}},
		"time-zone": {"logs of one cluster have one time zone", change("w1", func(f *v1alpha1.HostFacts) { f.TimeZone = "Asia/Shanghai" }),
			[]string{`host w1: time-zone: found "Asia/Shanghai", needs "Etc/UTC", as on cp1`}},
		"machine-id": {"two hosts with one identity are one machine or an unclean clone", change("w1", func(f *v1alpha1.HostFacts) { f.MachineID = "machine-cp1" }),
			[]string{"host w1: machine-id: found machine-cp1, as on cp1, needs a machine of its own"}},
		"address": {"two nodes cannot share an address", alter("w1", func(h *v1alpha1.Host) { h.Status.InternalAddress = "192.0.2.10" }),
			[]string{"host w1: address: found 192.0.2.10, as on cp1, needs a machine of its own"}},
		"name": {"a cluster is not named like one of its hosts", func(in *Input) { in.Name = "w1" },
			[]string{"host w1: name: found the cluster has the name of a host, needs another cluster name"}},
		"several": {"every broken rule is told at once", func(in *Input) {
			in.Hosts["cp1"].Status.Facts.CPUs = 1
			in.Hosts["w1"].Status.Facts.Swap = true
		}, []string{"host cp1: cpu: found 1, needs 2", "host w1: swap: found on, needs off; or set hostSetup.disableSwap"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in := wanted(1)
			c.change(&in)
			var got []string
			for _, f := range check(in) {
				got = append(got, f.String())
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
			_, err := Plan(in)
			if refused := err != nil; refused != (len(c.want) > 0) {
				t.Errorf("%s: Plan gives %v", c.reason, err)
			}
			if err != nil && (fault.ClassOf(err) != fault.Terminal || fault.FixOf(err) == "" || !strings.Contains(err.Error(), c.want[0])) {
				t.Errorf("%s: the refusal is %v with the fix %q", c.reason, err, fault.FixOf(err))
			}
		})
	}
}

func TestOlderKernel(t *testing.T) {
	cases := map[string]struct {
		reason, have, least string
		want                bool
	}{
		"same":    {"the oldest is old enough", "4.19", "4.19", false},
		"numbers": {"numbers are compared, not text", "4.9.1", "4.19", true},
		"suffix":  {"what a distribution adds does not count", "4.19.0-27-amd64", "4.19", false},
		"patch":   {"a build number counts where the rule names one", "3.10.0-514.el7.x86_64", "3.10.0-957", true},
		"newer":   {"a newer build is fine", "3.10.0-1160.el7.x86_64", "3.10.0-957", false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := olderKernel(c.have, c.least); got != c.want {
				t.Errorf("%s: %t, want %t", c.reason, got, c.want)
			}
		})
	}
}
