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
	switch {
	case g.Spec.Name == v1alpha1.GrantEverything:
		return r.count(ctx, g.Spec.Kind)
	case g.Spec.Kind == v1alpha1.GrantHost:
		h := &v1alpha1.Host{}
		found, err := r.find(ctx, g.Spec, h)
		if !found {
			h = nil
		}
		return grant.Host(h, g.Namespace), err
	default:
		b := &v1alpha1.Bundle{}
		found, err := r.find(ctx, g.Spec, b)
		if !found {
			b = nil
		}
		return grant.Bundle(b), err
	}
}

func (r *Reconciler) find(ctx context.Context, spec v1alpha1.GrantSpec, o client.Object) (bool, error) {
	err := r.client.Get(ctx, client.ObjectKey{Name: spec.Name}, o)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot read %s %s: %w", spec.Kind, spec.Name, err)
	}
	return true, nil
}

func (r *Reconciler) count(ctx context.Context, kind v1alpha1.GrantKind) (grant.View, error) {
	var list client.ObjectList = &v1alpha1.HostList{}
	if kind == v1alpha1.GrantBundle {
		list = &v1alpha1.BundleList{}
	}
	if err := r.client.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		return grant.View{}, fmt.Errorf("cannot count %ss: %w", kind, err)
	}
	return grant.Everything(kind, meta.LenList(list)), nil
}
