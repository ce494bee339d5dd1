package containerd

import (
	"context"
	"fmt"

	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// UnpinImages lets go of images that no bundle of the cluster names any more: the kubelet's clean-up removes them when it
// needs the room. What somebody else has pinned is not named and stays.
type UnpinImages struct {
	// Names are full image names.
	Names []string `json:"names"`
}

// ID is stored in plans.
func (UnpinImages) ID() step.ID { return "containerd.unpin-images/v1" }

// Needs tells what must be there.
func (UnpinImages) Needs() []step.Output { return []step.Output{step.Runtime} }

// Check lists those that are pinned.
func (u UnpinImages) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	have, err := host.QueryImages(ctx, r, Client, Socket)
	if err != nil {
		return nil, err
	}
	var drift step.Drift
	for _, name := range u.Names {
		drift.Want("image "+name+" "+pinLabel, have[name].Labels[pinLabel], "")
	}
	return drift, nil
}

// Apply takes the label off each. An image that is gone meanwhile needs nothing.
func (u UnpinImages) Apply(ctx context.Context, w step.Writer) error {
	have, err := host.QueryImages(ctx, w, Client, Socket)
	if err != nil {
		return err
	}
	for _, name := range u.Names {
		if have[name].Labels[pinLabel] == "" {
			continue
		}
		if _, err := w.Run(ctx, host.Command{Argv: ctr("images", "label", name, pinLabel+"=")}); err != nil {
			return fmt.Errorf("cannot unpin image %s: %w", name, err)
		}
	}
	return nil
}
