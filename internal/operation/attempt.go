package operation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"time"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/step"
)

// How the engine tries again.
const (
	defaultDeadline = 10 * time.Minute
	// maxBroken is how many transient errors one step may meet.
	maxBroken = 6
	// maxFruitless is how often Apply may end well and change nothing.
	maxFruitless                = 2
	shortestWait, longestWait   = 100 * time.Millisecond, 2 * time.Second
	shortestRetry, longestRetry = time.Second, 30 * time.Second
	maxShift                    = 16
)

var errDeadline = errors.New("the deadline of the step has passed")

// attempt is one run of one step on one host.
type attempt struct {
	*walk
	stage *stage
	call  *plan.Call
	step  step.Step
	limit time.Duration

	// began says that the journal says Running, changing that it says that Apply was needed.
	began, changing bool
	// applied counts runs of Apply over all runs of the operation, fruitless those of this one that ended well.
	applied   int32
	fruitless int
	// unread counts transient errors of Check since it last worked, broken those of Apply, waits those that said "not yet".
	unread, broken, waits int
	// last is the error before the present wait.
	last error
}

// within runs f under the step's deadline and keeps the record of its end.
func (a *attempt) within(f func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(a.ctx, a.limit, errDeadline)
	defer cancel()
	err := f(ctx)
	if cause := a.stopped(); cause != nil {
		return cause
	}
	if superseded(err) && a.overtaken(err) {
		a.note(levelError, err.Error(), err)
		return a.lost(err)
	}
	if err != nil && a.began {
		a.journal.failed(a.call.Name)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errHalted):
		if a.began {
			a.note(levelWarn, "stopped waiting: "+errHalted.Error(), a.last)
		}
	default:
		a.note(levelError, err.Error(), err)
		a.evidence(err)
	}
	return err
}

// run looks, makes it so, and looks again, until Check finds no drift.
func (a *attempt) run(ctx context.Context) error {
	for {
		drift, err := a.check(ctx)
		if err == nil && drift.Clean() {
			return a.verified()
		}
		if err == nil {
			a.unread = 0
			if a.fruitless == maxFruitless {
				return fault.NewTerminal("NothingChanged", "look at the operation's log of this host, then retry",
					fmt.Errorf("cannot finish %s: the step changed nothing: %s", a.call.Name, describe(drift)))
			}
			if err = a.apply(ctx, drift); err == nil {
				a.fruitless++
				continue
			}
			if fault.ClassOf(err) == fault.Transient && fault.ReasonOf(err) != host.ReasonBusy {
				a.broken++
			}
		} else if fault.ClassOf(err) == fault.Transient {
			a.unread++
		}
		if err := a.pause(ctx, err); err != nil {
			return err
		}
	}
}

// verified notes that the step is done.
func (a *attempt) verified() error {
	if err := a.edge(a.target.Name, a.call.Name, AfterVerify); err != nil {
		return err
	}
	if a.began {
		a.note(levelInfo, "done", nil)
	} else {
		a.note(levelInfo, "nothing to do", nil)
	}
	a.journal.done(a.call.Name)
	a.progress.done(a.target.Name, a.call.Name, a.stage.index)
	return nil
}

// check runs the step's Check on a live session. A panic in it is a Bug.
func (a *attempt) check(ctx context.Context) (drift step.Drift, err error) {
	defer a.recovered("Check", &err)
	session, err := a.Sessions.Session(ctx, a.target.Name)
	if err != nil {
		return nil, err
	}
	return a.step.Check(ctx, a.reading(session))
}

// apply records that the step runs and runs its Apply. A panic in it is a Bug.
func (a *attempt) apply(ctx context.Context, drift step.Drift) (err error) {
	if err := a.begin(true); err != nil {
		return err
	}
	defer a.recovered("Apply", &err)
	session, err := a.Sessions.Session(ctx, a.target.Name)
	if err != nil {
		return err
	}
	if err := a.edge(a.target.Name, a.call.Name, BeforeApply); err != nil {
		return err
	}
	a.applied = a.journal.applies(a.call.Name)
	a.note(levelInfo, "differs: "+describe(drift), nil)
	err = a.step.Apply(ctx, a.writing(session))
	if cause := a.edge(a.target.Name, a.call.Name, AfterApply); cause != nil {
		return cause
	}
	return err
}

