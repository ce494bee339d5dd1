package grant

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/grant"
)

type world struct {
	t         *testing.T
	client    client.Client
	reconcile *Reconciler
	// writes counts the changes of a status.
	writes int
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t}
	w.client = clientfake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&v1alpha1.Grant{}).
		WithIndex(&v1alpha1.Grant{}, indexLends, lends).
		WithInterceptorFuncs(interceptor.Funcs{
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
				w.writes++
				return c.SubResource(sub).Patch(ctx, o, p, opts...)
			},
		}).Build()
	w.reconcile = New(Deps{Client: w.client})
	return w
}

// look reconciles a grant and gives it.
func (w *world) look(name string) *v1alpha1.Grant {
	w.t.Helper()
	key := client.ObjectKey{Namespace: "dev", Name: name}
	if _, err := w.reconcile.Reconcile(w.t.Context(), reconcile.Request{NamespacedName: key}); err != nil {
		w.t.Fatal(err)
	}
	var g v1alpha1.Grant
	if err := w.client.Get(w.t.Context(), key, &g); err != nil {
		w.t.Fatal(err)
	}
	return &g
}

func lend(name string, kind v1alpha1.GrantKind, object string) *v1alpha1.Grant {
	return &v1alpha1.Grant{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: name}, Spec: v1alpha1.GrantSpec{Kind: kind, Name: object}}
}

func host(name string) *v1alpha1.Host {
	return &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: v1alpha1.HostStatus{
		InternalAddress: "10.9.0.21", Conditions: []metav1.Condition{{Type: v1alpha1.HostReachable, Status: metav1.ConditionTrue}},
		Facts: &v1alpha1.HostFacts{CPUs: 4, Memory: "7.8Gi", MemoryBytes: 8 << 30, OS: v1alpha1.HostOS{ID: "debian", Version: "12"}, Architecture: "amd64", ClockSkewMillis: 3},
	}}
}

func TestStatus(t *testing.T) {
	off := &v1alpha1.Bundle{ObjectMeta: metav1.ObjectMeta{Name: "v1.36.3"}, Spec: v1alpha1.BundleSpec{Enabled: new(bool)}}
	cases := map[string]struct {
		reason  string
		spec    v1alpha1.GrantSpec
		ready   string
		summary string
		host    bool
	}{
		"host":        {"the one line that a list shows", v1alpha1.GrantSpec{Kind: v1alpha1.GrantHost, Name: "w1"}, grant.ReasonUsable, "4 CPUs, 7.8Gi, debian 12, amd64, free", true},
		"no host":     {"a grant may come first", v1alpha1.GrantSpec{Kind: v1alpha1.GrantHost, Name: "w9"}, grant.ReasonNotFound, "", false},
		"all hosts":   {"everything is a count", v1alpha1.GrantSpec{Kind: v1alpha1.GrantHost, Name: "*"}, grant.ReasonUsable, "2 hosts", false},
		"bundle":      {"one that is off is said to be", v1alpha1.GrantSpec{Kind: v1alpha1.GrantBundle, Name: "v1.36.3"}, grant.ReasonNotEnabled, "disabled", false},
		"no bundle":   {"a grant may come first", v1alpha1.GrantSpec{Kind: v1alpha1.GrantBundle, Name: "v1.99.0"}, grant.ReasonNotFound, "", false},
		"all bundles": {"everything is a count", v1alpha1.GrantSpec{Kind: v1alpha1.GrantBundle, Name: "*"}, grant.ReasonUsable, "1 bundle", false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, host("w1"), host("w2"), off.DeepCopy(), lend("g", tc.spec.Kind, tc.spec.Name))
			g := w.look("g")
			ready := meta.FindStatusCondition(g.Status.Conditions, v1alpha1.GrantReady)
			if ready == nil || ready.Reason != tc.ready || (ready.Status == metav1.ConditionTrue) != (tc.ready == grant.ReasonUsable) {
				t.Errorf("%s: condition %+v, want %s", tc.reason, ready, tc.ready)
			}
			if g.Status.Summary != tc.summary || (g.Status.Host != nil) != tc.host {
				t.Errorf("%s: %q, host %v", tc.reason, g.Status.Summary, g.Status.Host)
			}
			w.look("g")
			if w.writes != 1 {
				t.Errorf("%d writes of a status that did not change", w.writes)
			}
		})
	}
}

