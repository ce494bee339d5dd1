package bundle

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"slipway.dev/slipway/api/v1alpha1"
)

// rewatch is the pause before a store that could not be watched is watched again.
const rewatch = 10 * time.Second

// Setup registers the controller with mgr. It follows the store for as long as the manager lives.
// A missing Client is the manager's; ctx has nothing to bound here and is taken so that all controllers look alike.
func Setup(_ context.Context, mgr ctrl.Manager, d Deps) error {
	if d.Client == nil {
		d.Client = mgr.GetClient()
	}
	r := New(d)
	err := ctrl.NewControllerManagedBy(mgr).
		Named("bundle").
		// Status writes come back too: a reconcile that read an older status from the cache is then put right.
		For(&v1alpha1.Bundle{}).
		WatchesRawSource(r.changes()).
		Complete(r)
	if err != nil {
		return fmt.Errorf("cannot set up the bundle controller: %w", err)
	}
	return nil
}

// changes starts the verifier with the controller and turns changes of the store into requests.
func (r *Reconciler) changes() source.Source {
	return source.Func(func(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		notify := func(name string) {
			queue.Add(reconcile.Request{NamespacedName: types.NamespacedName{Name: name}})
		}
		r.verifier.start(ctx, notify)
		go r.follow(ctx, notify)
		return nil
	})
}

// follow notifies of every bundle, in the store or only in the API, whenever the store changes.
func (r *Reconciler) follow(ctx context.Context, notify func(name string)) {
	for ctx.Err() == nil {
		changes, err := r.store.Watch(ctx)
		if err != nil {
			r.log.Error("bundles are not watched", slog.Any("error", err))
		} else {
			for range changes {
				r.announce(ctx, notify)
			}
		}
		timer := time.NewTimer(rewatch)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (r *Reconciler) announce(ctx context.Context, notify func(name string)) {
	entries, err := r.store.List(ctx)
	if err != nil {
		r.log.Error("bundles cannot be listed", slog.Any("error", err))
	}
	for _, entry := range entries {
		notify(entry.Name)
	}
	known := &v1alpha1.BundleList{}
	if err := r.client.List(ctx, known); err != nil {
		r.log.Error("Bundle objects cannot be listed", slog.Any("error", err))
	}
	for i := range known.Items {
		notify(known.Items[i].Name)
	}
}
