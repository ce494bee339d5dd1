package restore

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/step/precheck"
)

// fits says why the backup is none of this cluster as it is now, or as it is wanted.
func fits(in stages.Input) error {
	refuse := func(reason, fix, format string, args ...any) error {
		return fault.NewTerminal(reason, fix, fmt.Errorf("cannot restore cluster "+in.Name+": "+format, args...))
	}
	b := in.Backup
	switch {
	case in.Applied == nil:
		return refuse("NotCreated", "create the cluster first", "it is not created yet")
	case b == nil || b.DeletionTimestamp != nil:
		return refuse("NotFound", "slipway backup list", "there is no backup %s", in.Parameters.Backup)
	case b.Spec.Cluster != in.Name:
		return refuse("InvalidBackup", "choose a backup of this cluster", "backup %s is of cluster %s", b.Name, b.Spec.Cluster)
	case b.Status.Phase != v1alpha1.BackupCompleted || b.Status.File == nil:
		return refuse("InvalidBackup", "choose a backup that is Completed", "backup %s is not completed", b.Name)
	case !in.Lends(v1alpha1.GrantBackupLocation, b.Spec.Location):
		return refuse("NotLent", "ask a system administrator for a Grant of BackupLocation "+b.Spec.Location+" in project "+in.Namespace,
			"backup location %s is not lent to project %s, or there is none of that name", b.Spec.Location, in.Namespace)
	}
	if reason, fix, text := in.PlaceProblem(); reason != "" {
		return refuse(reason, fix, "backup %s: %s", b.Name, text)
	}
	taken, runs, wanted := b.Status.File.KubernetesVersion, in.Applied.Kubernetes.Version, in.Spec.Kubernetes.Version
	switch {
	case minor(taken) != minor(runs) && wanted == runs:
		return refuse("OtherVersion", "add --with-version to put "+taken+" back on every node as well, or choose a backup that was taken with "+minor(runs),
			"backup %s was taken with Kubernetes %s and the cluster runs %s", b.Name, taken, runs)
	case wanted != runs && wanted != taken:
		return refuse("OtherVersion", "want the version of the backup, or the one that runs", "it would run Kubernetes %s, and backup %s was taken with %s", wanted, b.Name, taken)
	case !sameButHosts(in):
		return refuse("OtherChange", "restore first, and change the rest of the spec by another edit", "its spec would change in more than control planes, lost hosts and version")
	case in.Bundle == nil:
		return refuse("NoBundle", "enable the bundle, or lend it to the project", "its bundle %s cannot be used: %s", wanted, in.BundleProblem)
	case len(in.Spec.ControlPlane.Hosts) == 0 || len(within(in.Spec.ControlPlane.Hosts, in.Parameters.Lost)) == len(in.Spec.ControlPlane.Hosts):
		return refuse("NoControlPlane", "bring one control plane back, or name new machines that replace them", "all its control planes are said to be lost")
	}
	return nil
}

// sameButHosts says whether the wanted spec differs in nothing but control planes, workers that are lost, and the version.
func sameButHosts(in stages.Input) bool {
	was, is := in.Applied.DeepCopy(), in.Spec.DeepCopy()
	is.Kubernetes.Version, is.ControlPlane.Hosts = was.Kubernetes.Version, was.ControlPlane.Hosts
	kept := func(pools []v1alpha1.WorkerPool) []v1alpha1.WorkerPool {
		for i := range pools {
			pools[i].Hosts = slices.DeleteFunc(pools[i].Hosts, func(name string) bool { return slices.Contains(in.Parameters.Lost, name) })
		}
		return slices.DeleteFunc(pools, func(p v1alpha1.WorkerPool) bool { return len(p.Hosts) == 0 })
	}
	was.WorkerPools, is.WorkerPools = kept(was.WorkerPools), kept(is.WorkerPools)
	is.Recycle = was.Recycle
	return equality.Semantic.DeepEqual(was, is)
}

func within(names, others []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !slices.Contains(others, name) })
}

// refusals are the rules about hosts.
func (p *planner) refusals() []precheck.Finding {
	in := p.in
	var found []precheck.Finding
	add := func(host, rule, have, needed string) {
		found = append(found, precheck.Finding{Host: host, Rule: rule, Found: have, Needed: needed})
	}
	for _, name := range within(in.Spec.AllHosts(), in.Parameters.Lost) {
		add(name, "lost", "it is lost and stays in the spec", "a spec without it: slipway cluster restore --lost takes it out")
	}
	for _, name := range in.Applied.ControlPlane.Hosts {
		if !slices.Contains(in.Spec.AllHosts(), name) && !slices.Contains(in.Parameters.Lost, name) {
			add(name, "lost", "it would be taken out while it may run", "--lost "+name+" to confirm that it is gone for good")
		}
	}
	for _, name := range p.staying {
		if reason := in.Unreachable(name); reason != "" {
			add(name, "reachable", reason, "every control plane, since one with the old data must not answer: bring it back, or --lost "+name+" to confirm that it is gone for good")
		}
	}
	if p.back {
		for _, name := range in.Spec.WorkerHosts() {
			if reason := in.Unreachable(name); reason != "" {
				add(name, "reachable", reason, "every node, since the version of before must be put back on it: bring it back, or --lost "+name+" to confirm that it is gone for good")
			}
		}
	}
	if len(found) > 0 {
		return found
	}
	if was, is := stages.Endpoint(*in.Applied, in.Hosts), stages.Endpoint(in.Spec, in.Hosts); was != is {
		add(in.Spec.ControlPlane.Hosts[0], "endpoint", is, was+", where every node looks for the API: give the machine that address")
	}
	if len(p.fresh) > 0 {
		found = append(found, in.Check(p.fresh)...)
	}
	return found
}

// minor gives v1.36 of v1.36.3.
func minor(version string) string {
	parts := strings.SplitN(version, ".", 3)
	return strings.Join(parts[:min(len(parts), 2)], ".")
}
