package project

import (
	"context"
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// fieldOwner is what server-side apply notes as the owner of the fields that this controller sets.
const fieldOwner = client.FieldOwner("slipway-project")

// kinds gives a list for each kind that access.ProjectRoles may give.
func kinds() []client.ObjectList {
	return []client.ObjectList{&rbacv1.RoleBindingList{}, &rbacv1.RoleList{}, &rbacv1.ClusterRoleBindingList{}, &rbacv1.ClusterRoleList{}}
}

// identity tells objects of RBAC apart.
func identity(o client.Object) string {
	return fmt.Sprintf("%T %s/%s", o, o.GetNamespace(), o.GetName())
}

// apply makes an object be as it is given, whoever else set its fields.
func (r *Reconciler) apply(ctx context.Context, o client.Object) error {
	gvk, err := apiutil.GVKForObject(o, r.Client.Scheme())
	if err != nil {
		return fmt.Errorf("cannot apply %s: %w", o.GetName(), err)
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return fmt.Errorf("cannot apply %s %s: %w", gvk.Kind, o.GetName(), err)
	}
	wanted := &unstructured.Unstructured{Object: content}
	wanted.SetGroupVersionKind(gvk)
	// What nobody sets must not be applied as empty.
	unstructured.RemoveNestedField(wanted.Object, "metadata", "creationTimestamp")
	unstructured.RemoveNestedField(wanted.Object, "status")
	unstructured.RemoveNestedField(wanted.Object, "spec")
	if err := r.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(wanted), fieldOwner, client.ForceOwnership); err != nil {
		return fmt.Errorf("cannot apply %s %s: %w", gvk.Kind, o.GetName(), err)
	}
	return nil
}

// applyRole is apply for an object of RBAC. The role of a binding cannot change: a binding that was tampered with is
// made anew.
func (r *Reconciler) applyRole(ctx context.Context, o client.Object) error {
	err := r.apply(ctx, o)
	if !apierrors.IsInvalid(err) {
		return err
	}
	if err := r.Client.Delete(ctx, o); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot replace %T %s: %w", o, o.GetName(), err)
	}
	return r.apply(ctx, o)
}
