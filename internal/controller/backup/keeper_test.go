package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/backup"
	"slipway.dev/slipway/internal/drill"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

// world is a platform with a created cluster, a location and a Backup that was not taken yet.
type world struct {
	t        *testing.T
	client   client.Client
	r        *Reconciler
	keeper   *Keeper
	place    string
	scratch  string
	snapshot []byte
}

func ref() step.BackupRef { return step.BackupRef{Project: "dev", Name: "demo-manual-abc123"} }

func newWorld(t *testing.T) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	spec := v1alpha1.ClusterSpec{Kubernetes: v1alpha1.KubernetesSpec{Version: "v1.36.3"}, ControlPlane: v1alpha1.ControlPlaneSpec{Hosts: []string{"cp1"}}}
	w := &world{t: t, place: filepath.Join(t.TempDir(), "backups"), scratch: t.TempDir(), snapshot: database(t)}
	w.client = clientfake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1alpha1.Backup{}, &v1alpha1.Operation{}).WithObjects(
		&v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: "demo", UID: "uid-1"}, Spec: spec, Status: v1alpha1.ClusterStatus{Applied: &spec}},
		&v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: "cp1"}, Spec: v1alpha1.HostSpec{Address: "192.0.2.10"}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: "cluster-demo"},
			Data: map[string][]byte{"ca.key": []byte("the key"), "bootstrap-token": []byte("a token")}},
		&v1alpha1.Backup{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: ref().Name}, Spec: v1alpha1.BackupSpec{Cluster: "demo", Location: "local"}},
	).Build()
	stores := func(context.Context, string) (backup.Store, error) { return backup.NewDirectory(w.place), nil }
	w.r, w.keeper = New(Deps{Client: w.client, Stores: stores}), &Keeper{Client: w.client, Stores: stores, Scratch: w.scratch}
	return w
}

// database gives what etcd's Snapshot call sends: a database and its checksum.
func database(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *bbolt.Tx) error {
		keys, err := tx.CreateBucket([]byte("key"))
		if err != nil {
			return err
		}
		pod, err := proto.Marshal(&mvccpb.KeyValue{Key: []byte("/registry/pods/default/web")})
		if err != nil {
			return err
		}
		return keys.Put([]byte("\x00\x00\x00\x00\x00\x00\x00\x09_\x00\x00\x00\x00\x00\x00\x00\x00"), pod)
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	return append(content, sum[:]...)
}

