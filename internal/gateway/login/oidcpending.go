package login

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// pendingTime is how long a person may take at the provider.
	pendingTime = 10 * time.Minute
	// codeTime is how long a program on the person's machine may take to redeem its code.
	codeTime = time.Minute
	// maxPending bounds what is kept in all, maxPendingFrom what one client can fill.
	maxPending, maxPendingFrom = 4096, 64
)

// pending keeps what waits for a browser or a program to come back: each once, for a short time, and only so many.
// It is in the memory of one server: a login that began before a restart begins again.
type pending[T any] struct {
	life time.Duration

	mu   sync.Mutex
	kept map[string]waiting[T]
}

type waiting[T any] struct {
	value T
	from  string
	until time.Time
}

func newPending[T any](life time.Duration) *pending[T] {
	return &pending[T]{life: life, kept: map[string]waiting[T]{}}
}

// put keeps a value under a key that nobody can guess, for a client at the address from. What is over goes; where there
// are too many, of the client or in all, the oldest makes room, so that whoever floods the server throws out their own.
func (p *pending[T]) put(key, from string, value T) {
	from = clientOf(from)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	var oldest, oldestFrom string
	count := 0
	for k, w := range p.kept {
		if !now.Before(w.until) {
			delete(p.kept, k)
			continue
		}
		if oldest == "" || w.until.Before(p.kept[oldest].until) {
			oldest = k
		}
		if w.from == from {
			count++
			if oldestFrom == "" || w.until.Before(p.kept[oldestFrom].until) {
				oldestFrom = k
			}
		}
	}
	switch {
	case count >= maxPendingFrom:
		delete(p.kept, oldestFrom)
	case len(p.kept) >= maxPending:
		delete(p.kept, oldest)
	}
	p.kept[key] = waiting[T]{value: value, from: from, until: now.Add(p.life)}
}

// take gives the value once, and false when there is none or its time is over.
func (p *pending[T]) take(key string) (T, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w, ok := p.kept[key]
	delete(p.kept, key)
	if !ok || !time.Now().Before(w.until) {
		var none T
		return none, false
	}
	return w.value, true
}

// clientOf gives the address, or the /64 of an IPv6 address: one subscriber has them all.
func clientOf(from string) string {
	address, err := netip.ParseAddr(from)
	if err != nil || !address.Is6() || address.Is4In6() {
		return from
	}
	return netip.PrefixFrom(address.WithZone(""), 64).Masked().String()
}
