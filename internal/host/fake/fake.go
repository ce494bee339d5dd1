// Package fake owns hosts that live in memory: a file tree, units, a fence and programs, for tests.
// It must keep the contract that hosttest states, and never touch the machine it runs on.
package fake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
)

// Call is one program call that a Program answers.
type Call struct {
	Argv  []string
	Stdin []byte
	Env   []string
}

// Program plays a program: it changes the state and gives the result. It must not call the Host.
type Program func(s *State, c Call) host.Result

// Point is where a connection is cut.
type Point int

// The points at which Inject can cut the connection of a write; each gives OutcomeUnknown.
const (
	// BeforeCommand cuts before the command took effect.
	BeforeCommand Point = iota
	// InOutput cuts while the command runs: it takes effect, its output is lost.
	InOutput
	// BeforeExitCode cuts after the output: the command took effect, only its exit code is lost.
	BeforeExitCode
)

// Fault is one planned cut.
type Fault struct {
	At Point
	// Match picks the writes that count, by what they run: the argv, or write-file PATH, or remove PATH...
	// Nil picks every write.
	Match func(argv []string) bool
	// Skip lets that many matching writes pass first.
	Skip int
}

// Event tells about one write.
type Event struct {
	Host string
	// Seq counts the writes of the host from 1.
	Seq int
	// Argv is what runs: the argv, or write-file PATH, or remove PATH...
	Argv []string
	// Done is false before the write and true after it.
	Done bool
}

// Host is one machine in memory; it implements host.Session. It is safe for concurrent use.
type Host struct {
	name    string
	writing chan struct{}

	mu       sync.Mutex
	state    *State
	facts    v1alpha1.HostFacts
	programs map[string]Program
	faults   []*Fault
	observer func(Event)
	dialer   func(ctx context.Context, network, address string) (net.Conn, error)
	reach    func(netip.AddrPort) bool
	absent   func(netip.AddrPort) bool
	orphan   string
	down     bool
	broken   chan struct{}
	writes   int
	commands int
	boots    int
}

var _ host.Session = (*Host)(nil)

// New makes a running host with a small file tree and the built-in programs. Facts are what Facts gives;
// an empty host name is set to name.
func New(name string, facts v1alpha1.HostFacts) *Host {
	if facts.Hostname == "" {
		facts.Hostname = name
	}
	h := &Host{name: name, facts: facts, writing: make(chan struct{}, 1), programs: builtins(), broken: make(chan struct{}), boots: 1}
	h.state = newState(h, facts)
	return h
}

// Sessions gives fake hosts by name; it implements host.Sessions.
type Sessions map[string]*Host

// Session gives the host of that name. An unknown or switched-off one is Unreachable.
func (s Sessions) Session(_ context.Context, name string) (host.Session, error) {
	h, ok := s[name]
	if !ok {
		return nil, fault.NewTransient(host.ReasonUnreachable, fmt.Errorf("cannot reach host %s: it does not exist", name))
	}
	if err := h.alive(); err != nil {
		return nil, err
	}
	return h, nil
}

// Name gives the host's name.
func (h *Host) Name() string { return h.name }

// Handle makes p play a program, by base name ("kubeadm") or by full path, which wins.
func (h *Host) Handle(program string, p Program) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.programs[program] = p
}

// Do looks at or changes the state, as somebody at the machine itself would.
func (h *Host) Do(f func(s *State)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(h.state)
}

// SetFacts changes what Facts gives.
func (h *Host) SetFacts(facts v1alpha1.HostFacts) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.facts = facts
}

// SetDialer makes DialContext use d; without one every connection is refused.
func (h *Host) SetDialer(d func(ctx context.Context, network, address string) (net.Conn, error)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dialer = d
}

// SetReach decides what Reach queries find; without it every address is refused.
func (h *Host) SetReach(reach func(netip.AddrPort) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reach = reach
}

// SetAbsent says at which addresses there is no machine that could refuse a Reach query.
func (h *Host) SetAbsent(absent func(netip.AddrPort) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.absent = absent
}

// Inject plans one cut. Several may be planned; each happens once.
func (h *Host) Inject(f Fault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = append(h.faults, &f)
}

// Observe calls f before and after every write that the host lets in, without holding any lock.
func (h *Host) Observe(f func(Event)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.observer = f
}

// Writes counts the writes that reached the host: commands, files and removals.
func (h *Host) Writes() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.writes
}

