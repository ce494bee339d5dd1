package bundle

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/bundle/bundletest"
)

const name = "v1.36.3"

// counted is a real store that counts verifications, can hold them up and can make them fail.
type counted struct {
	*bundle.Store
	verified atomic.Int32
	gate     chan struct{}
	fail     atomic.Pointer[error]
}

func (c *counted) Verify(ctx context.Context, name string, p bundle.Progress) error {
	c.verified.Add(1)
	if c.gate != nil {
		<-c.gate
	}
	if err := c.fail.Load(); err != nil {
		return *err
	}
	return c.Store.Verify(ctx, name, p)
}

type world struct {
	t       *testing.T
	store   *counted
	client  client.Client
	r       *Reconciler
	pending chan string
}

func newWorld(t *testing.T) *world {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	store, err := bundle.Open(filepath.Join(t.TempDir(), "bundles"))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, store: &counted{Store: store},
		client: clientfake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1alpha1.Bundle{}).Build()}
	w.restart(t.Context())
	return w
}

// restart makes a new reconciler on the same objects and store, as a restarted server does.
func (w *world) restart(ctx context.Context) {
	w.pending = make(chan string, 64)
	pending := w.pending
	w.r = New(Deps{Client: w.client, Store: w.store, Log: slog.New(slog.DiscardHandler)})
	w.r.verifier.start(ctx, func(name string) { pending <- name })
}

func (w *world) add(o bundletest.Options) {
	w.t.Helper()
	if _, err := bundletest.Write(w.t.Context(), w.store.Store, o); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) reconcile(name string) {
	w.t.Helper()
	if _, err := w.r.Reconcile(w.t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Name: name}}); err != nil {
		w.t.Fatal(err)
	}
}

// until reconciles what is asked for until the condition Verified of the bundle has the reason.
func (w *world) until(name, reason string) *v1alpha1.Bundle {
	w.t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		if b := w.bundle(name); b != nil && verified(b).Reason == reason {
			return b
		}
		select {
		case name := <-w.pending:
			w.reconcile(name)
		case <-deadline:
			w.t.Fatalf("bundle %s never became %s: %+v", name, reason, w.bundle(name))
		}
	}
}

// settled brings a bundle that is in the store to the reason.
func (w *world) settled(reason string) *v1alpha1.Bundle {
	w.t.Helper()
	w.reconcile(name)
	w.reconcile(name)
	return w.until(name, reason)
}

func (w *world) bundle(name string) *v1alpha1.Bundle {
	w.t.Helper()
	b := &v1alpha1.Bundle{}
	err := w.client.Get(w.t.Context(), client.ObjectKey{Name: name}, b)
	if client.IgnoreNotFound(err) != nil {
		w.t.Fatal(err)
	}
	if err != nil {
		return nil
	}
	return b
}

func verified(b *v1alpha1.Bundle) metav1.Condition {
	if c := meta.FindStatusCondition(b.Status.Conditions, v1alpha1.BundleVerified); c != nil {
		return *c
	}
	return metav1.Condition{}
}

