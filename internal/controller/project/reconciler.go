// Package project owns the status of Projects, their namespaces and the role bindings of their members.
// It must never decide what a role may do (internal/access does), and never delete a namespace that holds a cluster.
package project

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/access"
)

// The reasons of the condition Ready of a Project.
const (
	ReasonReady       = "Ready"
	ReasonTaken       = "NamespaceTaken"
	ReasonTerminating = "NamespaceTerminating"
	ReasonHasClusters = "HasClusters"
	ReasonDeleting    = "Deleting"
)

// AnnotationAdopted is on the namespace of a Project that was there before the Project: it stays when the Project goes.
const AnnotationAdopted = "slipway.dev/adopted"

// Deps is what the reconciler works with.
type Deps struct {
	// Client reads from the server, not from a cache: a project must never be deleted on a stale read.
	Client client.Client
	Log    *slog.Logger
}

// Reconciler keeps one Project right.
type Reconciler struct{ Deps }

// New gives a reconciler.
func New(deps Deps) *Reconciler { return &Reconciler{deps} }

// Reconcile brings namespace, roles and status of one Project up to date, or lets it go.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var p v1alpha1.Project
	if err := r.Client.Get(ctx, request.NamespacedName, &p); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if p.DeletionTimestamp != nil {
		return ctrl.Result{}, r.delete(ctx, &p)
	}
	if !slices.Contains(p.Finalizers, v1alpha1.Finalizer) {
		p.Finalizers = append(p.Finalizers, v1alpha1.Finalizer)
		if err := r.Client.Update(ctx, &p); err != nil {
			if apierrors.IsConflict(err) {
				return ctrl.Result{}, nil // A newer version is on its way to us.
			}
			return ctrl.Result{}, fmt.Errorf("cannot hold project %s: %w", p.Name, err)
		}
	}
	refusal, err := r.namespace(ctx, &p)
	if err != nil {
		return ctrl.Result{}, err
	}
	if refusal != nil {
		return ctrl.Result{}, r.status(ctx, &p, *refusal)
	}
	var lent v1alpha1.GrantList
	if err := r.Client.List(ctx, &lent, client.InNamespace(p.Name)); err != nil {
		return ctrl.Result{}, fmt.Errorf("cannot list what is lent to project %s: %w", p.Name, err)
	}
	var grants []v1alpha1.GrantSpec
	for _, g := range lent.Items {
		if g.DeletionTimestamp == nil {
			grants = append(grants, g.Spec)
		}
	}
	if err := r.roles(ctx, &p, access.ProjectRoles(&p, grants...)); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{}, r.status(ctx, &p, metav1.Condition{Status: metav1.ConditionTrue, Reason: ReasonReady, Message: "its members can work in it"})
}

// namespace makes the namespace of a project, or takes over one that belongs to nobody. It gives a condition when it
// cannot be had.
func (r *Reconciler) namespace(ctx context.Context, p *v1alpha1.Project) (*metav1.Condition, error) {
	var have corev1.Namespace
	err := r.Client.Get(ctx, client.ObjectKey{Name: p.Name}, &have)
	if client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("cannot read namespace %s: %w", p.Name, err)
	}
	found, owner := err == nil, have.Labels[v1alpha1.LabelProject]
	switch {
	case have.DeletionTimestamp != nil:
		return &metav1.Condition{Status: metav1.ConditionFalse, Reason: ReasonTerminating,
			Message: "an earlier namespace " + p.Name + " is still being deleted; nothing is to be done"}, nil
	case owner != "" && owner != p.Name:
		return &metav1.Condition{Status: metav1.ConditionFalse, Reason: ReasonTaken,
			Message: "namespace " + p.Name + " belongs to project " + owner + "; delete this project and choose another name"}, nil
	}
	want := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: p.Name, Labels: map[string]string{v1alpha1.LabelProject: p.Name}}}
	if adopted := have.Annotations[AnnotationAdopted]; found && (owner == "" || adopted != "") {
		want.Annotations = map[string]string{AnnotationAdopted: "true"}
	}
	if found && owner == p.Name && have.Annotations[AnnotationAdopted] == want.Annotations[AnnotationAdopted] {
		return nil, nil
	}
	return nil, r.apply(ctx, want)
}

// roles makes the wanted objects of RBAC be, and every other of the project not be. What is not wanted goes first.
func (r *Reconciler) roles(ctx context.Context, p *v1alpha1.Project, wanted []client.Object) error {
	keep := map[string]bool{}
	for _, o := range wanted {
		keep[identity(o)] = true
	}
	for _, list := range kinds() {
		if err := r.Client.List(ctx, list, client.MatchingLabels{v1alpha1.LabelProject: p.Name}); err != nil {
			return fmt.Errorf("cannot list the roles of project %s: %w", p.Name, err)
		}
		err := meta.EachListItem(list, func(item runtime.Object) error {
			o, ok := item.(client.Object)
			if !ok || keep[identity(o)] {
				return nil
			}
			if err := r.Client.Delete(ctx, o); client.IgnoreNotFound(err) != nil {
				return fmt.Errorf("cannot remove %T %s of project %s: %w", o, o.GetName(), p.Name, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, o := range wanted {
		if err := r.applyRole(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// status writes the condition and the count of clusters when they differ from what is stored.
func (r *Reconciler) status(ctx context.Context, p *v1alpha1.Project, ready metav1.Condition) error {
	var clusters v1alpha1.ClusterList
	if err := r.Client.List(ctx, &clusters, client.InNamespace(p.Name)); err != nil {
		return fmt.Errorf("cannot count the clusters of project %s: %w", p.Name, err)
	}
	before := p.DeepCopy()
	ready.Type, ready.ObservedGeneration = v1alpha1.ProjectReady, p.Generation
	meta.SetStatusCondition(&p.Status.Conditions, ready)
	p.Status.ObservedGeneration, p.Status.Clusters = p.Generation, int32(len(clusters.Items))
	if equality.Semantic.DeepEqual(before.Status, p.Status) {
		return nil
	}
	if err := r.Client.Status().Patch(ctx, p, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot write the status of project %s: %w", p.Name, err)
	}
	return nil
}
