// Package restore plans how a cluster goes back to what a backup holds, also onto control planes that replace lost ones, and
// also to the older version that the backup was taken with.
// It must never read anything but its input, nor let a control plane start before all that can be reached have stopped.
package restore

import (
	"fmt"
	"slices"
	"strings"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/step"
	"slipway.dev/slipway/internal/step/kubeadm"
	"slipway.dev/slipway/internal/step/node"
	"slipway.dev/slipway/internal/step/precheck"
	"slipway.dev/slipway/internal/step/restore"
)

// Plan gives the plan, or a Terminal error that says why the backup cannot be brought back. The input's spec is the one that
// the cluster has afterwards, its bundle that of the version it then runs.
func Plan(in stages.Input) (*plan.Plan, error) {
	if err := fits(in); err != nil {
		return nil, err
	}
	p := planner{in: in, back: in.Spec.Kubernetes.Version != in.Applied.Kubernetes.Version}
	for _, name := range in.Spec.ControlPlane.Hosts {
		if slices.Contains(in.Applied.ControlPlane.Hosts, name) {
			p.staying = append(p.staying, name)
		} else {
			p.fresh = append(p.fresh, name)
		}
	}
	if err := precheck.Refusal(p.refusals()); err != nil {
		return nil, err
	}
	// A worker that is away restarts its kubelet when it boots.
	p.workers = slices.DeleteFunc(in.Spec.WorkerHosts(), func(name string) bool { return in.Unreachable(name) != "" })
	p.members = in.Spec.ControlPlane.Hosts
	p.all = slices.Concat(p.members, p.workers)
	p.Builder = stages.New(in, v1alpha1.VerbRestore, p.summary(), p.all)
	p.Given(step.StoredConfig, step.RuntimeFiles, step.Runtime, step.KubernetesFiles, step.KubeadmConfig, step.ControlPlaneManifests)
	p.prove()
	p.bring()
	p.data()
	p.start()
	p.finish()
	return p.Plan()
}

type planner struct {
	*stages.Builder
	in stages.Input
	// members are all control planes of the restored cluster: staying ones and fresh ones, which were none before.
	members, staying, fresh []string
	// workers are those that can be reached, all is everybody in the plan.
	workers, all []string
	// back says that the cluster goes back to another version.
	back bool
}

func (p *planner) summary() string {
	b := p.in.Backup
	text := fmt.Sprintf("restore cluster %s from backup %s of %s", p.in.Name, b.Name, b.Status.File.TakenAt.UTC().Format("2006-01-02 15:04:05 UTC"))
	if p.back {
		text += fmt.Sprintf(", and go back from Kubernetes %s to %s on every node", p.in.Applied.Kubernetes.Version, p.in.Spec.Kubernetes.Version)
	}
	if len(p.fresh) > 0 {
		text += ", onto the new control plane " + strings.Join(p.fresh, ", ")
	}
	if len(p.in.Parameters.Lost) > 0 {
		text += ", without " + strings.Join(p.in.Parameters.Lost, ", ")
	}
	return text
}

func (p *planner) ref() step.BackupRef {
	return step.BackupRef{Project: p.in.Namespace, Name: p.in.Backup.Name}
}

// prove reads the whole backup, and looks at new hosts, before anything is touched.
func (p *planner) prove() {
	p.Stage(plan.Stage{Name: "prove", Title: "Prove the backup", Hosts: p.members[:1], Gate: true},
		[]stages.Call{{Name: "prove", Step: restore.Prove{Backup: p.ref()}}})
	p.Stage(plan.Stage{Name: "precheck", Title: "Check the new control planes", Hosts: p.fresh, Needs: []string{"prove"}, Gate: true}, p.Precheck(p.fresh))
}

// bring puts everything there that is needed later, while all runs as before.
func (p *planner) bring() {
	needs := []string{"prove"}
	if p.Stage(plan.Stage{Name: "prepare-fresh", Title: "Prepare the new control planes", Hosts: p.fresh, Needs: needs, Gate: true}, p.Prepare("fresh", true, nil)) {
		needs = []string{"prepare-fresh"}
	}
	if p.back {
		p.Stage(plan.Stage{Name: "images", Title: "Bring the images of the version of before to the control planes", Hosts: p.staying, Needs: needs, Gate: true},
			[]stages.Call{{Name: "images", Step: p.Images(true)}})
		p.Stage(plan.Stage{Name: "images-workers", Title: "Bring the images of the version of before to the workers", Hosts: p.workers, Needs: needs, Gate: true},
			[]stages.Call{{Name: "images-workers", Step: p.Images(false)}})
	}
	p.Stage(plan.Stage{Name: "prepare", Title: "Bring what restores", Hosts: p.members, Needs: needs, Gate: true},
		[]stages.Call{{Name: "programs", Step: p.Programs(step.RestoreFiles, map[string]string{"etcdutl": restore.Etcdutl})}})
}

