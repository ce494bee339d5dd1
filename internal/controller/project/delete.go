package project

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/access"
)

// maxNames bounds how many things that hold a project are named.
const maxNames = 5

// delete lets a project go when nothing in it needs hosts: first the rights of its members, so that nothing new comes,
// then, after another look, what is in the namespace and the namespace itself.
func (r *Reconciler) delete(ctx context.Context, p *v1alpha1.Project) error {
	if !slices.Contains(p.Finalizers, v1alpha1.Finalizer) {
		return nil
	}
	held, err := r.heldBy(ctx, p.Name)
	if err != nil {
		return err
	}
	if held == "" {
		if err := r.roles(ctx, p, nil); err != nil {
			return err
		}
		if held, err = r.heldBy(ctx, p.Name); err != nil {
			return err
		}
	}
	if held != "" {
		// Its members are who can delete what holds it.
		if err := r.roles(ctx, p, access.ProjectRoles(p)); err != nil {
			return err
		}
		return r.status(ctx, p, metav1.Condition{Status: metav1.ConditionFalse, Reason: ReasonHasClusters, Message: held})
	}
	gone, err := r.clear(ctx, p)
	if err != nil {
		return err
	}
	if !gone {
		return r.status(ctx, p, metav1.Condition{Status: metav1.ConditionFalse, Reason: ReasonDeleting, Message: "what is in the project is being deleted"})
	}
	p.Finalizers = slices.DeleteFunc(p.Finalizers, func(f string) bool { return f == v1alpha1.Finalizer })
	if err := r.Client.Update(ctx, p); client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("cannot let project %s go: %w", p.Name, err)
	}
	return nil
}

// heldBy says what keeps a project from being deleted and what to do about it, or "".
func (r *Reconciler) heldBy(ctx context.Context, project string) (string, error) {
	var clusters v1alpha1.ClusterList
	var operations v1alpha1.OperationList
	var claims v1alpha1.HostClaimList
	for _, list := range []client.ObjectList{&clusters, &operations} {
		if err := r.Client.List(ctx, list, client.InNamespace(project)); err != nil {
			return "", fmt.Errorf("cannot see what is in project %s: %w", project, err)
		}
	}
	if err := r.Client.List(ctx, &claims); err != nil {
		return "", fmt.Errorf("cannot see which hosts project %s holds: %w", project, err)
	}
	var names []string
	for _, c := range clusters.Items {
		names = append(names, c.Name)
	}
	if len(names) > 0 {
		return fmt.Sprintf("it holds %s; delete them first: slipway cluster delete NAME -p %s", some("cluster", names), project), nil
	}
	for _, op := range operations.Items {
		if running(&op) {
			names = append(names, op.Name)
		}
	}
	if len(names) > 0 {
		return fmt.Sprintf("it holds running %s; wait for them or abort them: slipway operation abort NAME -p %s", some("operation", names), project), nil
	}
	for _, c := range claims.Items {
		if c.Spec.Namespace == project {
			names = append(names, c.Name)
		}
	}
	if len(names) > 0 {
		return fmt.Sprintf("it holds %s that could not be cleaned; when they can be reached again: slipway operation retry NAME -p %s", some("host", names), project), nil
	}
	return "", nil
}

// running says that an operation changes hosts now, or is about to.
func running(op *v1alpha1.Operation) bool {
	switch op.Status.Phase {
	case v1alpha1.OperationRunning, v1alpha1.OperationQueued:
		return true
	case v1alpha1.OperationPlanned:
		return op.Spec.ApprovedPlan != ""
	default:
		return false
	}
}

// some names the first of many things.
func some(what string, names []string) string {
	slices.Sort(names)
	if len(names) != 1 {
		what += "s"
	}
	if more := len(names) - maxNames; more > 0 {
		return fmt.Sprintf("%s %s and %d more", what, strings.Join(names[:maxNames], ", "), more)
	}
	return what + " " + strings.Join(names, ", ")
}

// clear deletes the namespace of a project, or, when it is older than the project, what Slipway keeps in it. It says
// whether all of that has gone.
func (r *Reconciler) clear(ctx context.Context, p *v1alpha1.Project) (bool, error) {
	var namespace corev1.Namespace
	err := r.Client.Get(ctx, client.ObjectKey{Name: p.Name}, &namespace)
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot read namespace %s: %w", p.Name, err)
	}
	switch {
	case namespace.Labels[v1alpha1.LabelProject] != p.Name:
		return true, nil // It never was this project's.
	case namespace.DeletionTimestamp != nil:
		return false, nil
	case namespace.Annotations[AnnotationAdopted] != "":
		return r.leave(ctx, p.Name)
	}
	err = r.Client.Delete(ctx, &namespace, client.Preconditions{UID: &namespace.UID})
	if client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("cannot delete namespace %s: %w", p.Name, err)
	}
	return false, nil
}

// leave takes Slipway's objects out of a namespace that stays.
func (r *Reconciler) leave(ctx context.Context, project string) (bool, error) {
	left := 0
	for _, list := range []client.ObjectList{&v1alpha1.GrantList{}, &v1alpha1.OperationList{}, &v1alpha1.HostRunList{}} {
		n, err := r.empty(ctx, project, list)
		if err != nil {
			return false, err
		}
		left += n
	}
	if left > 0 {
		return false, nil
	}
	// Without our fields: apply takes them away.
	return true, r.apply(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: project}})
}

// empty deletes every object of a kind in a namespace, and gives how many are still held by a finalizer.
func (r *Reconciler) empty(ctx context.Context, namespace string, list client.ObjectList) (int, error) {
	if err := r.Client.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return 0, fmt.Errorf("cannot see what is in project %s: %w", namespace, err)
	}
	held := 0
	err := meta.EachListItem(list, func(item runtime.Object) error {
		o, ok := item.(client.Object)
		if !ok {
			return nil
		}
		if len(o.GetFinalizers()) > 0 {
			held++
		}
		if err := r.Client.Delete(ctx, o); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("cannot delete %T %s of project %s: %w", o, o.GetName(), namespace, err)
		}
		return nil
	})
	return held, err
}