// TestGone: what was copied of a host goes with it.
func TestGone(t *testing.T) {
	w := newWorld(t, host("w1"), lend("g", v1alpha1.GrantHost, "w1"))
	w.look("g")
	if err := w.client.Delete(t.Context(), host("w1")); err != nil {
		t.Fatal(err)
	}
	if g := w.look("g"); g.Status.Host != nil || g.Status.Summary != "" {
		t.Errorf("status %+v", g.Status)
	}
}

// TestEvents: which grants are looked at again, and when.
func TestEvents(t *testing.T) {
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	change := func(f func(*v1alpha1.Host)) func(*world, queue) {
		return func(w *world, q queue) {
			now := host("w1")
			f(now)
			w.reconcile.events(v1alpha1.GrantHost).Update(w.t.Context(), event.UpdateEvent{ObjectOld: host("w1"), ObjectNew: now}, q)
		}
	}
	cases := map[string]struct {
		reason string
		play   func(*world, queue)
		soon   []string
		late   []string
	}{
		"heartbeat": {"what no project sees is no reason to look", change(func(h *v1alpha1.Host) {
			h.Status.Facts.ClockSkewMillis, h.Status.Facts.FreeBytes = 700, map[string]int64{"/": 1}
		}), nil, nil},
		"unreachable": {"the project must know", change(func(h *v1alpha1.Host) { h.Status.Conditions[0].Status = metav1.ConditionFalse }), []string{"one"}, nil},
		"taken":       {"free hosts are what one looks for", change(func(h *v1alpha1.Host) { h.Status.Holder = &v1alpha1.HostHolder{Cluster: "dev/demo"} }), []string{"one"}, nil},
		"gone": {"those of everything count anew, with a pause", func(w *world, q queue) {
			w.reconcile.events(v1alpha1.GrantHost).Delete(w.t.Context(), event.DeleteEvent{Object: host("w1")}, q)
		}, []string{"one"}, []string{"all"}},
		"new": {"those of everything count anew, with a pause", func(w *world, q queue) {
			w.reconcile.events(v1alpha1.GrantHost).Create(w.t.Context(), event.CreateEvent{Object: host("w1")}, q)
		}, []string{"one"}, []string{"all"}},
		"at the start": {"every grant is looked at then anyway", func(w *world, q queue) {
			w.reconcile.events(v1alpha1.GrantHost).Create(w.t.Context(), event.CreateEvent{Object: host("w1"), IsInInitialList: true}, q)
		}, nil, nil},
		"another kind": {"a bundle of the same name is something else", func(w *world, q queue) {
			b := &v1alpha1.Bundle{ObjectMeta: metav1.ObjectMeta{Name: "w1"}}
			w.reconcile.events(v1alpha1.GrantBundle).Delete(w.t.Context(), event.DeleteEvent{Object: b}, q)
		}, nil, nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, host("w1"), lend("one", v1alpha1.GrantHost, "w1"), lend("other", v1alpha1.GrantHost, "w2"), lend("all", v1alpha1.GrantHost, "*"))
				q := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
				defer q.ShutDown()
				tc.play(w, q)
				synctest.Wait()
				if diff := cmp.Diff(tc.soon, drain(q)); diff != "" {
					t.Errorf("%s: at once (-want +got):\n%s", tc.reason, diff)
				}
				<-time.After(countDelay + time.Second)
				if diff := cmp.Diff(tc.late, drain(q)); diff != "" {
					t.Errorf("%s: later (-want +got):\n%s", tc.reason, diff)
				}
			})
		})
	}
}

// TestManyHosts: ten thousand hosts that come within a minute are few writes of a grant of everything.
func TestManyHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, lend("all", v1alpha1.GrantHost, "*"))
		q := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
		defer q.ShutDown()
		events, looks := w.reconcile.events(v1alpha1.GrantHost), 0
		for i := range 10_000 {
			events.Create(t.Context(), event.CreateEvent{Object: host(fmt.Sprint("w", i))}, q)
			if i%100 == 0 {
				<-time.After(600 * time.Millisecond)
				looks += len(drain(q))
			}
		}
		<-time.After(countDelay + time.Second)
		looks += len(drain(q))
		if looks < 2 || looks > 40 {
			t.Errorf("%d looks in a minute, want one in about %s", looks, countDelay)
		}
	})
}

func drain(q workqueue.TypedRateLimitingInterface[reconcile.Request]) []string {
	var names []string
	for q.Len() > 0 {
		r, _ := q.Get()
		names = append(names, r.Name)
		q.Done(r)
	}
	return names
}
