// Package backupschedule owns the status of BackupSchedules: it makes Backups and drills when their time has come and deletes
// Backups that are too many. It must never take a backup itself, nor delete one that it did not make.
package backupschedule

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/backup"
)

// The reasons of the condition Ready of a schedule.
const (
	ReasonWaits    = "Waits"
	ReasonDisabled = "Disabled"
	ReasonDone     = "Done"
	ReasonMissed   = "Missed"
	ReasonInvalid  = "Invalid"
)

// Deps is what the controller works with.
type Deps struct {
	// Client reads from the server, not from a cache: a run must not be made twice.
	Client client.Client
}

// Reconciler keeps one BackupSchedule going.
type Reconciler struct{ Deps }

// New makes a reconciler.
func New(d Deps) *Reconciler { return &Reconciler{d} }

// Reconcile makes the Backup that is due, deletes those that are too many, and comes back when the next one is due.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var s v1alpha1.BackupSchedule
	if err := r.Client.Get(ctx, request.NamespacedName, &s); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if s.DeletionTimestamp != nil {
		return ctrl.Result{}, nil
	}
	before := s.DeepCopy()
	own, err := r.backups(ctx, &s)
	if err != nil {
		return ctrl.Result{}, err
	}
	condition, err := r.run(ctx, &s, own)
	if err != nil {
		return ctrl.Result{}, err
	}
	if err := r.drill(ctx, &s, own); err != nil {
		return ctrl.Result{}, err
	}
	condition.Type, condition.ObservedGeneration = v1alpha1.BackupScheduleReady, s.Generation
	meta.SetStatusCondition(&s.Status.Conditions, condition)
	if err := r.prune(ctx, &s, own); err != nil {
		return ctrl.Result{}, err
	}
	s.Status.ObservedGeneration = s.Generation
	if !equality.Semantic.DeepEqual(before.Status, s.Status) {
		if err := r.Client.Status().Patch(ctx, &s, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
			return ctrl.Result{}, fmt.Errorf("cannot write the status of backup schedule %s: %w", s.Name, err)
		}
	}
	return ctrl.Result{RequeueAfter: wait(s.Status.Next, s.Status.NextDrill)}, nil
}

// wait gives how long it is until the first of several times; 0 when there is none.
func wait(times ...*metav1.Time) time.Duration {
	var first time.Duration
	for _, t := range times {
		if t == nil {
			continue
		}
		if left := max(time.Until(t.Time), time.Millisecond); first == 0 || left < first {
			first = left
		}
	}
	return first
}

// backups lists what the schedule has made.
func (r *Reconciler) backups(ctx context.Context, s *v1alpha1.BackupSchedule) ([]v1alpha1.Backup, error) {
	var all v1alpha1.BackupList
	if err := r.Client.List(ctx, &all, client.InNamespace(s.Namespace)); err != nil {
		return nil, fmt.Errorf("cannot list the backups of schedule %s: %w", s.Name, err)
	}
	var own []v1alpha1.Backup
	for _, b := range all.Items {
		if b.Spec.Schedule == s.Name && b.Spec.Cluster == s.Spec.Cluster && b.DeletionTimestamp == nil {
			own = append(own, b)
		}
	}
	return own, nil
}

