package backupschedule

import (
	"context"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"slipway.dev/slipway/api/v1alpha1"
)

// Setup adds the reconciler to mgr.
func Setup(mgr ctrl.Manager, d Deps) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("backupschedule").
		For(&v1alpha1.BackupSchedule{}).
		Watches(&v1alpha1.Backup{}, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
			schedule := o.(*v1alpha1.Backup).Spec.Schedule
			if schedule == "" {
				return nil
			}
			return []reconcile.Request{{NamespacedName: client.ObjectKey{Namespace: o.GetNamespace(), Name: schedule}}}
		})).
		Complete(New(d))
}