// begin records that the step runs, and whether it changes something. No step begins when the operation halts.
func (a *attempt) begin(changing bool) error {
	if a.began && (a.changing || !changing) {
		return a.stopped()
	}
	if a.isHalted() {
		return errHalted
	}
	a.progress.undone(a.target.Name, a.call.Name, a.stage.index)
	if err := a.journal.begin(a.call.Name, changing); err != nil {
		return err
	}
	a.began, a.changing = true, changing
	return nil
}

func (a *attempt) recovered(where string, err *error) {
	p := recover()
	if p == nil {
		return
	}
	stack := string(debug.Stack())
	a.Log.Error("a step panicked", "host", a.target.Name, "step", a.call.Name, "panic", fmt.Sprint(p), "stack", stack)
	a.note(levelError, fmt.Sprintf("%s panicked: %v\n%s", where, p, stack), nil)
	*err = fault.NewBug(fmt.Errorf("cannot run %s: %s panicked: %v", a.call.Name, where, p))
}

// pause decides what follows an error: nil after a wait means another look, anything else ends the step.
// A host that waits holds no slot, and its wait ends when the operation halts.
func (a *attempt) pause(ctx context.Context, err error) error {
	if errors.Is(err, errHalted) || a.stopped() != nil {
		return err
	}
	if context.Cause(ctx) != nil {
		return a.late(err)
	}
	delay, again := a.delay(err)
	if !again {
		return err
	}
	if fault.ClassOf(err) == fault.Waiting && a.call.Name != "" {
		if err := a.begin(false); err != nil {
			return err
		}
	}
	a.noteWait(err, delay)
	a.last = err
	a.release()
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-a.halted:
		return errHalted
	case <-ctx.Done():
		return a.late(err)
	}
	if err := a.acquire(ctx); err != nil {
		if context.Cause(ctx) != nil {
			return a.late(a.last)
		}
		return err
	}
	return nil
}

// delay says how long to wait after err, and whether another look makes sense.
func (a *attempt) delay(err error) (time.Duration, bool) {
	switch fault.ClassOf(err) {
	case fault.Waiting:
		a.unread = 0
		a.waits++
		var e *fault.Error
		if errors.As(err, &e) && e.After > 0 {
			return jitter(e.After), true
		}
		return jitter(backoff(shortestWait, longestWait, a.waits)), true
	case fault.Transient:
		if a.call.Name == "" {
			a.unread++ // the claim has no Check
		}
		tries := max(1, a.unread+a.broken)
		return jitter(backoff(shortestRetry, longestRetry, tries)), tries < maxBroken
	default:
		return 0, false
	}
}

// late gives the error of a step that was not done in time.
func (a *attempt) late(err error) error {
	if a.stopped() != nil {
		return a.stopped()
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errDeadline) {
		err = a.last
	}
	what := a.call.Name
	if what == "" {
		what = "the claim of host " + a.target.Name
	}
	if err == nil {
		return fault.NewTerminal("TimedOut", "look at the operation's log of this host, then retry",
			fmt.Errorf("cannot finish %s: it did not end in %s", what, a.limit))
	}
	fix := fault.FixOf(err)
	if fix == "" {
		fix = "look at the operation's log of this host, then retry"
	}
	return fault.NewTerminal("TimedOut", fix, fmt.Errorf("cannot finish %s in %s: %w", what, a.limit, err))
}

// backoff doubles from shortest to longest; tries counts from 1.
func backoff(shortest, longest time.Duration, tries int) time.Duration {
	return min(longest, shortest<<min(tries-1, maxShift))
}

// jitter moves d by up to a fifth, so that many hosts do not come back at once.
func jitter(d time.Duration) time.Duration {
	spread := d / 5
	return d - spread + rand.N(2*spread+1)
}

// describe gives a drift in one line of at most a few differences.
func describe(drift step.Drift) string {
	const shown = 6
	var parts []string
	for i, d := range drift {
		if i == shown {
			parts = append(parts, fmt.Sprintf("and %d more", len(drift)-shown))
			break
		}
		have := d.Have
		if have == "" {
			have = "nothing"
		}
		parts = append(parts, fmt.Sprintf("%s is %s, not %s", d.What, have, d.Want))
	}
	return strings.Join(parts, "; ")
}
