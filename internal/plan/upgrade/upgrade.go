// Package upgrade plans how a cluster that runs comes to a newer Kubernetes version: control planes one after another and one
// minor version after another, then every kubelet once. It must never read anything but its input, nor plan a version skew
// that Kubernetes does not support.
package upgrade

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/version"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/step"
	"slipway.dev/slipway/internal/step/backup"
	"slipway.dev/slipway/internal/step/etcd"
	"slipway.dev/slipway/internal/step/kubeadm"
	"slipway.dev/slipway/internal/step/node"
	"slipway.dev/slipway/internal/step/precheck"
)

// Plan gives the plan, or a Terminal error that lists every rule the input breaks.
func Plan(in stages.Input) (*plan.Plan, error) {
	if takenBack(in) {
		return planBack(in)
	}
	way, findings := route(in)
	findings = append(findings, in.CheckRunning(in.Spec.AllHosts())...)
	for _, h := range way {
		if h.Manifest != in.Bundle {
			findings = append(findings, in.CheckBundle(h.Manifest, in.Spec.AllHosts())...)
		}
	}
	if err := precheck.Refusal(findings); err != nil {
		return nil, err
	}
	p := planner{
		in: in, way: way, Builder: stages.New(in, v1alpha1.VerbUpgrade, summary(in, way), in.Spec.AllHosts()),
		controlPlanes: in.Spec.ControlPlane.Hosts, workers: in.Spec.WorkerHosts(),
	}
	p.Running()
	p.look()
	p.bring()
	p.keep()
	p.backUp()
	for i := range way {
		p.moveControlPlanes(i)
	}
	p.share()
	p.moveKubelets()
	p.moveWorkers()
	p.letGo()
	return p.Plan()
}

// planner adds stages one after another. All of them hold back what comes behind: an upgrade that has failed somewhere must
// not go on elsewhere.
type planner struct {
	*stages.Builder
	in                     stages.Input
	way                    []hop
	controlPlanes, workers []string
}

// look changes nothing.
func (p *planner) look() {
	p.Stage(stages.Holding("precheck", "Look whether the cluster is fit", p.in.Spec.AllHosts()), []stages.Call{{Name: "nodes-ready", Step: node.Ready{}}})
	p.Stage(stages.Holding("precheck-control-planes", "Look at etcd, API servers, certificates and removed APIs in use", p.controlPlanes), []stages.Call{
		{Name: "etcd-fit", Step: etcd.Healthy{Members: len(p.controlPlanes)}},
		{Name: "api-fit", Step: kubeadm.ServeAPI{}},
		{Name: "certificates-fit", Step: kubeadm.ValidCertificates{}},
		{Name: "removed-apis", Step: precheck.RemovedAPIs{Version: p.in.Spec.Kubernetes.Version}},
		{Name: "skew", Step: precheck.Skew{Version: p.in.Spec.Kubernetes.Version}},
	})
}

// bring puts every image on every host while all of it still runs as before.
func (p *planner) bring() {
	var calls []stages.Call
	for _, h := range p.way {
		calls = append(calls, stages.Call{Name: "control-plane-images/" + h.version(), Step: p.At(h.Manifest).Images(true)})
	}
	p.Stage(stages.Holding("images-control-planes", "Bring the images to the control planes", p.controlPlanes), calls)
	p.Stage(stages.Holding("images-workers", "Bring the images to the workers", p.workers), []stages.Call{{Name: "worker-images", Step: p.Images(false)}})
}

// keep takes a way back before the first change.
func (p *planner) keep() {
	first := p.controlPlanes[:1]
	p.Stage(stages.Holding("snapshot", "Keep a snapshot of etcd on "+first[0], first), []stages.Call{{Name: "snapshot", Step: etcd.Snapshot{Name: "before-" + p.in.Spec.Kubernetes.Version + "-" + p.in.Operation}}})
}

// backUp takes a backup as well, which outlives the host, where a location is known for the cluster.
func (p *planner) backUp() {
	keep := p.in.Keep
	if keep == nil {
		return
	}
	p.Stage(stages.Holding("backup", "Take backup "+keep.Name+" to "+keep.Location, p.controlPlanes[:1]), []stages.Call{
		{Name: "backup", Step: backup.Take{Backup: step.BackupRef{Project: p.in.Namespace, Name: keep.Name}}},
	})
}

