package bundle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"slipway.dev/slipway/internal/bundle"
)

// unreadableFor is how long an error that says nothing about the bundle itself stands before the next try.
const unreadableFor = time.Minute

// job is one state of a bundle that is to be verified.
type job struct {
	digest digest.Digest
	stamp  string
}

// verifier reads bundles in the background, one at a time: two would only share the disk.
type verifier struct {
	store Store
	log   *slog.Logger
	turn  chan struct{}

	mu sync.Mutex
	// ctx bounds every verification; it is nil until start.
	ctx    context.Context
	notify func(name string)
	tasks  map[string]*task
}

// task is the newest job of a bundle and what came of it. It is guarded by verifier.mu.
type task struct {
	job
	cancel context.CancelFunc
	done   bool
	err    error
}

func newVerifier(d Deps) *verifier {
	return &verifier{store: d.Store, log: d.Log, turn: make(chan struct{}, 1), tasks: map[string]*task{}}
}

// start lets verifications run until ctx ends; notify is called after each and must not block.
func (v *verifier) start(ctx context.Context, notify func(name string)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ctx, v.notify = ctx, notify
}

// ask gives the result for exactly this job, and starts it when it is not under way.
func (v *verifier) ask(name string, j job) (known bool, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if t := v.tasks[name]; t != nil && t.job == j {
		return t.done, t.err
	}
	v.drop(name)
	if v.ctx == nil {
		return false, nil
	}
	ctx, cancel := context.WithCancel(v.ctx)
	t := &task{job: j, cancel: cancel}
	v.tasks[name] = t
	go v.run(ctx, name, t)
	return false, nil
}

// forget ends the work on a bundle and drops its result.
func (v *verifier) forget(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.drop(name)
}

func (v *verifier) drop(name string) {
	if t := v.tasks[name]; t != nil {
		t.cancel()
		delete(v.tasks, name)
	}
}

func (v *verifier) run(ctx context.Context, name string, t *task) {
	defer t.cancel()
	select {
	case v.turn <- struct{}{}:
	case <-ctx.Done():
		return
	}
	began := time.Now()
	err := v.verify(ctx, name, t.digest)
	<-v.turn
	if ctx.Err() != nil {
		return
	}
	v.log.Info("bundle was read", "bundle", name, "seconds", time.Since(began).Round(time.Millisecond).Seconds(), "ok", err == nil)
	v.finish(name, t, err)
	var damaged *bundle.VerifyError
	if err == nil || errors.As(err, &damaged) {
		return
	}
	// A disk that could not be read says nothing about the bundle for good.
	timer := time.NewTimer(unreadableFor)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
		v.again(name, t)
	}
}

// verify makes sure that what was read is what was asked for: the store may change meanwhile.
func (v *verifier) verify(ctx context.Context, name string, want digest.Digest) error {
	err := v.store.Verify(ctx, name, nil)
	entry, held, listErr := find(ctx, v.store, name)
	if listErr != nil {
		return errors.Join(err, listErr)
	}
	if !held || entry.Digest != want {
		return fmt.Errorf("cannot verify bundle %s: it changed meanwhile", name)
	}
	return err
}

func (v *verifier) finish(name string, t *task, err error) {
	v.mu.Lock()
	current := v.tasks[name] == t
	if current {
		t.done, t.err = true, err
	}
	v.mu.Unlock()
	if current {
		v.notify(name)
	}
}

// again drops a result, so that the next question starts anew.
func (v *verifier) again(name string, t *task) {
	v.mu.Lock()
	current := v.tasks[name] == t
	if current {
		delete(v.tasks, name)
	}
	v.mu.Unlock()
	if current {
		v.notify(name)
	}
}
