package operation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/secret"
	"slipway.dev/slipway/internal/step"
)

// errHalted says that a host may begin no further step; why is in run.halt.
var errHalted = errors.New("the operation begins no further step")

// run is one Run: everything in it dies with it.
type run struct {
	Deps
	ctx context.Context
	// stop ends the run on the spot, without an outcome.
	stop    context.CancelCauseFunc
	op      *v1alpha1.Operation
	plan    *plan.Plan
	steps   map[string]step.Step
	secrets *secret.Set
	stages  []*stage
	walks   []*walk
	// slots holds one element per host that works.
	slots    chan struct{}
	progress *progress
	// halted is closed when no further step may begin.
	halted chan struct{}
	// reader and writer are the managed cluster's API.
	reader step.ClusterReader
	writer step.ClusterWriter

	mu       sync.Mutex
	halt     halt
	passed   map[Edge]int
	failures []v1alpha1.Failure
	leftOut  []string
	// cut says that some host was not allowed to go on, fatal that a failure stops more than its own host.
	cut, fatal bool
}

// halt is why no further step begins.
type halt int

const (
	haltNone halt = iota
	haltAborted
	haltFailed
)

// stage is one stage of the plan while it runs.
type stage struct {
	*plan.Stage
	index int
	// after holds the stages that must be finished on all their hosts.
	after []*stage
	// done is closed when no host has anything to do in the stage any more.
	done chan struct{}
	// left counts hosts that have; failed says that one gave up here. Both are guarded by run.mu.
	left   int
	failed bool
}

func newRun(ctx context.Context, stop context.CancelCauseFunc, deps Deps, op *v1alpha1.Operation, p *plan.Plan) *run {
	r := &run{
		Deps: deps, ctx: ctx, stop: stop, op: op.DeepCopy(), plan: p, secrets: deps.Unprintable.Inner(),
		steps: map[string]step.Step{}, slots: make(chan struct{}, deps.Parallel),
		halted: make(chan struct{}), passed: map[Edge]int{},
	}
	r.Log = slog.New(r.secrets.Handler(deps.Log.Handler())).With("operation", op.Namespace+"/"+op.Name)
	r.Secrets = learning{next: deps.Secrets, set: r.secrets}
	r.progress = newProgress(r.op, p)
	return r
}

// maxStages and maxCalls are what one Operation and one HostRun can record.
const (
	maxStages = 64
	maxCalls  = 128
)

// prepare proves that all of the plan can run, before anything is touched.
func (r *run) prepare() error {
	if err := r.plan.Validate(); err != nil {
		return fault.NewTerminal("InvalidPlan", "abort the operation and plan again", err)
	}
	if len(r.plan.Stages) > maxStages {
		return fault.NewBug(fmt.Errorf("cannot run the plan: it has %d stages, %d at most", len(r.plan.Stages), maxStages))
	}
	var unknown []error
	for i := range r.plan.Stages {
		for _, c := range r.plan.Stages[i].Calls {
			s, err := r.Steps.Decode(c.ID, c.Parameters)
			if err != nil {
				unknown = append(unknown, err)
			}
			r.steps[c.Name] = s
		}
	}
	if len(unknown) > 0 {
		return unknown[0]
	}
	r.arrange()
	for _, w := range r.walks {
		if err := w.fits(); err != nil {
			return fault.NewBug(err)
		}
	}
	r.reader, r.writer = r.Cluster(r.plan.Namespace, r.plan.Cluster)
	return nil
}

// arrange turns the plan's lists into stages that can be waited for and walks that wait.
func (r *run) arrange() {
	byName := map[string]*stage{}
	for i := range r.plan.Stages {
		s := &stage{Stage: &r.plan.Stages[i], index: i, done: make(chan struct{}), left: len(r.plan.Stages[i].Hosts)}
		for _, earlier := range r.stages {
			// A gate holds back everything behind it, so that its failure finds nothing begun.
			if earlier.Gate || slices.Contains(s.Needs, earlier.Name) {
				s.after = append(s.after, earlier)
			}
		}
		r.stages = append(r.stages, s)
		byName[s.Name] = s
	}
	for _, t := range r.plan.Hosts {
		w := &walk{run: r, target: t, log: r.hostLog(t.Name)}
		for _, s := range r.stages {
			if slices.Contains(s.Hosts, t.Name) {
				w.stages = append(w.stages, s)
			}
		}
		if len(w.stages) > 0 {
			r.walks = append(r.walks, w)
		}
	}
}

