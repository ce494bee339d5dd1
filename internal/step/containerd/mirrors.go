package containerd

import (
	"context"
	"fmt"
	"strings"

	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// Mirrors says where images of some registries are looked for: first at the server, then at mirrors, then at the registry
// itself. containerd reads these files for each image, so nothing restarts.
type Mirrors struct {
	Registries []Registry `json:"registries,omitempty"`
	// Gone are registries that have no mirrors any more.
	Gone []string `json:"gone,omitempty"`
	// Token lets the host read bundles.
	Token step.SecretRef `json:"token"`
}

// Registry names the mirrors of one registry.
type Registry struct {
	// Name is HOST or HOST:PORT as in the names of images.
	Name string `json:"name"`
	// Endpoints are URLs, asked in this order.
	Endpoints []string `json:"endpoints"`
}

// ID is stored in plans.
func (Mirrors) ID() step.ID { return "containerd.mirrors/v1" }

// Needs tells what must be there: the server's authority is among it.
func (Mirrors) Needs() []step.Output { return []step.Output{step.Runtime} }

func registryDir(name string) string { return hostsDir + "/" + name }

func (m Mirrors) files(ctx context.Context, secrets step.Secrets, t step.Target) ([]placed, error) {
	token, err := secrets.Secret(ctx, m.Token)
	if err != nil {
		return nil, fmt.Errorf("cannot read the registry token: %w", err)
	}
	var files []placed
	for _, r := range m.Registries {
		text := mirror(t.Platform, string(token))
		for _, endpoint := range r.Endpoints {
			if endpoint == "https://"+t.Platform {
				continue // A host that is named twice makes the file one that containerd does not read.
			}
			text += strings.Join([]string{"[host." + quoted(endpoint) + "]", `capabilities = ["pull", "resolve"]`, ""}, "\n")
		}
		files = append(files, placed{registryDir(r.Name) + "/hosts.toml", host.File{Content: []byte(text), Mode: 0o600}})
	}
	return files, nil
}

// mirror names the server as the first place to look for any image.
func mirror(platform, token string) string {
	url := quoted("https://" + platform)
	return strings.Join([]string{
		"[host." + url + "]",
		`capabilities = ["pull", "resolve"]`,
		"ca = " + quoted(mirrorCA),
		"[host." + url + ".header]",
		"Authorization = " + quoted("Bearer "+token),
		"",
	}, "\n")
}

// Check compares the files, and looks for those of registries that are gone.
func (m Mirrors) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	files, err := m.files(ctx, r.Secrets, r.Target)
	if err != nil {
		return nil, err
	}
	var drift step.Drift
	for _, f := range files {
		if err := drift.WantFile(ctx, r, f.path, f.file); err != nil {
			return nil, err
		}
	}
	if len(m.Gone) == 0 {
		return drift, nil
	}
	info, err := r.Stat(ctx, m.gone()...)
	if err != nil {
		return nil, fmt.Errorf("cannot look for the mirrors of registries: %w", err)
	}
	for _, i := range info {
		if i.Exists {
			drift.Want(i.Path, "present", "absent")
		}
	}
	return drift, nil
}

func (m Mirrors) gone() []string {
	var paths []string
	for _, name := range m.Gone {
		paths = append(paths, registryDir(name))
	}
	return paths
}

// Apply writes the files and removes those of registries that are gone.
func (m Mirrors) Apply(ctx context.Context, w step.Writer) error {
	files, err := m.files(ctx, w.Secrets, w.Target)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := w.WriteFile(ctx, f.path, f.file); err != nil {
			return fmt.Errorf("cannot write %s: %w", f.path, err)
		}
	}
	if len(m.Gone) == 0 {
		return nil
	}
	if err := w.Remove(ctx, m.gone()...); err != nil {
		return fmt.Errorf("cannot remove the mirrors of registries: %w", err)
	}
	return nil
}
