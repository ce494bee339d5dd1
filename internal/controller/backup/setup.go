package backup

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
		Named("backup").
		For(&v1alpha1.Backup{}).
		// Its operation has the name of the Backup. An upgrade takes one before it changes anything.
		Watches(&v1alpha1.Operation{}, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
			if verb := o.(*v1alpha1.Operation).Spec.Verb; verb != v1alpha1.VerbBackup && verb != v1alpha1.VerbUpgrade {
				return nil
			}
			return []reconcile.Request{{NamespacedName: client.ObjectKeyFromObject(o)}}
		})).
		Complete(New(d))
}
