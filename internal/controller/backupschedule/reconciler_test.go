package backupschedule

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"slipway.dev/slipway/api/v1alpha1"
)

// world is a platform with one schedule. It must be used inside a synctest bubble, whose clock begins on 2000-01-01.
type world struct {
	t      *testing.T
	client client.Client
	r      *Reconciler
}

func newWorld(t *testing.T, spec v1alpha1.BackupScheduleSpec) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	spec.Cluster, spec.Location = "demo", "local"
	c := clientfake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1alpha1.BackupSchedule{}, &v1alpha1.Backup{}).
		WithObjects(&v1alpha1.BackupSchedule{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: "daily", Generation: 1}, Spec: spec}).
		WithInterceptorFuncs(interceptor.Funcs{Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			o.SetCreationTimestamp(metav1.Now())
			return c.Create(ctx, o, opts...)
		}}).Build()
	return &world{t: t, client: c, r: New(Deps{Client: c})}
}

// look reconciles, completes what was made, and gives the schedule and when it wants to be looked at again.
func (w *world) look() (*v1alpha1.BackupSchedule, time.Duration) {
	w.t.Helper()
	key := client.ObjectKey{Namespace: "dev", Name: "daily"}
	result, err := w.r.Reconcile(w.t.Context(), reconcile.Request{NamespacedName: key})
	if err != nil {
		w.t.Fatal(err)
	}
	var s v1alpha1.BackupSchedule
	if err := w.client.Get(w.t.Context(), key, &s); err != nil {
		w.t.Fatal(err)
	}
	return &s, result.RequeueAfter
}

// backups gives when each backup was taken, as DAY HOUR:MINUTE.
func (w *world) backups() []string {
	w.t.Helper()
	var all v1alpha1.BackupList
	if err := w.client.List(w.t.Context(), &all); err != nil {
		w.t.Fatal(err)
	}
	var taken []string
	for i := range all.Items {
		b := &all.Items[i]
		if !strings.HasPrefix(b.Name, "demo-daily-") || b.Spec.Schedule != "daily" {
			w.t.Errorf("backup %s of schedule %q", b.Name, b.Spec.Schedule)
		}
		taken = append(taken, b.CreationTimestamp.UTC().Format("02 15:04"))
		if b.Status.Phase == "" {
			b.Status.Phase, b.Status.File = v1alpha1.BackupCompleted, &v1alpha1.BackupFile{TakenAt: b.CreationTimestamp}
			if err := w.client.Status().Update(w.t.Context(), b); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	slices.Sort(taken)
	return taken
}

// runs follows the schedule n times, as the clock goes.
func (w *world) runs(n int) {
	w.t.Helper()
	for range n {
		_, after := w.look()
		if after == 0 {
			return
		}
		w.backups()
		pass(after)
	}
	w.look()
	w.backups()
	w.look()
}

func TestRuns(t *testing.T) {
	cases := map[string]struct {
		reason string
		spec   v1alpha1.BackupScheduleSpec
		runs   int
		want   []string
		state  string
	}{
		"keeps two":   {"the oldest go first", v1alpha1.BackupScheduleSpec{Cron: "30 2 * * *", Keep: 2}, 4, []string{"03 02:30", "04 02:30"}, ReasonWaits},
		"time zone":   {"2:30 in Shanghai is 18:30 of the day before", v1alpha1.BackupScheduleSpec{Cron: "30 2 * * *", TimeZone: "Asia/Shanghai", Keep: 7}, 1, []string{"01 18:30"}, ReasonWaits},
		"once":        {"exactly one backup", v1alpha1.BackupScheduleSpec{At: &metav1.Time{Time: time.Date(2000, 1, 1, 0, 2, 0, 0, time.UTC)}, Keep: 7}, 5, []string{"01 00:02"}, ReasonDone},
		"passed":      {"a time before the schedule was made", v1alpha1.BackupScheduleSpec{At: &metav1.Time{Time: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)}}, 2, nil, ReasonMissed},
		"disabled":    {"nothing at its time", v1alpha1.BackupScheduleSpec{Cron: "30 2 * * *", Enabled: new(bool)}, 2, nil, ReasonDisabled},
		"bad zone":    {"said, not guessed", v1alpha1.BackupScheduleSpec{Cron: "30 2 * * *", TimeZone: "Mars/Olympus"}, 2, nil, ReasonInvalid},
		"bad drill":   {"said, not guessed", v1alpha1.BackupScheduleSpec{Cron: "30 2 * * *", Drill: "99 2 * * *"}, 2, nil, ReasonInvalid},
		"bad minutes": {"said, not guessed", v1alpha1.BackupScheduleSpec{Cron: "99 2 * * *"}, 2, nil, ReasonInvalid},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, c.spec)
				w.runs(c.runs)
				if diff := cmp.Diff(c.want, w.backups()); diff != "" {
					t.Errorf("%s: backups (-want +got):\n%s", c.reason, diff)
				}
				s, _ := w.look()
				if got := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.BackupScheduleReady); got == nil || got.Reason != c.state {
					t.Errorf("%s: %+v, want %s", c.reason, got, c.state)
				}
			})
		})
	}
}

