package configure

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/plan/stages/stagestest"
)

// running gives the input of a cluster with so many hosts whose spec is edited.
func running(controlPlanes, workers int, edits ...func(*v1alpha1.ClusterSpec)) stages.Input {
	in := stagestest.Wanted(workers)
	in.Operation = "uid-op"
	if controlPlanes > 1 {
		in.Spec.Endpoint.Provider, in.Spec.Endpoint.Host = v1alpha1.EndpointKubeVIP, "192.0.2.200"
	}
	for i := 2; i <= controlPlanes; i++ {
		name := fmt.Sprintf("cp%d", i)
		in.Spec.ControlPlane.Hosts = append(in.Spec.ControlPlane.Hosts, name)
		in.Hosts[name] = stagestest.Bare(name, fmt.Sprintf("192.0.2.%d", 200+i))
		in.Platform[name] = "192.0.2.1:8443"
	}
	for _, name := range in.Spec.AllHosts() {
		in.Claims[name] = v1alpha1.HostClaimSpec{Namespace: in.Namespace, Cluster: in.Name, ClusterUID: in.UID}
	}
	in.Applied = in.Spec.DeepCopy()
	for _, edit := range edits {
		edit(&in.Spec)
	}
	return in
}

func audit(on bool, f func(*v1alpha1.AuditSpec)) func(*v1alpha1.ClusterSpec) {
	return func(s *v1alpha1.ClusterSpec) {
		s.Components.APIServer.Audit.Enabled = on
		if f != nil {
			f(&s.Components.APIServer.Audit)
		}
	}
}

func mirror(registry string) func(*v1alpha1.ClusterSpec) {
	return func(s *v1alpha1.ClusterSpec) {
		s.Runtime.RegistryMirrors = []v1alpha1.RegistryMirror{{Registry: registry, Endpoints: []string{"https://mirror.example/v2/hub"}}}
	}
}

func record(s *v1alpha1.ClusterSpec) {
	s.HostSetup.HostRecords = []v1alpha1.HostRecord{{Address: "192.168.2.2", Names: []string{"files", "files.example"}}}
}

func logLevel(n int32) func(*v1alpha1.ClusterSpec) {
	return func(s *v1alpha1.ClusterSpec) { s.Components.LogLevel = n }
}

func nodePorts(s *v1alpha1.ClusterSpec) { s.Network.NodePortRange = "31000-32000" }

func reserve(memory string) func(*v1alpha1.ClusterSpec) {
	return func(s *v1alpha1.ClusterSpec) {
		s.Components.Kubelet.KubeReserved.Memory = new(resource.MustParse(memory))
	}
}

func sans(names ...string) func(*v1alpha1.ClusterSpec) {
	return func(s *v1alpha1.ClusterSpec) { s.Endpoint.CertSANs = names }
}

func all(s *v1alpha1.ClusterSpec) {
	for _, edit := range []func(*v1alpha1.ClusterSpec){audit(true, nil), mirror("docker.io"), record, logLevel(4), nodePorts, reserve("200Mi"), sans("api.example.org")} {
		edit(s)
	}
}

