// Package create plans a new cluster: it turns the wanted spec and what is known of the hosts into a plan.
// It must never read anything but its input.
package create

import (
	"fmt"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/step/access"
	"slipway.dev/slipway/internal/step/kubeadm"
	"slipway.dev/slipway/internal/step/precheck"
)

// The names of the stages.
const (
	stagePrecheck     = "precheck"
	stagePrepareCP    = "prepare-control-plane"
	stagePrepare      = "prepare-workers"
	stageControlPlane = "control-plane"
	stageShared       = "cluster"
	stageAddons       = "addons"
	stageRegister     = "register-control-planes"
	stageAccess       = "access"
	stageJoin         = "join"
	stageReady        = "ready"
	stageAvailable    = "available"
)

// Plan gives the plan, or a Terminal error that lists every rule the input breaks. Workers are prepared while the control
// plane starts, and not before: everybody waits for the control plane, so the server's link is first its own. Control planes
// start side by side, each etcd knowing all of them: one after another takes three times as long.
func Plan(in stages.Input) (*plan.Plan, error) {
	spec := in.Spec
	all, controlPlanes, workers := spec.AllHosts(), spec.ControlPlane.Hosts, spec.WorkerHosts()
	if err := precheck.Refusal(in.Check(all)); err != nil {
		return nil, err
	}
	first, others := controlPlanes[:1], controlPlanes[1:]
	var etcd *kubeadm.EtcdStart
	if len(others) > 0 {
		etcd = &kubeadm.EtcdStart{Members: in.EtcdMembers(controlPlanes)}
	}
	b := stages.New(in, v1alpha1.VerbCreate, fmt.Sprintf("create cluster %s: Kubernetes %s, %d control plane, %d workers",
		in.Name, spec.Kubernetes.Version, len(controlPlanes), len(workers)), all)
	b.Stage(plan.Stage{Name: stagePrecheck, Title: "Check the hosts", Hosts: all, Gate: true}, b.Precheck(all))
	b.Stage(plan.Stage{Name: stagePrepareCP, Title: "Prepare the control plane", Hosts: controlPlanes, Needs: []string{stagePrecheck}}, b.Prepare("control-plane", true, etcd))
	b.Stage(plan.Stage{Name: stagePrepare, Title: "Prepare the workers", Hosts: workers, Needs: []string{stagePrepareCP}}, b.Prepare("worker", false, nil))
	start := append(b.Keys(), b.Manifests(etcd)...)
	start = append(start, stages.Call{Name: "start-kubelet", Step: kubeadm.StartKubelet{}}, stages.Call{Name: "serve-api", Step: kubeadm.ServeAPI{}})
	b.Stage(plan.Stage{Name: stageControlPlane, Title: "Start the control plane", Hosts: controlPlanes, Needs: []string{stagePrepareCP}}, start)
	b.Stage(plan.Stage{Name: stageShared, Title: "Open the cluster", Hosts: first, Needs: []string{stageControlPlane}}, b.Shared())
	b.Stage(plan.Stage{Name: stageAddons, Title: "Install network and proxy", Hosts: first, Needs: []string{stageShared}}, b.Addons())
	ready := []string{stageAddons}
	if b.Stage(plan.Stage{Name: stageRegister, Title: "Register the other control planes", Hosts: others, Needs: []string{stageShared}}, b.Register("other")) {
		ready = append(ready, stageRegister)
	}
	// After the addons, on whose pods the workers wait.
	b.Stage(plan.Stage{Name: stageAccess, Title: "Give people their rights", Hosts: first, Needs: []string{stageAddons}}, []stages.Call{{Name: "cluster-access", Step: access.Roles{}}})
	if b.Stage(plan.Stage{Name: stageJoin, Title: "Join the workers", Hosts: workers, Needs: []string{stageShared, stagePrepare}}, b.Join()) {
		ready = append(ready, stageJoin)
	}
	b.Stage(plan.Stage{Name: stageReady, Title: "Wait for the nodes", Hosts: all, Needs: ready}, b.Ready())
	b.Stage(plan.Stage{Name: stageAvailable, Title: "Install DNS", Hosts: first, Needs: []string{stageReady}},
		[]stages.Call{b.DNS(), {Name: "workloads", Step: stages.Workloads()}})
	return b.Plan()
}