// data stops every control plane, and only then replaces the data of any.
func (p *planner) data() {
	dir, port := p.in.Spec.Components.Etcd.DataDir, p.in.Spec.Endpoint.Port
	needs := []string{"prepare"}
	if p.Stage(plan.Stage{Name: "stop", Title: "Stop the control planes", Hosts: p.staying, Needs: needs, Gate: true},
		[]stages.Call{{Name: "stop", Step: restore.Stop{Restore: p.in.Operation, DataDir: dir, Port: port}}}) {
		needs = []string{"stop"}
	}
	if p.back {
		// While no API server runs: a kubelet must never be newer than the one it asks.
		p.Stage(plan.Stage{Name: "programs", Title: "Put the programs of before back on the nodes", Hosts: slices.Concat(p.staying, p.workers), Needs: needs, Gate: true}, p.Node("programs"))
		needs = []string{"programs"}
	}
	// Certificates name every control plane of now, which the configuration that made them may not.
	if p.Stage(plan.Stage{Name: "config", Title: "Bring the configuration up to date", Hosts: p.staying, Needs: needs, Gate: true},
		[]stages.Call{{Name: "config", Step: p.Configure(nil)}}) {
		needs = []string{"config"}
	}
	calls := append([]stages.Call{{Name: "data", Step: restore.Data{Backup: p.ref(), Restore: p.in.Operation, DataDir: dir, Members: p.in.EtcdMembers(p.members), Port: port}}}, p.Keys()...)
	p.Stage(plan.Stage{Name: "data", Title: "Put the data back", Hosts: p.members, Needs: needs, Gate: true}, calls)
}

// start brings up the API everywhere, and then the controllers. New control planes start beside the others: etcd needs its
// majority. Their controllers come at once, and find no data but the new.
func (p *planner) start() {
	needs := []string{"start"}
	if p.Stage(plan.Stage{Name: "start-fresh", Title: "Start the new control planes", Hosts: p.fresh, Needs: []string{"data"}}, slices.Concat(
		named("fresh-", p.Manifests(nil)),
		[]stages.Call{{Name: "fresh-kubelet", Step: kubeadm.StartKubelet{}}, {Name: "fresh-serve-api", Step: kubeadm.ServeAPI{}}},
	)) {
		needs = []string{"start-fresh"}
	}
	calls := []stages.Call{{Name: "start-api", Step: restore.Start{Pods: []string{restore.Etcd, restore.APIServer}}}}
	if p.back {
		calls = p.Manifests(nil)
	}
	calls = append(calls, stages.Call{Name: "serve-api", Step: kubeadm.ServeAPI{}})
	if p.Stage(plan.Stage{Name: "start", Title: "Start etcd and the API servers", Hosts: p.staying, Needs: []string{"data"}, Gate: true}, calls) && len(p.fresh) > 0 {
		needs = append(needs, "start")
	}
	p.Stage(plan.Stage{Name: "controllers", Title: "Start the controllers", Hosts: p.members, Needs: needs, Gate: true},
		[]stages.Call{{Name: "start-controllers", Step: restore.Start{Pods: []string{restore.ControllerManager, restore.Scheduler}}}})
}

// finish makes the nodes match the hosts.
func (p *planner) finish() {
	p.Stage(plan.Stage{Name: "nodes", Title: "Make the nodes match the hosts", Hosts: p.members[:1], Needs: []string{"controllers"}},
		[]stages.Call{{Name: "match-nodes", Step: restore.MatchNodes{Hosts: p.in.Spec.AllHosts()}}})
	var calls []stages.Call
	if p.back {
		calls = append(calls, stages.Call{Name: "kubelet-config", Step: kubeadm.KubeletConfig{}})
	}
	calls = append(calls, stages.Call{Name: "restart-kubelet", Step: restore.RestartKubelet{Restore: p.in.Operation}})
	if p.back {
		calls = append(calls, stages.Call{Name: "kubelet-version", Step: node.KubeletVersion{Version: p.in.Spec.Kubernetes.Version}})
	}
	// A new node is ready once it has its network.
	register := []string{"kubelets"}
	if p.Stage(plan.Stage{Name: "register-fresh", Title: "Register the new control planes", Hosts: p.fresh, Needs: []string{"nodes"}}, p.Register("register-fresh")) {
		register = append(register, "register-fresh")
	}
	p.Stage(plan.Stage{Name: "kubelets", Title: "Restart the kubelets", Hosts: p.all, Needs: []string{"nodes"}}, append(calls, stages.Call{Name: "node-ready", Step: node.Ready{Since: p.in.Began()}}))
	if p.Stage(plan.Stage{Name: "register", Title: "Mark the control planes", Hosts: p.staying, Needs: []string{"kubelets"}}, p.Register("register")) {
		register = append(register, "register")
	}
	workloads := stages.Workloads()
	workloads.Since = p.in.Began()
	p.Stage(plan.Stage{Name: "finish", Title: "See that all works, and tidy up", Hosts: p.members, Needs: register}, []stages.Call{
		{Name: "workloads", Step: workloads},
		{Name: "finish", Step: restore.Finish{DataDir: p.in.Spec.Components.Etcd.DataDir}},
	})
}

func named(prefix string, calls []stages.Call) []stages.Call {
	for i := range calls {
		calls[i].Name = prefix + calls[i].Name
	}
	return calls
}