// kubelet gives the path of the blob of the kubelet.
func (w *world) kubelet() string {
	w.t.Helper()
	m, err := w.store.Get(w.t.Context(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	f, ok := m.File("kubelet", "amd64")
	if !ok {
		w.t.Fatal("the bundle has no kubelet")
	}
	return filepath.Join(w.store.Dir(), "blobs", "sha256", f.Digest.Encoded())
}

// flip changes one bit of a file and leaves its size alone.
func (w *world) flip(path string) {
	w.t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	content[len(content)-1] ^= 1
	if err := os.WriteFile(path, content, 0o644); err != nil {
		w.t.Fatal(err)
	}
	w.touch(path)
}

// touch moves the time of a file, whatever the resolution of the clock.
func (w *world) touch(path string) {
	w.t.Helper()
	if err := os.Chtimes(path, time.Time{}, time.Unix(1900000000, 0)); err != nil {
		w.t.Fatal(err)
	}
}

// drop empties the store's list.
func (w *world) drop() {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.store.Dir(), "index.json"), []byte(`{"schemaVersion":2,"manifests":[]}`), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func TestVerified(t *testing.T) {
	cases := map[string]struct {
		reason  string
		edit    func(w *world)
		want    string
		status  metav1.ConditionStatus
		message string
	}{
		"Good":    {"every blob is what it should be", func(*world) {}, ReasonVerified, metav1.ConditionTrue, "matches its digest"},
		"Flipped": {"one bit is enough", func(w *world) { w.flip(w.kubelet()) }, ReasonDamaged, metav1.ConditionFalse, "node file kubelet"},
		"Gone": {"a blob is missing", func(w *world) {
			if err := os.Remove(w.kubelet()); err != nil {
				w.t.Fatal(err)
			}
		}, ReasonDamaged, metav1.ConditionFalse, "it is missing"},
	}
	for label, c := range cases {
		t.Run(label, func(t *testing.T) {
			w := newWorld(t)
			w.add(bundletest.Options{})
			c.edit(w)
			got := verified(w.settled(c.want))
			if got.Status != c.status || !strings.Contains(got.Message, c.message) {
				t.Errorf("%s: got %s %q, want %s with %q", c.reason, got.Status, got.Message, c.status, c.message)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	w := newWorld(t)
	w.add(bundletest.Options{Architectures: []string{"amd64", "arm64"}})
	got := w.settled(ReasonVerified)
	if got.Spec.Enabled == nil || !*got.Spec.Enabled {
		t.Error("a new bundle is enabled")
	}
	s := got.Status
	entry, _, err := find(t.Context(), w.store, name)
	if err != nil {
		t.Fatal(err)
	}
	if s.KubernetesVersion != name || s.Digest != entry.Digest.String() || s.Components["containerd"] != "v2.3.2" {
		t.Errorf("the status is %+v", s)
	}
	if diff := cmp.Diff([]string{"amd64", "arm64"}, s.Architectures); diff != "" {
		t.Error(diff)
	}
	if len(s.Images) != 8 {
		t.Errorf("an image for two architectures is listed once: %v", s.Images)
	}
	var size int64
	blobs, err := os.ReadDir(filepath.Join(w.store.Dir(), "blobs", "sha256"))
	if err != nil {
		t.Fatal(err)
	}
	for _, blob := range blobs {
		info, err := blob.Info()
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if s.Bytes != size {
		t.Errorf("the bundle has %d bytes, its blobs %d", s.Bytes, size)
	}
}

// TestRestart: a restarted server reads again only what is not what it read before.
func TestRestart(t *testing.T) {
	cases := map[string]struct {
		reason string
		edit   func(w *world)
		want   string
		reads  int32
	}{
		"Same":    {"nothing moved", func(*world) {}, ReasonVerified, 1},
		"Touched": {"another time may mean other bytes", func(w *world) { w.touch(w.kubelet()) }, ReasonVerified, 2},
		"Flipped": {"other bytes are found", func(w *world) { w.flip(w.kubelet()) }, ReasonDamaged, 2},
		"Rebuilt": {"another bundle has the name", func(w *world) { w.add(bundletest.Options{Architectures: []string{"amd64", "arm64"}}) }, ReasonVerified, 2},
		"Left":    {"the bundle is gone", func(w *world) { w.drop() }, ReasonMissing, 1},
	}
	for label, c := range cases {
		t.Run(label, func(t *testing.T) {
			w := newWorld(t)
			w.add(bundletest.Options{})
			w.settled(ReasonVerified)
			c.edit(w)
			w.restart(t.Context())
			w.reconcile(name)
			w.until(name, c.want)
			if n := w.store.verified.Load(); n != c.reads {
				t.Errorf("%s: the bundle was read %d times, want %d", c.reason, n, c.reads)
			}
		})
	}
}

// TestLeaveAndReturn: what people said of a bundle outlives its stay in the store.
func TestLeaveAndReturn(t *testing.T) {
	w := newWorld(t)
	w.add(bundletest.Options{})
	b := w.settled(ReasonVerified)
	off := false
	b.Spec.Enabled = &off
	if err := w.client.Update(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	w.drop()
	w.reconcile(name)
	if got := verified(w.bundle(name)); got.Status != metav1.ConditionFalse || got.Reason != ReasonMissing {
		t.Errorf("a bundle that left is %s %s", got.Status, got.Reason)
	}
	w.add(bundletest.Options{})
	w.reconcile(name)
	if got := w.until(name, ReasonVerified); *got.Spec.Enabled {
		t.Error("a disabled bundle came back enabled")
	}
}

// TestFollow: whoever changes the store, the objects follow; verification holds nothing up.
func TestFollow(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go w.r.follow(ctx, func(name string) { w.pending <- name })
	w.store.gate = make(chan struct{})
	w.add(bundletest.Options{})
	w.reconcile(<-w.pending)
	w.reconcile(name)
	if got := verified(w.bundle(name)); got.Status != metav1.ConditionUnknown || got.Reason != ReasonVerifying {
		t.Errorf("a bundle that is being read is %s %s", got.Status, got.Reason)
	}
	close(w.store.gate)
	w.until(name, ReasonVerified)
	w.drop()
	w.until(name, ReasonMissing)
}

// TestUnreadable: an error of the disk is no verdict on the bundle, so it is tried again.
func TestUnreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w.restart(ctx)
		w.add(bundletest.Options{})
		err := errors.New("input/output error")
		w.store.fail.Store(&err)
		if got := verified(w.settled(ReasonUnreadable)); !strings.Contains(got.Message, "check the disk") {
			t.Errorf("the message is %q", got.Message)
		}
		w.store.fail.Store(nil)
		began := time.Now()
		w.reconcile(<-w.pending)
		w.until(name, ReasonVerified)
		if d := time.Since(began); d != unreadableFor {
			t.Errorf("it was tried again after %v, want %v", d, unreadableFor)
		}
	})
}

func TestUsable(t *testing.T) {
	cases := map[string]struct {
		reason  string
		edit    func(w *world)
		problem string
	}{
		"Good": {"enabled, verified and unchanged", func(*world) {}, ""},
		"Unknown": {"there is no such version", func(w *world) {
			if err := w.client.Delete(w.t.Context(), w.bundle(name)); err != nil {
				w.t.Fatal(err)
			}
		}, "there is no bundle v1.36.3; build it"},
		"Disabled": {"somebody switched it off", func(w *world) {
			b, off := w.bundle(name), false
			b.Spec.Enabled = &off
			if err := w.client.Update(w.t.Context(), b); err != nil {
				w.t.Fatal(err)
			}
		}, "disabled; set spec.enabled"},
		"Flipped": {"it changed behind the controller's back", func(w *world) { w.flip(w.kubelet()) }, "changed since it was verified"},
		"Damaged": {"the controller found the damage", func(w *world) {
			w.flip(w.kubelet())
			w.reconcile(name)
			w.until(name, ReasonDamaged)
		}, "node file kubelet"},
		"Left": {"the store lost it a moment ago", func(w *world) { w.drop() }, "does not hold bundle v1.36.3"},
	}
	for label, c := range cases {
		t.Run(label, func(t *testing.T) {
			w := newWorld(t)
			w.add(bundletest.Options{})
			w.settled(ReasonVerified)
			c.edit(w)
			m, problem, err := Usable(t.Context(), w.client, w.store, name)
			if err != nil {
				t.Fatal(err)
			}
			if (m == nil) == (c.problem == "") || (problem == "") != (c.problem == "") || !strings.Contains(problem, c.problem) {
				t.Errorf("%s: got %v and %q, want %q", c.reason, m != nil, problem, c.problem)
			}
		})
	}
}
