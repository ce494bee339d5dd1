package operation

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/plan/stages"
)

// place gives where the backup of an operation is or goes, and which hosts of that place are away; nil where it is none of
// hosts, or is not lent to the project.
func (r *Reconciler) place(ctx context.Context, in *stages.Input) (*stages.Place, error) {
	name := ""
	switch {
	case in.Backup != nil:
		name = in.Backup.Spec.Location
	case in.Keep != nil:
		name = in.Keep.Location
	}
	if name == "" || !in.Lends(v1alpha1.GrantBackupLocation, name) {
		return nil, nil
	}
	var l v1alpha1.BackupLocation
	err := r.Client.Get(ctx, client.ObjectKey{Name: name}, &l)
	if apierrors.IsNotFound(err) {
		return nil, nil // The step that needs it says so.
	}
	if err != nil {
		return nil, fault.NewTransient("APIUnreachable", fmt.Errorf("cannot read backup location %s: %w", name, err))
	}
	if l.Spec.HostDirectory == nil {
		return nil, nil
	}
	p := &stages.Place{Location: name, HostDirectoryLocation: *l.Spec.HostDirectory, Away: map[string]string{}}
	for _, name := range p.Hosts {
		var h v1alpha1.Host
		err := r.Client.Get(ctx, client.ObjectKey{Name: name}, &h)
		if apierrors.IsNotFound(err) {
			p.Away[name] = "there is no host of that name"
			continue
		}
		if err != nil {
			return nil, fault.NewTransient("APIUnreachable", fmt.Errorf("cannot read host %s: %w", name, err))
		}
		if reason := (stages.Input{Hosts: map[string]v1alpha1.Host{name: h}}).Unreachable(name); reason != "" {
			p.Away[name] = reason
		}
	}
	return p, nil
}
