package operation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/step"
)

// PreviewState is what one Check pass says about one call on one host.
type PreviewState string

// The states of a previewed call.
const (
	// PreviewClean would change nothing.
	PreviewClean PreviewState = "clean"
	// PreviewDrift would change what Drift lists.
	PreviewDrift PreviewState = "drift"
	// PreviewAfter cannot be looked at before the step in After is done.
	PreviewAfter PreviewState = "after"
	// PreviewError would fail as things are.
	PreviewError PreviewState = "error"
)

// Preview is a plan plus one Check pass: what would be done on each host.
type Preview struct {
	// Hosts is in the plan's order.
	Hosts []HostPreview `json:"hosts"`
}

// HostPreview is the preview of one host.
type HostPreview struct {
	Host string `json:"host"`
	// Calls is in the plan's order.
	Calls []CallPreview `json:"calls"`
}

// CallPreview is the preview of one call on one host.
type CallPreview struct {
	Stage string       `json:"stage"`
	Call  string       `json:"call"`
	State PreviewState `json:"state"`
	// Drift is set with PreviewDrift.
	Drift step.Drift `json:"drift,omitempty"`
	// After is set with PreviewAfter and names the call, with " on HOST" when that is another one.
	After string `json:"after,omitempty"`
	// Message and Fix are set with PreviewError.
	Message string `json:"message,omitempty"`
	Fix     string `json:"fix,omitempty"`
}

// Clean says that the plan would change nothing.
func (p Preview) Clean() bool {
	return p.every(func(c CallPreview) bool { return c.State == PreviewClean })
}

// Errors says how many calls would fail as things are.
func (p Preview) Errors() int {
	n := 0
	p.every(func(c CallPreview) bool {
		if c.State == PreviewError {
			n++
		}
		return true
	})
	return n
}

func (p Preview) every(f func(CallPreview) bool) bool {
	for _, h := range p.Hosts {
		if slices.ContainsFunc(h.Calls, func(c CallPreview) bool { return !f(c) }) {
			return false
		}
	}
	return true
}

// Preview looks at every call on every host once and changes nothing, neither on hosts nor in the platform's API.
// A host that cannot be reached is an error of its calls. It fails when the plan cannot run at all.
func (e *Engine) Preview(ctx context.Context, p *plan.Plan) (Preview, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r := newRun(ctx, stop, e.deps, &v1alpha1.Operation{}, p)
	if err := r.prepare(); err != nil {
		return Preview{}, fmt.Errorf("cannot preview the plan: %w", r.clean(err))
	}
	v := preview{run: r, pending: map[place]string{}, broken: map[string]error{}, hosts: map[string]*HostPreview{}}
	for _, w := range r.walks {
		v.hosts[w.target.Name] = &HostPreview{Host: w.target.Name}
	}
	// Stage after stage, because what one gives the next may need; the hosts of a stage side by side.
	for _, s := range r.stages {
		v.stage(s)
	}
	if err := r.stopped(); err != nil {
		return Preview{}, fmt.Errorf("cannot preview the plan: %w", err)
	}
	var out Preview
	for _, w := range r.walks {
		out.Hosts = append(out.Hosts, *v.hosts[w.target.Name])
	}
	return out, nil
}

// place is an output on one host, or in the cluster when host is empty.
type place struct {
	host   string
	output step.Output
}

type preview struct {
	*run
	hosts map[string]*HostPreview

	mu sync.Mutex
	// pending holds the call that has yet to give an output.
	pending map[place]string
	// broken holds hosts without a connection.
	broken map[string]error
}

func (v *preview) stage(s *stage) {
	var all sync.WaitGroup
	for _, w := range v.walks {
		if !slices.Contains(s.Hosts, w.target.Name) {
			continue
		}
		all.Go(func() {
			if w.acquire(v.ctx) != nil {
				return
			}
			defer w.release()
			for i := range s.Calls {
				c := v.call(w, s, &s.Calls[i])
				c.Stage, c.Call = s.Name, s.Calls[i].Name
				v.hosts[w.target.Name].Calls = append(v.hosts[w.target.Name].Calls, c)
				v.gives(w.target.Name, &s.Calls[i], c)
			}
		})
	}
	all.Wait()
}

// call looks at one call on one host, unless it needs what is not there yet.
func (v *preview) call(w *walk, s *stage, c *plan.Call) CallPreview {
	if after := v.missing(w.target.Name, c); after != "" {
		return CallPreview{State: PreviewAfter, After: after}
	}
	v.mu.Lock()
	err := v.broken[w.target.Name]
	v.mu.Unlock()
	var drift step.Drift
	if err == nil {
		drift, err = v.check(w, s, c)
	}
	switch {
	case err != nil && fault.ClassOf(err) == fault.Waiting:
		return CallPreview{State: PreviewDrift, Drift: v.redacted(step.Drift{{What: c.Name, Have: err.Error(), Want: "finished"}})}
	case err != nil:
		f := v.failure(w.target.Name, c.Name, err)
		return CallPreview{State: PreviewError, Message: f.Message, Fix: f.Fix}
	case drift.Clean():
		return CallPreview{State: PreviewClean}
	default:
		return CallPreview{State: PreviewDrift, Drift: v.redacted(drift)}
	}
}

func (v *preview) check(w *walk, s *stage, c *plan.Call) (drift step.Drift, err error) {
	ctx, cancel := context.WithTimeout(v.ctx, defaultDeadline)
	defer cancel()
	if _, err := v.Sessions.Session(ctx, w.target.Name); err != nil {
		v.mu.Lock()
		v.broken[w.target.Name] = err
		v.mu.Unlock()
		return nil, err
	}
	a := &attempt{walk: w, stage: s, call: c, step: v.steps[c.Name], limit: defaultDeadline}
	return a.check(ctx)
}

// missing names the call whose output c has to wait for, or "".
func (v *preview) missing(name string, c *plan.Call) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, need := range c.Needs {
		p := place{output: need}
		if !need.OfCluster() {
			p.host = name
		}
		giver, pending := v.pending[p]
		if !pending {
			continue
		}
		return strings.TrimSuffix(giver, " on "+name)
	}
	return ""
}

// gives notes what a call that is not clean has yet to give.
func (v *preview) gives(name string, call *plan.Call, found CallPreview) {
	if found.State == PreviewClean {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, output := range call.Gives {
		p := place{output: output}
		if !output.OfCluster() {
			p.host = name
		}
		if _, known := v.pending[p]; !known {
			v.pending[p] = call.Name + " on " + name
		}
	}
}

func (v *preview) redacted(drift step.Drift) step.Drift {
	out := make(step.Drift, 0, len(drift))
	for _, d := range drift {
		out = append(out, step.Difference{What: v.text(d.What, maxMessage), Have: v.text(d.Have, maxMessage),
			Want: v.text(d.Want, maxMessage)})
	}
	return out
}
