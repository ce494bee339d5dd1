package upgrade

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/version"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/step/etcd"
	"slipway.dev/slipway/internal/step/kubeadm"
	"slipway.dev/slipway/internal/step/precheck"
)

// takenBack says that an upgrade is half done and the wanted version is the one that was there before.
func takenBack(in stages.Input) bool {
	return in.Applied != nil && len(in.Attempted) > 0 && in.Spec.Kubernetes.Version == in.Applied.Kubernetes.Version
}

// planBack goes back on the hosts that the upgrade has changed, in the opposite order: what is shared, kubelets, control
// planes. So no kubelet is ever newer than an API server, and no API server more than one minor version from another.
func planBack(in stages.Input) (*plan.Plan, error) {
	b := back{in: in}
	for _, name := range in.Spec.AllHosts() {
		b.look(name)
	}
	findings := append(b.refusals(), in.CheckRunning(b.hosts())...)
	if err := precheck.Refusal(findings); err != nil {
		return nil, err
	}
	b.Builder = stages.New(in, v1alpha1.VerbUpgrade, b.summary(), b.hosts())
	b.Running()
	b.images()
	b.share()
	for _, name := range slices.Concat(b.workers, b.kubelets) {
		drain := slices.Contains(b.workers, name) || len(in.Spec.WorkerHosts()) == 0 && len(in.Spec.ControlPlane.Hosts) > 1
		stage := "back-node-" + name
		b.Stage(stages.Holding(stage, "Kubelet and runtime of "+name+" back to "+b.version(), []string{name}), b.MoveNode(stage, drain))
	}
	for _, name := range slices.Backward(b.controlPlanes) {
		stage := "back-" + name
		b.Stage(stages.Holding(stage, "Control plane "+name+" back to "+b.version(), []string{name}),
			append(b.TakeBackControlPlane(stage), stages.Call{Name: stage + "/etcd", Step: etcd.Healthy{Members: len(in.Spec.ControlPlane.Hosts)}}))
	}
	b.letGo()
	return b.Plan()
}

// letGo takes the pins off what the upgrade brought.
func (b *back) letGo() {
	var others []*bundle.Manifest
	for _, version := range slices.Sorted(maps.Keys(b.in.Bundles)) {
		others = append(others, b.in.Bundles[version])
	}
	if old := b.Old(others...); len(old.Names) > 0 {
		b.Stage(stages.Holding("old-images", "Let go of the images that were not needed", b.hosts()), []stages.Call{{Name: "old-images", Step: old}})
	}
}

// back is what an upgrade has changed so far.
type back struct {
	*stages.Builder
	in stages.Input
	// controlPlanes, kubelets of control planes and workers were moved, or were being moved.
	controlPlanes, kubelets, workers []string
	// shared says that the cluster was told its new version.
	shared bool
	// far are control planes that went on to a second version, etcds those whose etcd was moved to another minor version.
	far, etcds []string
}

// look sorts a host by the names of the calls that changed something there: moveControlPlanes, share, moveKubelets and
// moveWorkers give them.
func (b *back) look(name string) {
	applied, err := version.ParseSemantic(b.in.Applied.Kubernetes.Version)
	if err != nil {
		return // A version that is applied was read before.
	}
	add := func(to *[]string) {
		if !slices.Contains(*to, name) {
			*to = append(*to, name)
		}
	}
	for _, call := range b.in.Changed[name] {
		first, rest, _ := strings.Cut(call, "/")
		hop, err := version.ParseSemantic(first)
		switch {
		case err == nil && strings.HasPrefix(rest, name+"/"):
			add(&b.controlPlanes)
			if hop.Minor() > applied.Minor()+1 {
				add(&b.far)
			}
			if rest == name+"/etcd-manifest" && etcdMinor(b.in.Bundles[first]) != etcdMinor(b.in.Bundle) {
				add(&b.etcds)
			}
		case strings.HasPrefix(call, "kubelet-"+name+"/"):
			add(&b.kubelets)
		case strings.HasPrefix(call, "workers-"), strings.HasPrefix(call, "back-node-") && !slices.Contains(b.in.Spec.ControlPlane.Hosts, name):
			add(&b.workers)
		case slices.Contains([]string{"upload-config", "control-plane-network", "network", "proxy", "dns"}, call):
			b.shared = true
		}
	}
}

func (b *back) refusals() []precheck.Finding {
	first := b.in.Spec.ControlPlane.Hosts[0]
	var found []precheck.Finding
	if len(b.far) > 0 {
		found = append(found, precheck.Finding{Host: b.far[0], Rule: "version", Found: "a second minor version on " + strings.Join(b.far, ", "),
			Needed: "one at most to go back: retry the upgrade, or restore the snapshot that it took"})
	}
	if len(b.etcds) == len(b.in.Spec.ControlPlane.Hosts) {
		found = append(found, precheck.Finding{Host: b.etcds[len(b.etcds)-1], Rule: "etcd", Found: "every member of etcd moved to its next minor version",
			Needed: "one that was not, to go back: retry the upgrade, or restore the snapshot that it took"})
	}
	for _, tried := range b.in.Attempted {
		if v := tried.Kubernetes.Version; v != b.version() && b.in.Bundles[v] == nil {
			found = append(found, precheck.Finding{Host: first, Rule: "bundle", Found: "no usable bundle of " + v, Needed: "the bundle that the upgrade was made with, to know what it brought"})
		}
	}
	return found
}

func (b *back) version() string { return b.in.Spec.Kubernetes.Version }

// hosts are those that something is done on; the first control plane tells the cluster.
func (b *back) hosts() []string {
	var all []string
	for _, name := range b.in.Spec.AllHosts() {
		if name == b.in.Spec.ControlPlane.Hosts[0] || slices.Contains(slices.Concat(b.controlPlanes, b.kubelets, b.workers), name) {
			all = append(all, name)
		}
	}
	return all
}

func (b *back) summary() string {
	return fmt.Sprintf("take an upgrade of cluster %s back to Kubernetes %s: %d control plane, kubelets of %d hosts", b.in.Name, b.version(),
		len(b.controlPlanes), len(b.kubelets)+len(b.workers))
}

// images are there but for what somebody removed since.
func (b *back) images() {
	var controlPlanes, workers []string
	for _, name := range b.hosts() {
		if slices.Contains(b.in.Spec.ControlPlane.Hosts, name) {
			controlPlanes = append(controlPlanes, name)
		} else {
			workers = append(workers, name)
		}
	}
	b.Stage(stages.Holding("images-control-planes", "See that the control planes have their images", controlPlanes), []stages.Call{{Name: "control-plane-images", Step: b.Images(true)}})
	b.Stage(stages.Holding("images-workers", "See that the workers have their images", workers), []stages.Call{{Name: "worker-images", Step: b.Images(false)}})
}

// share takes back what the cluster was told, which kubelets read. kube-proxy may be older than API servers.
func (b *back) share() {
	if !b.shared {
		return
	}
	calls := append(b.TakeBackConfig("back-config"), stages.Call{Name: "upload-config", Step: kubeadm.UploadConfig{Version: b.version()}})
	calls = append(append(calls, b.Addons()...), b.DNS())
	b.Stage(stages.Holding("addons", "Tell the cluster its version; network, proxy and DNS", b.in.Spec.ControlPlane.Hosts[:1]), calls)
}
