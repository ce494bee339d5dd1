package containerd

import (
	"context"
	"fmt"
	"io"
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

// PinImages imports images and pins them: the kubelet's clean-up never removes them,
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

// Apply sends the missing images and pins all. They go over SSH, as programs do: the mirror is for what runs later.
func (p PinImages) Apply(ctx context.Context, w step.Writer) error {
	have, err := host.QueryImages(ctx, w, Client, Socket)
	if err != nil {
		return err
	}
	var missing []Image
	for _, i := range p.of(w.Target) {
		found := have[i.Name]
		switch {
		case found.Digest != i.Digest:
			missing = append(missing, i)
		case found.Labels[pinLabel] != "pinned":
			if _, err := w.Run(ctx, host.Command{Argv: ctr("images", "label", i.Name, pinLabel+"=pinned")}); err != nil {
				return fmt.Errorf("cannot pin image %s: %w", i.Name, err)
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	a := archive{blobs: w.Blobs}
	if err := w.RunFed(ctx, ctr("images", "import", "--local", "--label", pinLabel+"=pinned", "-"), func(out io.Writer) error {
		return a.write(ctx, missing, out)
	}); err != nil {
		return fmt.Errorf("cannot import images: %w", err)
	}
	return nil
}

func ctr(arguments ...string) []string {
	return append([]string{Client, "--address", Socket, "--namespace", "k8s.io"}, arguments...)
}
