package operation

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/util/version"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/plan/stages"
)

// observeBundles finds the usable bundles on the way of an upgrade, of those that are lent to the project.
func (r *Reconciler) observeBundles(ctx context.Context, in *stages.Input) error {
	from, err := version.ParseSemantic(in.Applied.Kubernetes.Version)
	if err != nil {
		return nil // The planner says so.
	}
	to, err := version.ParseSemantic(in.Spec.Kubernetes.Version)
	if err != nil {
		return nil
	}
	for _, attempted := range in.Attempted { // An upgrade that is taken back was further already.
		if v, err := version.ParseSemantic(attempted.Kubernetes.Version); err == nil && to.LessThan(v) {
			to = v
		}
	}
	var all v1alpha1.BundleList
	if err := r.Client.List(ctx, &all); err != nil {
		return fault.NewTransient("APIUnreachable", fmt.Errorf("cannot list bundles: %w", err))
	}
	in.Bundles = map[string]*bundle.Manifest{}
	for _, b := range all.Items {
		v, err := version.ParseSemantic(b.Name)
		if err != nil || v.LessThan(from) || to.LessThan(v) || !in.Lends(v1alpha1.GrantBundle, b.Name) {
			continue
		}
		m, problem, err := r.Bundle(ctx, b.Name)
		if err != nil {
			return err
		}
		if problem == "" && m != nil {
			in.Bundles[b.Name] = m
		}
	}
	return nil
}
