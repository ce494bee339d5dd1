package upgrade

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/plan/stages/stagestest"
)

// manifest gives the bundle of a version with its etcd.
func manifest(version, etcd string) *bundle.Manifest {
	m := stagestest.Manifest()
	for i, image := range m.Images {
		m.Images[i].Name = strings.Replace(image.Name, "v1.36.3", version, 1)
		if image.Role == bundle.RoleEtcd {
			m.Images[i].Name = image.Repository() + ":" + etcd
		}
	}
	m.Name, m.KubernetesVersion = version, version
	return m
}

// running gives a cluster of v1.35.4 that is to be moved to a version, with the bundles of these machines.
func running(controlPlanes, workers int, to string) stages.Input {
	in := stagestest.Wanted(workers)
	in.Operation = "uid-op"
	for i := 2; i <= controlPlanes; i++ {
		name := fmt.Sprintf("cp%d", i)
		in.Spec.ControlPlane.Hosts = append(in.Spec.ControlPlane.Hosts, name)
		in.Hosts[name] = stagestest.Bare(name, fmt.Sprintf("192.0.2.%d", 200+i))
		in.Platform[name] = "192.0.2.1:8443"
	}
	for _, name := range in.Spec.AllHosts() {
		in.Claims[name] = v1alpha1.HostClaimSpec{Namespace: "dev", Cluster: "demo", ClusterUID: "uid-1"}
	}
	in.Spec.Kubernetes.Version = "v1.35.4"
	in.Applied = in.Spec.DeepCopy()
	in.Spec.Kubernetes.Version = to
	in.Bundles = map[string]*bundle.Manifest{
		"v1.35.4": manifest("v1.35.4", "3.6.6-0"), "v1.35.9": manifest("v1.35.9", "3.6.6-0"), "v1.36.1": manifest("v1.36.1", "3.6.8-0"),
		"v1.36.3": manifest("v1.36.3", "3.6.8-0"), "v1.37.1": manifest("v1.37.1", "3.7.0-0"),
	}
	in.Bundle = in.Bundles[to]
	return in
}

func TestPlan(t *testing.T) {
	cases := map[string]struct {
		reason string
		in     stages.Input
	}{
		"patch":      {"etcd stays, and the one control plane of a cluster without workers is not drained: its pods have nowhere to go", running(1, 0, "v1.35.9")},
		"two-minors": {"each control plane goes by way of v1.36.3, each kubelet moves once, and the plan says where etcd cannot go back", running(3, 2, "v1.37.1")},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p, err := Plan(c.in)
			if err != nil {
				t.Fatalf("%s: %v", c.reason, err)
			}
			stagestest.Golden(t, name, p)
		})
	}
}

// TestPlan_KeepsSettings: each version on the way starts with the settings of the cluster.
func TestPlan_KeepsSettings(t *testing.T) {
	in := running(1, 1, "v1.37.1")
	for _, spec := range []*v1alpha1.ClusterSpec{&in.Spec, in.Applied} {
		spec.Components.LogLevel, spec.Components.APIServer.Audit.Enabled, spec.Network.NodePortRange = 4, true, "31000-32000"
	}
	p, err := Plan(in)
	if err != nil {
		t.Fatal(err)
	}
	versions := 0
	for _, s := range p.Stages {
		for _, c := range s.Calls {
			if c.ID != "kubeadm.configure/v1" {
				continue
			}
			versions++
			if want := `"components":{"logLevel":4,"nodePortRange":"31000-32000","audit":{`; !strings.Contains(string(c.Parameters), want) {
				t.Errorf("%s is without %s: %s", c.Name, want, c.Parameters)
			}
		}
	}
	if versions != 2 {
		t.Errorf("kubeadm is configured for %d versions, not 2", versions)
	}
}

