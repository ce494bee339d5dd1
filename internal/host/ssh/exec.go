package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
)

// call is one command on a channel.
type call struct {
	argv  []string
	stdin io.Reader
	// max is how many bytes of standard output are kept.
	max int
	// sent takes the time at which the command was sent.
	sent *time.Time
}

const graceTimeout = 5 * time.Second

var (
	// errNotStarted marks errors after which the command surely did not start.
	errNotStarted = errors.New("the command did not start")
	errRefused    = errors.New("sshd refused to run a command")
)

// exec runs a command to its end. An unclassified error means that the exit code never arrived.
func (s *Session) exec(ctx context.Context, c call) (host.Result, error) {
	if e := s.refused.Load(); e != nil {
		return host.Result{}, e
	}
	argv, gate := s.wrap(c.argv)
	line, err := quote(argv)
	if err != nil {
		return host.Result{}, err
	}
	channel, release, err := s.channel(ctx)
	if err != nil {
		return host.Result{}, unreachable(err)
	}
	p := &process{session: channel, gate: gate, stdout: newTail(c.max), stderr: newTail(host.MaxOutput),
		ended: make(chan struct{}), flooded: make(chan struct{})}
	p.left.Store(int64(c.max + host.MaxOutput + maxNoise))
	gate.after = p.stderr
	p.skipper = &skipper{mark: gate.mark, after: p.stdout}
	if c.sent != nil {
		*c.sent = time.Now()
	}
	finished := make(chan error, 1)
	go func() {
		defer release()
		finished <- p.run(line, c.stdin)
	}()
	return s.await(ctx, p, finished)
}

func (s *Session) await(ctx context.Context, p *process, finished <-chan error) (host.Result, error) {
	defer close(p.ended)
	timer := time.NewTimer(sudoTimeout)
	defer timer.Stop()
	sudo := timer.C
	var grace <-chan time.Time
	broken := s.done
	for {
		select {
		case err := <-finished:
			return s.outcome(p, err)
		case <-broken:
			// The exit code may have arrived just before; the channel knows in a moment.
			broken = nil
			timer := time.NewTimer(graceTimeout)
			defer timer.Stop()
			grace = timer.C
		case <-grace:
			return p.result(), s.cause
		case <-p.flooded:
			// Only the end of the connection stops a machine that sends on.
			err := fault.NewTerminal(ReasonTooMuchOutput, "find out what the machine prints and why; a machine that lies must go",
				fmt.Errorf("host %s sent more than any command of ours prints", s.target))
			s.fail(err)
			return p.result(), err
		case <-ctx.Done():
			s.abandoned.Add(1)
			go func() {
				p.stop()
				<-finished
				s.abandoned.Add(-1)
			}()
			return p.result(), ctx.Err()
		case <-sudo:
			sudo = nil
			if err := p.gate.overdue(); err != nil {
				go p.stop()
				return p.result(), s.refuse(err)
			}
		}
	}
}

// outcome turns what the channel said at its end into a result.
func (s *Session) outcome(p *process, err error) (host.Result, error) {
	if inputErr := p.inputError(); inputErr != nil {
		return p.result(), fmt.Errorf("cannot read the command's input: %w", inputErr)
	}
	r := p.result()
	var exit *ssh.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit) && exit.Signal() == "":
		r.ExitCode = exit.ExitStatus()
	case errors.As(err, &exit):
		return r, fmt.Errorf("the command was ended by signal %s", host.Clean(exit.Signal(), 20))
	case errors.Is(err, errRefused):
		return r, fault.NewTerminal(ReasonIncompatible, "let this user run commands: look at ForceCommand in the sshd_config of the host", err)
	case errors.Is(err, errNotStarted):
		return r, unreachable(err)
	case !s.alive():
		return r, fmt.Errorf("the connection was lost before the exit code arrived: %w", s.cause)
	default:
		return r, fmt.Errorf("the connection was lost before the exit code arrived: %w", clean(err))
	}
	if err := p.gate.verdict(p.skipper.before.Bytes()); err != nil {
		return r, s.refuse(err)
	}
	return r, nil
}

