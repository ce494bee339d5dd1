package scale

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/plan/stages/stagestest"
)

// running gives the input of a cluster with these hosts that is to be changed by edit.
func running(controlPlanes, workers int, edit func(*v1alpha1.ClusterSpec), spare ...string) stages.Input {
	in := stagestest.Wanted(workers)
	in.Spec.Endpoint.Provider, in.Spec.Endpoint.Host = v1alpha1.EndpointKubeVIP, "192.0.2.200"
	add := func(name string) {
		in.Hosts[name] = stagestest.Bare(name, "192.0.2."+map[string]string{"cp1": "10", "cp2": "102", "cp3": "103", "cp4": "104", "w7": "107", "w8": "108"}[name])
		in.Platform[name] = "192.0.2.1:8443"
	}
	for _, name := range []string{"cp2", "cp3"}[:controlPlanes-1] {
		in.Spec.ControlPlane.Hosts = append(in.Spec.ControlPlane.Hosts, name)
		add(name)
	}
	for _, name := range spare {
		add(name)
	}
	in.Applied = in.Spec.DeepCopy()
	for _, name := range in.Applied.AllHosts() {
		in.Claims[name] = v1alpha1.HostClaimSpec{Namespace: in.Namespace, Cluster: in.Name, ClusterUID: in.UID}
	}
	edit(&in.Spec)
	return in
}

func setControlPlanes(names ...string) func(*v1alpha1.ClusterSpec) {
	return func(s *v1alpha1.ClusterSpec) { s.ControlPlane.Hosts = names }
}

func setWorkers(names ...string) func(*v1alpha1.ClusterSpec) {
	return func(s *v1alpha1.ClusterSpec) { s.WorkerPools[0].Hosts = names }
}

// away makes a host one that cannot be reached.
func away(in *stages.Input, name string) {
	stagestest.Alter(name, func(h *v1alpha1.Host) {
		h.Status.Conditions[0].Status, h.Status.Conditions[0].Message = "False", "no route to host"
	})(in)
}

func TestPlan(t *testing.T) {
	cases := map[string]struct {
		reason string
		in     stages.Input
		lost   []string
		hosts  []string
	}{
		"add-worker":    {"only the new worker is in the plan: not even the control plane gets a command", running(1, 2, setWorkers("w1", "w2", "w7"), "w7"), nil, []string{"w7"}},
		"remove-worker": {"it is drained before it stops, and forgotten after its kubelet did", running(1, 2, setWorkers("w1")), nil, []string{"w2"}},
		"one-to-three":  {"control planes join one after another, each knowing the members before it", running(1, 1, setControlPlanes("cp1", "cp2", "cp3"), "cp2", "cp3"), nil, []string{"cp2", "cp3"}},
		"three-to-one":  {"control planes leave one after another, each only from a healthy etcd", running(3, 1, setControlPlanes("cp1")), nil, []string{"cp2", "cp3"}},
		"replace-lost":  {"the dead member goes before the new one comes: etcd counts it", running(3, 1, setControlPlanes("cp1", "cp2", "cp4"), "cp4"), []string{"cp3"}, []string{"cp1", "cp4"}},
		"first-worker": {"control planes stop running pods when there are workers", running(1, 0, func(s *v1alpha1.ClusterSpec) {
			s.WorkerPools = []v1alpha1.WorkerPool{{Name: "new", Hosts: []string{"w7"}}}
		}, "w7"), nil, []string{"w7", "cp1"}},
		"labels": {"a label of a pool changes on the nodes that have it", running(1, 2, func(s *v1alpha1.ClusterSpec) {
			s.WorkerPools[0].Labels = map[string]string{"tier": "web"}
			s.WorkerPools[0].Taints = nil
		}), nil, []string{"w1", "w2"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			c.in.Parameters.Lost = c.lost
			for _, lost := range c.lost {
				away(&c.in, lost)
			}
			p, err := Plan(c.in)
			if err != nil {
				t.Fatalf("%s: %v", c.reason, err)
			}
			var hosts []string
			for _, h := range p.Hosts {
				hosts = append(hosts, h.Name)
			}
			if diff := cmp.Diff(c.hosts, hosts); diff != "" {
				t.Errorf("%s: hosts of the plan (-want +got):\n%s", c.reason, diff)
			}
			stagestest.Golden(t, name, p)
		})
	}
}

// TestPlan_HalfDone: a host that an earlier edit brought in half-way is claimed but not applied; an edit without it takes
// it out again.
func TestPlan_HalfDone(t *testing.T) {
	in := running(1, 1, func(*v1alpha1.ClusterSpec) {}, "w7")
	in.Claims["w7"] = v1alpha1.HostClaimSpec{Namespace: in.Namespace, Cluster: in.Name, ClusterUID: in.UID}
	p, err := Plan(in)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Stages) != 1 || p.Stages[0].Name != "leave" || !slices.Equal(p.Stages[0].Hosts, []string{"w7"}) {
		t.Errorf("the plan is %+v, want w7 to leave", p.Stages)
	}
}