// TestMissed: what was due while the server stood still runs once; what was due while disabled does not.
func TestMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, v1alpha1.BackupScheduleSpec{Cron: "30 2 * * *", Keep: 7})
		w.look()
		pass(80 * time.Hour)
		w.look()
		w.look()
		if diff := cmp.Diff([]string{"04 08:00"}, w.backups()); diff != "" {
			t.Errorf("after the server was away (-want +got):\n%s", diff)
		}
		for _, enabled := range []bool{false, true} {
			s, _ := w.look()
			s.Spec.Enabled, s.Generation = &enabled, s.Generation+1
			if err := w.client.Update(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			w.look()
			pass(30 * time.Hour)
			if !enabled && len(w.backups()) != 1 {
				t.Error("a disabled schedule made a backup")
			}
		}
	})
}

// pass lets the clock of the bubble go on.
func pass(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
}

// TestDrills: the newest backup is proven when that is due, once each time.
func TestDrills(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, v1alpha1.BackupScheduleSpec{Cron: "30 2 * * *", Drill: "0 4 * * *", Keep: 7})
		w.look()
		for _, d := range []time.Duration{4*time.Hour - 90*time.Minute, 90 * time.Minute, 22*time.Hour + 30*time.Minute, 90 * time.Minute} {
			pass(d)
			w.look()
			w.backups()
			w.look()
		}
		var ops v1alpha1.OperationList
		if err := w.client.List(t.Context(), &ops); err != nil {
			t.Fatal(err)
		}
		proven := map[string]string{}
		for _, op := range ops.Items {
			if op.Spec.Verb != v1alpha1.VerbDrill || op.Spec.Cluster != "demo" {
				t.Errorf("operation %s is to %s %s", op.Name, op.Spec.Verb, op.Spec.Cluster)
			}
			var b v1alpha1.Backup
			if err := w.client.Get(t.Context(), client.ObjectKey{Namespace: "dev", Name: op.Spec.Parameters.Backup}, &b); err != nil {
				t.Fatal(err)
			}
			proven[op.CreationTimestamp.UTC().Format("02 15:04")] = b.CreationTimestamp.UTC().Format("02 15:04")
		}
		if diff := cmp.Diff(map[string]string{"01 04:00": "01 02:30", "02 04:00": "02 02:30"}, proven); diff != "" {
			t.Errorf("backups that were proven, by when (-want +got):\n%s", diff)
		}
		s, after := w.look()
		if s.Status.LastDrill == nil || s.Status.LastDrill.At.UTC().Format("02 15:04") != "02 04:00" || after != 22*time.Hour+30*time.Minute {
			t.Errorf("the last drill is %+v, the next look in %s", s.Status.LastDrill, after)
		}
		enabled := false
		s.Spec.Enabled, s.Generation = &enabled, s.Generation+1
		if err := w.client.Update(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if s, _ := w.look(); s.Status.NextDrill != nil {
			t.Error("a disabled schedule has another drill")
		}
	})
}
