package fault

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/host"
	fakehost "slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/operation"
	"slipway.dev/slipway/internal/step"
)

// silent is a host whose every command hangs from some time on, as one does whose machine has frozen: the connection stays.
type silent struct {
	host.Sessions
	name string
	now  *atomic.Bool
}

// Session gives the host, or one that never answers.
func (s silent) Session(ctx context.Context, name string) (host.Session, error) {
	session, err := s.Sessions.Session(ctx, name)
	if err != nil || name != s.name || !s.now.Load() {
		return session, err
	}
	return hung{session}, nil
}

type hung struct{ host.Session }

// ReadFile never answers.
func (hung) ReadFile(ctx context.Context, _ string) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// Stat never answers.
func (hung) Stat(ctx context.Context, _ ...string) ([]host.FileInfo, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// Query never answers.
func (hung) Query(ctx context.Context, _ host.Query) (host.Result, error) {
	<-ctx.Done()
	return host.Result{}, ctx.Err()
}

// Writer never answers.
func (hung) Writer(host.Fence) host.Writer { return hungWriter{} }

type hungWriter struct{ hung }

// WriteFile never answers.
func (hungWriter) WriteFile(ctx context.Context, _ string, _ host.File) error {
	<-ctx.Done()
	return ctx.Err()
}

// Remove never answers.
func (hungWriter) Remove(ctx context.Context, _ ...string) error {
	<-ctx.Done()
	return ctx.Err()
}

// Run never answers.
func (hungWriter) Run(ctx context.Context, _ host.Command) (host.Result, error) {
	<-ctx.Done()
	return host.Result{}, ctx.Err()
}

// broken is a bundle store that has gone away.
type broken struct {
	step.Blobs
	gone *atomic.Bool
}

// Blob gives what is there.
func (b broken) Blob(ctx context.Context, digest string) (io.ReadSeekCloser, int64, error) {
	if b.gone.Load() {
		return nil, 0, errors.New("the store of bundles is gone")
	}
	return b.Blobs.Blob(ctx, digest)
}

// at calls f when one of some hosts comes to a call, before it changes anything.
func at(hosts []string, call string, f func()) func(context.Context, operation.Edge) error {
	return func(_ context.Context, e operation.Edge) error {
		if slices.Contains(hosts, e.Host) && e.Call == call && e.Point == operation.BeforeApply && e.N == 1 {
			f()
		}
		return nil
	}
}

// TestMishaps: what goes wrong in the middle of a create ends in bounded time with the name of the host and the reason, the
// others finish where they can, and a retry comes to the same end as if nothing had happened.
func TestMishaps(t *testing.T) {
	const limit = 45 * time.Minute
	k := newKeys(t)
	cases := map[string]struct {
		reason string
		// prepare gives what happens when the first of hosts comes to a call, and what ends it.
		prepare func(w *world) (begin, end func())
		call    string
		// hosts are those that are left out, each with want in its failure.
		hosts []string
		want  string
	}{
		"a worker never answers": {"one of several must not hold up the others, nor be waited for without end", func(w *world) (func(), func()) {
			now := &atomic.Bool{}
			w.deps.Sessions = silent{w.deps.Sessions, "w1", now}
			return func() { now.Store(true) }, func() { now.Store(false) }
		}, "worker/containerd", []string{"w1"}, "cannot finish worker/"},
		"the bundle's store is gone": {"what is not on the host yet cannot come", func(w *world) (func(), func()) {
			gone := &atomic.Bool{}
			w.deps.Blobs = broken{w.deps.Blobs, gone}
			return func() { gone.Store(true) }, func() { gone.Store(false) }
		}, "worker/images", []string{"w1", "w2"}, "the store of bundles is gone"},
		"a disk is full": {"it says so, and nothing is taken for written", func(w *world) (func(), func()) {
			full := func(is bool) func() {
				return func() { w.sessions["w1"].Do(func(s *fakehost.State) { s.Full = is }) }
			}
			return full(true), full(false)
		}, "worker/images", []string{"w1"}, "No space left on device"},
	}
	var undisturbed string
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, k, shape{workers: 2})
		w.succeed(w.create())
		undisturbed = w.end()
	})
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, k, shape{workers: 2})
				begin, end := c.prepare(w)
				trial := w.create()
				began := time.Now()
				out, err := w.run(trial, at(c.hosts, c.call, begin))
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took > limit {
					t.Errorf("%s: the operation took %s", c.reason, took)
				}
				var hosts []string
				for _, f := range out.Failures {
					if hosts = append(hosts, f.Host); !strings.Contains(f.Message, c.want) {
						t.Errorf("%s: host %s failed with %q, want %q in it", c.reason, f.Host, f.Message, c.want)
					}
				}
				if out.Phase != v1alpha1.OperationPartial || !slices.Equal(hosts, c.hosts) {
					t.Errorf("%s: it ended %s without %v, want it Partial without %v", c.reason, out.Phase, hosts, c.hosts)
				}
				end()
				w.settle(t.Context())
				w.succeed(trial)
				if diff := cmp.Diff(strings.Split(undisturbed, "\n"), strings.Split(w.end(), "\n")); diff != "" {
					t.Errorf("%s: after a retry it is not as if nothing had happened (-undisturbed +now):\n%s", c.reason, diff)
				}
			})
		})
	}
}

// end describes hosts and cluster, at rest.
func (w *world) end() string {
	w.t.Helper()
	text, err := w.digest(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}
