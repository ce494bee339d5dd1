package operation

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/plan/stages"
)

// keep says which Backup an upgrade takes before it changes anything: one in the location of the first enabled schedule of the
// cluster that is lent to the project; nil when there is none. It has the name of the operation, which takes it.
func (r *Reconciler) keep(ctx context.Context, op *v1alpha1.Operation, in *stages.Input) (*stages.Keep, error) {
	named := strings.HasPrefix(op.Name, op.Spec.Cluster+"-") && regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,126}[a-z0-9])?$`).MatchString(op.Name)
	if op.Spec.Verb != v1alpha1.VerbUpgrade || !named {
		return nil, nil
	}
	var all v1alpha1.BackupScheduleList
	if err := r.Client.List(ctx, &all, client.InNamespace(op.Namespace)); err != nil {
		return nil, fault.NewTransient("APIUnreachable", fmt.Errorf("cannot list backup schedules: %w", err))
	}
	for _, s := range all.Items {
		if s.Spec.Cluster == op.Spec.Cluster && s.DeletionTimestamp == nil && (s.Spec.Enabled == nil || *s.Spec.Enabled) &&
			in.Lends(v1alpha1.GrantBackupLocation, s.Spec.Location) {
			return &stages.Keep{Name: op.Name, Location: s.Spec.Location}, nil
		}
	}
	return nil, nil
}

// order makes the Backup that an upgrade takes.
func (r *Reconciler) order(ctx context.Context, op *v1alpha1.Operation) error {
	if op.Spec.Verb != v1alpha1.VerbUpgrade {
		return nil
	}
	var in stages.Input
	var err error
	if in.Grants, err = r.grants(ctx, op.Namespace); err != nil {
		return err
	}
	keep, err := r.keep(ctx, op, &in)
	if err != nil || keep == nil {
		return err
	}
	b := &v1alpha1.Backup{ObjectMeta: metav1.ObjectMeta{Namespace: op.Namespace, Name: keep.Name},
		Spec: v1alpha1.BackupSpec{Cluster: op.Spec.Cluster, Location: keep.Location, Description: "before " + op.Status.Plan.Summary}}
	const most = 1024
	b.Spec.Description = b.Spec.Description[:min(len(b.Spec.Description), most)]
	if err := r.Client.Create(ctx, b); err != nil && !apierrors.IsAlreadyExists(err) {
		return fault.NewTransient("APIUnreachable", fmt.Errorf("cannot make backup %s: %w", b.Name, err))
	}
	return nil
}
