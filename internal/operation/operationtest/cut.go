package operationtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
)

// way is when a connection is cut.
type way string

const (
	// before: the command never reached the host.
	before way = "before"
	// during: the command goes on without us and ends before the next change of the host, not before the next look.
	during way = "during"
	// after: the command ended, its exit code never arrived.
	after way = "after"
)

// Cut cuts the connection at every single call that an uninterrupted run makes to a host, in three ways each, once; or makes
// one of share of these trials.
// It wants the same end state, or an operation that stopped and names the host; never a success that is none.
func Cut(t *testing.T, build Build, share int) {
	t.Helper()
	var want string
	var calls []call
	synctest.Test(t, func(t *testing.T) {
		w := build(t)
		s := &cutting{next: w.Deps.Sessions}
		w.Deps.Sessions = s
		if _, err := w.run(t, nil); err != nil {
			t.Fatalf("cannot run the operation uninterrupted: %v", err)
		}
		want, calls = w.state(t), s.calls
	})
	for _, at := range calls {
		ways := []way{before, during, after}
		if !at.change {
			ways = ways[:1] // a look whose answer is lost is a look that never was
		}
		for _, how := range ways {
			trial := fmt.Sprintf("%s-%03d-%s-%s", at.host, at.n, at.kind, how)
			if !sampled(trial, share) {
				continue
			}
			t.Run(trial, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { cutOnce(t, build(t), at, how, want) })
			})
		}
	}
}

func cutOnce(t *testing.T, w *World, at call, how way, want string) {
	t.Helper()
	s := &cutting{next: w.Deps.Sessions, at: at, how: how}
	w.Deps.Sessions = s
	outcome, err := w.run(t, nil)
	if err != nil {
		t.Fatalf("the run has no outcome: %v", err)
	}
	s.settle(at.host)
	if got := w.state(t); got == want {
		return
	} else if outcome.Phase == v1alpha1.OperationSucceeded {
		t.Fatalf("a success that is none; end state:\n%s\nuninterrupted:\n%s", got, want)
	}
	if len(outcome.Failures) == 0 || outcome.Failures[0].Host == "" || outcome.Message == "" {
		t.Errorf("the operation stopped without the exact reason: %+v", outcome)
	}
	if _, err := w.run(t, nil); err != nil {
		t.Fatalf("cannot retry: %v", err)
	}
	if got := w.state(t); got != want {
		t.Errorf("end state after the retry:\n%s\nuninterrupted:\n%s", got, want)
	}
}

// call is one call to one host.
type call struct {
	host string
	// n counts the calls to the host from 1.
	n    int
	kind string
	// change says that it may change the host.
	change bool
}

// cutting counts the calls to all hosts and cuts one of them.
type cutting struct {
	next host.Sessions
	at   call
	how  way

	mu    sync.Mutex
	calls []call
	count map[string]int
	// orphans holds, by host, what still runs there without us.
	orphans map[string][]func()
}

// Session gives a session that can be cut.
func (c *cutting) Session(ctx context.Context, name string) (host.Session, error) {
	s, err := c.next.Session(ctx, name)
	if err != nil {
		return nil, err
	}
	return &cutSession{Session: s, cutting: c, name: name}, nil
}

// pass counts one call and says whether it is the one to cut.
func (c *cutting) pass(name, kind string, change bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count == nil {
		c.count = map[string]int{}
	}
	c.count[name]++
	this := call{host: name, n: c.count[name], kind: kind, change: change}
	c.calls = append(c.calls, this)
	return this == c.at
}

// settle lets the orphans of a host end: the fence's lock keeps every later change behind them.
func (c *cutting) settle(name string) {
	c.mu.Lock()
	orphans := c.orphans[name]
	delete(c.orphans, name)
	c.mu.Unlock()
	for _, end := range orphans {
		end()
	}
}

func (c *cutting) orphan(name string, run func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.orphans == nil {
		c.orphans = map[string][]func(){}
	}
	c.orphans[name] = append(c.orphans[name], run)
}

// look runs a read. Whether it ran makes no difference when its answer is lost.
func (s *cutSession) look(kind string, do func() error) error {
	if s.cutting.pass(s.name, kind, false) {
		return fault.NewTransient(host.ReasonUnreachable, fmt.Errorf("cannot reach host %s: the connection was cut", s.name))
	}
	return do()
}

// change runs a write. An orphan's own error is lost with the connection.
func (s *cutSession) change(ctx context.Context, kind string, do func(context.Context) error) error {
	s.cutting.settle(s.name)
	if !s.cutting.pass(s.name, kind, true) {
		return do(ctx)
	}
	unknown := fault.NewTransient(host.ReasonOutcomeUnknown, fmt.Errorf("cannot tell what became of %s on host %s: the connection was cut", kind, s.name))
	switch s.cutting.how {
	case before:
		return fault.NewTransient(host.ReasonUnreachable, fmt.Errorf("cannot reach host %s: the connection was cut", s.name))
	case during:
		s.cutting.orphan(s.name, func() { _ = do(context.WithoutCancel(ctx)) })
		return unknown
	default:
		return errors.Join(unknown, ignored(do(ctx)))
	}
}

// ignored forgets an error that would have been lost with the connection.
func ignored(error) error { return nil }

type cutSession struct {
	host.Session
	cutting *cutting
	name    string
}

// ReadFile is a look.
func (s *cutSession) ReadFile(ctx context.Context, path string) (content []byte, err error) {
	err = s.look("read", func() error { content, err = s.Session.ReadFile(ctx, path); return err })
	return content, err
}

// Stat is a look.
func (s *cutSession) Stat(ctx context.Context, paths ...string) (infos []host.FileInfo, err error) {
	err = s.look("stat", func() error { infos, err = s.Session.Stat(ctx, paths...); return err })
	return infos, err
}

// Query is a look.
func (s *cutSession) Query(ctx context.Context, q host.Query) (result host.Result, err error) {
	err = s.look("query-"+q.Name(), func() error { result, err = s.Session.Query(ctx, q); return err })
	return result, err
}

// Writer gives a writer that can be cut.
func (s *cutSession) Writer(f host.Fence) host.Writer {
	return &cutWriter{cutSession: s, writer: s.Session.Writer(f)}
}

type cutWriter struct {
	*cutSession
	writer host.Writer
}

// WriteFile is a change.
func (w *cutWriter) WriteFile(ctx context.Context, path string, f host.File) error {
	return w.change(ctx, "write", func(ctx context.Context) error { return w.writer.WriteFile(ctx, path, f) })
}

// Remove is a change.
func (w *cutWriter) Remove(ctx context.Context, paths ...string) error {
	return w.change(ctx, "remove", func(ctx context.Context) error { return w.writer.Remove(ctx, paths...) })
}

// Run is a change. Its input is kept, because an orphan has received it before the cut.
func (w *cutWriter) Run(ctx context.Context, c host.Command) (result host.Result, err error) {
	if c.Stdin != nil {
		input, err := io.ReadAll(c.Stdin)
		if err != nil {
			return host.Result{}, err
		}
		c.Stdin = bytes.NewReader(input)
	}
	err = w.change(ctx, "run", func(ctx context.Context) error { result, err = w.writer.Run(ctx, c); return err })
	return result, err
}
