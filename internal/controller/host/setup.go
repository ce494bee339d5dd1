package host

import (
	"context"
	"fmt"
	"log/slog"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"slipway.dev/slipway/api/v1alpha1"
)

// The names of the cache's indexes.
const (
	indexEndpoint   = "slipway.host.endpoint"
	indexMachineID  = "slipway.host.machineID"
	indexCredential = "slipway.host.credential"
	indexSecret     = "slipway.credential.secret"
)

// CacheByObject says what the manager's cache must hold for this controller beyond the defaults: Secrets of
// slipway-system alone. The app merges it into the options of its manager.
func CacheByObject() map[client.Object]cache.ByObject {
	return map[client.Object]cache.ByObject{
		&corev1.Secret{}: {Namespaces: map[string]cache.Config{v1alpha1.SystemNamespace: {}}},
	}
}

// Setup registers the controller, its indexes and its watchers with mgr; ctx bounds the registration alone.
// Watchers live as long as the manager. A missing Client or Live is the manager's.
func Setup(ctx context.Context, mgr ctrl.Manager, d Deps) error {
	if d.Client == nil {
		d.Client = mgr.GetClient()
	}
	if d.Live == nil {
		d.Live = mgr.GetAPIReader()
	}
	for _, i := range indexes() {
		if err := mgr.GetFieldIndexer().IndexField(ctx, i.object, i.name, i.values); err != nil {
			return fmt.Errorf("cannot set up the host controller: cannot index %s: %w", i.name, err)
		}
	}
	r := New(d)
	err := ctrl.NewControllerManagedBy(mgr).
		Named("host").
		// Status writes come back too: a reconcile that read an older status from the cache is then put right.
		For(&v1alpha1.Host{}).
		Watches(&v1alpha1.Host{}, r.twinEvents()).
		Watches(&v1alpha1.HostClaim{}, &handler.EnqueueRequestForObject{}).
		Watches(&v1alpha1.Credential{}, handler.EnqueueRequestsFromMapFunc(r.hostsOfCredential), builder.WithPredicates(later())).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(r.hostsOfSecret), builder.WithPredicates(later())).
		WatchesRawSource(r.findings()).
		WithOptions(controller.Options{MaxConcurrentReconciles: 4}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("cannot set up the host controller: %w", err)
	}
	return nil
}

type index struct {
	object client.Object
	name   string
	values client.IndexerFunc
}

func indexes() []index {
	return []index{
		{&v1alpha1.Host{}, indexEndpoint, func(o client.Object) []string { return []string{endpoint(o.(*v1alpha1.Host))} }},
		{&v1alpha1.Host{}, indexMachineID, func(o client.Object) []string { return machineID(o) }},
		{&v1alpha1.Host{}, indexCredential, func(o client.Object) []string { return []string{o.(*v1alpha1.Host).Spec.Credential} }},
		{&v1alpha1.Credential{}, indexSecret, func(o client.Object) []string { return []string{o.(*v1alpha1.Credential).Spec.SecretName} }},
	}
}

func machineID(o client.Object) []string {
	facts := o.(*v1alpha1.Host).Status.Facts
	if facts == nil || facts.MachineID == "" {
		return nil
	}
	return []string{facts.MachineID}
}

// later leaves out what is there at the start: every Host is reconciled then anyway.
func later() predicate.Predicate {
	return predicate.Funcs{CreateFunc: func(e event.CreateEvent) bool { return !e.IsInInitialList }}
}

// findings starts the watchers with the controller and turns what they find into requests.
func (r *Reconciler) findings() source.Source {
	return source.Func(func(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		r.watchers.start(ctx, func(name string) { queue.Add(request(name)) })
		return nil
	})
}

func request(name string) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Name: name}}
}

func (r *Reconciler) hostsOfCredential(ctx context.Context, o client.Object) []reconcile.Request {
	return r.requests(ctx, client.MatchingFields{indexCredential: o.GetName()})
}

func (r *Reconciler) hostsOfSecret(ctx context.Context, o client.Object) []reconcile.Request {
	if o.GetNamespace() != v1alpha1.SystemNamespace {
		return nil
	}
	list := &v1alpha1.CredentialList{}
	if err := r.client.List(ctx, list, client.MatchingFields{indexSecret: o.GetName()}); err != nil {
		r.log.Error("cannot list credentials", slog.String("secret", o.GetName()), slog.Any("error", err))
		return nil
	}
	var found []reconcile.Request
	for i := range list.Items {
		found = append(found, r.hostsOfCredential(ctx, &list.Items[i])...)
	}
	return found
}

func (r *Reconciler) requests(ctx context.Context, fields client.MatchingFields) []reconcile.Request {
	names, err := r.named(ctx, fields, "")
	if err != nil {
		r.log.Error("cannot find the hosts of an event", slog.Any("error", err))
		return nil
	}
	found := make([]reconcile.Request, 0, len(names))
	for _, name := range names {
		found = append(found, request(name))
	}
	return found
}

// twinEvents reconciles every Host that shares address or identity with one that came, went or moved. The Host
// itself is among them: two that are found at the same time would otherwise miss each other.
func (r *Reconciler) twinEvents() handler.EventHandler {
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	enqueue := func(ctx context.Context, q queue, o client.Object) {
		found := r.requests(ctx, client.MatchingFields{indexEndpoint: endpoint(o.(*v1alpha1.Host))})
		for _, id := range machineID(o) {
			found = append(found, r.requests(ctx, client.MatchingFields{indexMachineID: id})...)
		}
		for _, f := range found {
			q.Add(f)
		}
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) {
			if !e.IsInInitialList {
				enqueue(ctx, q, e.Object)
			}
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			if identity(e.ObjectOld) != identity(e.ObjectNew) {
				enqueue(ctx, q, e.ObjectOld)
				enqueue(ctx, q, e.ObjectNew)
			}
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) { enqueue(ctx, q, e.Object) },
	}
}

func identity(o client.Object) string {
	return fmt.Sprint(endpoint(o.(*v1alpha1.Host)), machineID(o))
}