// moveControlPlanes brings one after another to the version of one hop.
func (p *planner) moveControlPlanes(i int) {
	h := p.way[i]
	at := p.At(h.Manifest)
	for n, name := range p.controlPlanes {
		prefix := h.version() + "/" + name
		title := fmt.Sprintf("Control plane %s to %s", name, h.version())
		if h.etcdTo != "" {
			title += ", etcd to " + h.etcdTo
			if n == len(p.controlPlanes)-1 {
				title += ": from here there is no simple way back"
			}
		}
		healthy := etcd.Healthy{Members: len(p.controlPlanes)}
		calls := slices.Concat([]stages.Call{{Name: prefix + "/etcd-before", Step: healthy}}, at.MoveControlPlane(prefix),
			[]stages.Call{{Name: prefix + "/etcd-after", Step: healthy}})
		p.Stage(stages.Holding(strings.ReplaceAll(prefix, "/", "-"), title, []string{name}), calls)
	}
}

// share tells the cluster its new version. kube-proxy must not be newer than any API server, and kubelets read from there.
func (p *planner) share() {
	calls := append([]stages.Call{{Name: "upload-config", Step: kubeadm.UploadConfig{Version: p.in.Spec.Kubernetes.Version}}}, p.Addons()...)
	calls = append(calls, p.DNS(), stages.Call{Name: "workloads", Step: stages.Workloads()})
	p.Stage(stages.Holding("addons", "Tell the cluster its version; network, proxy and DNS", p.controlPlanes[:1]), calls)
}

// moveKubelets brings the kubelets of control planes to the wanted version. They are drained only where they run what people
// deploy and where it can go elsewhere.
func (p *planner) moveKubelets() {
	drain := len(p.workers) == 0 && len(p.controlPlanes) > 1
	for _, name := range p.controlPlanes {
		p.Stage(stages.Holding("kubelet-"+name, "Kubelet and runtime of control plane "+name, []string{name}), p.MoveNode("kubelet-"+name, drain))
	}
}

// moveWorkers takes some workers at a time.
func (p *planner) moveWorkers() {
	n := 0
	for batch := range slices.Chunk(p.workers, atOnce(p.in)) {
		n++
		name := fmt.Sprintf("workers-%d", n)
		p.Stage(stages.Holding(name, "Move pods away; kubelet and runtime of "+short(batch), batch), p.MoveNode(name, true))
	}
}

// letGo takes the pins off what the cluster ran before. There is no way back from here but by bringing it again.
func (p *planner) letGo() {
	others := []*bundle.Manifest{p.in.Bundles[p.in.Applied.Kubernetes.Version]}
	for _, h := range p.way {
		others = append(others, h.Manifest)
	}
	old := p.Old(others...)
	if len(old.Names) > 0 {
		p.Stage(stages.Holding("old-images", "Let go of the images of before", p.in.Spec.AllHosts()), []stages.Call{{Name: "old-images", Step: old}})
	}
}

// atOnce is how many workers are out of service at a time.
func atOnce(in stages.Input) int { return max(1, int(in.Parameters.MaxUnavailable)) }

func short(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

func summary(in stages.Input, way []hop) string {
	last := way[len(way)-1]
	text := fmt.Sprintf("upgrade cluster %s: Kubernetes %s to %s", in.Name, in.Applied.Kubernetes.Version, last.version())
	if len(way) > 1 {
		var by []string
		for _, h := range way[:len(way)-1] {
			by = append(by, h.version())
		}
		text += " by way of " + strings.Join(by, " and ")
	}
	text += fmt.Sprintf(", %d control plane, %d workers; a snapshot of etcd is kept on %s first", len(in.Spec.ControlPlane.Hosts), len(in.Spec.WorkerHosts()), in.Spec.ControlPlane.Hosts[0])
	if in.Keep != nil {
		text += fmt.Sprintf(", and backup %s in %s%s", in.Keep.Name, in.Keep.Location, in.Place.LostWith())
	}
	for _, h := range way {
		if h.etcdTo != "" {
			text += "; etcd moves to " + h.etcdTo + ", from which there is no simple way back"
		}
	}
	return text
}

// hop is one version on the way.
type hop struct {
	*bundle.Manifest
	// etcdTo is the minor version of etcd that this hop brings, "" when it stays.
	etcdTo string
}

func (h hop) version() string { return h.KubernetesVersion }

// etcdMinor gives X.Y of a bundle's etcd, "" when there is no bundle.
func etcdMinor(m *bundle.Manifest) string {
	if m == nil {
		return ""
	}
	for _, i := range m.Images {
		if v, err := version.ParseGeneric(i.Tag()); i.Role == bundle.RoleEtcd && err == nil {
			return fmt.Sprintf("%d.%d", v.Major(), v.Minor())
		}
	}
	return ""
}
