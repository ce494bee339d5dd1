// Package stop plans how a cluster is stopped and kept: nothing of it runs or starts at boot, and nothing is removed.
// It must never read anything but its input, nor need the cluster to work.
package stop

import (
	"fmt"
	"slices"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/step/kubelet"
)

// Plan gives the plan: workers stop first, then what runs on the control planes, and etcd last.
func Plan(in stages.Input) (*plan.Plan, error) {
	controlPlanes, workers := in.Spec.ControlPlane.Hosts, in.Spec.WorkerHosts()
	all := slices.Concat(controlPlanes, workers)
	b := stages.New(in, v1alpha1.VerbStop, fmt.Sprintf("stop cluster %s: %d hosts, which keep everything", in.Name, len(all)), all)
	var needs []string
	if b.Stage(plan.Stage{Name: "workers", Title: "Stop the workers", Hosts: workers}, []stages.Call{{Name: "worker", Step: kubelet.Stop{}}}) {
		needs = []string{"workers"}
	}
	b.Stage(plan.Stage{Name: "control-planes", Title: "Stop the control planes", Hosts: controlPlanes, Needs: needs}, []stages.Call{{Name: "control-plane", Step: kubelet.Stop{KeepEtcd: true}}})
	b.Stage(plan.Stage{Name: "etcd", Title: "Stop etcd", Hosts: controlPlanes, Needs: []string{"control-planes"}}, []stages.Call{{Name: "etcd", Step: kubelet.Stop{}}})
	return b.Plan()
}
