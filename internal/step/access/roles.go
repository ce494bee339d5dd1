// Package access owns the step that keeps, in each cluster, what people who come through Slipway may do there.
// It must never give a viewer a way to a secret, nor know who the people are: the gateway says that with each request.
package access

import (
	"context"
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/internal/step"
)

// The groups that people from Slipway are in inside a cluster.
const (
	// Administrators may do everything in the cluster.
	Administrators = "slipway:administrators"
	// Viewers read everything in the cluster but Secrets.
	Viewers = "slipway:viewers"
)

// Roles gives both groups their rights, with RBAC of the cluster itself.
type Roles struct{}

// ID is stored in plans.
func (Roles) ID() step.ID { return "cluster-access/v1" }

// Needs tells what must be there.
func (Roles) Needs() []step.Output { return []step.Output{step.API} }

// Check compares what each object says.
func (Roles) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	var drift step.Drift
	role := viewer()
	var have rbacv1.ClusterRole
	found, err := get(ctx, r.Cluster, role.Name, &have)
	if err != nil {
		return nil, err
	}
	same := equality.Semantic.DeepEqual(have.Rules, role.Rules) && have.AggregationRule == nil
	want(&drift, "ClusterRole "+role.Name, found, same)
	for _, binding := range bindings() {
		var have rbacv1.ClusterRoleBinding
		found, err := get(ctx, r.Cluster, binding.Name, &have)
		if err != nil {
			return nil, err
		}
		same := have.RoleRef == binding.RoleRef && equality.Semantic.DeepEqual(have.Subjects, binding.Subjects)
		want(&drift, "ClusterRoleBinding "+binding.Name, found, same)
	}
	return drift, nil
}

// Apply applies every object on the server's side. What a binding refers to cannot change, and a role that gathers the
// rules of others has none of its own, so those are made anew.
func (Roles) Apply(ctx context.Context, w step.Writer) error {
	role := viewer()
	var have rbacv1.ClusterRole
	found, err := get(ctx, w.Cluster, role.Name, &have)
	if err != nil {
		return err
	}
	if found && have.AggregationRule != nil {
		if err := w.Cluster.Delete(ctx, &have); err != nil {
			return fmt.Errorf("cannot delete ClusterRole %s: %w", role.Name, err)
		}
	}
	if err := apply(ctx, w, role); err != nil {
		return err
	}
	for _, binding := range bindings() {
		var have rbacv1.ClusterRoleBinding
		found, err := get(ctx, w.Cluster, binding.Name, &have)
		if err != nil {
			return err
		}
		if found && have.RoleRef != binding.RoleRef {
			if err := w.Cluster.Delete(ctx, &have); err != nil {
				return fmt.Errorf("cannot delete ClusterRoleBinding %s: %w", binding.Name, err)
			}
		}
		if err := apply(ctx, w, binding); err != nil {
			return err
		}
	}
	return nil
}

// viewer is what Kubernetes' own role view leaves out, because that one is for a namespace. No rule may name nodes/proxy:
// reading that is running commands in any pod.
func viewer() *rbacv1.ClusterRole {
	read := []string{"get", "list", "watch"}
	return &rbacv1.ClusterRole{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole"},
		ObjectMeta: metav1.ObjectMeta{Name: "slipway:viewer"},
		Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"namespaces", "nodes", "persistentvolumes"}, Verbs: read},
			{APIGroups: []string{"storage.k8s.io"}, Resources: []string{"storageclasses"}, Verbs: read},
			{APIGroups: []string{"apiextensions.k8s.io"}, Resources: []string{"customresourcedefinitions"}, Verbs: read},
			{APIGroups: []string{"metrics.k8s.io"}, Resources: []string{"nodes", "pods"}, Verbs: read},
		},
	}
}

func bindings() []*rbacv1.ClusterRoleBinding {
	return []*rbacv1.ClusterRoleBinding{
		binding(Administrators, Administrators, "cluster-admin"),
		binding(Viewers, Viewers, "slipway:viewer"),
		binding(Viewers+":view", Viewers, "view"),
	}
}

func binding(name, group, role string) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRoleBinding"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: group}},
	}
}

func get(ctx context.Context, r client.Reader, name string, o client.Object) (bool, error) {
	err := r.Get(ctx, client.ObjectKey{Name: name}, o)
	if client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("cannot read %T %s: %w", o, name, err)
	}
	return !apierrors.IsNotFound(err), nil
}

func want(drift *step.Drift, what string, found, same bool) {
	switch {
	case !found:
		drift.Want(what, "", "present")
	case !same:
		drift.Want(what, "other rights", "the planned rights")
	}
}

func apply(ctx context.Context, w step.Writer, o client.Object) error {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return fmt.Errorf("cannot encode %T: %w", o, err)
	}
	applied := client.ApplyConfigurationFromUnstructured(&unstructured.Unstructured{Object: fields})
	if err := w.Cluster.Apply(ctx, applied, client.FieldOwner("slipway"), client.ForceOwnership); err != nil {
		return fmt.Errorf("cannot apply %T %s: %w", o, o.GetName(), err)
	}
	return nil
}
