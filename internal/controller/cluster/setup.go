package cluster

import (
	"context"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"slipway.dev/slipway/api/v1alpha1"
)

// Setup adds the reconciler to mgr. Its watches end with ctx.
func Setup(ctx context.Context, mgr ctrl.Manager, deps Deps) error {
	r := New(ctx, deps)
	return ctrl.NewControllerManagedBy(mgr).
		Named("cluster").
		For(&v1alpha1.Cluster{}).
		Watches(&v1alpha1.Operation{}, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
			op := o.(*v1alpha1.Operation)
			return []reconcile.Request{{NamespacedName: client.ObjectKey{Namespace: op.Namespace, Name: op.Spec.Cluster}}}
		})).
		WatchesRawSource(source.Channel(r.nodes.changed, &handler.EnqueueRequestForObject{})).
		Complete(r)
}
