package upgrade

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/plan/stages"
)

// halfWay gives a cluster of v1.35.4 whose upgrade has changed these calls, and that is to have the version again.
func halfWay(controlPlanes, workers int, to string, changed map[string][]string) stages.Input {
	in := running(controlPlanes, workers, to)
	in.Attempted = []v1alpha1.ClusterSpec{*in.Spec.DeepCopy()}
	in.Spec = *in.Applied.DeepCopy()
	in.Bundle = in.Bundles["v1.35.4"]
	in.Changed = changed
	return in
}

// moved are the calls by which a control plane moves.
func moved(name, version string) []string {
	var calls []string
	for _, call := range []string{"programs", "kubeadm-config", "manifests", "etcd-manifest"} {
		calls = append(calls, version+"/"+name+"/"+call)
	}
	return calls
}

func TestPlanBack(t *testing.T) {
	cases := map[string]struct {
		reason string
		in     stages.Input
		want   []string
	}{
		"first control plane": {"only the host that was changed, and the first, which tells the cluster", halfWay(3, 2, "v1.36.3", map[string][]string{
			"cp1": append([]string{"control-plane-images/v1.36.3", "snapshot"}, moved("cp1", "v1.36.3")...), "w1": {"worker-images"}}),
			[]string{"images-control-planes: cp1", "back-cp1: cp1", "old-images: cp1"}},
		"two control planes": {"the last that went comes back first", halfWay(3, 2, "v1.36.3", map[string][]string{"cp1": moved("cp1", "v1.36.3"), "cp2": moved("cp2", "v1.36.3")}),
			[]string{"images-control-planes: cp1 cp2", "back-cp2: cp2", "back-cp1: cp1", "old-images: cp1 cp2"}},
		"a worker": {"what is shared and kubelets come back before any API server: none is ever newer than one", halfWay(1, 3, "v1.36.3", map[string][]string{
			"cp1": append(moved("cp1", "v1.36.3"), "upload-config", "proxy", "kubelet-cp1/programs"), "w1": {"workers-1/cordon", "workers-1/programs"}, "w2": {"workers-2/cordon"}}),
			[]string{"images-control-planes: cp1", "images-workers: w1 w2", "addons: cp1", "back-node-w1: w1", "back-node-w2: w2", "back-node-cp1: cp1", "back-cp1: cp1", "old-images: cp1 w1 w2"}},
		"nothing": {"the snapshot was all that was done", halfWay(1, 1, "v1.36.3", map[string][]string{"cp1": {"snapshot"}}), []string{"images-control-planes: cp1", "old-images: cp1"}},
		"etcd can": {"while one member has the etcd of before, all of them can have it", func() stages.Input {
			in := halfWay(3, 0, "v1.37.1", map[string][]string{"cp1": moved("cp1", "v1.37.1"), "cp2": moved("cp2", "v1.37.1")})
			in.Applied.Kubernetes.Version, in.Spec.Kubernetes.Version, in.Bundle = "v1.36.3", "v1.36.3", in.Bundles["v1.36.3"]
			return in
		}(), []string{"images-control-planes: cp1 cp2", "back-cp2: cp2", "back-cp1: cp1", "old-images: cp1 cp2"}},
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
				for _, call := range s.Calls {
					if call.ID == "kubeadm.serve-version/v1" && !strings.Contains(string(call.Parameters), `"exact":true`) {
						t.Errorf("%s takes the newer version for the one that is wanted", call.Name)
					}
					if strings.Contains(string(call.Parameters), "keepNewer") {
						t.Errorf("%s keeps what is to go back", call.Name)
					}
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

func TestPlanBack_Refused(t *testing.T) {
	cases := map[string]struct {
		reason string
		in     stages.Input
		want   string
	}{
		"second minor": {"what v1.37 stored, v1.35 need not read", halfWay(1, 1, "v1.37.1", map[string][]string{"cp1": append(moved("cp1", "v1.36.3"), moved("cp1", "v1.37.1")...)}),
			"found a second minor version on cp1, needs one at most to go back: retry the upgrade, or restore the snapshot that it took"},
		"etcd": {"once the last member has moved, the data is of the new version", func() stages.Input {
			in := halfWay(1, 0, "v1.37.1", map[string][]string{"cp1": moved("cp1", "v1.37.1")})
			in.Applied.Kubernetes.Version, in.Spec.Kubernetes.Version, in.Bundle = "v1.36.3", "v1.36.3", in.Bundles["v1.36.3"]
			return in
		}(), "found every member of etcd moved to its next minor version"},
		"elsewhere": {"from the middle there are two ways", func() stages.Input {
			in := halfWay(1, 0, "v1.36.3", nil)
			in.Spec.Kubernetes.Version, in.Bundle = "v1.35.9", in.Bundles["v1.35.9"]
			return in
		}(), "found an upgrade to v1.36.3 that is half done, needs v1.36.3, to go on, or v1.35.4, to go back"},
		"no bundle": {"nobody knows what the upgrade brought", func() stages.Input {
			in := halfWay(1, 0, "v1.36.3", map[string][]string{"cp1": moved("cp1", "v1.36.3")})
			delete(in.Bundles, "v1.36.3")
			return in
		}(), "found no usable bundle of v1.36.3"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := Plan(c.in)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: got %v, want a refusal that says %q", c.reason, err, c.want)
			}
		})
	}
}
