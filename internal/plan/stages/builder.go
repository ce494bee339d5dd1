package stages

import (
	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/step"
)

// Builder puts a plan together. Its first error stays, and Plan gives it.
type Builder struct {
	in   Input
	plan *plan.Plan
	err  error
}

// Call is one step under a name that is unique in the plan.
type Call struct {
	Name string
	Step step.Step
}

// New begins a plan for hosts, each of which may be in any stage.
func New(in Input, verb v1alpha1.Verb, summary string, hosts []string) *Builder {
	b := &Builder{in: in, plan: &plan.Plan{
		Format: plan.Format, Verb: verb, Namespace: in.Namespace, Cluster: in.Name, Summary: summary, Facts: factsDigest(in, hosts),
	}}
	for _, name := range hosts {
		b.plan.Hosts = append(b.plan.Hosts, in.Target(name))
	}
	return b
}

// Given says what exists before the plan begins, on every host or in the cluster.
func (b *Builder) Given(outputs ...step.Output) { b.plan.Given = append(b.plan.Given, outputs...) }

// Stage adds a stage with its calls, and says whether it did: one without hosts or calls is left out.
func (b *Builder) Stage(s plan.Stage, calls []Call) bool {
	if len(s.Hosts) == 0 || len(calls) == 0 {
		return false
	}
	for _, c := range calls {
		frozen, err := plan.NewCall(c.Name, c.Step)
		if err != nil {
			b.err = err
			return false
		}
		s.Calls = append(s.Calls, frozen)
	}
	b.plan.Stages = append(b.plan.Stages, s)
	return true
}

// Plan gives the plan once it is proven that it can run.
func (b *Builder) Plan() (*plan.Plan, error) {
	if b.err != nil {
		return nil, b.err
	}
	if err := b.plan.Validate(); err != nil {
		return nil, err
	}
	return b.plan, nil
}