// run makes the Backup when it is due, sets when the next one is, and says how the schedule stands.
func (r *Reconciler) run(ctx context.Context, s *v1alpha1.BackupSchedule, own []v1alpha1.Backup) (metav1.Condition, error) {
	no := func(reason, message string) (metav1.Condition, error) {
		s.Status.Next = nil
		return metav1.Condition{Status: metav1.ConditionFalse, Reason: reason, Message: message}, nil
	}
	if s.Spec.Enabled != nil && !*s.Spec.Enabled {
		return no(ReasonDisabled, "disabled; slipway backup schedule enable "+s.Name)
	}
	next, err := following(s)
	if err != nil {
		return no(ReasonInvalid, err.Error())
	}
	if s.Spec.Drill != "" {
		if _, err := times(s.Spec.Drill, s.Spec.TimeZone); err != nil {
			return no(ReasonInvalid, "drill: "+err.Error())
		}
	}
	now := time.Now()
	// An edited schedule counts anew, and what was due while it was disabled is not made up for. What was due while the
	// server stood still is: once.
	due := s.Status.Next
	if due != nil && s.Status.ObservedGeneration == s.Generation && !due.After(now) {
		if err := r.make(ctx, s, own, due.Time); err != nil {
			return metav1.Condition{}, err
		}
	} else if due != nil && s.Status.ObservedGeneration == s.Generation {
		return waits(), nil
	}
	at := next(now)
	if at.IsZero() {
		if s.Status.Last != nil {
			return no(ReasonDone, "it has run once")
		}
		return no(ReasonMissed, "its time has passed; give it another")
	}
	s.Status.Next = new(metav1.NewTime(at))
	return waits(), nil
}

func waits() metav1.Condition {
	return metav1.Condition{Status: metav1.ConditionTrue, Reason: ReasonWaits, Message: "waits for its next run"}
}

// following gives a function for the first run after a time; zero means none.
func following(s *v1alpha1.BackupSchedule) (func(time.Time) time.Time, error) {
	if s.Spec.At != nil {
		return func(after time.Time) time.Time {
			if s.Spec.At.After(after) {
				return s.Spec.At.Time
			}
			return time.Time{}
		}, nil
	}
	schedule, err := times(s.Spec.Cron, s.Spec.TimeZone)
	if err != nil {
		return nil, err
	}
	return schedule.Next, nil
}

// make makes the Backup of the run that was due, unless a look before a crash has made it.
func (r *Reconciler) make(ctx context.Context, s *v1alpha1.BackupSchedule, own []v1alpha1.Backup, due time.Time) error {
	for _, b := range own {
		if !b.CreationTimestamp.Time.Before(due) {
			s.Status.Last = &v1alpha1.ScheduledRun{At: metav1.NewTime(due), Backup: b.Name}
			return nil
		}
	}
	b := &v1alpha1.Backup{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: backup.NewName(s.Spec.Cluster, s.Name), Labels: map[string]string{v1alpha1.LabelCluster: s.Spec.Cluster}},
		Spec:       v1alpha1.BackupSpec{Cluster: s.Spec.Cluster, Location: s.Spec.Location, Schedule: s.Name},
	}
	if err := r.Client.Create(ctx, b); err != nil {
		return fmt.Errorf("cannot make a backup of schedule %s: %w", s.Name, err)
	}
	s.Status.Last = &v1alpha1.ScheduledRun{At: metav1.NewTime(due), Backup: b.Name}
	return nil
}

// prune deletes the oldest that are too many, completed and failed ones each by themselves.
func (r *Reconciler) prune(ctx context.Context, s *v1alpha1.BackupSchedule, own []v1alpha1.Backup) error {
	kept := map[v1alpha1.BackupPhase][]backup.Kept{}
	for _, b := range own {
		at := b.CreationTimestamp.Time
		if b.Status.File != nil {
			at = b.Status.File.TakenAt.Time
		}
		kept[b.Status.Phase] = append(kept[b.Status.Phase], backup.Kept{Name: b.Name, TakenAt: at})
	}
	keep := max(int(s.Spec.Keep), 1)
	for _, phase := range []v1alpha1.BackupPhase{v1alpha1.BackupCompleted, v1alpha1.BackupFailed} {
		surplus, err := backup.Surplus(kept[phase], keep)
		if err != nil {
			return fmt.Errorf("cannot tell which backups of schedule %s go: %w", s.Name, err)
		}
		for _, name := range surplus {
			err := r.Client.Delete(ctx, &v1alpha1.Backup{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: name}})
			if err != nil && !apierrors.IsNotFound(err) {
				return fmt.Errorf("cannot delete backup %s: %w", name, err)
			}
		}
	}
	s.Status.Backups = int32(min(len(kept[v1alpha1.BackupCompleted]), keep))
	return nil
}
