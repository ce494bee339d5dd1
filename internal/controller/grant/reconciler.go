// Package grant owns the status of Grants: it copies there what a project may see of a host or bundle that is lent
// to it. It must never copy more than internal/grant gives, and never write what did not change.
package grant

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/grant"
)

// Deps is what the controller works with.
type Deps struct {
	// Client reads from the cache and writes to the API; the index of Setup must exist.
	Client client.Client
}

// Reconciler keeps the status of one Grant right.
type Reconciler struct{ client client.Client }

// New makes a reconciler.
func New(d Deps) *Reconciler { return &Reconciler{client: d.Client} }

// Reconcile writes the status of one Grant when it differs from what is stored.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	var g v1alpha1.Grant
	if err := r.client.Get(ctx, request.NamespacedName, &g); err != nil || g.DeletionTimestamp != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	view, err := r.look(ctx, &g)
	if err != nil {
		return reconcile.Result{}, err
	}
	before := g.DeepCopy()
	ready := metav1.Condition{Type: v1alpha1.GrantReady, Status: metav1.ConditionFalse, ObservedGeneration: g.Generation, Reason: view.Reason, Message: view.Message}
	if view.Usable() {
		ready.Status = metav1.ConditionTrue
	}
	meta.SetStatusCondition(&g.Status.Conditions, ready)
	g.Status.ObservedGeneration, g.Status.Summary, g.Status.Host = g.Generation, view.Summary, view.Host
	if equality.Semantic.DeepEqual(before.Status, g.Status) {
		return reconcile.Result{}, nil
	}
	if err := client.IgnoreNotFound(r.client.Status().Patch(ctx, &g, client.MergeFrom(before))); err != nil {
		return reconcile.Result{}, fmt.Errorf("cannot write the status of Grant %s/%s: %w", g.Namespace, g.Name, err)
	}
	return reconcile.Result{}, nil
}

func (r *Reconciler) look(ctx context.Context, g *v1alpha1.Grant) (grant.View, error) {
	if g.Spec.Name == v1alpha1.GrantEverything {
		return r.count(ctx, g.Spec.Kind)
	}
	switch g.Spec.Kind {
	case v1alpha1.GrantHost:
		h, err := find(ctx, r.client, g.Spec, &v1alpha1.Host{})
		return grant.Host(h, g.Namespace), err
	case v1alpha1.GrantBundle:
		b, err := find(ctx, r.client, g.Spec, &v1alpha1.Bundle{})
		return grant.Bundle(b), err
	case v1alpha1.GrantBackupLocation:
		l, err := find(ctx, r.client, g.Spec, &v1alpha1.BackupLocation{})
		return grant.BackupLocation(l), err
	case v1alpha1.GrantClusterTemplate:
		t, err := find(ctx, r.client, g.Spec, &v1alpha1.ClusterTemplate{})
		return grant.ClusterTemplate(t), err
	default:
		return grant.View{}, fmt.Errorf("cannot read %s %s: that kind is not lent", g.Spec.Kind, g.Spec.Name)
	}
}

// find reads the object into o and gives it; one that does not exist is nil.
func find[T any, O interface {
	*T
	client.Object
}](ctx context.Context, c client.Client, spec v1alpha1.GrantSpec, o O) (O, error) {
	err := c.Get(ctx, client.ObjectKey{Name: spec.Name}, o)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %s %s: %w", spec.Kind, spec.Name, err)
	}
	return o, nil
}

func (r *Reconciler) count(ctx context.Context, kind v1alpha1.GrantKind) (grant.View, error) {
	var list client.ObjectList
	switch kind {
	case v1alpha1.GrantBundle:
		list = &v1alpha1.BundleList{}
	case v1alpha1.GrantBackupLocation:
		list = &v1alpha1.BackupLocationList{}
	case v1alpha1.GrantClusterTemplate:
		list = &v1alpha1.ClusterTemplateList{}
	default:
		list = &v1alpha1.HostList{}
	}
	if err := r.client.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		return grant.View{}, fmt.Errorf("cannot count %ss: %w", kind, err)
	}
	return grant.Everything(kind, meta.LenList(list)), nil
}
