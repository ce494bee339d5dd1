package operation

import (
	"context"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"slipway.dev/slipway/api/v1alpha1"
)

// Setup adds the reconciler to mgr. Its runs end with ctx.
func Setup(ctx context.Context, mgr ctrl.Manager, deps Deps) error {
	r := New(ctx, deps)
	return ctrl.NewControllerManagedBy(mgr).
		Named("operation").
		For(&v1alpha1.Operation{}).
		// An operation that ended may let another one of its cluster begin.
		Watches(&v1alpha1.Operation{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			return r.waiting(ctx, mgr.GetClient(), o.(*v1alpha1.Operation))
		})).
		// A host that could not be cleaned may answer again.
		Watches(&v1alpha1.Host{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			return r.uncleaned(ctx, mgr.GetClient(), o.(*v1alpha1.Host))
		})).
		WatchesRawSource(source.Channel(r.runs.ended, &handler.EnqueueRequestForObject{})).
		Complete(r)
}

func (r *Reconciler) waiting(ctx context.Context, cache client.Reader, op *v1alpha1.Operation) []reconcile.Request {
	if !op.Status.Phase.Ended() {
		return nil
	}
	var all v1alpha1.OperationList
	if err := cache.List(ctx, &all, client.InNamespace(op.Namespace), client.MatchingLabels{v1alpha1.LabelCluster: op.Spec.Cluster}); err != nil {
		r.Log.Error("cannot look for waiting operations", "error", err)
		return nil
	}
	var requests []reconcile.Request
	for _, o := range all.Items {
		if o.Spec.Cluster == op.Spec.Cluster && o.Status.Phase == v1alpha1.OperationQueued {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&o)})
		}
	}
	return requests
}
