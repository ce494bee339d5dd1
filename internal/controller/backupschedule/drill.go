package backupschedule

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
)

// drill has the newest Backup proven when that is due, and sets when it is the next time.
func (r *Reconciler) drill(ctx context.Context, s *v1alpha1.BackupSchedule, own []v1alpha1.Backup) error {
	due := s.Status.NextDrill
	s.Status.NextDrill = nil
	if s.Spec.Drill == "" || s.Spec.Enabled != nil && !*s.Spec.Enabled {
		return nil
	}
	schedule, err := times(s.Spec.Drill, s.Spec.TimeZone)
	if err != nil {
		return nil // The condition says so.
	}
	now := time.Now()
	same := due != nil && s.Status.ObservedGeneration == s.Generation
	if same && due.After(now) {
		s.Status.NextDrill = due
		return nil
	}
	if same {
		if err := r.prove(ctx, s, newest(own), due.Time); err != nil {
			return err
		}
	}
	s.Status.NextDrill = new(metav1.NewTime(schedule.Next(now)))
	return nil
}

// prove makes the operation of a drill. One of the same time is the same: a crash makes none twice.
func (r *Reconciler) prove(ctx context.Context, s *v1alpha1.BackupSchedule, b *v1alpha1.Backup, due time.Time) error {
	if b == nil {
		return nil
	}
	op := &v1alpha1.Operation{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: fmt.Sprintf("%s-drill-%d", b.Name, due.Unix()),
			Labels: map[string]string{v1alpha1.LabelCluster: s.Spec.Cluster}},
		Spec: v1alpha1.OperationSpec{Verb: v1alpha1.VerbDrill, Cluster: s.Spec.Cluster, Parameters: &v1alpha1.OperationParameters{Backup: b.Name}},
	}
	if err := r.Client.Create(ctx, op); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("cannot begin the drill of backup %s: %w", b.Name, err)
	}
	s.Status.LastDrill = &v1alpha1.ScheduledRun{At: metav1.NewTime(due), Backup: b.Name}
	return nil
}

// newest gives the completed Backup that was taken last, nil when there is none.
func newest(own []v1alpha1.Backup) *v1alpha1.Backup {
	var last *v1alpha1.Backup
	for i := range own {
		b := &own[i]
		if b.Status.Phase == v1alpha1.BackupCompleted && b.Status.File != nil && (last == nil || last.Status.File.TakenAt.Before(&b.Status.File.TakenAt)) {
			last = b
		}
	}
	return last
}
