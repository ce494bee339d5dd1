package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
)

const (
	// maxChannels stays below the 10 that sshd allows on one connection (MaxSessions).
	maxChannels = 8
	openTimeout = 15 * time.Second
	keepalive   = 15 * time.Second
)

// Session is one live SSH connection; it implements host.Session. Reads run side by side, at most eight;
// writes run one at a time, as the fence on the host demands anyway.
type Session struct {
	target  Target
	place   host.FencePlace
	client  *ssh.Client
	slots   chan struct{}
	writing chan struct{}
	done    chan struct{}
	close   sync.Once
	cause   error
	refused atomic.Pointer[fault.Error]
	active  atomic.Int64
	// missing counts places that sshd turned out not to allow.
	missing atomic.Int64
	// abandoned counts commands whose caller is gone but which still take a channel.
	abandoned atomic.Int64
	used      atomic.Int64
	idle      atomic.Int64
}

var _ host.Session = (*Session)(nil)

func newSession(client *ssh.Client, t Target) *Session {
	s := &Session{target: t, place: t.place, client: client, slots: make(chan struct{}, maxChannels),
		writing: make(chan struct{}, 1), done: make(chan struct{})}
	if s.place == (host.FencePlace{}) {
		s.place = host.DefaultFencePlace()
	}
	s.touch()
	go func() { s.fail(client.Wait()) }()
	go s.keepAlive()
	return s
}

// Close ends the connection. Commands under way keep running on the host; their callers get OutcomeUnknown.
func (s *Session) Close() error {
	s.fail(net.ErrClosed)
	return nil
}

// Done is closed when the connection has ended.
func (s *Session) Done() <-chan struct{} { return s.done }

// fail ends the session once; the first cause is kept for the errors of later calls.
func (s *Session) fail(cause error) {
	s.close.Do(func() {
		if cause == nil {
			cause = errors.New("the host closed the connection")
		}
		s.cause = clean(cause)
		close(s.done)
		// The cause says more than what closing a broken connection gives.
		_ = s.client.Close()
	})
}

func (s *Session) touch() { s.used.Store(time.Now().UnixNano()) }

// keepAlive notices a peer that is gone without a word, and ends a session nobody has used for long.
func (s *Session) keepAlive() {
	ticker := time.NewTicker(keepalive)
	defer ticker.Stop()
	for {
		select {
		case <-s.done:
			return
		case <-ticker.C:
		}
		if idle := time.Duration(s.idle.Load()); idle > 0 && s.active.Load() == 0 && time.Since(time.Unix(0, s.used.Load())) > idle {
			s.fail(errors.New("the connection was idle"))
			return
		}
		if err := s.ping(); err != nil {
			s.fail(err)
			return
		}
	}
}

func (s *Session) ping() error {
	answered := make(chan error, 1)
	go func() {
		_, _, err := s.client.SendRequest("keepalive@openssh.com", true, nil)
		answered <- err
	}()
	timer := time.NewTimer(keepalive)
	defer timer.Stop()
	select {
	case err := <-answered:
		return err
	case <-timer.C:
		return fmt.Errorf("the host did not answer for %v", keepalive)
	case <-s.done:
		return nil
	}
}

// Query runs a read-only query.
func (s *Session) Query(ctx context.Context, q host.Query) (host.Result, error) {
	if err := q.Err(); err != nil {
		return host.Result{}, err
	}
	r, err := s.exec(ctx, call{argv: q.Argv(), max: q.MaxOutput()})
	if err != nil {
		return r, s.lost(fmt.Sprintf("cannot query %s of host %s", q.Name(), s.target.Name), host.ReasonUnreachable, err)
	}
	return r, q.Failure(r)
}

// ReadFile gives the content of a regular file of at most host.MaxFile bytes.
func (s *Session) ReadFile(ctx context.Context, path string) ([]byte, error) {
	r, err := s.Query(ctx, host.FileQuery(path))
	return host.DecodeFile(path, r, err)
}

