package create

import (
	"fmt"
	"testing"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/plan/stages/stagestest"
)

func TestPlan(t *testing.T) {
	cases := map[string]struct {
		reason  string
		workers int
		change  func(*stages.Input)
	}{
		"three-nodes": {"workers are prepared while the control plane starts, and join when it serves", 2, stagestest.Change("w2", func(f *v1alpha1.HostFacts) {
			f.Architecture, f.CgroupVersion, f.Capabilities, f.Virtualization = "arm64", 1, nil, "systemd-nspawn"
		})},
		"three-control-planes": {"they start side by side, each etcd knowing all, and share an address that moves", 1, func(in *stages.Input) {
			for n, name := range []string{"cp2", "cp3"} {
				in.Spec.ControlPlane.Hosts = append(in.Spec.ControlPlane.Hosts, name)
				in.Hosts[name] = stagestest.Bare(name, fmt.Sprintf("192.0.2.%d", 102+n))
				in.Platform[name] = "192.0.2.1:8443"
			}
			in.Spec.Endpoint = v1alpha1.EndpointSpec{Provider: v1alpha1.EndpointKubeVIP, Host: "192.0.2.200", Port: 6443}
			in.Spec.Network.FlannelBackend = "host-gw"
		}},
		"single-node": {"a cluster without workers runs pods on its control plane", 0, func(*stages.Input) {}},
		"host-setup": {"what may be changed on hosts comes before everything else, and time servers are set", 1, func(in *stages.Input) {
			in.Spec.HostSetup = v1alpha1.HostSetupSpec{DisableFirewall: true, PermissiveSELinux: true, DisableSwap: true}
			in.TimeServers = []string{"192.0.2.123", "ntp.example.org"}
			in.Spec.Endpoint = v1alpha1.EndpointSpec{Host: "demo.example.org", Port: 8443, CertSANs: []string{"198.51.100.7"}}
			in.Spec.Components.Etcd.DataDir = "/srv/etcd"
		}},
		"iptables": {"where one host lacks nf_tables, kube-proxy uses iptables on all", 1, stagestest.Change("w1", func(f *v1alpha1.HostFacts) {
			f.KernelFeatures, f.Tools = []string{"overlay", "vxlan", "bridge"}, []string{"systemctl", "tar", "iptables"}
		})},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in := stagestest.Wanted(c.workers)
			c.change(&in)
			p, err := Plan(in)
			if err != nil {
				t.Fatalf("%s: %v", c.reason, err)
			}
			stagestest.Golden(t, name, p)
		})
	}
}

// TestPlan_Facts: what changes by itself is no fact, what decides the plan is one.
func TestPlan_Facts(t *testing.T) {
	cases := map[string]struct {
		reason string
		change func(*stages.Input)
		same   bool
	}{
		"clock":    {"a clock drifts all the time", stagestest.Change("w1", func(f *v1alpha1.HostFacts) { f.ClockSkewMillis = 20 }), true},
		"free":     {"the room on a disk changes all the time", stagestest.Change("w1", func(f *v1alpha1.HostFacts) { f.FreeBytes["/usr"] -= 1 << 20 }), true},
		"machine":  {"another machine behind the same address is another host", stagestest.Change("w1", func(f *v1alpha1.HostFacts) { f.MachineID = "new" }), false},
		"address":  {"the address is in certificates and configuration", stagestest.Alter("w1", func(h *v1alpha1.Host) { h.Status.InternalAddress = "192.0.2.99" }), false},
		"cgroup":   {"the cgroup version decides the runtime's configuration", stagestest.Change("w1", func(f *v1alpha1.HostFacts) { f.CgroupVersion = 1 }), false},
		"grants":   {"by which grant a host is lent decides nothing", func(in *stages.Input) { in.Grants = append(in.Grants, lendOnly("w1", "v1.36.3")...) }, true},
		"no-facts": {"the same input gives the same plan", func(*stages.Input) {}, true},
	}
	before, err := Plan(stagestest.Wanted(1))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in := stagestest.Wanted(1)
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

// lendOnly lends one host and one bundle.
func lendOnly(host, bundle string) []v1alpha1.GrantSpec {
	return []v1alpha1.GrantSpec{{Kind: v1alpha1.GrantHost, Name: host}, {Kind: v1alpha1.GrantBundle, Name: bundle}}
}
