// Package user owns the status of Users, and takes from a disabled or deleted one what it could come back with.
// It must never let anyone in, and never reads a password.
package user

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/auth"
)

// The reasons of the condition Ready of a User.
const (
	ReasonReady              = "Ready"
	ReasonDisabled           = "Disabled"
	ReasonNoPassword         = "NoPassword"
	ReasonPasswordMustChange = "PasswordMustChange"
)

// maxProjects bounds how many projects a status names.
const maxProjects = 50

// Deps is what the controller works with.
type Deps struct {
	// Client reads from the cache and writes to the API; the index of Setup must exist.
	Client client.Client
	// Live reads from the API itself: a login that was just made must not be missed.
	Live client.Client
	// Password says whether a local account has a password, and whether it must be changed.
	Password func(ctx context.Context, name string) (has, mustChange bool, err error)
}

// Reconciler keeps one User right.
type Reconciler struct{ Deps }

// New makes a reconciler.
func New(d Deps) *Reconciler { return &Reconciler{d} }

// Reconcile writes the status of one User, ends the logins of a disabled one and lets a deleted one go.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	var u v1alpha1.User
	if err := r.Live.Get(ctx, request.NamespacedName, &u); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if u.DeletionTimestamp != nil {
		return reconcile.Result{}, r.delete(ctx, &u)
	}
	if before := u.DeepCopy(); controllerutil.AddFinalizer(&u, v1alpha1.Finalizer) {
		if err := r.Client.Patch(ctx, &u, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
			return reconcile.Result{}, fmt.Errorf("cannot hold user %s: %w", u.Name, err)
		}
	}
	if u.Spec.Disabled {
		if err := auth.EndAll(ctx, r.Live, u.Name); err != nil {
			return reconcile.Result{}, fmt.Errorf("cannot log user %s out: %w", u.Name, err)
		}
	}
	return reconcile.Result{}, r.status(ctx, &u)
}

// delete ends the logins of a user and takes the user out of every project: a later one of the same name must not
// inherit anything.
func (r *Reconciler) delete(ctx context.Context, u *v1alpha1.User) error {
	before := u.DeepCopy()
	if !controllerutil.RemoveFinalizer(u, v1alpha1.Finalizer) {
		return nil
	}
	if err := r.forgetPassword(ctx, u.Name); err != nil {
		return err
	}
	if err := auth.EndAll(ctx, r.Live, u.Name); err != nil {
		return fmt.Errorf("cannot log user %s out: %w", u.Name, err)
	}
	if err := r.leaveProjects(ctx, u); err != nil {
		return err
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Patch(ctx, u, patch); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot let user %s go: %w", u.Name, err)
	}
	return nil
}

func (r *Reconciler) forgetPassword(ctx context.Context, name string) error {
	var secrets corev1.SecretList
	if err := r.Live.List(ctx, &secrets, client.InNamespace(v1alpha1.SystemNamespace), client.MatchingLabels{auth.LabelUser: name}); err != nil {
		return fmt.Errorf("cannot find the password of user %s: %w", name, err)
	}
	for i := range secrets.Items {
		if secrets.Items[i].Type != v1alpha1.SecretTypePassword {
			continue
		}
		if err := r.Client.Delete(ctx, &secrets.Items[i]); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("cannot forget the password of user %s: %w", name, err)
		}
	}
	return nil
}

func (r *Reconciler) leaveProjects(ctx context.Context, u *v1alpha1.User) error {
	var users v1alpha1.UserList
	if err := r.Live.List(ctx, &users); err != nil {
		return fmt.Errorf("cannot list users: %w", err)
	}
	if slices.ContainsFunc(users.Items, func(o v1alpha1.User) bool { return o.UID != u.UID && o.Identity() == u.Identity() }) {
		return nil // RBAC knows both as the same person.
	}
	var projects v1alpha1.ProjectList
	if err := r.Live.List(ctx, &projects); err != nil {
		return fmt.Errorf("cannot list projects: %w", err)
	}
	for i := range projects.Items {
		p := &projects.Items[i]
		if !names(p, u.Identity()) {
			continue
		}
		before := p.DeepCopy()
		p.Spec.Members = slices.DeleteFunc(p.Spec.Members, func(m v1alpha1.ProjectMember) bool { return is(m, u.Identity()) })
		// The list is replaced as a whole, so it must be the one that was read.
		patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
		if err := r.Client.Patch(ctx, p, patch); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("cannot take user %s out of project %s: %w", u.Name, p.Name, err)
		}
	}
	return nil
}

// names says whether a project names the person as a member.
func names(p *v1alpha1.Project, identity string) bool {
	return slices.ContainsFunc(p.Spec.Members, func(m v1alpha1.ProjectMember) bool { return is(m, identity) })
}

func is(m v1alpha1.ProjectMember, identity string) bool {
	return m.Kind != v1alpha1.MemberGroup && m.Name == identity
}

// status writes the status when it differs from what is stored.
func (r *Reconciler) status(ctx context.Context, u *v1alpha1.User) error {
	before := u.DeepCopy()
	ready, err := r.ready(ctx, u)
	if err != nil {
		return err
	}
	ready.Type, ready.ObservedGeneration = v1alpha1.UserReady, u.Generation
	meta.SetStatusCondition(&u.Status.Conditions, ready)
	var projects v1alpha1.ProjectList
	if err := r.Client.List(ctx, &projects); err != nil {
		return fmt.Errorf("cannot list projects: %w", err)
	}
	u.Status.ObservedGeneration, u.Status.Identity, u.Status.Projects = u.Generation, u.Identity(), nil
	for i := range projects.Items {
		if names(&projects.Items[i], u.Identity()) {
			u.Status.Projects = append(u.Status.Projects, projects.Items[i].Name)
		}
	}
	slices.Sort(u.Status.Projects)
	u.Status.Projects = u.Status.Projects[:min(len(u.Status.Projects), maxProjects)]
	if equality.Semantic.DeepEqual(before.Status, u.Status) {
		return nil
	}
	if err := r.Client.Status().Patch(ctx, u, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot write the status of user %s: %w", u.Name, err)
	}
	return nil
}

// ready says whether the person can log in.
func (r *Reconciler) ready(ctx context.Context, u *v1alpha1.User) (metav1.Condition, error) {
	no := func(reason, message string) (metav1.Condition, error) {
		return metav1.Condition{Status: metav1.ConditionFalse, Reason: reason, Message: message}, nil
	}
	if u.Spec.Disabled {
		return no(ReasonDisabled, "disabled: nothing of theirs lets them in; slipway user enable "+u.Name)
	}
	if u.Spec.Directory == nil {
		has, mustChange, err := r.Password(ctx, u.Name)
		switch {
		case err != nil:
			return metav1.Condition{}, err
		case !has:
			return no(ReasonNoPassword, "no password: slipway user set-password "+u.Name)
		case mustChange:
			return no(ReasonPasswordMustChange, "must choose another password at the next login")
		}
	}
	return metav1.Condition{Status: metav1.ConditionTrue, Reason: ReasonReady, Message: "can log in"}, nil
}
