package gateway

import (
	"net"
	"net/netip"
	"sync"
)

const (
	// connectionsMost and connectionsEach bound open connections, of all clients and of one. A host needs about
	// three while it pulls images, and many hosts may share an address.
	connectionsMost, connectionsEach = 16384, 1024
)

// bounded closes connections that are too many at once, before a byte of theirs is read.
type bounded struct {
	net.Listener
	most, each int

	mu   sync.Mutex
	all  int
	open map[netip.Prefix]int
}

func newBounded(next net.Listener, most, each int) *bounded {
	return &bounded{Listener: next, most: most, each: each, open: map[netip.Prefix]int{}}
}

// Accept gives the next connection that is within the limits.
func (l *bounded) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		client := clientPrefix(conn.RemoteAddr().String())
		if l.take(client) {
			return &counted{Conn: conn, release: sync.OnceFunc(func() { l.release(client) })}, nil
		}
		// Nothing was sent on it, so nothing is lost.
		_ = conn.Close()
	}
}

func (l *bounded) take(client netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= l.most || l.open[client] >= l.each {
		return false
	}
	l.all++
	l.open[client]++
	return true
}

func (l *bounded) release(client netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.open[client]--; l.open[client] == 0 {
		delete(l.open, client)
	}
}

// counted is one of the open connections.
type counted struct {
	net.Conn
	release func()
}

// Close makes room for another one.
func (c *counted) Close() error {
	c.release()
	return c.Conn.Close()
}
