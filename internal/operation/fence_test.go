package operation_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/operation"
)

func TestRun_OlderEngineIsFencedOff(t *testing.T) {
	w := newWorld(t, planned(t, "w1", on(t, "a", "w1", "", file{Path: "/a", Content: "x"}, file{Path: "/b", Content: "x"})), interceptor.Funcs{})
	writing, overtaken := make(chan struct{}), make(chan struct{})
	deps := w.deps
	deps.Edges = func(_ context.Context, e operation.Edge) error {
		if e.Call == "a-1" && e.Point == operation.BeforeWrite && e.N == 1 {
			close(writing)
			<-overtaken
		}
		return nil
	}
	engine, err := operation.New(deps)
	if err != nil {
		t.Fatal(err)
	}
	older := make(chan error)
	go func() {
		_, err := engine.Run(t.Context(), w.op, w.plan, nil)
		older <- err
	}()
	<-writing
	out, err := w.run(t)
	if err != nil || out.Phase != v1alpha1.OperationSucceeded {
		t.Fatalf("the newer engine: %+v %v", out, err)
	}
	close(overtaken)
	if err := <-older; !operation.Superseded(err) || fault.ReasonOf(err) != host.ReasonFencedOff {
		t.Errorf("the older engine: %v", err)
	}
	if got := w.stored(t).Status.Phase; got != v1alpha1.OperationSucceeded {
		t.Errorf("the older engine wrote phase %s", got)
	}
	if got := w.record(t, "w1"); got.Epoch != 2 || w.holder(t, "w1").Epoch != 2 {
		t.Errorf("epochs: record %d, host %d", got.Epoch, w.holder(t, "w1").Epoch)
	}
}

func TestRun_OlderEngineCannotWriteTheJournal(t *testing.T) {
	w := newWorld(t, planned(t, "w1", on(t, "a", "w1", "", file{Path: "/a", Content: "x"})), interceptor.Funcs{})
	deps := w.deps
	w.deps.Edges = func(ctx context.Context, e operation.Edge) error {
		if e.Call == "a-0" && e.Point == operation.BeforeRecord && e.N == 1 {
			engine, err := operation.New(deps)
			if err != nil {
				return err
			}
			_, err = engine.Run(ctx, w.op, w.plan, nil)
			return err
		}
		return nil
	}
	if _, err := w.run(t); fault.ReasonOf(err) != operation.ReasonSuperseded {
		t.Errorf("Run = %v", err)
	}
}

func TestRun_EpochIsAboveRecordAndHost(t *testing.T) {
	cases := map[string]struct {
		reason       string
		record, host int64
		want         int64
	}{
		"record is ahead": {"a crash between the record and its use", 7, 2, 8},
		"host is ahead":   {"the platform was restored from a backup", 1, 9, 10},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, planned(t, "w1", on(t, "a", "w1", "", file{Path: "/a"})), interceptor.Funcs{})
			w.hold(t, "w1", host.Fence{Owner: "home", Epoch: c.host})
			claim := &v1alpha1.HostClaim{ObjectMeta: metav1.ObjectMeta{Name: "w1"},
				Spec: v1alpha1.HostClaimSpec{Namespace: "dev", Cluster: "demo", Epoch: c.record}}
			if err := w.client.Create(t.Context(), claim); err != nil {
				t.Fatal(err)
			}
			if _, err := w.run(t); err != nil {
				t.Fatal(err)
			}
			if err := w.client.Get(t.Context(), client.ObjectKeyFromObject(claim), claim); err != nil {
				t.Fatal(err)
			}
			got := []int64{claim.Spec.Epoch, w.holder(t, "w1").Epoch, w.record(t, "w1").Epoch}
			if diff := cmp.Diff([]int64{c.want, c.want, c.want}, got); diff != "" {
				t.Errorf("%s: %s", c.reason, diff)
			}
		})
	}
}

func TestRun_NothingIsWrittenAfterAKillOrWithoutARecord(t *testing.T) {
	gone := errors.New("connection refused")
	for name, viaAPI := range map[string]bool{"the platform's API is gone": true, "the engine is killed": false} {
		t.Run(name, func(t *testing.T) {
			var dead atomic.Bool
			var after atomic.Int32
			hooks := interceptor.Funcs{
				SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, o client.Object, opts ...client.SubResourceUpdateOption) error {
					if run, ok := o.(*v1alpha1.HostRun); ok && viaAPI && run.Status.Step == "a-1" {
						dead.Store(true)
						return gone
					}
					if dead.Load() {
						after.Add(1)
					}
					return c.SubResource(sub).Update(ctx, o, opts...)
				},
				SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
					if dead.Load() {
						after.Add(1)
					}
					return c.SubResource(sub).Patch(ctx, o, p, opts...)
				},
			}
			w := newWorld(t, planned(t, "w1", on(t, "a", "w1", "", file{Path: "/a"}, file{Path: "/b"}, file{Path: "/c"})), hooks)
			w.deps.Edges = func(_ context.Context, e operation.Edge) error {
				if !viaAPI && e.Call == "a-1" && e.Point == operation.BeforeRecord {
					dead.Store(true)
					return gone
				}
				return nil
			}
			if _, err := w.run(t); !errors.Is(err, gone) {
				t.Errorf("Run = %v", err)
			}
			if n := after.Load(); n > 0 {
				t.Errorf("%d writes after the end", n)
			}
			if n := w.hosts["w1"].Writes(); n != 2 {
				t.Errorf("a step ran without a record: %d writes on the host", n)
			}
			if got := w.stored(t).Status.Phase; got != v1alpha1.OperationRunning {
				t.Errorf("phase = %s", got)
			}
		})
	}
}