// walkAll lets every host walk its stages and comes back when all have ended.
func (r *run) walkAll(abort <-chan struct{}) {
	ended := make(chan struct{})
	var aside, walks sync.WaitGroup
	aside.Go(func() {
		select {
		case <-abort:
			r.haltFor(haltAborted)
		case <-ended:
		}
	})
	aside.Go(func() { r.report(ended) })
	for _, w := range r.walks {
		walks.Go(w.walk)
	}
	walks.Wait()
	close(ended)
	aside.Wait()
}

// haltFor lets no further step begin. The first reason stays.
func (r *run) haltFor(why halt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.haltLocked(why)
}

func (r *run) haltLocked(why halt) {
	if r.halt == haltNone {
		r.halt = why
		close(r.halted)
	}
}

func (r *run) isHalted() bool {
	select {
	case <-r.halted:
		return true
	default:
		return false
	}
}

// leave notes that a host has nothing to do in s any more. The last one out of a gate that failed halts the operation,
// so that the other hosts can say what is wrong with them as well.
func (r *run) leave(s *stage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.left--
	if s.left > 0 {
		return
	}
	if s.Gate && s.failed {
		r.fatal = true
		r.haltLocked(haltFailed)
	}
	close(s.done)
	r.progress.finished(s.index)
}

// fail takes a failure of one host and decides whom it stops.
func (r *run) fail(w *walk, s *stage, call string, err error) {
	f := r.failure(w.target.Name, call, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, f)
	r.leftOut = append(r.leftOut, w.target.Name)
	switch {
	case s != nil && s.Gate:
		s.failed = true
	case s == nil || w.target.ControlPlane:
		r.fatal = true
		r.haltLocked(haltFailed)
	}
	r.progress.failed(r.sortedFailures())
}

// sortedFailures gives the failures in the plan's order of hosts, MaxFailures at most. The caller holds mu.
func (r *run) sortedFailures() []v1alpha1.Failure {
	position := map[string]int{}
	for i, t := range r.plan.Hosts {
		position[t.Name] = i
	}
	sorted := slices.Clone(r.failures)
	slices.SortStableFunc(sorted, func(a, b v1alpha1.Failure) int { return position[a.Host] - position[b.Host] })
	return sorted[:min(len(sorted), MaxFailures)]
}

// learning is Secrets whose values are remembered as unprintable.
type learning struct {
	next step.Secrets
	set  *secret.Set
}

// Secret reads a value and remembers it.
func (l learning) Secret(ctx context.Context, ref step.SecretRef) ([]byte, error) {
	if l.next == nil {
		return nil, fault.NewBug(fmt.Errorf("cannot read secret %s: the engine was made without secrets", ref.Name))
	}
	value, err := l.next.Secret(ctx, ref)
	if err == nil {
		l.set.Add(value)
	}
	return value, err
}

// clean gives err with its class and without secrets, cut to what a status can hold.
func (r *run) clean(err error) error {
	return &fault.Error{Class: fault.ClassOf(err), Reason: fault.ReasonOf(err), Fix: fault.FixOf(err),
		Err: errors.New(r.secrets.Redact(err.Error()))}
}

// superseded says that err is a refusal in favour of a newer claim.
func superseded(err error) bool {
	reason := fault.ReasonOf(err)
	return reason == ReasonSuperseded || reason == host.ReasonFencedOff
}

// ReasonSuperseded is the reason of the error that Run gives when another engine has taken the operation over.
const ReasonSuperseded = "Superseded"

// Superseded says that Run stopped because another engine has taken over: on the host or in the journal.
// Running the operation again takes it back.
func Superseded(err error) bool { return err != nil && superseded(err) }

func names(list []string) string {
	const shown = 5
	if len(list) > shown {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:shown], ", "), len(list)-shown)
	}
	return strings.Join(list, ", ")
}
