package operation

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/step"
)

// walk is the way of one host through its stages.
type walk struct {
	*run
	target  step.Target
	stages  []*stage
	journal *journal
	fence   host.Fence
	log     *hostLog
	// slot says that the host holds one of run.slots.
	slot bool
}

// fits proves that the journal of the host stays within what one HostRun may hold.
func (w *walk) fits() error {
	const perRecord, most = 140, 16 << 10
	calls, size := 0, 1<<10
	for _, s := range w.stages {
		for _, c := range s.Calls {
			calls++
			size += perRecord + len(c.Name)
		}
	}
	if calls > maxCalls || size > most {
		return fmt.Errorf("cannot run the plan: host %s has %d steps, more than a record of %d steps and %d bytes can hold",
			w.target.Name, calls, maxCalls, most)
	}
	return nil
}

// walk goes through every stage of the host. However it ends, nobody waits for the host afterwards.
func (w *walk) walk() {
	finished := 0
	defer func() {
		w.release()
		for _, s := range w.stages[finished:] {
			w.leave(s)
		}
	}()
	for _, s := range w.stages {
		call, err := w.stage(s)
		if err != nil {
			w.ended(s, call, err)
			return
		}
		finished++
		w.leave(s)
	}
	// An error has stopped the run, or is the journal's own and has stopped it too.
	_ = w.journal.flush()
}

// stage waits for s and runs its calls. It names the call that failed.
func (w *walk) stage(s *stage) (string, error) {
	if err := w.enter(s); err != nil {
		return "", err
	}
	defer w.release()
	if w.fence.Epoch == 0 {
		if err := w.join(s); err != nil {
			return "", err
		}
	}
	w.progress.began(s.index)
	over := w.over(s)
	for i := range s.Calls {
		if _, passes := w.steps[s.Calls[i].Name].(step.Passer); passes && over {
			w.progress.done(w.target.Name, s.Calls[i].Name, s.index)
			continue
		}
		if err := w.call(s, &s.Calls[i]); err != nil {
			return s.Calls[i].Name, err
		}
	}
	return "", nil
}

// over says that every call of a stage was done on the host before this run.
func (w *walk) over(s *stage) bool {
	return !slices.ContainsFunc(s.Calls, func(c plan.Call) bool { return w.journal.state(c.Name) != v1alpha1.StepDone })
}

// enter waits until s may begin and gets a slot.
func (w *walk) enter(s *stage) error {
	if len(s.after) > 0 && w.journal != nil {
		if err := w.journal.flush(); err != nil {
			return err
		}
	}
	for _, earlier := range s.after {
		select {
		case <-earlier.done:
		case <-w.halted:
			return errHalted
		case <-w.ctx.Done():
			return w.stopped()
		}
	}
	return w.acquire(w.ctx)
}

// acquire gets a slot, unless nothing may begin any more.
func (w *walk) acquire(ctx context.Context) error {
	select {
	case w.slots <- struct{}{}:
		w.slot = true
	case <-w.halted:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if w.isHalted() {
		return errHalted
	}
	return nil
}

// release gives the slot back.
func (w *walk) release() {
	if w.slot {
		w.slot = false
		<-w.slots
	}
}

// join opens the journal and claims the host for this run.
func (w *walk) join(s *stage) error {
	var err error
	if w.journal, err = w.openJournal(w.target.Name); err != nil {
		return err
	}
	a := &attempt{walk: w, stage: s, call: &plan.Call{}, limit: defaultDeadline}
	return a.within(a.claim)
}

// call runs one step.
func (w *walk) call(s *stage, c *plan.Call) error {
	if w.isHalted() {
		return errHalted
	}
	a := &attempt{walk: w, stage: s, call: c, step: w.steps[c.Name], limit: defaultDeadline}
	if d, ok := a.step.(step.Deadliner); ok && d.Deadline() > 0 {
		a.limit = d.Deadline()
	}
	return a.within(a.run)
}

// ended takes the error that ended the walk.
func (w *walk) ended(s *stage, call string, err error) {
	if w.stopped() != nil {
		return
	}
	if errors.Is(err, errHalted) {
		w.mu.Lock()
		w.cut = true
		w.mu.Unlock()
	} else {
		w.fail(w, s, call, err)
	}
	if w.journal != nil {
		_ = w.journal.flush() // its error has stopped the run
	}
}

// reading is what a step's Check sees. It cannot be turned back into something that writes.
func (w *walk) reading(session host.Session) step.Reader {
	return step.Reader{Reader: struct{ host.Reader }{session}, Target: w.target, Secrets: w.Secrets, Cluster: w.reader, Backups: w.Backups, Dial: session.DialContext}
}
