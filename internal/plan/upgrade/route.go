package upgrade

import (
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/version"

	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/step/precheck"
)

const (
	// mostMinors is how many minor versions a kubelet may be behind its API server.
	mostMinors = precheck.MostSkew
	// mostStages is what one Operation can record.
	mostStages = 64
	// otherStages are those that every upgrade has.
	otherStages = 7
)

// route finds the versions on the way, one for each minor version, and the rules that the way breaks.
func route(in stages.Input) ([]hop, []precheck.Finding) {
	r := router{in: in, first: in.Spec.ControlPlane.Hosts[0]}
	if in.Applied == nil {
		r.add("version", "no version that is applied", "a cluster that runs")
		return nil, r.findings
	}
	was := in.Applied.DeepCopy()
	was.Kubernetes.Version = in.Spec.Kubernetes.Version
	if !equality.Semantic.DeepEqual(was, &in.Spec) {
		r.add("spec", "other changes than that of the version", "one change after another: bring those about first, or take them back")
	}
	for _, tried := range in.Attempted {
		if v := tried.Kubernetes.Version; v != in.Spec.Kubernetes.Version && v != in.Applied.Kubernetes.Version {
			r.add("version", "an upgrade to "+v+" that is half done", v+", to go on, or "+in.Applied.Kubernetes.Version+", to go back")
		}
	}
	from, err := version.ParseSemantic(in.Applied.Kubernetes.Version)
	if err != nil {
		r.add("version", in.Applied.Kubernetes.Version+" is applied", "a version such as v1.36.3")
		return nil, r.findings
	}
	to, err := version.ParseSemantic(in.Spec.Kubernetes.Version)
	if err != nil {
		r.add("version", in.Spec.Kubernetes.Version, "a version such as v1.36.3")
		return nil, r.findings
	}
	r.walk(from, to)
	return r.way, r.findings
}

type router struct {
	in       stages.Input
	first    string
	way      []hop
	findings []precheck.Finding
}

func (r *router) add(rule, found, needed string) {
	r.findings = append(r.findings, precheck.Finding{Host: r.first, Rule: rule, Found: found, Needed: needed})
}

func (r *router) walk(from, to *version.Version) {
	switch minors := int(to.Minor()) - int(from.Minor()); {
	case to.EqualTo(from):
		r.add("version", fmt.Sprintf("v%s in the cluster already", from), "a newer version")
		return
	case to.LessThan(from):
		r.add("version", fmt.Sprintf("v%s in the cluster, which is newer than v%s", from, to), "a newer version: Kubernetes cannot go back; restore a backup instead")
		return
	case to.Major() != from.Major() || minors > mostMinors:
		r.add("version", fmt.Sprintf("%d minor versions between v%s and v%s", minors, from, to),
			fmt.Sprintf("%d at most in one operation: kubelets must not fall further behind", mostMinors))
		return
	}
	etcd := etcdMinor(r.in.Bundles["v"+from.String()])
	for minor := from.Minor() + 1; minor < to.Minor(); minor++ {
		m := r.newest(to.Major(), minor)
		if m == nil {
			r.add("bundle", fmt.Sprintf("no usable bundle of v%d.%d", to.Major(), minor),
				fmt.Sprintf("a verified, enabled Bundle of v%d.%d, lent to project %s: no minor version can be skipped", to.Major(), minor, r.in.Namespace))
			return
		}
		etcd = r.step(m, etcd)
	}
	if r.in.Bundle == nil {
		return // The rules of bundles say so.
	}
	r.step(r.in.Bundle, etcd)
	r.batches()
}

// step adds one hop and gives the etcd that it ends with.
func (r *router) step(m *bundle.Manifest, before string) string {
	h := hop{Manifest: m}
	if now := etcdMinor(m); now != before {
		h.etcdTo = now
	}
	r.way = append(r.way, h)
	return etcdMinor(m)
}

// newest gives the newest bundle of a minor version.
func (r *router) newest(major, minor uint) *bundle.Manifest {
	var best *version.Version
	var found *bundle.Manifest
	for _, name := range slices.Sorted(maps.Keys(r.in.Bundles)) {
		m := r.in.Bundles[name]
		v, err := version.ParseSemantic(m.KubernetesVersion)
		if err == nil && v.Major() == major && v.Minor() == minor && (best == nil || best.LessThan(v)) {
			best, found = v, m
		}
	}
	return found
}

// batches refuses what one operation cannot record.
func (r *router) batches() {
	controlPlanes, workers := len(r.in.Spec.ControlPlane.Hosts), len(r.in.Spec.WorkerHosts())
	room := mostStages - otherStages - controlPlanes*(len(r.way)+1)
	if r.in.Keep != nil {
		room--
	}
	if (workers+atOnce(r.in)-1)/atOnce(r.in) > room {
		r.add("batches", fmt.Sprintf("%d workers, %d at a time", workers, atOnce(r.in)), fmt.Sprintf("--max-unavailable of %d at least", (workers+room-1)/room))
	}
}