// Commands counts everything that reached the host, reads too.
func (h *Host) Commands() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.commands
}

// Orphan leaves a command behind that holds the fence, as after a cut; release ends it.
func (h *Host) Orphan(program string) (release func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.orphan = "process 4242 (" + program + ")"
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.orphan = ""
	}
}

// Cut ends the connection now: commands under way go on, their callers get OutcomeUnknown.
func (h *Host) Cut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.broken)
	h.broken = make(chan struct{})
}

// PowerOff crashes the host: connections break and every call is Unreachable until PowerOn.
func (h *Host) PowerOff() {
	h.Cut()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down, h.orphan = true, ""
}

// PowerOn boots the host: /run and /tmp are empty, mounts and modules are gone, sysctls are what the
// files in /etc/sysctl.d say, exactly the enabled units run.
func (h *Host) PowerOn() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = false
	h.boots++
	h.state.boot()
}

// Reboot is PowerOff and PowerOn.
func (h *Host) Reboot() {
	h.PowerOff()
	h.PowerOn()
}

func (h *Host) alive() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.up()
}

func (h *Host) up() error {
	if h.down {
		return fault.NewTransient(host.ReasonUnreachable, fmt.Errorf("cannot reach host %s: no route to host", h.name))
	}
	return nil
}

// begin counts a call and gives the connection it belongs to.
func (h *Host) begin(ctx context.Context) (<-chan struct{}, error) {
	if err := ctx.Err(); err != nil {
		return nil, fault.NewTransient(host.ReasonUnreachable, fmt.Errorf("cannot reach host %s: %w", h.name, err))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.commands++
	return h.broken, h.up()
}

// Facts gives the facts the host was made with.
func (h *Host) Facts(ctx context.Context) (v1alpha1.HostFacts, error) {
	if _, err := h.begin(ctx); err != nil {
		return v1alpha1.HostFacts{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return *h.facts.DeepCopy(), nil
}

// DialContext opens a connection with the dialer that SetDialer gave.
func (h *Host) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if _, err := h.begin(ctx); err != nil {
		return nil, err
	}
	h.mu.Lock()
	dial := h.dialer
	h.mu.Unlock()
	if dial == nil {
		return nil, fault.NewTransient(host.ReasonUnreachable, fmt.Errorf("cannot connect to %s from host %s: connection refused", address, h.name))
	}
	conn, err := dial(ctx, network, address)
	if err != nil {
		return nil, fault.NewTransient(host.ReasonUnreachable, fmt.Errorf("cannot connect to %s from host %s: %w", address, h.name, err))
	}
	return conn, nil
}

// Writer gives the changing half, bound to the fence token.
func (h *Host) Writer(f host.Fence) host.Writer { return &writer{Host: h, fence: f} }

type writer struct {
	*Host
	fence host.Fence
}

// WriteFile makes path hold exactly f.
func (w *writer) WriteFile(ctx context.Context, path string, f host.File) error {
	if _, err := host.WriteFileCommand(path, f); err != nil {
		return err
	}
	_, err := w.write(ctx, w.fence, []string{"write-file", path}, nil, func(s *State, _ []byte) host.Result {
		mode := f.Mode
		if mode == 0 {
			mode = 0o644
		}
		if err := s.WriteFile(path, f.Content, mode); err != nil {
			return Fail(1, err.Error())
		}
		return host.Result{}
	})
	if err != nil {
		return fmt.Errorf("cannot write file %s on host %s: %w", path, w.name, err)
	}
	return nil
}

// Remove deletes files and directory trees.
func (w *writer) Remove(ctx context.Context, paths ...string) error {
	if _, err := host.RemoveCommand(paths); err != nil || len(paths) == 0 {
		return err
	}
	_, err := w.write(ctx, w.fence, append([]string{"remove"}, paths...), nil, func(s *State, _ []byte) host.Result {
		for _, p := range paths {
			full, err := s.resolve(p, false)
			if err == nil && s.files[full] != nil {
				err = host.CheckRemove(full)
			}
			if err == nil {
				err = s.Remove(full)
			}
			if err != nil {
				return Fail(1, err.Error())
			}
		}
		return host.Result{}
	})
	if err != nil {
		return fmt.Errorf("cannot remove files on host %s: %w", w.name, err)
	}
	return nil
}

// Run runs one of the programs to its end.
func (w *writer) Run(ctx context.Context, c host.Command) (host.Result, error) {
	if _, err := host.FencedArgv(host.DefaultFencePlace(), w.fence, c); err != nil {
		return host.Result{}, err
	}
	return w.write(ctx, w.fence, c.Argv, c.Stdin, func(s *State, stdin []byte) host.Result {
		return s.Exec(Call{Argv: c.Argv, Stdin: stdin, Env: c.Env})
	})
}

// write lets one change through the fence.
func (h *Host) write(ctx context.Context, f host.Fence, argv []string, stdin io.Reader, effect func(*State, []byte) host.Result) (host.Result, error) {
	if err := f.Validate(); err != nil {
		return host.Result{}, err
	}
	broken, err := h.begin(ctx)
	if err != nil {
		return host.Result{}, err
	}
	select {
	case h.writing <- struct{}{}:
		defer func() { <-h.writing }()
	case <-ctx.Done():
		return host.Result{}, fault.NewTransient(host.ReasonBusy, fmt.Errorf("cannot run %s on host %s: another write is under way: %w", argv[0], h.name, ctx.Err()))
	}
	point, event, err := h.enter(f, argv)
	if err != nil {
		return host.Result{}, err
	}
	h.tell(event)
	if point == BeforeCommand {
		return host.Result{}, h.unknown(argv, errors.New("the connection was cut before the command"))
	}
	input, lost := gather(ctx, broken, stdin)
	h.mu.Lock()
	r := bound(effect(h.state, input))
	h.mu.Unlock()
	event.Done = true
	h.tell(event)
	switch {
	case lost != nil:
		return host.Result{}, h.unknown(argv, lost)
	case point == InOutput:
		return host.Result{}, h.unknown(argv, errors.New("the connection was cut in the output"))
	case point == BeforeExitCode:
		return r, h.unknown(argv, errors.New("the connection was cut before the exit code arrived"))
	}
	return r, host.FencedError(h.name, argv, r)
}

func (h *Host) tell(e Event) {
	h.mu.Lock()
	observer := h.observer
	h.mu.Unlock()
	if observer != nil {
		observer(e)
	}
}

func (h *Host) unknown(argv []string, err error) error {
	return fault.NewTransient(host.ReasonOutcomeUnknown, fmt.Errorf("cannot run %s on host %s: %w", argv[0], h.name, err))
}

// enter is the fence. It also picks the planned cut of this write; -1 is none.
func (h *Host) enter(f host.Fence, argv []string) (Point, Event, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.orphan != "" {
		return -1, Event{}, host.Busy(h.name, h.orphan)
	}
	if err := h.state.claim(h.name, f); err != nil {
		return -1, Event{}, err
	}
	h.writes++
	event := Event{Host: h.name, Seq: h.writes, Argv: argv}
	for i, planned := range h.faults {
		if planned.Match != nil && !planned.Match(argv) {
			continue
		}
		if planned.Skip > 0 {
			planned.Skip--
			continue
		}
		h.faults = slices.Delete(h.faults, i, i+1)
		return planned.At, event, nil
	}
	return -1, event, nil
}

// gather reads the input until it ends or the connection breaks. What arrived before a cut is given too:
// the command sees it as a short input.
func gather(ctx context.Context, broken <-chan struct{}, stdin io.Reader) ([]byte, error) {
	if stdin == nil {
		return nil, nil
	}
	type chunk struct {
		data []byte
		err  error
	}
	chunks := make(chan chunk)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			buf := make([]byte, 32<<10)
			n, err := stdin.Read(buf)
			select {
			case chunks <- chunk{buf[:n], err}:
			case <-stop:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	var input []byte
	for {
		select {
		case c := <-chunks:
			input = append(input, c.data...)
			switch {
			case c.err == io.EOF:
				return input, nil
			case c.err != nil:
				return input, fmt.Errorf("cannot read the command's input: %w", c.err)
			}
		case <-broken:
			return input, errors.New("the connection was cut")
		case <-ctx.Done():
			return input, ctx.Err()
		}
	}
}

func bound(r host.Result) host.Result {
	if extra := len(r.Stdout) - host.MaxOutput; extra >= 0 {
		r.Stdout, r.Truncated = r.Stdout[extra:], true
	}
	if extra := len(r.Stderr) - host.MaxOutput; extra > 0 {
		r.Stderr = r.Stderr[extra:]
	}
	return r
}