func TestPlan(t *testing.T) {
	cases := map[string]struct {
		reason string
		in     stages.Input
	}{
		"everything":  {"every setting at once, on control planes one after another and on every node", running(3, 2, all)},
		"by-hand":     {"the spec says what it said: everything is looked at, and what differs is put back", running(1, 1)},
		"certificate": {"only the certificate of the API server is made anew", running(1, 1, sans("api.example.org"))},
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

// TestPlan_TouchesOnly: each setting reaches the hosts that need it, by the steps that it needs, and restarts nothing else.
func TestPlan_TouchesOnly(t *testing.T) {
	// Each control plane gives the cluster's address away before its API server restarts.
	rolled := []string{"cp1 cp2 cp3: kubeadm-config", "cp1: hand-over", "cp1: endpoint", "cp1: manifests", "cp2: hand-over", "cp2: endpoint", "cp2: manifests",
		"cp3: hand-over", "cp3: endpoint", "cp3: manifests", "cp1: upload-config"}
	cases := map[string]struct {
		reason string
		edits  []func(*v1alpha1.ClusterSpec)
		// steps are those that change something, as HOSTS: STEP; summary ends the plan's.
		steps   []string
		summary string
	}{
		"audit": {"only API servers log requests; the policy is a file before anybody needs it", []func(*v1alpha1.ClusterSpec){audit(true, nil)}, rolled,
			"kube-apiserver restart on one control plane after another; choose a quiet hour"},
		"audit of nobody": {"parameters of a log that is off restart nothing", []func(*v1alpha1.ClusterSpec){audit(false, func(a *v1alpha1.AuditSpec) { a.MaxSize = 9 })},
			nil, "nothing restarts"},
		"node ports": {"only the API server gives ports away", []func(*v1alpha1.ClusterSpec){nodePorts}, rolled,
			"kube-apiserver restart on one control plane after another; choose a quiet hour"},
		"default node ports": {"Kubernetes' own range needs no flag", []func(*v1alpha1.ClusterSpec){func(s *v1alpha1.ClusterSpec) { s.Network.NodePortRange = "30000-32767" }},
			nil, "nothing restarts"},
		"log level": {"four components have it", []func(*v1alpha1.ClusterSpec){logLevel(4)}, append(slices.Clone(rolled), "cp1: proxy", "cp1: restart-proxy"),
			"kube-apiserver, kube-controller-manager, kube-scheduler restart on one control plane after another; kube-proxy restarts on one node after another; choose a quiet hour"},
		"name": {"API servers read a new certificate by themselves", []func(*v1alpha1.ClusterSpec){sans("api.example.org")}, []string{
			"cp1 cp2 cp3: kubeadm-config", "cp1: certificates", "cp2: certificates", "cp3: certificates", "cp1: upload-config"}, "nothing restarts"},
		"external address": {"it is one more name", []func(*v1alpha1.ClusterSpec){func(s *v1alpha1.ClusterSpec) { s.Endpoint.ExternalAddress = "198.51.100.7" }}, []string{
			"cp1 cp2 cp3: kubeadm-config", "cp1: certificates", "cp2: certificates", "cp3: certificates", "cp1: upload-config"}, "nothing restarts"},
		"mirror": {"the runtime reads it for each image: no component of the control plane is touched", []func(*v1alpha1.ClusterSpec){mirror("docker.io")},
			[]string{"cp1 cp2 cp3 w1 w2: host/mirrors"}, "nothing restarts"},
		"host record": {"a line of a file", []func(*v1alpha1.ClusterSpec){record}, []string{"cp1 cp2 cp3 w1 w2: host/host-records"}, "nothing restarts"},
		"swap":        {"what may be changed on hosts is changed on those that are nodes too", []func(*v1alpha1.ClusterSpec){func(s *v1alpha1.ClusterSpec) { s.HostSetup.DisableSwap = true }}, []string{"cp1 cp2 cp3 w1 w2: host/swap-off"}, "nothing restarts"},
		"proxy mode": {"the API servers do not know it", []func(*v1alpha1.ClusterSpec){func(s *v1alpha1.ClusterSpec) { s.Network.KubeProxyMode = "iptables" }},
			[]string{"cp1 cp2 cp3: kubeadm-config", "cp1: upload-config", "cp1: proxy", "cp1: restart-proxy"}, "kube-proxy restarts on one node after another; choose a quiet hour"},
		"reserved": {"kubelets read it from the cluster; control planes one after another, then the workers", []func(*v1alpha1.ClusterSpec){reserve("200Mi")}, []string{
			"cp1 cp2 cp3: kubeadm-config", "cp1: upload-config", "cp1: kubelet-config", "cp1: kubelet-restart", "cp2: kubelet-config", "cp2: kubelet-restart", "cp3: kubelet-config", "cp3: kubelet-restart",
			"w1: kubelet-config", "w1: kubelet-restart", "w2: kubelet-config", "w2: kubelet-restart"}, "kubelets restart, and pods run on; choose a quiet hour"},
		"validity": {"certificates that are made later", []func(*v1alpha1.ClusterSpec){func(s *v1alpha1.ClusterSpec) {
			s.Components.Certificates.Validity = &metav1.Duration{Duration: time.Hour}
		}}, []string{"cp1 cp2 cp3: kubeadm-config", "cp1: upload-config"}, "nothing restarts"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p, err := Plan(running(3, 2, c.edits...))
			if err != nil {
				t.Fatalf("%s: %v", c.reason, err)
			}
			var got []string
			for _, s := range p.Stages {
				if !s.Gate {
					t.Errorf("stage %s holds nothing back", s.Name)
				}
				for _, call := range s.Calls {
					if slices.Contains(gates(), string(call.ID)) {
						continue
					}
					what := call.Name
					if !strings.HasPrefix(what, "host/") {
						what = what[strings.LastIndex(what, "/")+1:]
					}
					got = append(got, strings.Join(s.Hosts, " ")+": "+what)
				}
			}
			if diff := cmp.Diff(c.steps, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
			if want := "configure cluster demo: " + c.summary; p.Summary != want {
				t.Errorf("the summary is %q, not %q", p.Summary, want)
			}
		})
	}
}

// gates are steps that only look and wait.
func gates() []string {
	return []string{"node.ready/v1", "etcd.healthy/v1", "kubeadm.serve-api/v1", "kubeadm.serve-settings/v1"}
}

// TestPlan_EditBack: what goes is taken away, not only left out.
func TestPlan_EditBack(t *testing.T) {
	in := running(1, 1, all)
	was := in.Spec.DeepCopy()
	in.Spec, in.Applied = *in.Applied, was
	p, err := Plan(in)
	if err != nil {
		t.Fatal(err)
	}
	var text string
	for _, s := range p.Stages {
		for _, c := range s.Calls {
			text += c.Name + " " + string(c.Parameters) + "\n"
		}
	}
	for _, want := range []string{`"unwanted":["api.example.org"]`, `"gone":["docker.io"]`, `host/host-records {}`, `"components":{}`} {
		if !strings.Contains(text, want) {
			t.Errorf("the plan does not hold %s:\n%s", want, text)
		}
	}
}

// TestPlan_UnwantedIsNotKubeadms: a name that kubeadm puts into every certificate cannot go.
func TestPlan_UnwantedIsNotKubeadms(t *testing.T) {
	in := running(1, 1, sans())
	in.Applied.Endpoint.CertSANs = []string{"cp1", "192.0.2.10", "10.96.0.1", "kubernetes", "kubernetes.default.svc", "gone.example"}
	p, err := Plan(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range p.Stages {
		for _, c := range s.Calls {
			if c.ID == "kubeadm.certificates/v1" && !strings.Contains(string(c.Parameters), `"unwanted":["gone.example"]`) {
				t.Errorf("unwanted names: %s", c.Parameters)
			}
		}
	}
}

// TestPlan_Batches: a plan of a large cluster can still be recorded.
func TestPlan_Batches(t *testing.T) {
	in := running(1, 1)
	for i := range 400 {
		name := fmt.Sprintf("x%d", i)
		in.Spec.WorkerPools[0].Hosts = append(in.Spec.WorkerPools[0].Hosts, name)
		in.Hosts[name] = stagestest.Bare(name, fmt.Sprintf("198.51.%d.%d", 100+i/250, i%250+1))
	}
	in.Applied = in.Spec.DeepCopy()
	reserve("200Mi")(&in.Spec)
	p, err := Plan(in)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(p.Stages); n > 40 {
		t.Errorf("the plan has %d stages", n)
	}
}

func TestPlan_Refused(t *testing.T) {
	away := stagestest.Alter("w2", func(h *v1alpha1.Host) {
		h.Status.Conditions[0].Status, h.Status.Conditions[0].Message = "False", "no route to host"
	})
	cases := map[string]struct {
		reason string
		edit   func(*v1alpha1.ClusterSpec)
		change func(*stages.Input)
		want   string
	}{
		"endpoint":    {"every kubeconfig names it", func(s *v1alpha1.ClusterSpec) { s.Endpoint.Host = "other.example" }, nil, "another host, port or provider of the endpoint"},
		"version":     {"a plan does one thing", func(s *v1alpha1.ClusterSpec) { s.Kubernetes.Version = "v1.37.1" }, nil, "other changes than those of settings"},
		"etcd":        {"its data would be left behind", func(s *v1alpha1.ClusterSpec) { s.Components.Etcd.DataDir = "/srv/etcd" }, nil, "other changes than those of settings"},
		"policy":      {"an API server would not start with it", audit(true, func(a *v1alpha1.AuditSpec) { a.Policy = "kind: Policy\nrules: 7" }), nil, "needs a Policy of audit.k8s.io/v1"},
		"name":        {"kubeadm would refuse it half-way", sans("API.example.org"), nil, `found "API.example.org", needs an IP or a DNS name in lower case`},
		"memory":      {"no pod would run", reserve("8Gi"), nil, "host cp1: reserved: found 8Gi of 8Gi memory"},
		"no bundle":   {"kubeadm's configuration names what it holds", logLevel(2), func(in *stages.Input) { in.Bundle = nil }, "bundle: found none"},
		"host away":   {"it would not have the setting", record, away, "host w2: reachable: found no route to host"},
		"all of them": {"what was changed by hand is looked for on every host", func(*v1alpha1.ClusterSpec) {}, away, "host w2: reachable: found no route to host"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in := running(1, 2, c.edit)
			if c.change != nil {
				c.change(&in)
			}
			_, err := Plan(in)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: got %v, want a refusal that says %q", c.reason, err, c.want)
			}
		})
	}
}

// TestPlan_HostAway: a worker that does not answer hinders only edits that concern it.
func TestPlan_HostAway(t *testing.T) {
	in := running(1, 2, nodePorts)
	stagestest.Alter("w2", func(h *v1alpha1.Host) { h.Status.Conditions[0].Status = "False" })(&in)
	if _, err := Plan(in); err != nil {
		t.Error(err)
	}
}
