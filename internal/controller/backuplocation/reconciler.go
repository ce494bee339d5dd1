// Package backuplocation owns the status of BackupLocations: whether backups can be kept there, and how many are.
// It must never delete a backup, and holds a location for as long as there is one in it.
package backuplocation

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/backup"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
)

// ReasonUsable is the reason of the condition Available when all is well.
const ReasonUsable = "Usable"

// How long a finding counts, and how long one test may take.
const (
	goodFor   = time.Hour
	badFor    = time.Minute
	testLimit = 2 * time.Minute
)

// Deps is what the controller works with.
type Deps struct {
	// Client reads from the cache and writes to the API.
	Client client.Client
	// Stores gives the store of the location of that name.
	Stores func(ctx context.Context, location string) (backup.Store, error)
	// Redact takes secrets out of what a store says; nil takes nothing out.
	Redact func(string) string
}

// Reconciler keeps one BackupLocation right.
type Reconciler struct{ Deps }

// New makes a reconciler.
func New(d Deps) *Reconciler {
	if d.Redact == nil {
		d.Redact = func(s string) string { return s }
	}
	return &Reconciler{d}
}

// Reconcile counts the backups in a location and tests it when that was not done for a while.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var l v1alpha1.BackupLocation
	if err := r.Client.Get(ctx, request.NamespacedName, &l); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	before := l.DeepCopy()
	if err := r.count(ctx, &l); err != nil {
		return ctrl.Result{}, err
	}
	if l.DeletionTimestamp != nil && l.Status.Backups == 0 {
		if controllerutil.RemoveFinalizer(&l, v1alpha1.Finalizer) {
			if err := r.Client.Patch(ctx, &l, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
				return ctrl.Result{}, fmt.Errorf("cannot let backup location %s go: %w", l.Name, err)
			}
		}
		return ctrl.Result{}, nil
	}
	if l.DeletionTimestamp == nil && controllerutil.AddFinalizer(&l, v1alpha1.Finalizer) {
		status := l.Status
		if err := r.Client.Patch(ctx, &l, client.MergeFrom(before)); err != nil {
			return ctrl.Result{}, fmt.Errorf("cannot hold backup location %s: %w", l.Name, err)
		}
		l.Status = status
	}
	wait := r.test(ctx, &l)
	if ctx.Err() != nil {
		return ctrl.Result{}, ctx.Err()
	}
	if !equality.Semantic.DeepEqual(before.Status, l.Status) {
		if err := r.Client.Status().Patch(ctx, &l, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
			return ctrl.Result{}, fmt.Errorf("cannot write the status of backup location %s: %w", l.Name, err)
		}
	}
	return ctrl.Result{RequeueAfter: wait}, nil
}

// count sums up the Backups of every project that are kept there.
func (r *Reconciler) count(ctx context.Context, l *v1alpha1.BackupLocation) error {
	var all v1alpha1.BackupList
	if err := r.Client.List(ctx, &all, client.MatchingFields{indexLocation: l.Name}); err != nil {
		return fmt.Errorf("cannot list the backups in location %s: %w", l.Name, err)
	}
	l.Status.Backups, l.Status.Bytes = int32(len(all.Items)), 0
	for _, b := range all.Items {
		if b.Status.File != nil {
			l.Status.Bytes += b.Status.File.Bytes
		}
	}
	return nil
}

// test tries the location unless it was tried lately in this shape, and gives when to look again.
func (r *Reconciler) test(ctx context.Context, l *v1alpha1.BackupLocation) time.Duration {
	s := &l.Status
	if have := meta.FindStatusCondition(s.Conditions, v1alpha1.BackupLocationAvailable); have != nil && have.ObservedGeneration == l.Generation && s.TestedAt != nil {
		valid := badFor
		if have.Status == metav1.ConditionTrue {
			valid = goodFor
		}
		if left := valid - time.Since(s.TestedAt.Time); left > 0 {
			return left
		}
	}
	condition := metav1.Condition{Type: v1alpha1.BackupLocationAvailable, Status: metav1.ConditionTrue, Reason: ReasonUsable,
		Message: "a probe was written, read and removed", ObservedGeneration: l.Generation}
	if l.Spec.HostDirectory.OnOneHost() {
		condition.Message += "; the backups are on one host alone, and lost with it: for experiments with a single control plane only"
	}
	wait := goodFor
	err := r.try(ctx, l.Name)
	if fault.ReasonOf(err) == host.ReasonBusy {
		return badFor // Something else changes the host just now, which says nothing about the location.
	}
	if err != nil {
		condition.Status, condition.Reason, condition.Message = metav1.ConditionFalse, fault.ReasonOf(err), r.Redact(err.Error())
		if fix := fault.FixOf(err); fix != "" {
			condition.Message += "; " + fix
		}
		wait = badFor
	}
	s.ObservedGeneration, s.TestedAt = l.Generation, new(metav1.Now())
	meta.SetStatusCondition(&s.Conditions, condition)
	return wait
}

func (r *Reconciler) try(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, testLimit)
	defer cancel()
	store, err := r.Stores(ctx, name)
	if err != nil {
		return err
	}
	return store.Test(ctx)
}
