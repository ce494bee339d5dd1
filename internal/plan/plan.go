// Package plan owns what a plan is: data that says which step runs on which host and after what.
// It must never read a clock, a file or the network; the folders below it decide what each verb plans.
package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/step"
)

// Format is the version of the plan's own encoding.
const Format = 1

// Plan is everything an operation will do, frozen before it runs.
type Plan struct {
	Format int           `json:"format"`
	Verb   v1alpha1.Verb `json:"verb"`
	// Namespace and Cluster name the target.
	Namespace string `json:"namespace"`
	Cluster   string `json:"cluster"`
	// Summary is one line for people.
	Summary string `json:"summary"`
	// Facts is the digest of what was observed and decided the plan.
	Facts string `json:"facts"`
	// Given lists what exists before the plan begins, on every host or in the cluster.
	Given []step.Output `json:"given,omitempty"`
	// Hosts holds every host once.
	Hosts []step.Target `json:"hosts"`
	// Stages are in the order in which people read them; Needs decides the order in which they run.
	Stages []Stage `json:"stages"`
}

// Stage is a group of calls. Its hosts run side by side; on one host the calls run in order.
type Stage struct {
	Name string `json:"name"`
	// Title is what people read.
	Title string `json:"title"`
	// Needs names earlier stages that must be finished on all their hosts before this one begins on any.
	Needs []string `json:"needs,omitempty"`
	// Hosts names the hosts, each one of Plan.Hosts.
	Hosts []string `json:"hosts"`
	// Gate makes a failure on any host stop the whole operation before a later stage begins.
	Gate bool `json:"gate,omitempty"`
	// Calls are run in order on each host.
	Calls []Call `json:"calls"`
}

// Call is one step with its parameters.
type Call struct {
	// Name is unique in the plan; journals refer to it.
	Name string  `json:"name"`
	ID   step.ID `json:"id"`
	// Parameters are the step's fields.
	Parameters json.RawMessage `json:"parameters"`
	// Needs and Gives are the step's own, kept for previews.
	Needs []step.Output `json:"needs,omitempty"`
	Gives []step.Output `json:"gives,omitempty"`
}

// NewCall freezes a step under a name that is unique in the plan.
func NewCall(name string, s step.Step) (Call, error) {
	parameters, err := json.Marshal(s)
	if err != nil {
		return Call{}, fmt.Errorf("cannot encode step %s: %w", s.ID(), err)
	}
	c := Call{Name: name, ID: s.ID(), Parameters: parameters}
	if n, ok := s.(step.Needer); ok {
		c.Needs = n.Needs()
	}
	if g, ok := s.(step.Giver); ok {
		c.Gives = g.Gives()
	}
	return c, nil
}

// Target gives the host of that name, or false.
func (p *Plan) Target(name string) (step.Target, bool) {
	i := slices.IndexFunc(p.Hosts, func(t step.Target) bool { return t.Name == name })
	if i < 0 {
		return step.Target{}, false
	}
	return p.Hosts[i], true
}

// Encode gives the plan as canonical JSON; the same plan always gives the same bytes.
func (p *Plan) Encode() ([]byte, error) {
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("cannot encode the plan: %w", err)
	}
	return append(b, '\n'), nil
}

// Decode reads an encoded plan. Another format is refused.
func Decode(b []byte) (*Plan, error) {
	var p Plan
	if err := json.Unmarshal(b, &p); err != nil {
		return nil, fmt.Errorf("cannot decode the plan: %w", err)
	}
	if p.Format != Format {
		return nil, fmt.Errorf("cannot decode the plan: format %d, this version reads %d", p.Format, Format)
	}
	return &p, nil
}

// Digest gives "sha256:..." of b.
func Digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Steps counts calls over all hosts.
func (p *Plan) Steps() int {
	n := 0
	for _, s := range p.Stages {
		n += len(s.Hosts) * len(s.Calls)
	}
	return n
}
