package grant

import (
	"context"
	"fmt"
	"time"

	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/grant"
)

const (
	// indexLends finds the Grants of one object.
	indexLends = "slipway.grant.lends"
	// countDelay is how long a Grant of everything waits before it counts: many objects that come at once are one write.
	countDelay = 2 * time.Second
)

// Setup registers the controller and its index with mgr; ctx bounds the registration alone.
// A missing Client is the manager's.
func Setup(ctx context.Context, mgr ctrl.Manager, d Deps) error {
	if d.Client == nil {
		d.Client = mgr.GetClient()
	}
	if err := mgr.GetFieldIndexer().IndexField(ctx, &v1alpha1.Grant{}, indexLends, lends); err != nil {
		return fmt.Errorf("cannot set up the grant controller: cannot index Grants: %w", err)
	}
	r := New(d)
	err := ctrl.NewControllerManagedBy(mgr).
		Named("grant").
		// Status writes come back too: a reconcile that read an older status from the cache is then put right.
		For(&v1alpha1.Grant{}).
		Watches(&v1alpha1.Host{}, r.events(v1alpha1.GrantHost)).
		Watches(&v1alpha1.Bundle{}, r.events(v1alpha1.GrantBundle)).
		Watches(&v1alpha1.BackupLocation{}, r.events(v1alpha1.GrantBackupLocation)).
		Watches(&v1alpha1.ClusterTemplate{}, r.events(v1alpha1.GrantClusterTemplate)).
		Complete(r)
	if err != nil {
		return fmt.Errorf("cannot set up the grant controller: %w", err)
	}
	return nil
}

func lends(o client.Object) []string {
	spec := o.(*v1alpha1.Grant).Spec
	return []string{key(spec.Kind, spec.Name)}
}

func key(kind v1alpha1.GrantKind, name string) string { return string(kind) + "/" + name }

// events reconciles the Grants of an object that came, went or looks otherwise to a project, and those of everything
// when one came or went. A heartbeat of a host is neither.
func (r *Reconciler) events(kind v1alpha1.GrantKind) handler.EventHandler {
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	enqueue := func(ctx context.Context, q queue, name string, delay time.Duration) {
		var list v1alpha1.GrantList
		// The list only fails when the cache has no index, which Setup has refused.
		if err := r.client.List(ctx, &list, client.MatchingFields{indexLends: key(kind, name)}, client.UnsafeDisableDeepCopy); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "cannot find the grants of an event")
			return
		}
		for i := range list.Items {
			q.AddAfter(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])}, delay)
		}
	}
	both := func(ctx context.Context, q queue, o client.Object) {
		enqueue(ctx, q, o.GetName(), 0)
		enqueue(ctx, q, v1alpha1.GrantEverything, countDelay)
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) {
			// What is there at the start is seen with every Grant.
			if !e.IsInInitialList {
				both(ctx, q, e.Object)
			}
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			if picture(e.ObjectOld) != picture(e.ObjectNew) {
				enqueue(ctx, q, e.ObjectNew.GetName(), 0)
			}
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) { both(ctx, q, e.Object) },
	}
}

// picture is the same for two versions of an object that look the same to every project.
func picture(o client.Object) string {
	switch o := o.(type) {
	case *v1alpha1.Host:
		holder := ""
		if o.Status.Holder != nil {
			holder = o.Status.Holder.Cluster
		}
		v := grant.Host(o, "")
		return fmt.Sprint(holder, v.Reason, v.Summary, *v.Host)
	case *v1alpha1.Bundle:
		return fmt.Sprint(grant.Bundle(o))
	case *v1alpha1.BackupLocation:
		return fmt.Sprint(grant.BackupLocation(o))
	case *v1alpha1.ClusterTemplate:
		return fmt.Sprint(grant.ClusterTemplate(o))
	default:
		return ""
	}
}
