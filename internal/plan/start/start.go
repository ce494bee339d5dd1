// Package start plans how a cluster that was stopped runs again.
// It must never read anything but its input.
package start

import (
	"fmt"
	"slices"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/step"
	"slipway.dev/slipway/internal/step/etcd"
	"slipway.dev/slipway/internal/step/kubeadm"
	"slipway.dev/slipway/internal/step/kubelet"
	"slipway.dev/slipway/internal/step/node"
)

// Plan gives the plan. Control planes start side by side: one alone would have no majority in etcd.
func Plan(in stages.Input) (*plan.Plan, error) {
	controlPlanes, workers := in.Spec.ControlPlane.Hosts, in.Spec.WorkerHosts()
	all := slices.Concat(controlPlanes, workers)
	b := stages.New(in, v1alpha1.VerbStart, fmt.Sprintf("start cluster %s again: %d hosts", in.Name, len(all)), all)
	b.Given(step.ControlPlaneManifests)
	b.Stage(plan.Stage{Name: "control-planes", Title: "Start the control planes", Hosts: controlPlanes}, []stages.Call{
		{Name: "control-plane", Step: kubelet.Start{}},
		{Name: "api", Step: kubeadm.ServeAPI{}},
		{Name: "etcd", Step: etcd.Healthy{Members: len(controlPlanes)}},
	})
	b.Stage(plan.Stage{Name: "workers", Title: "Start the workers", Hosts: workers, Needs: []string{"control-planes"}}, []stages.Call{{Name: "worker", Step: kubelet.Start{}}})
	needs := []string{"control-planes"}
	if len(workers) > 0 {
		needs = append(needs, "workers")
	}
	b.Stage(plan.Stage{Name: "ready", Title: "Wait for the nodes", Hosts: all, Needs: needs}, []stages.Call{{Name: "ready", Step: node.Ready{Since: in.Began()}}})
	return b.Plan()
}
