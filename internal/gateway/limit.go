package gateway

import (
	"container/list"
	"context"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// How much those may ask who have not logged in. A credit is spent on each request that turns out to be from nobody;
// one that is from a person costs nothing, so that many people behind one address never stand in each other's way.
const (
	creditMost      = 120
	creditPerSecond = 10
	// clientsKnown bounds how many addresses are remembered; the one not seen for longest is forgotten.
	clientsKnown = 16384
	// anonymousMost and anonymousEach bound requests from nobody that are served at the same time.
	anonymousMost, anonymousEach = 1024, 64
	// doubtedMost is how many credentials are looked at at the same time that come from addresses without credit, and
	// doubtedTime how long one waits for its turn.
	doubtedMost, doubtedTime = 16, 5 * time.Second
	// openBody is the largest body, and openTime the longest time to send it, of a request from nobody.
	openBody, openTime = 64 << 10, 15 * time.Second
)

// limits keeps those who have not logged in from taking the port away from those who have.
type limits struct {
	now       func() time.Time
	anonymous chan struct{}
	doubted   chan struct{}

	mu      sync.Mutex
	clients map[netip.Prefix]*list.Element
	// order holds the clients, the one seen last in front.
	order *list.List
}

// caller is what is known of one address. limits.mu guards it.
type caller struct {
	address netip.Prefix
	credit  float64
	at      time.Time
	open    int
}

func newLimits() *limits {
	return &limits{now: time.Now, anonymous: make(chan struct{}, anonymousMost), doubted: make(chan struct{}, doubtedMost),
		clients: map[netip.Prefix]*list.Element{}, order: list.New()}
}

// clientPrefix gives whom an address stands for: itself, or its /64 in IPv6, where everyone has that many addresses.
func clientPrefix(remote string) netip.Prefix {
	address, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{} // All without an address are one client.
	}
	ip, bits := address.Addr().Unmap().WithZone(""), 32
	if ip.Is6() {
		bits = 64
	}
	// The address has that many bits.
	prefix, _ := ip.Prefix(bits)
	return prefix
}

// of gives the caller with its credit as of now. The caller holds mu.
func (l *limits) of(address netip.Prefix) *caller {
	now := l.now()
	element := l.clients[address]
	if element == nil {
		element = l.order.PushFront(&caller{address: address, credit: creditMost, at: now})
		l.clients[address] = element
		if l.order.Len() > clientsKnown {
			oldest := l.order.Back()
			l.order.Remove(oldest)
			delete(l.clients, oldest.Value.(*caller).address)
		}
	}
	l.order.MoveToFront(element)
	c := element.Value.(*caller)
	c.credit = min(creditMost, c.credit+now.Sub(c.at).Seconds()*creditPerSecond)
	c.at = now
	return c
}

// spend takes one credit, and says whether there was one.
func (l *limits) spend(r *http.Request) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.of(clientPrefix(r.RemoteAddr))
	if c.credit < 1 {
		return false
	}
	c.credit--
	return true
}

func (l *limits) hasCredit(r *http.Request) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of(clientPrefix(r.RemoteAddr)).credit >= 1
}

// admit lets a request in whose sender is not known yet; leave must be called once it is. An address without credit is
// let in with a credential only, and few at a time: among many wrong ones there may be that of a person.
func (l *limits) admit(r *http.Request) (leave func(), ok bool) {
	if l.hasCredit(r) {
		return func() {}, true
	}
	if !hasCredential(r) {
		return nil, false
	}
	ctx, cancel := context.WithTimeout(r.Context(), doubtedTime)
	defer cancel()
	select {
	case l.doubted <- struct{}{}:
		return func() { <-l.doubted }, true
	case <-ctx.Done():
		return nil, false
	}
}

// hold counts a request that is from nobody while it is served, until done is called.
func (l *limits) hold(r *http.Request) (done func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.of(clientPrefix(r.RemoteAddr))
	if c.open >= anonymousEach {
		return nil, false
	}
	select {
	case l.anonymous <- struct{}{}:
	default:
		return nil, false
	}
	c.open++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		c.open--
		<-l.anonymous
	}, true
}

// registry serves the bundle registry, which asks for its own tokens: an answer that refuses one costs a credit.
func (l *limits) registry(next http.Handler, w http.ResponseWriter, r *http.Request) {
	if !l.hasCredit(r) && !hasCredential(r) {
		tooMany(w)
		return
	}
	seen := &recording{ResponseWriter: w}
	next.ServeHTTP(seen, r)
	if seen.code == http.StatusUnauthorized || seen.code == http.StatusForbidden {
		// Whether there was one left does not matter: the answer is given.
		_ = l.spend(r)
	}
}

func hasCredential(r *http.Request) bool {
	return r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "" ||
		strings.Contains(strings.ToLower(r.Header.Get("Sec-WebSocket-Protocol")), bearerProtocol)
}
