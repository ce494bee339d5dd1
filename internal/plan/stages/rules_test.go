package stages_test

import (
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/plan/stages/stagestest"
	"slipway.dev/slipway/internal/step/precheck"
)

func TestRules(t *testing.T) {
	cases := map[string]struct {
		reason string
		change func(*stages.Input)
		want   []string
	}{
		"bundle-missing": {"a version without a bundle cannot be installed", func(in *stages.Input) {
			in.Bundle, in.BundleProblem = nil, "no Bundle v1.36.3"
		}, []string{"host cp1: bundle: found no Bundle v1.36.3, needs a verified, enabled Bundle v1.36.3"}},
		"bundle-broken": {"a bundle with a problem is as good as none", func(in *stages.Input) { in.BundleProblem = "blob sha256:1 is damaged" },
			[]string{"host cp1: bundle: found blob sha256:1 is damaged, needs a verified, enabled Bundle v1.36.3"}},
		"bundle-unexplained": {"a missing bundle is never found to be nothing", func(in *stages.Input) { in.Bundle = nil },
			[]string{"host cp1: bundle: found none, needs a verified, enabled Bundle v1.36.3"}},
		"bundle-incomplete": {"every role needs an image", func(in *stages.Input) { in.Bundle.Images = withoutRole(in.Bundle.Images, bundle.RoleFlannel) },
			[]string{"host cp1: bundle: found no image for flannel on amd64, needs a complete bundle",
				"host w1: bundle: found no image for flannel on amd64, needs a complete bundle"}},
		"architecture": {"the bundle must hold the host's architecture", stagestest.Change("w1", func(f *v1alpha1.HostFacts) { f.Architecture = "riscv64" }),
			[]string{"host w1: architecture: found riscv64, needs one of the bundle's: amd64, arm64"}},
		"host": {"a host must exist", func(in *stages.Input) { delete(in.Hosts, "w1") },
			[]string{"host w1: granted: found not lent to project dev, or no host of that name, needs a Grant of Host w1 in project dev"}},
		"not-lent": {"a host of others is answered like one that does not exist, whatever is known of it", func(in *stages.Input) {
			in.Grants = lendOnly("cp1", "v1.36.3")
			in.Claims["w1"] = v1alpha1.HostClaimSpec{Namespace: "ops", Cluster: "secret", ClusterUID: "uid-2"}
			stagestest.Change("w1", func(f *v1alpha1.HostFacts) {
				f.CPUs, f.Architecture, f.TimeZone, f.MachineID = 1, "riscv64", "Asia/Shanghai", in.Hosts["cp1"].Status.Facts.MachineID
			})(in)
		}, []string{"host w1: granted: found not lent to project dev, or no host of that name, needs a Grant of Host w1 in project dev"}},
		"not-lent-name": {"the cluster's own name must not tell whether a host has it", func(in *stages.Input) {
			in.Grants, in.Name = lendOnly("cp1", "v1.36.3"), "w1"
		}, []string{"host w1: granted: found not lent to project dev, or no host of that name, needs a Grant of Host w1 in project dev"}},
		"not-lent-bundle": {"nor does anything of a bundle of others show", func(in *stages.Input) {
			in.Grants, in.Bundle, in.BundleProblem = lendOnly("*", "v1.35.9"), nil, "bundle v1.36.3 is disabled"
		}, []string{"host cp1: granted: found not lent to project dev, or no bundle of that name, needs a Grant of Bundle v1.36.3 in project dev"}},
		"lent-by-name": {"a grant of one host and one bundle is enough for them", func(in *stages.Input) {
			in.Grants = append(lendOnly("cp1", "v1.36.3"), lendOnly("w1", "v1.36.3")...)
		}, nil},
		"claim": {"a host has one cluster", func(in *stages.Input) {
			in.Claims["w1"] = v1alpha1.HostClaimSpec{Namespace: "dev", Cluster: "other", ClusterUID: "uid-2"}
		}, []string{"host w1: claim: found held by cluster dev/other, needs a free host"}},
		"claim-elsewhere": {"who uses a host in another project is no business of this one", func(in *stages.Input) {
			in.Claims["w1"] = v1alpha1.HostClaimSpec{Namespace: "ops", Cluster: "secret", ClusterUID: "uid-2"}
		}, []string{"host w1: claim: found held by a cluster of another project, needs a free host"}},
		"claim-own": {"the cluster's own claim is no reason", func(in *stages.Input) {
			in.Claims["w1"] = v1alpha1.HostClaimSpec{Namespace: "dev", Cluster: "demo", ClusterUID: "uid-1"}
		}, nil},
		"reachable": {"a host must answer", stagestest.Alter("w1", func(h *v1alpha1.Host) {
			h.Status.Conditions = []metav1.Condition{{Type: v1alpha1.HostReachable, Status: metav1.ConditionFalse, Message: "no route to host"}}
		}), []string{"host w1: reachable: found no route to host, needs a host that Slipway can log in to"}},
		"reachable-new": {"a host that was never seen has no facts", stagestest.Alter("w1", func(h *v1alpha1.Host) { h.Status = v1alpha1.HostStatus{} }),
			[]string{"host w1: reachable: found not seen yet, needs a host that Slipway can log in to"}},
		"cpu": {"kubeadm refuses one processor", stagestest.Change("w1", func(f *v1alpha1.HostFacts) { f.CPUs = 1 }), []string{"host w1: cpu: found 1, needs 2"}},
		"memory": {"a worker needs a gibibyte", stagestest.Change("w1", func(f *v1alpha1.HostFacts) { f.MemoryBytes = 512 << 20 }),
			[]string{"host w1: memory: found 512Mi, needs 1Gi"}},
		"memory-control-plane": {"a control plane needs more", stagestest.Change("cp1", func(f *v1alpha1.HostFacts) { f.MemoryBytes = 1 << 30 }),
			[]string{"host cp1: memory: found 1Gi, needs 1.7Gi"}},
		"memory-setting": {"an organisation asks for more than the floor", func(in *stages.Input) {
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
		"disk": {"images and programs need room", stagestest.Change("w1", func(f *v1alpha1.HostFacts) { f.FreeBytes["/var/lib"] = 1 << 30 }),
			[]string{"host w1: disk: found 1Gi free on /var/lib, needs 5Gi"}},
		"server": {"a node must not share the server's machine", stagestest.Change("w1", func(f *v1alpha1.HostFacts) { f.MachineID = "server" }),
			[]string{"host w1: server: found the machine Slipway's server runs on, needs another machine: a node must not share it"}},
		"clock": {"certificates need clocks that agree", stagestest.Change("w1", func(f *v1alpha1.HostFacts) { f.ClockSkewMillis = -15_500 }),
			[]string{"host w1: clock: found -15.5 s off the server's clock, needs at most 10.0 s; set Setting ntp or the host's time service"}},
		"os": {"an unknown operating system was never tried", stagestest.Change("w1", func(f *v1alpha1.HostFacts) { f.OS = v1alpha1.HostOS{ID: "plan9", Name: "Plan 9"} }),
			[]string{"host w1: os: found Plan 9, needs a supported operating system: debian 12/13"}},
		"kernel": {"an old kernel lacks what containers need", stagestest.Change("w1", func(f *v1alpha1.HostFacts) { f.Kernel = "4.9.0-19-amd64" }),
			[]string{"host w1: kernel: found 4.9.0-19-amd64, needs 4.19 or newer"}},
		"tool": {"a tool that steps run must be there", stagestest.Change("w1", func(f *v1alpha1.HostFacts) { f.Tools = []string{"systemctl", "nft"} }),
			[]string{"host w1: tool: found no tar, needs tar installed"}},
		"tool-any": {"one of the firewall tools is enough, none is not", stagestest.Change("w1", func(f *v1alpha1.HostFacts) { f.Tools = []string{"systemctl", "tar"} }),
			[]string{"host w1: tool: found none of nft, iptables, needs one of them installed"}},
		"swap": {"the kubelet refuses swap", stagestest.Change("w1", func(f *v1alpha1.HostFacts) { f.Swap = true }),
			[]string{"host w1: swap: found on, needs off; or set hostSetup.disableSwap"}},
		"swap-allowed": {"what may be turned off is no reason", func(in *stages.Input) {
			in.Hosts["w1"].Status.Facts.Swap = true
			in.Spec.HostSetup.DisableSwap = true
		}, nil},
		"firewall": {"an active firewall cuts nodes off", stagestest.Change("w1", func(f *v1alpha1.HostFacts) { f.Firewall = "ufw" }),
			[]string{"host w1: firewall: found ufw is active, needs none; or set hostSetup.disableFirewall"}},
		"selinux": {"an enforcing SELinux stops the runtime", stagestest.Change("w1", func(f *v1alpha1.HostFacts) { f.SELinux = "Enforcing" }),
			[]string{"host w1: selinux: found enforcing, needs permissive or disabled; or set hostSetup.permissiveSELinux"}},
		"kernel-feature": {"flannel needs VXLAN", stagestest.Change("w1", func(f *v1alpha1.HostFacts) { f.KernelFeatures = []string{"overlay", "bridge", "nf_tables"} }),
			[]string{"host w1: kernel: found no vxlan, needs a kernel with vxlan"}},
		"kernel-nftables": {"nftables was asked for", func(in *stages.Input) {
			in.Spec.Network.KubeProxyMode = "nftables"
			in.Hosts["w1"].Status.Facts.KernelFeatures = []string{"overlay", "vxlan", "bridge"}
		}, []string{"host w1: kernel: found no nf_tables, needs a kernel with nf_tables, or kubeProxyMode iptables"}},
		"network-pods": {"the pod network must not hide the host's own", stagestest.Change("w1", func(f *v1alpha1.HostFacts) {
			f.NICs = append(f.NICs, v1alpha1.HostNIC{Name: "eth1", Addresses: []string{"172.25.3.4/24"}})
		}), []string{"host w1: network: found 172.25.3.0/24 on eth1 overlaps the pod network 172.25.0.0/16, needs networks that do not overlap"}},
		"network-services": {"nor may the service network", stagestest.Change("w1", func(f *v1alpha1.HostFacts) {
			f.NICs = append(f.NICs, v1alpha1.HostNIC{Name: "eth1", Addresses: []string{"10.0.0.4/8"}})
		}), []string{"host w1: network: found 10.0.0.0/8 on eth1 overlaps the service network 10.96.0.0/16, needs networks that do not overlap"}},
		"network-each-other": {"pods and Services must not share addresses", func(in *stages.Input) { in.Spec.Network.ServiceCIDR = "172.25.8.0/24" },
			[]string{"host cp1: network: found the pod network 172.25.0.0/16 overlaps the service network 172.25.8.0/24, needs networks that do not overlap"}},
		"network-unreadable": {"an address is no network", func(in *stages.Input) { in.Spec.Network.PodCIDR = "many" }, []string{
			"host cp1: network: found many and 10.96.0.0/16, needs two networks in CIDR form",
			"host w1: network: found many and 10.96.0.0/16, needs two networks in CIDR form"}},
		"region": {"a cluster is in one region", stagestest.Alter("w1", func(h *v1alpha1.Host) { h.Spec.Region = "south" }),
			[]string{`host w1: region: found "south", needs "north", as on cp1`}},
		"time-zone": {"logs of one cluster have one time zone", stagestest.Change("w1", func(f *v1alpha1.HostFacts) { f.TimeZone = "Asia/Shanghai" }),
			[]string{`host w1: time-zone: found "Asia/Shanghai", needs "Etc/UTC", as on cp1`}},
		"machine-id": {"two hosts with one identity are one machine or an unclean clone", stagestest.Change("w1", func(f *v1alpha1.HostFacts) { f.MachineID = "machine-cp1" }),
			[]string{"host w1: machine-id: found machine-cp1, as on cp1, needs a machine of its own"}},
		"address": {"two nodes cannot share an address", stagestest.Alter("w1", func(h *v1alpha1.Host) { h.Status.InternalAddress = "192.0.2.10" }),
			[]string{"host w1: address: found 192.0.2.10, as on cp1, needs a machine of its own"}},
		"name": {"a cluster is not named like one of its hosts", func(in *stages.Input) { in.Name = "w1" },
			[]string{"host w1: name: found the cluster has the name of a host, needs another cluster name"}},
		"two control planes": {"the loss of one of two stops both", func(in *stages.Input) {
			in.Spec.ControlPlane.Hosts, in.Spec.WorkerPools = []string{"cp1", "w1"}, nil
			in.Spec.Endpoint.Host = "demo.example.org"
		}, []string{"host cp1: control-plane: found 2 control planes, needs one, three or five: etcd needs a majority"}},
		"virtual ip": {"the address must be one that a control plane can have", func(in *stages.Input) {
			in.Spec.Endpoint = v1alpha1.EndpointSpec{Provider: v1alpha1.EndpointKubeVIP, Host: "198.51.100.1", Port: 6443}
		}, []string{"host cp1: endpoint: found 198.51.100.1 is not in the network of 192.0.2.10, needs an endpoint in the network that all control planes share"}},
		"taken ip": {"the address is the cluster's alone", func(in *stages.Input) {
			in.Spec.Endpoint = v1alpha1.EndpointSpec{Provider: v1alpha1.EndpointKubeVIP, Host: "192.0.2.11", Port: 6443}
		}, []string{"host w1: endpoint: found the endpoint 192.0.2.11 is the host's own address, needs a free IP in the network of the control planes"}},
		"several": {"every broken rule is told at once", func(in *stages.Input) {
			in.Hosts["cp1"].Status.Facts.CPUs = 1
			in.Hosts["w1"].Status.Facts.Swap = true
		}, []string{"host cp1: cpu: found 1, needs 2", "host w1: swap: found on, needs off; or set hostSetup.disableSwap"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in := stagestest.Wanted(1)
			c.change(&in)
			var got []string
			for _, f := range in.Check(in.Spec.AllHosts()) {
				got = append(got, f.String())
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
			err := precheck.Refusal(in.Check(in.Spec.AllHosts()))
			if refused := err != nil; refused != (len(c.want) > 0) {
				t.Errorf("%s: Refusal gives %v", c.reason, err)
			}
			if err != nil && (fault.ClassOf(err) != fault.Terminal || fault.FixOf(err) == "" || !strings.Contains(err.Error(), c.want[0])) {
				t.Errorf("%s: the refusal is %v with the fix %q", c.reason, err, fault.FixOf(err))
			}
		})
	}
}

// lendOnly lends one host and one bundle.
func lendOnly(host, bundle string) []v1alpha1.GrantSpec {
	return []v1alpha1.GrantSpec{{Kind: v1alpha1.GrantHost, Name: host}, {Kind: v1alpha1.GrantBundle, Name: bundle}}
}

func withoutRole(images []bundle.Image, role string) []bundle.Image {
	return slices.DeleteFunc(images, func(i bundle.Image) bool { return i.Role == role })
}
