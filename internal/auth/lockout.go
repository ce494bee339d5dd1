package auth

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

const (
	// freeTries is how many wrong passwords one network has for one user before it must wait.
	freeTries = 5
	// attackTries is how many wrong passwords, over all networks, mean that a user is being attacked; a network
	// that failed once must wait at once then.
	attackTries = 50
	// firstWait is the first wait; it doubles with each further failure.
	firstWait = time.Second
	// longestWait bounds it, for the sake of a person behind the same address as an attacker.
	longestWait = 2 * time.Minute
	// slowest is how much longer a login takes at most while the user is attacked.
	slowest = 2 * time.Second
	// forget is how long failures count.
	forget = time.Hour
	// parallelLogins is how many logins one network may have under way.
	parallelLogins = 8
	// maxCounted bounds the memory: each entry costs a caller one hash.
	maxCounted = 50_000
)

// lockout slows down who guesses passwords. Failures count for one user from one network, so nobody can lock out a
// person who is elsewhere; a network without failures for a user is never refused a try. It is in memory: a restart
// forgets, which costs an attacker a restart.
type lockout struct {
	mu    sync.Mutex
	pairs map[tried]*failures
	users map[string]*failures
	busy  map[netip.Prefix]int
}

type tried struct {
	user    string
	network netip.Prefix
}

type failures struct {
	count int
	last  time.Time
}

func newLockout() *lockout {
	return &lockout{pairs: map[tried]*failures{}, users: map[string]*failures{}, busy: map[netip.Prefix]int{}}
}

// networkOf gives the network of a client: its IPv4 address, or the /64 that one IPv6 subscriber has.
func networkOf(from string) netip.Prefix {
	address, err := netip.ParseAddr(from)
	if err != nil {
		return netip.Prefix{}
	}
	address = address.Unmap().WithZone("")
	bits := address.BitLen()
	if address.Is6() {
		bits = 64
	}
	prefix, err := address.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}

// begin lets a try happen, or refuses it with a TooManyRequests error that says when to come again. Call end with
// whether the password was right; a try that came to no answer ends with right nil.
func (l *lockout) begin(ctx context.Context, name, from string) (end func(right *bool), err error) {
	t := tried{name, networkOf(from)}
	slow, err := l.enter(t)
	if err != nil {
		return nil, err
	}
	end = func(right *bool) { l.leave(t, right) }
	if slow > 0 {
		timer := time.NewTimer(slow)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			end(nil)
			return nil, fmt.Errorf("cannot log in: %w", ctx.Err())
		}
	}
	return end, nil
}

func (l *lockout) enter(t tried) (slow time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	attacked := l.users[t.user].since(now) - attackTries
	free := freeTries
	if attacked >= 0 {
		free = 1
		slow = min(slowest, time.Duration(attacked+1)*100*time.Millisecond)
	}
	if f := l.pairs[t]; f.since(now) >= free {
		wait := longestWait
		if over := f.count - free; over < 8 {
			wait = min(longestWait, firstWait<<over)
		}
		if left := f.last.Add(wait).Sub(now); left > 0 {
			seconds := int(left/time.Second) + 1
			return 0, apierrors.NewTooManyRequests(fmt.Sprintf("too many wrong passwords from here; try again in %d s", seconds), seconds)
		}
	}
	if l.busy[t.network] >= parallelLogins {
		return 0, apierrors.NewTooManyRequests("too many logins from here at once; try again", 1)
	}
	l.busy[t.network]++
	return slow, nil
}

func (l *lockout) leave(t tried, right *bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy[t.network]--; l.busy[t.network] <= 0 {
		delete(l.busy, t.network)
	}
	if right == nil {
		return
	}
	now := time.Now()
	if *right {
		// The count over all networks stays: whoever attacks is still there.
		delete(l.pairs, t)
		return
	}
	if len(l.pairs) >= maxCounted || len(l.users) >= maxCounted {
		l.clean(now)
	}
	count(l.pairs, t, now)
	count(l.users, t.user, now)
}

// clean drops what is forgotten, and everything when that is not enough.
func (l *lockout) clean(now time.Time) {
	dropOld(l.pairs, now)
	dropOld(l.users, now)
}

func dropOld[K comparable](m map[K]*failures, now time.Time) {
	for k, f := range m {
		if f.since(now) == 0 {
			delete(m, k)
		}
	}
	if len(m) >= maxCounted {
		clear(m)
	}
}

func count[K comparable](m map[K]*failures, key K, now time.Time) {
	f := m[key]
	if f.since(now) == 0 {
		f = &failures{}
		m[key] = f
	}
	f.count++
	f.last = now
}

// since gives how many failures still count.
func (f *failures) since(now time.Time) int {
	if f == nil || now.Sub(f.last) > forget {
		return 0
	}
	return f.count
}
