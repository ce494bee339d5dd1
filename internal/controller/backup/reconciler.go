// Package backup owns the status and the file of each Backup, and the key that encrypts them all.
// It must never touch a host or a managed cluster: operations do, and bring the snapshot here.
package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"slipway.dev/slipway/api/v1alpha1"
)

// Deps is what the controller works with.
type Deps struct {
	// Client reads from the server, not from a cache: a Backup is taken once.
	Client client.Client
	Stores Stores
}

// Reconciler takes each Backup through its life.
type Reconciler struct{ Deps }

// New makes a reconciler.
func New(d Deps) *Reconciler { return &Reconciler{d} }

// Reconcile has a new Backup taken, notes what came of it, and removes the file of a deleted one.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var b v1alpha1.Backup
	if err := r.Client.Get(ctx, request.NamespacedName, &b); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if b.DeletionTimestamp != nil {
		return ctrl.Result{}, r.delete(ctx, &b)
	}
	if before := b.DeepCopy(); controllerutil.AddFinalizer(&b, v1alpha1.Finalizer) {
		if err := r.Client.Patch(ctx, &b, client.MergeFrom(before)); err != nil {
			return ctrl.Result{}, fmt.Errorf("cannot hold backup %s: %w", b.Name, err)
		}
	}
	if b.Status.Phase == v1alpha1.BackupCompleted {
		return ctrl.Result{}, nil
	}
	op, err := r.operation(ctx, &b)
	if err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{}, r.status(ctx, &b, op)
}

// operation gives the one that takes the Backup, and makes it when there was none; nil when it is gone.
func (r *Reconciler) operation(ctx context.Context, b *v1alpha1.Backup) (*v1alpha1.Operation, error) {
	op := &v1alpha1.Operation{}
	err := r.Client.Get(ctx, client.ObjectKeyFromObject(b), op)
	if err == nil {
		return op, nil
	}
	if !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("cannot read operation %s: %w", b.Name, err)
	}
	if b.Status.Operation != "" {
		return nil, nil
	}
	op = &v1alpha1.Operation{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.Namespace, Name: b.Name, Labels: map[string]string{v1alpha1.LabelCluster: b.Spec.Cluster}},
		Spec:       v1alpha1.OperationSpec{Verb: v1alpha1.VerbBackup, Cluster: b.Spec.Cluster, Parameters: &v1alpha1.OperationParameters{Backup: b.Name}},
	}
	if err := r.Client.Create(ctx, op); err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, fmt.Errorf("cannot begin backup %s: %w", b.Name, err)
	}
	return op, nil
}

// status says what has come of the operation.
func (r *Reconciler) status(ctx context.Context, b *v1alpha1.Backup, op *v1alpha1.Operation) error {
	before := b.DeepCopy()
	s := &b.Status
	s.ObservedGeneration = b.Generation
	if op != nil {
		s.Operation = op.Name
	}
	switch {
	case s.File != nil && (op == nil || op.Spec.Verb != v1alpha1.VerbBackup):
		s.Phase, s.Message = v1alpha1.BackupCompleted, "kept in "+b.Spec.Location
	case op == nil:
		s.Phase, s.Message = v1alpha1.BackupFailed, "its operation is gone; delete this backup and take another"
	default:
		s.Phase, s.Message = phase(b, op)
	}
	if equality.Semantic.DeepEqual(before.Status, b.Status) {
		return nil
	}
	if err := r.Client.Status().Patch(ctx, b, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot write the status of backup %s: %w", b.Name, err)
	}
	return nil
}

func phase(b *v1alpha1.Backup, op *v1alpha1.Operation) (v1alpha1.BackupPhase, string) {
	switch op.Status.Phase {
	case v1alpha1.OperationSucceeded:
		if b.Status.File == nil {
			return v1alpha1.BackupFailed, "operation " + op.Name + " has recorded no file; delete this backup and take another"
		}
		return v1alpha1.BackupCompleted, "kept in " + b.Spec.Location
	case v1alpha1.OperationRunning:
		return v1alpha1.BackupRunning, "operation " + op.Name + " takes it"
	case v1alpha1.OperationFailed, v1alpha1.OperationPartial, v1alpha1.OperationAborted, v1alpha1.OperationBlocked:
		if len(op.Status.Failures) > 0 {
			return v1alpha1.BackupFailed, op.Status.Failures[0].Message
		}
		return v1alpha1.BackupFailed, op.Status.Message
	default:
		return v1alpha1.BackupPending, op.Status.Message
	}
}

// delete removes the file. An operation that still writes it is stopped first; the end of it comes back here.
func (r *Reconciler) delete(ctx context.Context, b *v1alpha1.Backup) error {
	before := b.DeepCopy()
	if !controllerutil.RemoveFinalizer(b, v1alpha1.Finalizer) {
		return nil
	}
	stopped, err := r.stop(ctx, b)
	if err != nil || !stopped {
		return err
	}
	store, err := r.Stores(ctx, b.Spec.Location)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot delete the file of backup %s: %w", b.Name, err)
	}
	if store != nil {
		if err := store.Remove(ctx, b.Name); err != nil {
			return fmt.Errorf("cannot delete the file of backup %s: %w", b.Name, err)
		}
	}
	if err := r.Client.Patch(ctx, b, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot let backup %s go: %w", b.Name, err)
	}
	return nil
}

// stop aborts the operation that takes the Backup, and says whether nothing writes the file any more.
func (r *Reconciler) stop(ctx context.Context, b *v1alpha1.Backup) (bool, error) {
	var op v1alpha1.Operation
	err := r.Client.Get(ctx, client.ObjectKeyFromObject(b), &op)
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot read operation %s: %w", b.Name, err)
	}
	if op.Status.Phase.Ended() || op.Status.Phase == v1alpha1.OperationBlocked {
		return true, nil
	}
	if op.Spec.Verb != v1alpha1.VerbBackup {
		return false, nil // It does more than this, and is waited for.
	}
	before := op.DeepCopy()
	op.Spec.Abort = true
	if err := r.Client.Patch(ctx, &op, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("cannot stop operation %s: %w", op.Name, err)
	}
	return false, nil
}
