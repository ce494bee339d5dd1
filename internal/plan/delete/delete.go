// Package delete plans the end of a cluster: every host is given back as it was found.
// It must never need the cluster to work, or any host to have been finished.
package delete

import (
	"fmt"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/step"
)

// Input is everything a plan is made from.
type Input struct {
	Namespace, Name string
	Spec            v1alpha1.ClusterSpec
	// Hosts are those that the cluster holds a claim on. Others were never touched.
	Hosts []step.Target
}

// Plan gives the plan. A cluster that holds no host gives one without stages.
func Plan(in Input) (*plan.Plan, error) {
	p := &plan.Plan{
		Format: plan.Format, Verb: v1alpha1.VerbDelete, Namespace: in.Namespace, Cluster: in.Name,
		Summary: fmt.Sprintf("delete cluster %s: clean %d hosts, remove all its data", in.Name, len(in.Hosts)),
		Hosts:   in.Hosts,
	}
	var names []string
	for _, t := range in.Hosts {
		names = append(names, t.Name)
	}
	if len(names) == 0 {
		return p, nil
	}
	stage := plan.Stage{Name: "clean", Title: "Clean the hosts", Hosts: names}
	for _, c := range stages.Clean(in.Spec) {
		call, err := plan.NewCall(c.Name, c.Step)
		if err != nil {
			return nil, err
		}
		stage.Calls = append(stage.Calls, call)
	}
	p.Stages = []plan.Stage{stage}
	return p, p.Validate()
}
