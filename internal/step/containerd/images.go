package containerd

import (
	"context"
	"fmt"
	"slices"

	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// Image is one image that a node must always have.
type Image struct {
	// Name is the normal name, such as registry.k8s.io/pause:3.10.
	Name string `json:"name"`
	// Digest is that of the image's manifest.
	Digest string `json:"digest"`
	// Architecture is the one it is for; other hosts leave it out.
	Architecture string `json:"architecture"`
}

// PinImages fetches images and pins them: the kubelet's clean-up never removes them,
// so a node comes back after a reboot without the server.
type PinImages struct {
	Images []Image `json:"images"`
}

// ID is stored in plans.
func (PinImages) ID() step.ID { return "containerd.pin-images/v1" }

// Needs tells what must be there.
func (PinImages) Needs() []step.Output { return []step.Output{step.Runtime} }

// pinLabel is the label by which the kubelet is told to keep an image.
const pinLabel = "io.cri-containerd.pinned"

func (p PinImages) of(t step.Target) []Image {
	return slices.DeleteFunc(slices.Clone(p.Images), func(i Image) bool { return i.Architecture != t.Architecture })
}

// Check lists what the runtime holds.
func (p PinImages) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	have, err := host.QueryImages(ctx, r, Client, Socket)
	if err != nil {
		return nil, err
	}
	var drift step.Drift
	for _, i := range p.of(r.Target) {
		found := have[i.Name]
		drift.Want("image "+i.Name, found.Digest, i.Digest)
		if found.Digest == i.Digest {
			drift.Want("image "+i.Name+" "+pinLabel, found.Labels[pinLabel], "pinned")
		}
	}
	return drift, nil
}

// Apply pulls each missing image from the server's registry, by its normal name, and pins all.
func (p PinImages) Apply(ctx context.Context, w step.Writer) error {
	have, err := host.QueryImages(ctx, w, Client, Socket)
	if err != nil {
		return err
	}
	for _, i := range p.of(w.Target) {
		if have[i.Name].Digest != i.Digest {
			if err := pull(ctx, w, i); err != nil {
				return err
			}
		}
		if _, err := w.Run(ctx, ctr("images", "label", i.Name, pinLabel+"=pinned")); err != nil {
			return fmt.Errorf("cannot pin image %s: %w", i.Name, err)
		}
	}
	return nil
}

func pull(ctx context.Context, w step.Writer, i Image) error {
	if _, err := w.Run(ctx, ctr("images", "pull", "--local", "--hosts-dir", hostsDir, i.Name)); err != nil {
		return fmt.Errorf("cannot pull image %s from the server: %w", i.Name, err)
	}
	return nil
}

func ctr(arguments ...string) host.Command {
	argv := append([]string{Client, "--address", Socket, "--namespace", "k8s.io"}, arguments...)
	return host.Command{Argv: argv}
}