// refuse explains why a command never ran. A refusal of sudo is kept for good: trying the same password
// again only brings a lockout nearer.
func (s *Session) refuse(err error) error {
	if s.target.user() == "root" {
		return fault.NewTerminal(ReasonIncompatible, "give root a login shell that runs commands, and look at ForceCommand in the sshd_config of the host",
			fmt.Errorf("cannot run a command on host %s: the login shell did not run it: %w", s.target, err))
	}
	err = fmt.Errorf("cannot become root on host %s: %w", s.target, err)
	if errors.Is(err, errSilent) {
		return unreachable(err)
	}
	e := &fault.Error{Class: fault.Terminal, Reason: ReasonSudoRefused, Err: err,
		Fix: "let this user run every command through sudo without a terminal, and put the right sudo password into a new credential"}
	s.refused.Store(e)
	return e
}

// process is one command under way.
type process struct {
	session        *ssh.Session
	gate           *gate
	skipper        *skipper
	stdout, stderr *tail
	// ended is closed when nobody waits for the command any more.
	ended chan struct{}

	// left is how many bytes more the machine may send; flooded is closed when it sent them and more.
	left    atomic.Int64
	flooded chan struct{}
	flood   sync.Once

	mu    sync.Mutex
	input error
}

// maxNoise is how much a machine may send beside what is kept: login messages, what a full disk makes tools say.
const maxNoise = 8 << 20

// bounded passes on what a machine may send of one command, and tells when that is over.
type bounded struct {
	next io.Writer
	of   *process
}

// Write never fails: what is too much is dropped.
func (b bounded) Write(data []byte) (int, error) {
	if b.of.left.Add(-int64(len(data))) < 0 {
		b.of.flood.Do(func() { close(b.of.flooded) })
		return len(data), nil
	}
	return b.next.Write(data)
}

// run starts the command, feeds it and waits for its end. The channel is closed afterwards.
func (p *process) run(line string, stdin io.Reader) error {
	defer p.stop()
	p.session.Stdout = bounded{p.skipper, p}
	p.session.Stderr = bounded{p.gate, p}
	pipe, err := p.session.StdinPipe()
	if err != nil {
		return fmt.Errorf("%w: %w", errNotStarted, err)
	}
	if err := p.session.Start(line); err != nil {
		// The library's own error repeats the whole line.
		if strings.HasPrefix(err.Error(), "ssh: command ") {
			return errRefused
		}
		return err
	}
	go p.feed(pipe, stdin)
	return p.session.Wait()
}

// feed streams the input. A reader that fails ends the channel: the command must not take it for the end.
func (p *process) feed(pipe io.WriteCloser, stdin io.Reader) {
	// The command may end without reading all of its input; that is its own business.
	defer func() { _ = pipe.Close() }()
	if !p.gate.open(pipe, p.ended) {
		return
	}
	if stdin == nil {
		return
	}
	source := &watched{Reader: stdin}
	_, _ = io.Copy(pipe, source)
	if source.err != nil {
		p.mu.Lock()
		p.input = source.err
		p.mu.Unlock()
		p.stop()
	}
}

func (p *process) inputError() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.input
}

// stop closes the channel. A command behind the fence goes on to its end on the host.
func (p *process) stop() { _ = p.session.Close() }

func (p *process) result() host.Result {
	stdout, cut := p.stdout.bytes()
	stderr, _ := p.stderr.bytes()
	return host.Result{Stdout: stdout, Stderr: stderr, Truncated: cut}
}

// watched remembers an error of the reader, to tell it from one of the connection.
type watched struct {
	io.Reader
	err error
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Reader.Read(b)
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}

// tail keeps the last max bytes written to it.
type tail struct {
	mu  sync.Mutex
	max int
	buf bytes.Buffer
	cut bool
}

func newTail(max int) *tail { return &tail{max: max} }

// Write never fails.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(b)
	if n > t.max {
		b, t.cut = b[n-t.max:], true
	}
	t.buf.Write(b)
	if t.buf.Len() > 2*t.max {
		t.trim()
	}
	return n, nil
}

func (t *tail) trim() {
	if extra := t.buf.Len() - t.max; extra > 0 {
		t.buf.Next(extra)
		t.cut = true
	}
}

func (t *tail) bytes() ([]byte, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.trim()
	return bytes.Clone(t.buf.Bytes()), t.cut
}