func (w *world) take() {
	w.t.Helper()
	if err := w.keeper.Take(w.t.Context(), ref(), "3.6.9", bytes.NewReader(w.snapshot)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) look() *v1alpha1.Backup {
	w.t.Helper()
	key := client.ObjectKey{Namespace: ref().Project, Name: ref().Name}
	if _, err := w.r.Reconcile(w.t.Context(), ctrl.Request{NamespacedName: key}); err != nil {
		w.t.Fatal(err)
	}
	var b v1alpha1.Backup
	if err := w.client.Get(w.t.Context(), key, &b); client.IgnoreNotFound(err) != nil {
		w.t.Fatal(err)
	}
	return &b
}

// end lets the operation of the Backup end.
func (w *world) end(phase v1alpha1.OperationPhase, failures ...v1alpha1.Failure) {
	w.t.Helper()
	var op v1alpha1.Operation
	if err := w.client.Get(w.t.Context(), client.ObjectKey{Namespace: ref().Project, Name: ref().Name}, &op); err != nil {
		w.t.Fatal(err)
	}
	op.Status.Phase, op.Status.Failures = phase, failures
	if err := w.client.Status().Update(w.t.Context(), &op); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) files() int {
	w.t.Helper()
	found, err := os.ReadDir(w.place)
	if err != nil && !os.IsNotExist(err) {
		w.t.Fatal(err)
	}
	return len(found)
}

// TestLife: an operation takes the Backup, its file is recorded, and goes with it.
func TestLife(t *testing.T) {
	w := newWorld(t)
	if b := w.look(); b.Status.Phase != v1alpha1.BackupPending || b.Status.Operation != b.Name {
		t.Fatalf("a new backup is %+v", b.Status)
	}
	w.take()
	w.take() // As after a cut between the file and its record.
	w.end(v1alpha1.OperationSucceeded)
	b := w.look()
	if f := b.Status.File; b.Status.Phase != v1alpha1.BackupCompleted || f == nil || f.ClusterUID != "uid-1" || f.Revision != 9 || f.Objects != 1 || w.files() != 1 {
		t.Fatalf("a backup that was taken is %+v with %d files", b.Status, w.files())
	}
	if err := w.client.Delete(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if b := w.look(); b.Name != "" || w.files() != 0 {
		t.Errorf("a deleted backup leaves %q and %d files", b.Name, w.files())
	}
}

// TestLife_Upgrade: an upgrade takes a Backup of its own name before it changes anything. The Backup is complete as soon as
// its file is, and to delete it does not stop the upgrade.
func TestLife_Upgrade(t *testing.T) {
	w := newWorld(t)
	op := &v1alpha1.Operation{ObjectMeta: metav1.ObjectMeta{Namespace: ref().Project, Name: ref().Name}, Spec: v1alpha1.OperationSpec{Verb: v1alpha1.VerbUpgrade, Cluster: "demo"}}
	if err := w.client.Create(t.Context(), op); err != nil {
		t.Fatal(err)
	}
	w.end(v1alpha1.OperationRunning)
	if b := w.look(); b.Status.Phase != v1alpha1.BackupRunning || b.Status.Operation != op.Name {
		t.Fatalf("a backup that an upgrade takes is %+v", b.Status)
	}
	w.take()
	b := w.look()
	if b.Status.Phase != v1alpha1.BackupCompleted || w.files() != 1 {
		t.Fatalf("a backup that an upgrade has taken is %+v with %d files", b.Status, w.files())
	}
	if err := w.client.Delete(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	w.look()
	var now v1alpha1.Operation
	if err := w.client.Get(t.Context(), client.ObjectKeyFromObject(op), &now); err != nil || now.Spec.Abort || w.files() != 1 {
		t.Errorf("a deleted backup stops the upgrade: abort %v, %d files, %v", now.Spec.Abort, w.files(), err)
	}
	w.end(v1alpha1.OperationSucceeded)
	if b := w.look(); b.Name != "" || w.files() != 0 {
		t.Errorf("a deleted backup leaves %q and %d files when the upgrade is over", b.Name, w.files())
	}
}

// TestKept: what is not ordered yet has no file, which is no error: a plan is looked at before it is agreed to.
func TestKept(t *testing.T) {
	w := newWorld(t)
	kept, err := w.keeper.Kept(t.Context(), step.BackupRef{Project: "dev", Name: "demo-upgrade-1"})
	if kept || err != nil {
		t.Errorf("a backup that nobody has ordered: %v, %v", kept, err)
	}
}

func TestLife_Failed(t *testing.T) {
	w := newWorld(t)
	w.look()
	w.end(v1alpha1.OperationFailed, v1alpha1.Failure{Message: "no route to host"})
	if b := w.look(); b.Status.Phase != v1alpha1.BackupFailed || b.Status.Message != "no route to host" {
		t.Errorf("a backup whose operation failed is %+v", b.Status)
	}
}

// TestProve: what is not exactly what was written, or not of this cluster, is refused before anything stops.
func TestProve(t *testing.T) {
	cases := map[string]struct {
		reason string
		spoil  func(*world)
		want   string
	}{
		"whole":   {"nothing is wrong with it", func(*world) {}, ""},
		"token":   {"tokens may change", func(w *world) { w.keys("bootstrap-token") }, ""},
		"flipped": {"one bit", func(w *world) { w.edit(func(b []byte) []byte { b[len(b)/2] ^= 1; return b }) }, step.ReasonBackupDamaged},
		"cut":     {"the end is missing", func(w *world) { w.edit(func(b []byte) []byte { return b[:len(b)-1] }) }, step.ReasonBackupDamaged},
		"other":   {"a whole file, but not the one that was recorded", func(w *world) { w.digest("sha256:0") }, step.ReasonBackupDamaged},
		"gone":    {"somebody removed it", func(w *world) { w.remove() }, step.ReasonBackupMissing},
		"keys":    {"the cluster has other keys by now", func(w *world) { w.keys("ca.key") }, step.ReasonBackupForeign},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.take()
			c.spoil(w)
			err := w.keeper.Prove(t.Context(), ref())
			if c.want == "" && err != nil || c.want != "" && (fault.ReasonOf(err) != c.want || fault.ClassOf(err) != fault.Terminal) {
				t.Errorf("%s: %v (%s), want %q", c.reason, err, fault.ReasonOf(err), c.want)
			}
			if left, err := os.ReadDir(w.scratch); err != nil || len(left) > 0 {
				t.Errorf("%s: %d snapshots are left, %v", c.reason, len(left), err)
			}
		})
	}
}

func TestSnapshot(t *testing.T) {
	w := newWorld(t)
	w.take()
	r, size, err := w.keeper.Snapshot(t.Context(), ref())
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(content, w.snapshot) || size != int64(len(content)) {
		t.Errorf("the snapshot has %d bytes, not the %d that were taken: %v", len(content), len(w.snapshot), err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(w.scratch); err != nil || len(left) > 0 {
		t.Errorf("%d snapshots are left, %v", len(left), err)
	}
}

// drills plays drill.Runner.
type drills struct {
	job drill.Job
	err error
}

func (d *drills) Run(_ context.Context, job drill.Job) (drill.Result, error) {
	d.job = job
	if _, err := io.Copy(io.Discard, job.Snapshot); err != nil {
		return drill.Result{}, err
	}
	return drill.Result{Objects: job.Want.Total(), Resources: int64(len(job.Want.Objects))}, d.err
}

// TestDrill: what came of a drill is on record, and the last proof outlives a drill that fails.
func TestDrill(t *testing.T) {
	w := newWorld(t)
	w.take()
	runner := &drills{}
	w.keeper.Drills, w.keeper.Version = runner, "v9"
	run := func() error { return w.keeper.Drill(t.Context(), ref(), "op-1", step.DrillPrograms{}) }
	if err := run(); err != nil {
		t.Fatal(err)
	}
	if want := (backup.Tally{Revision: 9, Keys: 1, Objects: map[string]int64{"pods": 1}}); !cmp.Equal(want, runner.job.Want) {
		t.Errorf("the drill looks for %+v, want %+v", runner.job.Want, want)
	}
	looks := func(reason string, status metav1.ConditionStatus) {
		t.Helper()
		b := w.look()
		c := meta.FindStatusCondition(b.Status.Conditions, v1alpha1.BackupProven)
		if c == nil || c.Status != status || b.Status.Proven == nil || b.Status.Proven.Version != "v9" || b.Status.Proven.Objects != 1 {
			t.Errorf("%s: %+v, %+v", reason, c, b.Status.Proven)
		}
		if left, err := os.ReadDir(w.scratch); err != nil || len(left) > 0 {
			t.Errorf("%s: %d snapshots are left, %v", reason, len(left), err)
		}
	}
	looks("proven", metav1.ConditionTrue)
	for drill, want := range map[string]bool{"op-1": true, "op-2": false} {
		if got, err := w.keeper.Drilled(t.Context(), ref(), drill); err != nil || got != want {
			t.Errorf("drill %s is on record: %t, %v", drill, got, err)
		}
	}
	runner.err = errors.New("no space left on device")
	if err := run(); err == nil {
		t.Error("a drill that could not be done says nothing")
	}
	looks("a failure that is not the backup's", metav1.ConditionTrue)
	runner.err = fault.NewTerminal(drill.ReasonUnproven, "", errors.New("3 pods are missing"))
	if err := run(); err == nil {
		t.Error("a backup that did not come back whole passes")
	}
	looks("a failure of the backup", metav1.ConditionFalse)
	w.edit(func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	if err := run(); fault.ReasonOf(err) != step.ReasonBackupDamaged {
		t.Errorf("a damaged file gives %v", err)
	}
	looks("a damaged file", metav1.ConditionFalse)
}

func (w *world) path() string { return filepath.Join(w.place, ref().Name) }

func (w *world) remove() {
	if err := os.Remove(w.path()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) edit(f func([]byte) []byte) {
	content, err := os.ReadFile(w.path())
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(w.path(), f(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) digest(digest string) {
	var b v1alpha1.Backup
	if err := w.client.Get(w.t.Context(), client.ObjectKey{Namespace: "dev", Name: ref().Name}, &b); err != nil {
		w.t.Fatal(err)
	}
	b.Status.File.Digest = digest
	if err := w.client.Status().Update(w.t.Context(), &b); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) keys(name string) {
	var s corev1.Secret
	if err := w.client.Get(w.t.Context(), client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: "cluster-demo"}, &s); err != nil {
		w.t.Fatal(err)
	}
	s.Data[name] = []byte("another")
	if err := w.client.Update(w.t.Context(), &s); err != nil {
		w.t.Fatal(err)
	}
}
