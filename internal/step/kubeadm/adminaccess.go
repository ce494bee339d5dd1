package kubeadm

import (
	"context"
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"
	rbacv1ac "k8s.io/client-go/applyconfigurations/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/internal/step"
)

// adminBinding and adminGroup are kubeadm's: admin.conf belongs to the group.
const (
	adminBinding = "kubeadm:cluster-admins"
	adminGroup   = "kubeadm:cluster-admins"
)

// AdminAccess gives admin.conf its rights. kubeadm does so itself, but through the cluster's endpoint: where kube-vip makes
// the endpoint with the rights of admin.conf, nobody would ever begin.
type AdminAccess struct{}

// ID is stored in plans.
func (AdminAccess) ID() step.ID { return "kubeadm.admin-access/v1" }

// Needs tells what must be there.
func (AdminAccess) Needs() []step.Output { return []step.Output{step.ServedAPI} }

// Check looks for the binding.
func (AdminAccess) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	var drift step.Drift
	err := wantObject(ctx, &drift, r.Cluster, "", adminBinding, &rbacv1.ClusterRoleBinding{})
	return drift, err
}

// Apply makes the binding as kubeadm would.
func (AdminAccess) Apply(ctx context.Context, w step.Writer) error {
	binding := rbacv1ac.ClusterRoleBinding(adminBinding).
		WithRoleRef(rbacv1ac.RoleRef().WithAPIGroup(rbacv1.GroupName).WithKind("ClusterRole").WithName("cluster-admin")).
		WithSubjects(rbacv1ac.Subject().WithAPIGroup(rbacv1.GroupName).WithKind(rbacv1.GroupKind).WithName(adminGroup))
	if err := w.Cluster.Apply(ctx, binding, client.FieldOwner("slipway"), client.ForceOwnership); err != nil {
		return fmt.Errorf("cannot bind the administrators of the cluster: %w", err)
	}
	return nil
}
