package project

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"slipway.dev/slipway/api/v1alpha1"
)

// Setup adds the reconciler to mgr. ctx has nothing to bound here and is taken so that all controllers look alike.
func Setup(_ context.Context, mgr ctrl.Manager, deps Deps) error {
	labelled := handler.EnqueueRequestsFromMapFunc(ofLabel)
	inside := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request { return requests(o.GetNamespace()) })
	err := ctrl.NewControllerManagedBy(mgr).
		Named("project").
		For(&v1alpha1.Project{}).
		// What somebody else changes is put back.
		Watches(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			return append(requests(o.GetName()), ofLabel(ctx, o)...)
		})).
		Watches(&rbacv1.RoleBinding{}, labelled).
		Watches(&rbacv1.Role{}, labelled).
		Watches(&rbacv1.ClusterRoleBinding{}, labelled).
		Watches(&rbacv1.ClusterRole{}, labelled).
		// What is counted, and what holds a project that is to be deleted.
		Watches(&v1alpha1.Cluster{}, inside, builder.WithPredicates(comesOrGoes(nil))).
		Watches(&v1alpha1.Operation{}, inside, builder.WithPredicates(comesOrGoes(func(old, now client.Object) bool {
			return running(old.(*v1alpha1.Operation)) != running(now.(*v1alpha1.Operation))
		}))).
		// What its members may read.
		Watches(&v1alpha1.Grant{}, inside, builder.WithPredicates(comesOrGoes(func(old, now client.Object) bool {
			return old.(*v1alpha1.Grant).Spec != now.(*v1alpha1.Grant).Spec || (old.GetDeletionTimestamp() == nil) != (now.GetDeletionTimestamp() == nil)
		}))).
		Watches(&v1alpha1.HostClaim{}, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
			return requests(o.(*v1alpha1.HostClaim).Spec.Namespace)
		}), builder.WithPredicates(comesOrGoes(nil))).
		Complete(New(deps))
	if err != nil {
		return fmt.Errorf("cannot set up the project controller: %w", err)
	}
	return nil
}

func ofLabel(_ context.Context, o client.Object) []reconcile.Request {
	return requests(o.GetLabels()[v1alpha1.LabelProject])
}

func requests(project string) []reconcile.Request {
	if project == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: project}}}
}

// comesOrGoes leaves out what is there at the start, which is seen with every Project, and changes but those that
// matter says matter.
func comesOrGoes(matters func(old, now client.Object) bool) predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return !e.IsInInitialList },
		UpdateFunc: func(e event.UpdateEvent) bool { return matters != nil && matters(e.ObjectOld, e.ObjectNew) },
	}
}
