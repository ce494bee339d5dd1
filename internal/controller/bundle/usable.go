package bundle

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/bundle"
)

// Usable gives the manifest of the bundle that a new cluster wants. When the bundle must not be used the manifest
// is nil and problem says why and what to do: there is none, it is disabled, it is damaged or not verified yet,
// or its blobs are not those that were verified. The error is for an API or a store that cannot be read.
func Usable(ctx context.Context, c client.Reader, s Store, name string) (m *bundle.Manifest, problem string, err error) {
	b := &v1alpha1.Bundle{}
	err = c.Get(ctx, client.ObjectKey{Name: name}, b)
	if apierrors.IsNotFound(err) {
		return nil, fmt.Sprintf("there is no bundle %s; build it with slipway bundle build, or import it", name), nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("cannot read Bundle %s: %w", name, err)
	}
	if b.Spec.Enabled != nil && !*b.Spec.Enabled {
		return nil, fmt.Sprintf("bundle %s is disabled; set spec.enabled of the Bundle, or choose another version", name), nil
	}
	if verified := meta.FindStatusCondition(b.Status.Conditions, v1alpha1.BundleVerified); !isVerified(b.Status.Conditions) {
		why := "it was not looked at yet"
		if verified != nil {
			why = verified.Message
		}
		return nil, fmt.Sprintf("bundle %s is not verified: %s", name, why), nil
	}
	return unchanged(ctx, s, b)
}

// unchanged gives the manifest when the store still holds what was verified.
func unchanged(ctx context.Context, s Store, b *v1alpha1.Bundle) (*bundle.Manifest, string, error) {
	entry, held, err := find(ctx, s, b.Name)
	if err != nil {
		return nil, "", err
	}
	if !held {
		return nil, fmt.Sprintf("the bundle store does not hold bundle %s; build or import it again", b.Name), nil
	}
	found, err := walk(ctx, s, entry.Digest)
	if err != nil {
		return nil, "", fmt.Errorf("cannot look at the blobs of bundle %s: %w", b.Name, err)
	}
	if !remembered(b, entry.Digest, found.stamp) {
		return nil, fmt.Sprintf("bundle %s changed since it was verified; it is read again, wait until its condition Verified is True", b.Name), nil
	}
	m, err := s.Get(ctx, b.Name)
	return m, "", err
}
