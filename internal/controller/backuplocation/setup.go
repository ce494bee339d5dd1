package backuplocation

import (
	"context"
	"fmt"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"slipway.dev/slipway/api/v1alpha1"
)

// indexLocation finds the Backups in a location.
const indexLocation = "slipway.backup.location"

// Setup adds the reconciler and its index to mgr; ctx bounds the registration alone.
func Setup(ctx context.Context, mgr ctrl.Manager, d Deps) error {
	if err := mgr.GetFieldIndexer().IndexField(ctx, &v1alpha1.Backup{}, indexLocation, location); err != nil {
		return fmt.Errorf("cannot index Backups: %w", err)
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named("backuplocation").
		For(&v1alpha1.BackupLocation{}).
		Watches(&v1alpha1.Backup{}, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
			return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: o.(*v1alpha1.Backup).Spec.Location}}}
		})).
		Complete(New(d))
}

func location(o client.Object) []string { return []string{o.(*v1alpha1.Backup).Spec.Location} }
