package plan

import (
	"fmt"
	"slices"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

// Validate proves that a plan can run: names are unique, hosts and stages exist, the order has no loop,
// whatever a step needs is given before it, on its own host or by a stage that is finished by then, and labels and
// taints are such as a node can carry.
func (p *Plan) Validate() error {
	for _, t := range p.Hosts {
		if err := words(t); err != nil {
			return fault.NewTerminal("InvalidPlan", "mend the labels and taints of the worker pool",
				fmt.Errorf("cannot accept the plan: host %s: %w", t.Name, err))
		}
	}
	v := validation{plan: p, stages: map[string]*Stage{}, calls: map[string]bool{}, before: map[string][]string{}}
	for i := range p.Stages {
		if err := v.stage(&p.Stages[i]); err != nil {
			return fmt.Errorf("cannot accept the plan: %w", err)
		}
	}
	return nil
}

type validation struct {
	plan   *Plan
	stages map[string]*Stage
	calls  map[string]bool
	// before holds, by stage, every stage that is finished before it begins.
	before map[string][]string
}

func (v *validation) stage(s *Stage) error {
	if v.stages[s.Name] != nil {
		return fmt.Errorf("two stages are named %s", s.Name)
	}
	if len(s.Hosts) == 0 || len(s.Calls) == 0 {
		return fmt.Errorf("stage %s is empty", s.Name)
	}
	for _, need := range s.Needs {
		if v.stages[need] == nil {
			return fmt.Errorf("stage %s needs %s, which does not come before it", s.Name, need)
		}
		v.before[s.Name] = append(v.before[s.Name], append(v.before[need], need)...)
	}
	for _, h := range s.Hosts {
		if _, known := v.plan.Target(h); !known {
			return fmt.Errorf("stage %s names host %s, which the plan does not hold", s.Name, h)
		}
	}
	v.stages[s.Name] = s
	for i, c := range s.Calls {
		if v.calls[c.Name] {
			return fmt.Errorf("two steps are named %s", c.Name)
		}
		v.calls[c.Name] = true
		for _, need := range c.Needs {
			for _, h := range s.Hosts {
				if !v.given(need, h, s, i) {
					return fmt.Errorf("step %s on %s needs %s, which no earlier step gives", c.Name, h, need)
				}
			}
		}
	}
	return nil
}

// given says whether out exists on host when call i of stage s begins.
func (v *validation) given(out step.Output, host string, s *Stage, i int) bool {
	if slices.Contains(v.plan.Given, out) {
		return true
	}
	if slices.ContainsFunc(s.Calls[:i], func(c Call) bool { return slices.Contains(c.Gives, out) }) {
		return true
	}
	for name, earlier := range v.stages {
		if name == s.Name {
			continue
		}
		onHost := slices.Contains(earlier.Hosts, host)
		finished := slices.Contains(v.before[s.Name], name)
		if !onHost && !(out.OfCluster() && finished) {
			continue
		}
		if slices.ContainsFunc(earlier.Calls, func(c Call) bool { return slices.Contains(c.Gives, out) }) {
			return true
		}
	}
	return false
}