// TestPlan_Order: what people read of a plan, in the order in which it is done.
func TestPlan_Order(t *testing.T) {
	cases := map[string]struct {
		reason  string
		in      stages.Input
		change  func(*stages.Input)
		summary string
		want    []string
	}{
		"two-minors": {"no API server is ever newer than another by more than one minor version, and no kubelet newer than any API server",
			running(3, 3, "v1.37.1"), func(in *stages.Input) { in.Parameters.MaxUnavailable = 2 },
			"upgrade cluster demo: Kubernetes v1.35.4 to v1.37.1 by way of v1.36.3, 3 control plane, 3 workers; a snapshot of etcd is kept on cp1 first; " +
				"etcd moves to 3.7, from which there is no simple way back",
			[]string{
				"Look whether the cluster is fit: cp1 cp2 cp3 w1 w2 w3", "Look at etcd, API servers, certificates and removed APIs in use: cp1 cp2 cp3",
				"Bring the images to the control planes: cp1 cp2 cp3", "Bring the images to the workers: w1 w2 w3", "Keep a snapshot of etcd on cp1: cp1",
				"Control plane cp1 to v1.36.3: cp1", "Control plane cp2 to v1.36.3: cp2", "Control plane cp3 to v1.36.3: cp3",
				"Control plane cp1 to v1.37.1, etcd to 3.7: cp1", "Control plane cp2 to v1.37.1, etcd to 3.7: cp2",
				"Control plane cp3 to v1.37.1, etcd to 3.7: from here there is no simple way back: cp3",
				"Tell the cluster its version; network, proxy and DNS: cp1",
				"Kubelet and runtime of control plane cp1: cp1", "Kubelet and runtime of control plane cp2: cp2", "Kubelet and runtime of control plane cp3: cp3",
				"Move pods away; kubelet and runtime of w1, w2: w1 w2", "Move pods away; kubelet and runtime of w3: w3",
				"Let go of the images of before: cp1 cp2 cp3 w1 w2 w3",
			}},
		"same-etcd": {"a move of etcd within a minor version can be taken back", running(1, 1, "v1.36.3"), func(*stages.Input) {},
			"upgrade cluster demo: Kubernetes v1.35.4 to v1.36.3, 1 control plane, 1 workers; a snapshot of etcd is kept on cp1 first",
			[]string{
				"Look whether the cluster is fit: cp1 w1", "Look at etcd, API servers, certificates and removed APIs in use: cp1",
				"Bring the images to the control planes: cp1", "Bring the images to the workers: w1", "Keep a snapshot of etcd on cp1: cp1",
				"Control plane cp1 to v1.36.3: cp1", "Tell the cluster its version; network, proxy and DNS: cp1",
				"Kubelet and runtime of control plane cp1: cp1", "Move pods away; kubelet and runtime of w1: w1",
				"Let go of the images of before: cp1 w1",
			}},
	}
	cases["backup"] = cases["same-etcd"]
	kept := cases["backup"]
	kept.reason, kept.in, kept.want = "a backup outlives the host", running(1, 1, "v1.36.3"), slices.Insert(slices.Clone(kept.want), 5, "Take backup demo-upgrade-1 to nas: cp1")
	kept.change = func(in *stages.Input) { in.Keep = &stages.Keep{Name: "demo-upgrade-1", Location: "nas"} }
	kept.summary += ", and backup demo-upgrade-1 in nas"
	cases["backup"] = kept
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			c.change(&c.in)
			p, err := Plan(c.in)
			if err != nil {
				t.Fatalf("%s: %v", c.reason, err)
			}
			var got []string
			for _, s := range p.Stages {
				got = append(got, s.Title+": "+strings.Join(s.Hosts, " "))
				if !s.Gate {
					t.Errorf("stage %s holds nothing back: what comes behind it would run on although it failed", s.Name)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
			if p.Summary != c.summary {
				t.Errorf("the summary is\n%s\nnot\n%s", p.Summary, c.summary)
			}
		})
	}
}

