// Package restore plans how a cluster goes back to what a backup holds.
// It must never read anything but its input, nor let a control plane start before all that can be reached have stopped.
package restore

import (
	"fmt"
	"slices"
	"strings"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/step"
	"slipway.dev/slipway/internal/step/kubeadm"
	"slipway.dev/slipway/internal/step/node"
	"slipway.dev/slipway/internal/step/precheck"
	"slipway.dev/slipway/internal/step/restore"
)

// Plan gives the plan, or a Terminal error that says why the backup cannot be brought back.
func Plan(in stages.Input) (*plan.Plan, error) {
	if err := fits(in); err != nil {
		return nil, err
	}
	lost := func(name string) bool { return slices.Contains(in.Parameters.Lost, name) }
	members := slices.DeleteFunc(slices.Clone(in.Spec.ControlPlane.Hosts), lost)
	if len(members) == 0 {
		return nil, fault.NewTerminal("NoControlPlane", "bring one control plane back, or create a new cluster",
			fmt.Errorf("cannot restore cluster %s: all its control planes are said to be lost", in.Name))
	}
	var found []precheck.Finding
	for _, name := range members {
		if reason := in.Unreachable(name); reason != "" {
			found = append(found, precheck.Finding{Host: name, Rule: "reachable", Found: reason,
				Needed: "every control plane, since one with the old data must not answer: bring it back, or --lost " + name + " to confirm that it is gone for good"})
		}
	}
	if err := precheck.Refusal(found); err != nil {
		return nil, err
	}
	// A worker that is away restarts its kubelet when it boots.
	workers := slices.DeleteFunc(in.Spec.WorkerHosts(), func(name string) bool { return lost(name) || in.Unreachable(name) != "" })
	p := planner{in: in, members: members, all: slices.Concat(members, workers), Builder: stages.New(in, v1alpha1.VerbRestore, summary(in), slices.Concat(members, workers))}
	p.Given(step.KubernetesFiles, step.KubeadmConfig, step.ControlPlaneManifests, step.Runtime)
	p.data()
	p.start()
	return p.Plan()
}

func summary(in stages.Input) string {
	text := fmt.Sprintf("restore cluster %s from backup %s of %s", in.Name, in.Backup.Name, in.Backup.Status.File.TakenAt.UTC().Format("2006-01-02 15:04:05 UTC"))
	if len(in.Parameters.Lost) > 0 {
		text += ", without " + strings.Join(in.Parameters.Lost, ", ")
	}
	return text
}

// fits says why the backup is none of this cluster as it is now.
func fits(in stages.Input) error {
	refuse := func(reason, fix, format string, args ...any) error {
		return fault.NewTerminal(reason, fix, fmt.Errorf("cannot restore cluster "+in.Name+": "+format, args...))
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
	case minor(b.Status.File.KubernetesVersion) != minor(in.Spec.Kubernetes.Version):
		return refuse("OtherVersion", "choose a backup that was taken with Kubernetes "+minor(in.Spec.Kubernetes.Version),
			"backup %s was taken with Kubernetes %s and the cluster runs %s", b.Name, b.Status.File.KubernetesVersion, in.Spec.Kubernetes.Version)
	case in.Bundle == nil:
		return refuse("NoBundle", "enable the bundle, or lend it to the project", "its bundle %s cannot be used: %s", in.Spec.Kubernetes.Version, in.BundleProblem)
	}
	return nil
}

// minor gives v1.36 of v1.36.3.
func minor(version string) string {
	parts := strings.SplitN(version, ".", 3)
	return strings.Join(parts[:min(len(parts), 2)], ".")
}

type planner struct {
	*stages.Builder
	in      stages.Input
	members []string
	all     []string
}

func (p *planner) ref() step.BackupRef {
	return step.BackupRef{Project: p.in.Namespace, Name: p.in.Backup.Name}
}

// data proves the backup, stops every control plane, and only then replaces the data of any.
func (p *planner) data() {
	dir, port := p.in.Spec.Components.Etcd.DataDir, p.in.Spec.Endpoint.Port
	p.Stage(plan.Stage{Name: "prove", Title: "Prove the backup", Hosts: p.members[:1], Gate: true},
		[]stages.Call{{Name: "prove", Step: restore.Prove{Backup: p.ref()}}})
	p.Stage(plan.Stage{Name: "prepare", Title: "Bring what restores", Hosts: p.members, Needs: []string{"prove"}, Gate: true},
		[]stages.Call{{Name: "programs", Step: p.Programs(step.RestoreFiles, map[string]string{"etcdutl": restore.Etcdutl})}})
	p.Stage(plan.Stage{Name: "stop", Title: "Stop the control planes", Hosts: p.members, Needs: []string{"prepare"}, Gate: true},
		[]stages.Call{{Name: "stop", Step: restore.Stop{Restore: p.in.Operation, DataDir: dir, Port: port}}})
	calls := append([]stages.Call{{Name: "data", Step: restore.Data{Backup: p.ref(), Restore: p.in.Operation, DataDir: dir, Members: p.in.EtcdMembers(p.members), Port: port}}}, p.Keys()...)
	p.Stage(plan.Stage{Name: "data", Title: "Put the data back", Hosts: p.members, Needs: []string{"stop"}, Gate: true}, calls)
}

// start brings up the API everywhere, then the controllers, and then makes the nodes match the hosts.
func (p *planner) start() {
	p.Stage(plan.Stage{Name: "start", Title: "Start etcd and the API servers", Hosts: p.members, Needs: []string{"data"}, Gate: true}, []stages.Call{
		{Name: "start-api", Step: restore.Start{Pods: []string{restore.Etcd, restore.APIServer}}},
		{Name: "serve-api", Step: kubeadm.ServeAPI{}},
	})
	p.Stage(plan.Stage{Name: "controllers", Title: "Start the controllers", Hosts: p.members, Needs: []string{"start"}, Gate: true},
		[]stages.Call{{Name: "start-controllers", Step: restore.Start{Pods: []string{restore.ControllerManager, restore.Scheduler}}}})
	p.Stage(plan.Stage{Name: "nodes", Title: "Make the nodes match the hosts", Hosts: p.members[:1], Needs: []string{"controllers"}},
		[]stages.Call{{Name: "match-nodes", Step: restore.MatchNodes{Hosts: p.in.Spec.AllHosts()}}})
	p.Stage(plan.Stage{Name: "kubelets", Title: "Restart the kubelets", Hosts: p.all, Needs: []string{"nodes"}}, []stages.Call{
		{Name: "restart-kubelet", Step: restore.RestartKubelet{Restore: p.in.Operation}},
		{Name: "node-ready", Step: node.Ready{}},
	})
	p.Stage(plan.Stage{Name: "register", Title: "Mark the control planes", Hosts: p.members, Needs: []string{"kubelets"}}, p.Register("register"))
	p.Stage(plan.Stage{Name: "finish", Title: "See that all works, and tidy up", Hosts: p.members, Needs: []string{"register"}}, []stages.Call{
		{Name: "workloads", Step: stages.Workloads()},
		{Name: "finish", Step: restore.Finish{DataDir: p.in.Spec.Components.Etcd.DataDir}},
	})
}
