package configure

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/plan/stages/stagestest"
)

// halfDone gives the input of a cluster whose settings a change has left half done; edits are of the spec of before.
func halfDone(tried func(*v1alpha1.ClusterSpec), changed map[string][]string, edits ...func(*v1alpha1.ClusterSpec)) stages.Input {
	in := running(3, 2, edits...)
	attempted := in.Applied.DeepCopy()
	tried(attempted)
	in.Attempted, in.Changed = []v1alpha1.ClusterSpec{*attempted}, changed
	return in
}

// outline gives the stages of a plan, as NAME: HOSTS: STEPS, without gates.
func outline(t *testing.T, in stages.Input) (summary string, all []string) {
	t.Helper()
	p, err := Plan(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range p.Stages {
		line := s.Name + ": " + strings.Join(s.Hosts, " ") + ":"
		for _, call := range s.Calls {
			if !slices.Contains(gates(), string(call.ID)) {
				line += " " + call.Name[strings.LastIndex(call.Name, "/")+1:]
			}
		}
		all = append(all, line)
	}
	return p.Summary, all
}

// TestPlan_HalfDone: what a change that did not end has changed is brought to what is wanted now, whatever that is.
func TestPlan_HalfDone(t *testing.T) {
	upTo := func(name string) map[string][]string {
		changed := map[string][]string{}
		for _, cp := range []string{"cp1", "cp2", "cp3"} {
			changed[cp] = append(changed[cp], "kubeadm-config", cp+"/manifests")
			if cp == name {
				return changed
			}
		}
		return changed
	}
	cases := map[string]struct {
		reason  string
		in      stages.Input
		summary string
		stages  []string
	}{
		"back": {"the one that it stopped at comes first, since its API server may not run, and nothing is asked of it before; the one that was not reached is left alone",
			halfDone(nodePorts, upTo("cp2")), "take a change of the settings of cluster demo back: kube-apiserver restart on one control plane after another; choose a quiet hour",
			[]string{"kubeadm-config: cp1 cp2: kubeadm-config", "control-plane-cp2: cp2: hand-over endpoint manifests", "control-plane-cp1: cp1: hand-over endpoint manifests", "cluster: cp1: upload-config",
				"look: cp1 cp2:", "look-control-planes: cp1 cp2:"}},
		"back from nothing": {"a change that was stopped before it did anything needs no more than a look", halfDone(record, nil),
			"take a change of the settings of cluster demo back: nothing restarts", []string{"hosts: cp1: host-records", "look: cp1:"}},
		"back on workers": {"only those that were changed", halfDone(record, map[string][]string{"w2": {"host/host-records"}}),
			"take a change of the settings of cluster demo back: nothing restarts", []string{"hosts: cp1 w2: host-records", "look: cp1 w2:"}},
		"back of kubelets": {"the cluster is told first, since kubelets read it there", halfDone(reserve("200Mi"), map[string][]string{"cp1": {"kubeadm-config", "upload-config", "kubelet-cp1/kubelet-config"}, "w1": {"kubelets-1/kubelet-config"}}),
			"take a change of the settings of cluster demo back: kubelets restart, and pods run on; choose a quiet hour",
			[]string{"kubeadm-config: cp1: kubeadm-config", "cluster: cp1: upload-config", "kubelet-cp1: cp1: kubelet-config kubelet-restart", "kubelets-1: w1: kubelet-config kubelet-restart", "look: cp1 w1:"}},
		"back before kube-proxy": {"its configuration was not touched, so it does not restart", halfDone(logLevel(4), upTo("cp1")),
			"take a change of the settings of cluster demo back: kube-apiserver, kube-controller-manager, kube-scheduler restart on one control plane after another; choose a quiet hour",
			[]string{"kubeadm-config: cp1: kubeadm-config", "control-plane-cp1: cp1: hand-over endpoint manifests", "cluster: cp1: upload-config", "look: cp1:", "look-control-planes: cp1:"}},
		"back after kube-proxy": {"it may run with what nobody wants", halfDone(logLevel(4), map[string][]string{"cp1": {"proxy"}}),
			"take a change of the settings of cluster demo back: kube-apiserver, kube-controller-manager, kube-scheduler restart on one control plane after another; kube-proxy restarts on one node after another; choose a quiet hour",
			[]string{"kubeadm-config: cp1: kubeadm-config", "control-plane-cp1: cp1: hand-over endpoint manifests", "cluster: cp1: upload-config proxy restart-proxy", "look: cp1:", "look-control-planes: cp1:"}},
		"something else": {"every control plane gets what is wanted now, and those that were changed lose what was wanted then", halfDone(nodePorts, upTo("cp1"), logLevel(2)),
			"configure cluster demo, which a change has left half done: kube-apiserver, kube-controller-manager, kube-scheduler restart on one control plane after another; kube-proxy restarts on one node after another; choose a quiet hour",
			[]string{"kubeadm-config: cp1 cp2 cp3: kubeadm-config", "control-plane-cp1: cp1: hand-over endpoint manifests", "control-plane-cp2: cp2: hand-over endpoint manifests", "control-plane-cp3: cp3: hand-over endpoint manifests",
				"cluster: cp1: upload-config proxy restart-proxy", "look: cp1 cp2 cp3:", "look-control-planes: cp1 cp2 cp3:"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			summary, got := outline(t, c.in)
			if summary != c.summary {
				t.Errorf("the summary is %q, not %q", summary, c.summary)
			}
			if diff := cmp.Diff(c.stages, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

// TestPlan_HalfDoneLeavesNothing: what only a change that did not end has brought is taken away, not left out.
func TestPlan_HalfDoneLeavesNothing(t *testing.T) {
	in := halfDone(all, map[string][]string{"cp1": {"host/mirrors"}}, mirror("quay.io"), sans("b.example.org"))
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
	for _, want := range []string{`"unwanted":["api.example.org"]`, `"gone":["docker.io"]`} {
		if !strings.Contains(text, want) {
			t.Errorf("the plan does not hold %s:\n%s", want, text)
		}
	}
}

// TestPlan_HalfDoneHostAway: a host that was not changed yet need not be there to go back, and one that was has to.
func TestPlan_HalfDoneHostAway(t *testing.T) {
	away := stagestest.Alter("w2", func(h *v1alpha1.Host) {
		h.Status.Conditions[0].Status, h.Status.Conditions[0].Message = "False", "no route to host"
	})
	for changed, refused := range map[string]bool{"w1": false, "w2": true} {
		in := halfDone(record, map[string][]string{changed: {"host/host-records"}})
		away(&in)
		if _, err := Plan(in); (err != nil) != refused || refused && !strings.Contains(err.Error(), "host w2: reachable: found no route to host") {
			t.Errorf("%s was changed: %v", changed, err)
		}
	}
}

// TestPlan_ByHandAgain: a look at everything that did not end is one again.
func TestPlan_ByHandAgain(t *testing.T) {
	in := halfDone(func(*v1alpha1.ClusterSpec) {}, map[string][]string{"cp1": {"control-plane/kernel"}})
	if summary, got := outline(t, in); !strings.Contains(summary, "put back what was changed by hand") || !strings.HasPrefix(got[0], "look: cp1 cp2 cp3 w1 w2:") {
		t.Errorf("the plan is %q: %q", summary, got)
	}
}
