package host

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/audit"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/host/ssh"
)

const (
	// maxLooks bounds how many machines are dialled or asked at the same time.
	maxLooks = 128
	// lookTimeout bounds one look: connect, log in, read the facts.
	lookTimeout = 90 * time.Second
	// freshness is how old facts get at most; it stays below the time after which an idle connection is given back.
	freshness             = 10 * time.Minute
	firstWait, longestOff = time.Second, time.Minute
)

// finding is what a watcher last saw of one machine. It is never changed once it was given out.
type finding struct {
	// offered is the key of the machine when none, or another, is pinned.
	offered *v1alpha1.OfferedKey
	facts   *v1alpha1.HostFacts
	// resolved are the addresses of spec.address when that is a name; nil when it does not resolve here.
	resolved []netip.Addr
	// err says why the machine could not be looked at.
	err error
}

// watchers owns the looks at each machine that is worth watching.
type watchers struct {
	deps  Deps
	looks chan struct{}

	mu sync.Mutex
	// ctx bounds every watcher; it is nil until start.
	ctx     context.Context
	notify  func(name string)
	running map[string]*watcher
}

// watcher is what is kept of one machine. Its subject and finding are guarded by watchers.mu; off and up are those of watch,
// which never runs twice at a time.
type watcher struct {
	name string
	subject
	since   time.Time
	cancel  context.CancelFunc
	finding *finding
	// off is how long to wait before the next look at a machine that is off.
	off time.Duration
	// up says that the last look went well.
	up bool
}

func newWatchers(d Deps) *watchers {
	return &watchers{deps: d, looks: make(chan struct{}, maxLooks), running: map[string]*watcher{}}
}

// start lets watchers run until ctx ends; notify is called after each finding and must not block.
func (w *watchers) start(ctx context.Context, notify func(name string)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ctx, w.notify = ctx, notify
}

// ensure makes sure that a watcher for s runs, and gives its last finding, nil when there is none yet, and when it began.
func (w *watchers) ensure(name string, s subject) (*finding, time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	old := w.running[name]
	if old != nil && old.serves(s) {
		old.subject = s
		return old.finding, old.since
	}
	if w.ctx == nil {
		return nil, time.Time{}
	}
	if old != nil {
		old.cancel()
		// A refusal must not outlive its cause, nor a login the pinned key it was made with.
		if !s.pinned || (old.finding != nil && final(old.finding.err)) {
			w.deps.Sessions.Forget(name)
		}
	}
	ctx, cancel := context.WithCancel(w.ctx)
	next := &watcher{name: name, subject: s, cancel: cancel, since: time.Now(), off: firstWait}
	w.running[name] = next
	go w.watch(ctx, next, s)
	return nil, next.since
}

// serves says that a watcher need not start again for s: nothing moved, or nothing that matters while all is well.
func (of *watcher) serves(s subject) bool {
	well := of.finding != nil && of.finding.err == nil
	return of.login == s.login && of.check == s.check && (of.attempt == s.attempt || well)
}

// stop ends the watcher of a host. The connection stays for whoever uses it.
func (w *watchers) stop(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if old := w.running[name]; old != nil {
		old.cancel()
		delete(w.running, name)
	}
}

// release ends the watcher of a host and closes its connection.
func (w *watchers) release(name string) {
	w.stop(name)
	w.deps.Sessions.Forget(name)
}

func (w *watchers) report(ctx context.Context, of *watcher, f *finding) {
	w.mu.Lock()
	current := w.running[of.name] == of && ctx.Err() == nil
	if current {
		of.finding = f
	}
	w.mu.Unlock()
	if current {
		w.notify(of.name)
	}
}

// watch looks at a machine for as long as that can be of use, and reports what it sees. Between two looks at a machine that
// is off there is a timer and no goroutine: thousands may be off.
func (w *watchers) watch(ctx context.Context, of *watcher, s subject) {
	for ctx.Err() == nil {
		f, ended := w.look(ctx, of.name, s)
		switch {
		case f.err == nil:
			w.report(ctx, of, f)
			of.off, of.up = firstWait, true
			wait(ctx, ended, freshness*4/5+rand.N(freshness*3/20))
		case final(f.err):
			w.report(ctx, of, f)
			of.cancel()
		case of.up:
			// A connection may break while the machine is well: one more try before anybody is told.
			of.up = false
		default:
			w.report(ctx, of, f)
			pause := of.off
			if fault.ClassOf(f.err) != fault.Transient {
				pause = freshness
			}
			of.off = min(2*of.off, longestOff)
			time.AfterFunc(pause*4/5+rand.N(pause*2/5), func() { w.watch(ctx, of, s) })
			return
		}
	}
}

// final says that trying again can only do harm (a locked account) or is not ours to do (another key).
func final(err error) bool {
	switch fault.ReasonOf(err) {
	case ssh.ReasonLoginRefused, ssh.ReasonSudoRefused, ssh.ReasonBadCredential, ssh.ReasonHostKeyChanged, ssh.ReasonHostKeyUnconfirmed:
		return true
	}
	return false
}

// wait returns when ctx ends, when ended is closed or after d.
func wait(ctx context.Context, ended <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-ended:
	case <-timer.C:
	}
}

// look asks the machine once. The channel, which may be nil, closes when the connection ends.
func (w *watchers) look(ctx context.Context, name string, s subject) (*finding, <-chan struct{}) {
	select {
	case w.looks <- struct{}{}:
		defer func() { <-w.looks }()
	case <-ctx.Done():
		return &finding{err: ctx.Err()}, nil
	}
	ctx, cancel := context.WithTimeout(audit.Because(ctx, "look at the host"), lookTimeout)
	defer cancel()
	if !s.pinned {
		return w.scan(ctx, s), nil
	}
	session, err := w.deps.Sessions.Session(ctx, name)
	if err != nil {
		return refusal(err), nil
	}
	facts, err := session.Facts(ctx)
	if err != nil {
		return refusal(err), nil
	}
	f := &finding{facts: &facts}
	if _, err := netip.ParseAddr(s.address); err != nil {
		// A name that only the machine's own network knows is no fault: then the default route decides.
		if found, err := w.deps.Lookup(ctx, s.address); err == nil {
			f.resolved = found
		}
	}
	return f, done(session)
}

// done gives the channel that closes with the connection, for sessions that have one.
func done(s host.Session) <-chan struct{} {
	if live, ok := s.(interface{ Done() <-chan struct{} }); ok {
		return live.Done()
	}
	return nil
}

func (w *watchers) scan(ctx context.Context, s subject) *finding {
	key, fingerprint, err := w.deps.Scan(ctx, s.address, s.port)
	if err != nil {
		return &finding{err: err}
	}
	return &finding{offered: &v1alpha1.OfferedKey{Key: key, Fingerprint: fingerprint}}
}

// refusal keeps the key that was offered beside the error.
func refusal(err error) *finding {
	f := &finding{err: err}
	var wrong *ssh.HostKeyError
	if errors.As(err, &wrong) && wrong.Offered != "" {
		f.offered = &v1alpha1.OfferedKey{Key: wrong.Offered, Fingerprint: ssh.Fingerprint(wrong.Offered)}
	}
	return f
}
