// Package stagestest owns what the tests of planners begin with: an input that breaks no rule.
// It must never be used by anything but tests.
package stagestest

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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/plan/stages"
)

// Wanted gives the input of a cluster of one control plane and some workers that breaks no rule.
func Wanted(workers int) stages.Input {
	in := stages.Input{
		Namespace: "dev", Name: "demo", UID: "uid-1", Secret: "cluster-demo", PlatformCA: "CERTIFICATE\n", ServerMachineID: "server", ServerArchitecture: "amd64",
		Hosts: map[string]v1alpha1.Host{}, Claims: map[string]v1alpha1.HostClaimSpec{}, Platform: map[string]string{}, Bundle: Manifest(),
		Grants:  []v1alpha1.GrantSpec{{Kind: v1alpha1.GrantHost, Name: v1alpha1.GrantEverything}, {Kind: v1alpha1.GrantBundle, Name: v1alpha1.GrantEverything}},
		Systems: []stages.System{{ID: "debian", Versions: []string{"12", "13"}, KernelMin: "4.19", Tools: []string{"systemctl", "tar"}, AnyOf: [][]string{{"nft", "iptables"}}}},
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
		in.Hosts[name] = Bare(name, fmt.Sprintf("192.0.2.%d", 10+i))
		in.Platform[name] = "192.0.2.1:8443"
	}
	return in
}

// Bare gives a host that fits.
func Bare(name, address string) v1alpha1.Host {
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

// Manifest gives a bundle that has everything.
func Manifest() *bundle.Manifest {
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
			bundle.RoleKubeVIP: "ghcr.io/kube-vip/kube-vip:v0.9.1",
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

// Change changes the facts of one host.
func Change(name string, f func(*v1alpha1.HostFacts)) func(*stages.Input) {
	return func(in *stages.Input) { f(in.Hosts[name].Status.Facts) }
}

// Away makes one host unreachable: no route to host.
func Away(name string) func(*stages.Input) {
	return Alter(name, func(h *v1alpha1.Host) {
		h.Status.Conditions = []metav1.Condition{{Type: v1alpha1.HostReachable, Status: metav1.ConditionFalse, Message: "no route to host"}}
	})
}

// Alter changes one host.
func Alter(name string, f func(*v1alpha1.Host)) func(*stages.Input) {
	return func(in *stages.Input) {
		h := in.Hosts[name]
		f(&h)
		in.Hosts[name] = h
	}
}

// Golden compares a plan with testdata/NAME/plan.golden, and proves that it can be decoded again.
func Golden(t *testing.T, name string, p *plan.Plan) {
	t.Helper()
	b, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", name, "plan.golden")
	if os.Getenv("UPDATE_GOLDEN") == "1" {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; UPDATE_GOLDEN=1 writes it", err)
	}
	if diff := cmp.Diff(string(want), string(b)); diff != "" {
		t.Errorf("plan (-%s +now); UPDATE_GOLDEN=1 writes it:\n%s", path, diff)
	}
	back, err := plan.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p.Steps(), back.Steps()); diff != "" {
		t.Error(diff)
	}
}
