package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
)

// idleTimeout is after how long an unused connection is given back; the next use dials again.
const idleTimeout = 10 * time.Minute

// Resolver gives the target of a Host by its name. It is asked on every call and must be cheap.
type Resolver func(ctx context.Context, name string) (Target, error)

// Pool keeps one connection a host and makes it on demand; it implements host.Sessions.
// A refused login is remembered for as long as the target stays the same, so that a wrong password is
// never tried twice.
type Pool struct {
	// Login is told of each login, with the context of who asked for the connection and the error it came to; nil tells
	// nobody. It is set before the first call of Session, and must be quick.
	Login func(ctx context.Context, target Target, err error)

	resolve Resolver
	flight  singleflight.Group

	mu      sync.Mutex
	closed  bool
	entries map[string]*entry
}

var _ host.Sessions = (*Pool)(nil)

// entry is what is known of one host under one target.
type entry struct {
	digest  string
	session *Session
	refused error
}

// NewPool makes an empty pool.
func NewPool(resolve Resolver) *Pool {
	return &Pool{resolve: resolve, entries: map[string]*entry{}}
}

// Session gives the live connection of a host, dialling when there is none; callers at the same time
// share one dial and its error.
func (p *Pool) Session(ctx context.Context, name string) (host.Session, error) {
	target, err := p.resolve(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("cannot find out how to reach host %s: %w", name, err)
	}
	target.Name = name
	digest := target.Digest()
	if s, err := p.known(name, digest); s != nil || err != nil {
		return s.orNil(), err
	}
	answer := p.flight.DoChan(name+"\x00"+digest, func() (any, error) {
		// The dial serves every waiting caller, so it must not end with the first one's context.
		return p.dial(context.WithoutCancel(ctx), target, digest)
	})
	select {
	case r := <-answer:
		s, _ := r.Val.(*Session)
		return s.orNil(), r.Err
	case <-ctx.Done():
		return nil, unreachable(fmt.Errorf("cannot reach host %s: %w", name, ctx.Err()))
	}
}

// orNil keeps a nil session from becoming a non-nil interface.
func (s *Session) orNil() host.Session {
	if s == nil {
		return nil
	}
	return s
}

// known gives the live session or the remembered refusal; both nil when a dial is due. What belongs to
// another target is dropped.
func (p *Pool) known(name, digest string) (*Session, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, unreachable(fmt.Errorf("cannot reach host %s: %w", name, net.ErrClosed))
	}
	e, ok := p.entries[name]
	if !ok {
		return nil, nil
	}
	if e.digest != digest {
		e.drop()
		delete(p.entries, name)
		return nil, nil
	}
	if e.session != nil {
		if refused := e.session.refused.Load(); refused != nil {
			e.refused = refused
			e.drop()
		}
	}
	switch {
	case e.refused != nil:
		return nil, e.refused
	case e.session != nil && e.session.alive():
		e.session.touch()
		return e.session, nil
	}
	delete(p.entries, name)
	return nil, nil
}

func (e *entry) drop() {
	if e.session != nil {
		e.session.fail(net.ErrClosed)
		e.session = nil
	}
}

func (s *Session) alive() bool {
	select {
	case <-s.done:
		return false
	default:
		return true
	}
}

func (p *Pool) dial(ctx context.Context, target Target, digest string) (*Session, error) {
	// Another flight may just have ended.
	if s, err := p.known(target.Name, digest); s != nil || err != nil {
		return s, err
	}
	ctx, cancel := context.WithTimeout(ctx, helloTimeout+loginTimeout)
	defer cancel()
	s, err := Dial(ctx, target)
	if p.Login != nil {
		p.Login(ctx, target, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	e := &entry{digest: digest, session: s}
	switch {
	case err != nil:
		if !slices.Contains([]string{ReasonLoginRefused, ReasonBadCredential}, fault.ReasonOf(err)) {
			return nil, err
		}
		e.refused = err
	case p.closed:
		return nil, errors.Join(unreachable(fmt.Errorf("cannot reach host %s: %w", target.Name, net.ErrClosed)), s.Close())
	}
	if s != nil {
		s.idle.Store(int64(idleTimeout))
	}
	if old := p.entries[target.Name]; old != nil {
		old.drop()
	}
	p.entries[target.Name] = e
	return s, err
}

// Forget closes the connection of a host and forgets a refused login: the next call tries again.
func (p *Pool) Forget(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.entries[name]; e != nil {
		e.drop()
		delete(p.entries, name)
	}
}

// Close closes every connection; later calls fail.
func (p *Pool) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, e := range p.entries {
		e.drop()
	}
	clear(p.entries)
	return nil
}
