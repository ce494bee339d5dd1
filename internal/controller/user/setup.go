package user

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/auth"
)

// indexIdentity finds the User whom a member of a project names.
const indexIdentity = "slipway.user.identity"

// Setup registers the controller and its index with mgr; ctx bounds the registration alone. A missing Client is the
// manager's. Its cache holds the Secrets of slipway-system alone, as the host controller has it.
func Setup(ctx context.Context, mgr ctrl.Manager, d Deps) error {
	if d.Client == nil {
		d.Client = mgr.GetClient()
	}
	if err := mgr.GetFieldIndexer().IndexField(ctx, &v1alpha1.User{}, indexIdentity, identities); err != nil {
		return fmt.Errorf("cannot set up the user controller: cannot index Users: %w", err)
	}
	r := New(d)
	isPassword := predicate.NewPredicateFuncs(func(o client.Object) bool { return o.(*corev1.Secret).Type == v1alpha1.SecretTypePassword })
	err := ctrl.NewControllerManagedBy(mgr).
		Named("user").
		For(&v1alpha1.User{}).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
			return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: o.GetLabels()[auth.LabelUser]}}}
		}), builder.WithPredicates(isPassword)).
		// Of a change both versions come here, so who was taken out hears of it too.
		Watches(&v1alpha1.Project{}, handler.EnqueueRequestsFromMapFunc(r.members)).
		Complete(r)
	if err != nil {
		return fmt.Errorf("cannot set up the user controller: %w", err)
	}
	return nil
}

func identities(o client.Object) []string { return []string{o.(*v1alpha1.User).Identity()} }

// members gives the Users whom a project names.
func (r *Reconciler) members(ctx context.Context, o client.Object) []reconcile.Request {
	var found []reconcile.Request
	for _, m := range o.(*v1alpha1.Project).Spec.Members {
		if m.Kind == v1alpha1.MemberGroup {
			continue
		}
		var users v1alpha1.UserList
		// The list only fails when the cache has no index, which Setup has refused.
		if err := r.Client.List(ctx, &users, client.MatchingFields{indexIdentity: m.Name}); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "cannot find the members of a project")
			return found
		}
		for _, u := range users.Items {
			found = append(found, reconcile.Request{NamespacedName: client.ObjectKey{Name: u.Name}})
		}
	}
	return found
}