// TestPlan_Drain: pods are moved off nodes that run what people deploy, where there is another one.
func TestPlan_Drain(t *testing.T) {
	cases := map[string]struct {
		reason                 string
		controlPlanes, workers int
		want                   []string
	}{
		"workers":      {"control planes run no pods of people", 3, 2, []string{"w1", "w2"}},
		"schedulable":  {"control planes without workers do", 3, 0, []string{"cp1", "cp2", "cp3"}},
		"one-node":     {"there is no other node", 1, 0, nil},
		"one-and-one":  {"the worker's pods wait until it is back", 1, 1, []string{"w1"}},
		"many-workers": {"one at a time", 1, 3, []string{"w1", "w2", "w3"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in := running(c.controlPlanes, c.workers, "v1.36.3")
			in.Parameters = v1alpha1.OperationParameters{Force: true, DrainSeconds: 60}
			p, err := Plan(in)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range p.Stages {
				for _, call := range s.Calls {
					if call.ID == "node.drain/v1" {
						got = append(got, s.Hosts...)
						if want := `{"timeoutSeconds":60,"force":true}`; string(call.Parameters) != want {
							t.Errorf("the drain of %v has the parameters %s, not %s", s.Hosts, call.Parameters, want)
						}
					}
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s: drained (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

func TestPlan_Refused(t *testing.T) {
	cases := map[string]struct {
		reason string
		to     string
		change func(*stages.Input)
		want   string
	}{
		"same":      {"there is nothing to do", "v1.35.4", func(*stages.Input) {}, "host cp1: version: found v1.35.4 in the cluster already, needs a newer version"},
		"downgrade": {"Kubernetes cannot go back", "v1.35.4", func(in *stages.Input) { in.Applied.Kubernetes.Version = "v1.36.3" }, "host cp1: version: found v1.36.3 in the cluster, which is newer than v1.35.4"},
		"no-bundle": {"a version that nobody has", "v1.37.2", func(*stages.Input) {}, "host cp1: bundle: found none, needs a verified, enabled Bundle v1.37.2"},
		"not-lent": {"a bundle of others is answered like none", "v1.37.1", func(in *stages.Input) { in.Grants = in.Grants[:1] },
			"host cp1: granted: found not lent to project dev, or no bundle of that name, needs a Grant of Bundle v1.37.1 in project dev"},
		"minor-missing": {"no minor version can be skipped", "v1.37.1", func(in *stages.Input) { delete(in.Bundles, "v1.36.1"); delete(in.Bundles, "v1.36.3") },
			"host cp1: bundle: found no usable bundle of v1.36, needs a verified, enabled Bundle of v1.36, lent to project dev: no minor version can be skipped"},
		"far": {"kubelets may be three minor versions behind", "v1.37.1", func(in *stages.Input) { in.Applied.Kubernetes.Version = "v1.33.1" },
			"host cp1: version: found 4 minor versions between v1.33.1 and v1.37.1, needs 3 at most in one operation"},
		"other-changes": {"a plan does one thing", "v1.36.3", func(in *stages.Input) { in.Spec.Network.KubeProxyMode = "iptables" }, "host cp1: spec: found other changes than that of the version"},
		"down": {"a host that does not answer cannot be moved", "v1.36.3", stagestest.Alter("w2", func(h *v1alpha1.Host) {
			h.Status.Conditions[0].Status, h.Status.Conditions[0].Message = "False", "no route to host"
		}),
			"host w2: reachable: found no route to host, needs a host that Slipway can log in to"},
		"disk": {"images of two versions need room", "v1.36.3", stagestest.Change("w1", func(f *v1alpha1.HostFacts) { f.FreeBytes["/var/lib"] = 1 << 30 }), "host w1: disk: found 1Gi free on /var/lib, needs 5Gi"},
		"incomplete-on-the-way": {"the bundle of each version on the way is used", "v1.37.1", func(in *stages.Input) {
			m := in.Bundles["v1.36.3"]
			m.Images = slices.DeleteFunc(m.Images, func(i bundle.Image) bool { return i.Role == bundle.RoleKubeScheduler })
		}, "host w1: bundle: found v1.36.3: no image for kube-scheduler on amd64, needs a complete bundle"},
		"architecture": {"the bundle must hold the host's architecture", "v1.36.3", stagestest.Change("w1", func(f *v1alpha1.HostFacts) { f.Architecture = "riscv64" }),
			"host w1: architecture: found riscv64, needs one of the bundle's: amd64, arm64"},
		"batches": {"an operation records so many stages", "v1.36.3", func(in *stages.Input) {
			pool := &in.Spec.WorkerPools[0]
			for i := range 100 {
				pool.Hosts = append(pool.Hosts, fmt.Sprintf("x%d", i))
			}
			in.Applied.WorkerPools = in.Spec.DeepCopy().WorkerPools
		}, "host cp1: batches: found 102 workers, 1 at a time, needs --max-unavailable of 2 at least"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in := running(1, 2, c.to)
			c.change(&in)
			_, err := Plan(in)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: got %v, want a refusal that says %q", c.reason, err, c.want)
			}
		})
	}
}

// TestPlan_NotLentAnyMore: a host that the cluster holds stays its own.
func TestPlan_NotLentAnyMore(t *testing.T) {
	in := running(1, 1, "v1.36.3")
	in.Grants = []v1alpha1.GrantSpec{{Kind: v1alpha1.GrantBundle, Name: "v1.36.3"}}
	if _, err := Plan(in); err != nil {
		t.Errorf("a grant that was taken back stops the upgrade of a cluster that runs: %v", err)
	}
}

// TestPlan_Fits: the largest plan that is not refused can be recorded.
func TestPlan_Fits(t *testing.T) {
	in := running(5, 1, "v1.37.1")
	pool := &in.Spec.WorkerPools[0]
	for i := range 41 {
		name := fmt.Sprintf("x%d", i)
		pool.Hosts = append(pool.Hosts, name)
		in.Hosts[name] = stagestest.Bare(name, fmt.Sprintf("198.51.100.%d", i+1))
	}
	in.Applied.WorkerPools = in.Spec.DeepCopy().WorkerPools
	p, err := Plan(in)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Stages) != mostStages {
		t.Errorf("the plan has %d stages; the limit is not where the rule says: %d", len(p.Stages), mostStages)
	}
	calls := map[string]int{}
	for _, s := range p.Stages {
		for _, h := range s.Hosts {
			calls[h] += len(s.Calls)
		}
	}
	for host, n := range calls {
		if n > 128 {
			t.Errorf("host %s has %d steps, more than its record holds", host, n)
		}
	}
	if names := slices.Collect(func(yield func(string) bool) {
		for _, s := range p.Stages {
			if len(s.Name) > 63 && !yield(s.Name) {
				return
			}
		}
	}); len(names) > 0 {
		t.Errorf("names of stages that are too long: %v", names)
	}
}