// Stat describes every path in one round trip.
func (s *Session) Stat(ctx context.Context, paths ...string) ([]host.FileInfo, error) {
	if len(paths) == 0 {
		return nil, nil
	}
	r, err := s.Query(ctx, host.Stats(paths...))
	if err != nil {
		return nil, err
	}
	return host.DecodeStats(r, paths)
}

// Facts reads what the machine is, in one round trip.
func (s *Session) Facts(ctx context.Context) (v1alpha1.HostFacts, error) {
	q := host.FactsQuery()
	var sent time.Time
	r, err := s.exec(ctx, call{argv: q.Argv(), max: q.MaxOutput(), sent: &sent})
	received := time.Now()
	if err != nil {
		return v1alpha1.HostFacts{}, s.lost("cannot read facts of host "+s.target.Name, host.ReasonUnreachable, err)
	}
	if err := q.Failure(r); err != nil {
		return v1alpha1.HostFacts{}, fmt.Errorf("cannot read facts of host %s: %w", s.target.Name, err)
	}
	facts, err := host.DecodeFacts(r, sent, received)
	if err != nil {
		return v1alpha1.HostFacts{}, fault.NewTerminal("BadFacts", "check that the host runs a supported operating system",
			fmt.Errorf("host %s: %w", s.target.Name, err))
	}
	return facts, nil
}

// lost classifies an error of exec: what is classified already keeps its class.
func (s *Session) lost(what, reason string, err error) error {
	err = fmt.Errorf("%s: %w", what, err)
	var classified *fault.Error
	if errors.As(err, &classified) {
		return err
	}
	return fault.NewTransient(reason, err)
}

// Writer gives the changing half, bound to the fence token.
func (s *Session) Writer(f host.Fence) host.Writer { return &writer{Session: s, fence: f} }

// writer hides the Session's other abilities behind host.Writer.
type writer struct {
	*Session
	fence host.Fence
}

// WriteFile makes path hold exactly f.
func (w *writer) WriteFile(ctx context.Context, path string, f host.File) error {
	c, err := host.WriteFileCommand(path, f)
	if err != nil {
		return err
	}
	if _, err := w.run(ctx, c, []string{"write-file", path}); err != nil {
		return fmt.Errorf("cannot write file %s on host %s: %w", path, w.target.Name, err)
	}
	return nil
}

// Remove deletes files and directory trees.
func (w *writer) Remove(ctx context.Context, paths ...string) error {
	c, err := host.RemoveCommand(paths)
	if err != nil || len(paths) == 0 {
		return err
	}
	if _, err := w.run(ctx, c, append([]string{"remove"}, paths...)); err != nil {
		return fmt.Errorf("cannot remove files on host %s: %w", w.target.Name, err)
	}
	return nil
}

// Run runs one command to its end.
func (w *writer) Run(ctx context.Context, c host.Command) (host.Result, error) {
	return w.run(ctx, c, c.Argv)
}

// run runs c behind the fence; known is the argv that errors show.
func (w *writer) run(ctx context.Context, c host.Command, known []string) (host.Result, error) {
	argv, err := host.FencedArgv(w.place, w.fence, c)
	if err != nil {
		return host.Result{}, err
	}
	select {
	case w.writing <- struct{}{}:
		defer func() { <-w.writing }()
	case <-ctx.Done():
		return host.Result{}, fault.NewTransient(host.ReasonBusy,
			fmt.Errorf("cannot run %s on host %s: another write is under way: %w", known[0], w.target.Name, ctx.Err()))
	case <-w.done:
	}
	r, err := w.exec(ctx, call{argv: argv, stdin: c.Stdin, max: host.MaxOutput})
	if err != nil {
		return r, w.lost(fmt.Sprintf("cannot run %s on host %s", known[0], w.target.Name), host.ReasonOutcomeUnknown, err)
	}
	// The host cuts a fenced command's output itself.
	r.Truncated = len(r.Stdout) == host.MaxOutput
	return r, host.FencedError(w.target.Name, known, r)
}
