package operation

import (
	"context"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"slipway.dev/slipway/api/v1alpha1"
)

// runs holds the operations that run in this process.
type runs struct {
	ctx context.Context
	// ended gets an event for every run that came to its end.
	ended chan event.GenericEvent

	mu      sync.Mutex
	current map[types.UID]*current
}

type current struct {
	abort chan struct{}
	once  sync.Once
}

func newRuns(ctx context.Context) *runs {
	return &runs{ctx: ctx, ended: make(chan event.GenericEvent, 64), current: map[types.UID]*current{}}
}

func (r *runs) active(uid types.UID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current[uid] != nil
}

// abort asks a run to stop after the steps in flight. One that does not run is fine.
func (r *runs) abort(uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.current[uid]; c != nil {
		c.once.Do(func() { close(c.abort) })
	}
}

// start runs f until it returns or the server stops. A second start of the same operation does nothing.
func (r *runs) start(op *v1alpha1.Operation, f func(context.Context, <-chan struct{})) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current[op.UID] != nil {
		return
	}
	c := &current{abort: make(chan struct{})}
	r.current[op.UID] = c
	go func() {
		f(r.ctx, c.abort)
		r.mu.Lock()
		delete(r.current, op.UID)
		r.mu.Unlock()
		select {
		case r.ended <- event.GenericEvent{Object: op}:
		case <-r.ctx.Done():
		}
	}()
}