// TestPlan_Attempted: what a change that failed half-way may have done is taken back, or brought to its end.
func TestPlan_Attempted(t *testing.T) {
	attempt := func(in stages.Input, edit func(*v1alpha1.ClusterSpec)) stages.Input {
		tried := in.Applied.DeepCopy()
		edit(tried)
		in.Attempted = []v1alpha1.ClusterSpec{*tried}
		for _, name := range tried.AllHosts() {
			in.Claims[name] = v1alpha1.HostClaimSpec{Namespace: in.Namespace, Cluster: in.Name, ClusterUID: in.UID}
		}
		return in
	}
	same := func(*v1alpha1.ClusterSpec) {}
	cases := map[string]struct {
		reason string
		in     stages.Input
		want   []string
	}{
		"control plane in": {"etcd may count the member: it goes before anything else", attempt(running(1, 1, same, "cp2"), setControlPlanes("cp1", "cp2")), []string{"leave-cp2: cp2"}},
		"worker out":       {"it runs again, and gets pods again", attempt(running(1, 2, same), setWorkers("w1")), []string{"keep: w2"}},
		"control plane out": {"etcd must have it, else the failure says so", attempt(running(3, 1, same), setControlPlanes("cp1", "cp2")),
			[]string{"keep: cp3", "keep-members: cp3"}},
		"goes on": {"what was brought in half-way is brought in", attempt(running(1, 1, setWorkers("w1", "w7"), "w7"), setWorkers("w1", "w7")),
			[]string{"precheck: w7", "prepare-workers: w7", "join: w7"}},
		"first worker in": {"control planes run pods again", attempt(running(1, 0, same, "w7"), func(s *v1alpha1.ClusterSpec) {
			s.WorkerPools = []v1alpha1.WorkerPool{{Name: "new", Hosts: []string{"w7"}}}
		}), []string{"schedulable: cp1", "leave: w7"}},
		"labels": {"those of before, on the workers of before", attempt(running(1, 2, same, "w7"), func(s *v1alpha1.ClusterSpec) {
			s.WorkerPools[0].Labels = map[string]string{"tier": "web"}
			s.WorkerPools[0].Hosts = []string{"w1", "w2", "w7"}
		}), []string{"labels-general-general-back-1: w1 w2", "leave: w7"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p, err := Plan(c.in)
			if err != nil {
				t.Fatalf("%s: %v", c.reason, err)
			}
			var got []string
			for _, s := range p.Stages {
				got = append(got, s.Name+": "+strings.Join(s.Hosts, " "))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s: stages (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

// TestPlan_JoinsConfigured: a host that comes later has the settings that were changed before.
func TestPlan_JoinsConfigured(t *testing.T) {
	in := running(1, 1, setControlPlanes("cp1", "cp2"), "cp2", "w7")
	for _, spec := range []*v1alpha1.ClusterSpec{&in.Spec, in.Applied} {
		spec.Runtime.RegistryMirrors = []v1alpha1.RegistryMirror{{Registry: "docker.io", Endpoints: []string{"https://mirror.example"}}}
		spec.HostSetup.HostRecords = []v1alpha1.HostRecord{{Address: "192.168.2.2", Names: []string{"files"}}}
		spec.Components.LogLevel, spec.Components.APIServer.Audit.Enabled, spec.Network.NodePortRange = 4, true, "31000-32000"
	}
	in.Spec.WorkerPools[0].Hosts = []string{"w1", "w7"}
	p, err := Plan(in)
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]string{}
	for _, s := range p.Stages {
		for _, c := range s.Calls {
			have[c.Name] = string(c.Parameters)
		}
	}
	for name, want := range map[string]string{
		"worker/mirrors": "mirror.example", "control-plane/mirrors": "mirror.example", "worker/host-records": "192.168.2.2", "control-plane/host-records": "192.168.2.2",
		"cp2/etcd-config": `"components":{"logLevel":4,"nodePortRange":"31000-32000","audit":{`,
	} {
		if !strings.Contains(have[name], want) {
			t.Errorf("%s is %q, without %s", name, have[name], want)
		}
	}
}

func TestRefusals(t *testing.T) {
	cases := map[string]struct {
		reason string
		in     stages.Input
		away   []string
		lost   []string
		want   string
	}{
		"unreachable": {"a host that cannot be cleaned must be confirmed to be lost", running(1, 2, setWorkers("w1")), []string{"w2"}, nil, "--lost w2"},
		"quorum":      {"two of three lost members are no majority", running(3, 1, setControlPlanes("cp1", "cp4"), "cp4"), nil, []string{"cp2", "cp3"}, "quorum"},
		"none stays":  {"somebody must know the cluster's data", running(1, 1, setControlPlanes("cp2"), "cp2"), nil, nil, "no control plane would stay"},
		"other role": {"a worker's host is clean before it becomes a control plane", running(1, 2, func(s *v1alpha1.ClusterSpec) {
			s.ControlPlane.Hosts = []string{"cp1", "w2"}
			s.WorkerPools[0].Hosts = []string{"w1"}
		}), nil, nil, "role"},
		"new host bad": {"new hosts keep the rules of a new cluster", running(1, 1, setWorkers("w1", "w7"), "w7"), []string{"w7"}, nil, "host w7: reachable"},
		"foreign address": {"a control plane must be able to have the cluster's address", func() stages.Input {
			in := running(1, 1, setControlPlanes("cp1", "cp2"), "cp2")
			in.Hosts["cp2"] = stagestest.Bare("cp2", "198.51.100.9")
			return in
		}(), nil, nil, "endpoint"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			c.in.Parameters.Lost = c.lost
			for _, name := range c.away {
				away(&c.in, name)
			}
			_, err := Plan(c.in)
			if err == nil || !strings.Contains(err.Error(), c.want) || fault.ClassOf(err) != fault.Terminal {
				t.Errorf("%s: %v, want a refusal with %q", c.reason, err, c.want)
			}
		})
	}
}
