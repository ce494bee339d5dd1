package kubevip

import (
	"context"
	"fmt"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

// HandOver makes another control plane take the cluster's address before this one's API server goes away for a moment: one
// that stops in order gives the address up at once, while the others wait leaseSeconds for one that falls silent. It leaves
// the host without the static pod: Install comes behind it. A cluster with one control plane must not have it.
type HandOver struct{}

// ID is stored in plans.
func (HandOver) ID() step.ID { return "kubevip.hand-over/v1" }

// Passes says that the address may come back at any time.
func (HandOver) Passes() {}

// Needs tells what must be there.
func (HandOver) Needs() []step.Output { return []step.Output{step.API} }

// Check reads who holds the lease, and whether the pod that holds it here was told to go.
func (HandOver) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	var lease coordinationv1.Lease
	err := r.Cluster.Get(ctx, client.ObjectKey{Namespace: metav1.NamespaceSystem, Name: leaseName}, &lease)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("cannot read who has the cluster's address: %w", err)
	case lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity != r.Target.Name:
		return nil, nil
	}
	found, err := r.Stat(ctx, ManifestPath)
	if err != nil {
		return nil, err
	}
	if !found[0].Exists {
		return nil, fault.NewWaiting("AddressStillHeld", fmt.Errorf("cannot restart the API server on %s yet: no other control plane has the cluster's address", r.Target.Name))
	}
	var drift step.Drift
	drift.Want("the cluster's address", "here", "on another control plane")
	return drift, nil
}

// Apply takes the static pod away where it holds the address.
func (h HandOver) Apply(ctx context.Context, w step.Writer) error {
	drift, err := h.Check(ctx, w.Reading)
	if err != nil || drift.Clean() {
		return err
	}
	return w.Remove(ctx, ManifestPath)
}
