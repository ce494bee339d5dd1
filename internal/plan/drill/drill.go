// Package drill plans how it is proven that a backup can be brought back.
// It must never read anything but its input, nor plan anything that changes a host or the cluster.
package drill

import (
	"fmt"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/step"
	"slipway.dev/slipway/internal/step/backup"
)

// Plan gives the plan: one step, which is recorded on the first host of the cluster that can be reached and asks nothing
// of it. The input's spec and bundle are those of the backup's Kubernetes version.
func Plan(in stages.Input) (*plan.Plan, error) {
	refuse := func(reason, fix, format string, args ...any) (*plan.Plan, error) {
		return nil, fault.NewTerminal(reason, fix, fmt.Errorf("cannot prove a backup of cluster "+in.Name+": "+format, args...))
	}
	b := in.Backup
	switch {
	case b == nil || b.DeletionTimestamp != nil:
		return refuse("NotFound", "slipway backup list", "there is no backup %s", in.Parameters.Backup)
	case b.Spec.Cluster != in.Name:
		return refuse("InvalidBackup", "choose a backup of this cluster", "backup %s is of cluster %s", b.Name, b.Spec.Cluster)
	case b.Status.Phase != v1alpha1.BackupCompleted || b.Status.File == nil:
		return refuse("InvalidBackup", "choose a backup that is Completed", "backup %s is not completed", b.Name)
	case !in.Lends(v1alpha1.GrantBackupLocation, b.Spec.Location):
		return refuse("NotLent", "ask a system administrator for a Grant of BackupLocation "+b.Spec.Location+" in project "+in.Namespace,
			"backup location %s is not lent to project %s, or there is none of that name", b.Spec.Location, in.Namespace)
	case in.Bundle == nil:
		return refuse("NoBundle", "add, enable or lend the bundle "+b.Status.File.KubernetesVersion, "the bundle %s of the backup's version cannot be used: %s", b.Status.File.KubernetesVersion, in.BundleProblem)
	}
	if reason, fix, text := in.PlaceProblem(); reason != "" {
		return refuse(reason, fix, "%s", text)
	}
	programs, missing := programs(in)
	if missing != "" {
		return refuse("NoProgram", "build or import a bundle "+in.Bundle.Name+" that has it", "its bundle has no %s for the server's machine, which is %s", missing, in.ServerArchitecture)
	}
	on := ""
	for _, name := range in.Spec.AllHosts() {
		if in.Unreachable(name) == "" {
			on = name
			break
		}
	}
	if on == "" {
		return refuse("NotReachable", "mend one host or its credential", "no host of the cluster can be reached, and an operation needs one that it holds: %s", in.Unreachable(in.Spec.ControlPlane.Hosts[0]))
	}
	builder := stages.New(in, v1alpha1.VerbDrill, fmt.Sprintf("prove that backup %s of cluster %s can be brought back, with Kubernetes %s on the server's machine", b.Name, in.Name, b.Status.File.KubernetesVersion), []string{on})
	builder.Stage(plan.Stage{Name: "drill", Title: "Bring the backup back aside, and compare", Hosts: []string{on}, Gate: true}, []stages.Call{
		{Name: "drill", Step: backup.Drill{Backup: step.BackupRef{Project: in.Namespace, Name: b.Name}, Drill: in.Operation, Programs: programs}},
	})
	return builder.Plan()
}

// programs finds them in the bundle, or names the one that it lacks.
func programs(in stages.Input) (step.DrillPrograms, string) {
	etcd, ok := in.Bundle.Image(bundle.RoleEtcd, in.ServerArchitecture)
	if !ok {
		return step.DrillPrograms{}, "etcd"
	}
	api, ok := in.Bundle.Image(bundle.RoleKubeAPIServer, in.ServerArchitecture)
	if !ok {
		return step.DrillPrograms{}, "kube-apiserver"
	}
	etcdutl, ok := in.Bundle.File("etcdutl", in.ServerArchitecture)
	if !ok {
		return step.DrillPrograms{}, "etcdutl"
	}
	return step.DrillPrograms{Etcd: string(etcd.Digest), APIServer: string(api.Digest), Etcdutl: string(etcdutl.Digest)}, ""
}
