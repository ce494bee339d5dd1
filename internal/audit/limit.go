package audit

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

const (
	// window is how long one count lasts.
	window = time.Minute
	// clientLines and allLines are how many refusals of unknown people one client, and all together, get a line for in
	// a window; the rest is counted.
	clientLines = 10
	allLines    = 60
	// maxClients is how many clients are counted apart.
	maxClients = 32
)

// limiter keeps people that nobody knows from filling the disk: after some lines in a minute their refused and failed
// requests are only counted, and one line a client tells how many there were. The zero value is ready.
type limiter struct {
	began time.Time
	lines int
	// clients counts by network; what does not fit is under "".
	clients map[string]*client
}

type client struct{ lines, counted int }

// admit says whether an event gets its own line; otherwise it was counted.
func (l *limiter) admit(e Event, now time.Time) bool {
	if e.Via != "" || e.From == "" || e.Result == Allowed {
		return true
	}
	if l.clients == nil {
		l.clients, l.began = map[string]*client{}, now
	}
	name := network(e.From)
	c := l.clients[name]
	if c == nil {
		if len(l.clients) >= maxClients {
			name = ""
			c = l.clients[name]
		}
		if c == nil {
			c = &client{}
			l.clients[name] = c
		}
	}
	if c.lines >= clientLines || l.lines >= allLines {
		c.counted++
		return false
	}
	c.lines++
	l.lines++
	return true
}

// waiting says that due will have to be asked again.
func (l *limiter) waiting() bool { return l.clients != nil }

// due gives what was counted when the window is over, and begins another.
func (l *limiter) due(now time.Time) []Event {
	if l.clients == nil || now.Sub(l.began) < window {
		return nil
	}
	return l.all()
}

// all gives what was counted so far.
func (l *limiter) all() []Event {
	var events []Event
	for _, name := range slices.Sorted(maps.Keys(l.clients)) {
		c := l.clients[name]
		if c.counted == 0 {
			continue
		}
		e := own(verbRepeated, Refused)
		e.From, e.Reason = name, "TooMany"
		if name == "" {
			e.From = "others"
		}
		e.Detail = map[string]string{"count": strconv.Itoa(c.counted), "since": l.began.UTC().Format(time.RFC3339)}
		events = append(events, e)
	}
	*l = limiter{}
	return events
}

// network is what one client has: an IPv4 address, or all 2^64 of an IPv6 network.
func network(from string) string {
	address, err := netip.ParseAddr(from)
	if err != nil || address.Unmap().Is4() {
		return from
	}
	prefix, err := address.WithZone("").Prefix(64)
	if err != nil {
		return from
	}
	return prefix.String()
}
