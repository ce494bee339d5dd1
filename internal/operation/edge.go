package operation

import (
	"context"
	"fmt"
)

// Point is a kind of place in a run where a crash would matter.
type Point string

// The points. Each comes before or after something that outlives the engine.
const (
	// BeforeClaim and AfterClaim surround the write of a host's next fence epoch.
	BeforeClaim Point = "BeforeClaim"
	AfterClaim  Point = "AfterClaim"
	// BeforeRecord and AfterRecord surround a write of the journal.
	BeforeRecord Point = "BeforeRecord"
	AfterRecord  Point = "AfterRecord"
	// BeforeApply and AfterApply surround Apply as a whole.
	BeforeApply Point = "BeforeApply"
	AfterApply  Point = "AfterApply"
	// BeforeWrite and AfterWrite surround every single change that Apply makes on a host or in a managed cluster.
	BeforeWrite Point = "BeforeWrite"
	AfterWrite  Point = "AfterWrite"
	// AfterVerify follows a Check that found no drift.
	AfterVerify Point = "AfterVerify"
	// BeforeFinal and AfterFinal surround the write of the outcome.
	BeforeFinal Point = "BeforeFinal"
	AfterFinal  Point = "AfterFinal"
)

// Edge names one place in one run. The same plan on the same hosts passes the same edges.
type Edge struct {
	// Host is empty for edges of the whole operation, Call for those of a host.
	Host, Call string
	Point      Point
	// N counts passes of the same place from 1.
	N int
}

// String gives HOST/CALL/POINT#N.
func (e Edge) String() string { return fmt.Sprintf("%s/%s/%s#%d", e.Host, e.Call, e.Point, e.N) }

// edge passes one place, and gives the reason why the run has to stop, if there is one.
func (r *run) edge(host, call string, point Point) error {
	if r.Edges == nil || r.stopped() != nil {
		return r.stopped()
	}
	e := Edge{Host: host, Call: call, Point: point}
	r.mu.Lock()
	r.passed[e]++
	n := r.passed[e]
	r.mu.Unlock()
	e.N = n
	if err := r.Edges(r.ctx, e); err != nil {
		r.stop(err)
	}
	return r.stopped()
}

// stopped gives the reason why nothing may be written any more, nil while the run lives.
func (r *run) stopped() error { return context.Cause(r.ctx) }
