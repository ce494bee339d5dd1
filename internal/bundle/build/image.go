package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"slipway.dev/slipway/internal/bundle"
)

// imageLayers are the layers of one image, lowest first.
type imageLayers []*part

// layers packs the layers of one image or takes them from the cache.
func (b *builder) layers(ctx context.Context, image bundle.ImageRecipe, p *pack, architecture string) (imageLayers, error) {
	var layers imageLayers
	if image.Base != "" {
		base, err := b.baseLayer(ctx, image.Base, architecture)
		if err != nil {
			return nil, err
		}
		layers = append(layers, base)
	}
	key := struct {
		Format   int
		Epoch    string
		Base     bool
		Programs map[string]digest.Digest
	}{formatVersion, b.Release.Epoch.UTC().String(), image.Base != "", map[string]digest.Digest{}}
	tree := newFileTree()
	if image.Base == "" {
		tree.skeleton()
	}
	for target, name := range image.Programs {
		built := p.programs[name]
		key.Programs[target] = built.digest
		tree.program(target, built)
	}
	programs, err := b.part(ctx, "image "+image.Role+" "+architecture, "layer-"+image.Role, key,
		func(ctx context.Context, _, out string) error { return writeLayer(ctx, out, tree, b.Release.Epoch) })
	if err != nil {
		return nil, err
	}
	return append(layers, programs), nil
}

// checkImageList asks the kubeadm just built which images it will run, and refuses a recipe that lacks one. Tags may
// differ: kubeadm is told the tags really built.
func (b *builder) checkImageList(ctx context.Context, p *pack, architecture string) error {
	kubeadm, ok := p.programs["kubernetes/kubeadm"]
	if !ok || architecture != b.hostArch {
		return nil
	}
	out, err := b.tools.output(ctx, command{
		argv: []string{kubeadm.path, "config", "images", "list", "--kubernetes-version", b.Release.Kubernetes},
	})
	if err != nil {
		return fmt.Errorf("cannot ask kubeadm for its images: %w", err)
	}
	have := map[string]bool{}
	for _, image := range b.Release.Images {
		have[bundle.Image{Name: image.Name}.Repository()] = true
	}
	for _, name := range strings.Fields(string(out)) {
		if !have[bundle.Image{Name: name}.Repository()] {
			return fmt.Errorf("kubeadm %s needs the image %s and the recipe makes none; add it to the recipe",
				b.Release.Kubernetes, name)
		}
	}
	return nil
}

// assemble puts everything into the store and makes the bundle visible when it verifies.
func (b *builder) assemble(ctx context.Context, manifest *bundle.Manifest, packs map[string]*pack) (err error) {
	const title = "store"
	started := time.Now()
	b.Progress(Event{Part: title, State: Started, Detail: b.Store.Dir()})
	w, err := b.Store.Writer(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	a := &assembly{builder: b, w: w, manifest: manifest}
	for _, architecture := range b.Architectures {
		for n, image := range b.Release.Images {
			if err := a.image(ctx, image, packs[architecture].layers[n], architecture); err != nil {
				return fmt.Errorf("cannot store image %s: %w", image.Name, err)
			}
		}
	}
	artifacts := map[string][]ocispec.Descriptor{}
	for _, architecture := range b.Architectures {
		for _, file := range b.Release.Files {
			d, err := a.file(ctx, file, packs[architecture].programs[file.Program], architecture)
			if err != nil {
				return fmt.Errorf("cannot store node file %s: %w", file.Program, err)
			}
			artifacts[architecture] = append(artifacts[architecture], d)
		}
	}
	root, err := a.finish(ctx, artifacts)
	if err != nil {
		return err
	}
	b.Progress(Event{Part: title, State: Working, Elapsed: time.Since(started), Detail: "verifying every blob"})
	if err := w.Commit(ctx, manifest.Name, root, nil); err != nil {
		return err
	}
	b.Progress(Event{Part: title, State: Done, Elapsed: time.Since(started), Detail: root.Digest.String()})
	return nil
}

// assembly is a bundle on its way into a store.
type assembly struct {
	*builder
	w        *bundle.Writer
	manifest *bundle.Manifest
	images   []ocispec.Descriptor
}

// blob copies a file of the cache into the store unless it is there undamaged.
func (a *assembly) blob(ctx context.Context, path string, want digest.Digest, size int64) error {
	ok, err := a.w.HasBlob(ctx, want, size)
	if ok || err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = a.w.PutBlobAs(ctx, want, file)
	return errors.Join(err, file.Close())
}

func (a *assembly) image(ctx context.Context, recipe bundle.ImageRecipe, layers imageLayers, architecture string) error {
	platform := ocispec.Platform{OS: "linux", Architecture: architecture}
	created := a.Release.Epoch.UTC()
	config := ocispec.Image{
		Created: &created, Platform: platform, RootFS: ocispec.RootFS{Type: "layers"},
		Config: ocispec.ImageConfig{
			Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			Entrypoint: recipe.Entrypoint, User: recipe.User, WorkingDir: "/",
			Labels: map[string]string{ocispec.AnnotationTitle: recipe.Role},
		},
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	var size int64
	for _, layer := range layers {
		info := layer.Files[layerFile]
		if err := a.blob(ctx, layer.path(layerFile), info.Digest, info.Size); err != nil {
			return err
		}
		m.Layers = append(m.Layers, ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageLayerZstd, Digest: info.Digest, Size: info.Size,
		})
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.Digest(layer.Notes[noteDiffID]))
		size += info.Size
	}
	var err error
	if m.Config, err = a.w.PutJSON(ctx, ocispec.MediaTypeImageConfig, config); err != nil {
		return err
	}
	d, err := a.w.PutJSON(ctx, ocispec.MediaTypeImageManifest, m)
	if err != nil {
		return err
	}
	d.Platform = &platform
	d.Annotations = map[string]string{bundle.AnnotationImage: recipe.Name}
	a.images = append(a.images, d)
	a.manifest.Images = append(a.manifest.Images, bundle.Image{
		Name: recipe.Name, Role: recipe.Role, NodeRole: recipe.NodeRole, Architecture: architecture,
		Digest: d.Digest, Size: size + m.Config.Size + d.Size,
	})
	return nil
}

// fileMode is the permission of every node file: they all are programs.
const fileMode = 0o755

func (a *assembly) file(ctx context.Context, recipe bundle.FileRecipe, p program, architecture string) (ocispec.Descriptor, error) {
	component, name, _ := strings.Cut(recipe.Program, "/")
	if err := a.blob(ctx, p.path, p.digest, p.size); err != nil {
		return ocispec.Descriptor{}, err
	}
	a.manifest.Files = append(a.manifest.Files, bundle.File{
		Name: name, Component: component, NodeRole: recipe.NodeRole, Architecture: architecture,
		Digest: p.digest, Size: p.size, Mode: fileMode,
	})
	return ocispec.Descriptor{
		MediaType: bundle.MediaTypeFile, Digest: p.digest, Size: p.size,
		Annotations: map[string]string{
			bundle.AnnotationName: name, bundle.AnnotationComponent: component,
			bundle.AnnotationMode:    fmt.Sprintf("%04o", fileMode),
			bundle.AnnotationVersion: a.Release.Components[component].Version,
			ocispec.AnnotationTitle:  name,
		},
	}, nil
}

// finish stores the bundle manifest, the files artifact of each architecture and the bundle's index.
func (a *assembly) finish(ctx context.Context, artifacts map[string][]ocispec.Descriptor) (ocispec.Descriptor, error) {
	config, err := a.w.PutJSON(ctx, bundle.MediaTypeManifest, a.manifest)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	index := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		ArtifactType: bundle.ArtifactTypeBundle, Manifests: a.images,
	}
	for _, architecture := range a.Architectures {
		d, err := a.w.PutJSON(ctx, ocispec.MediaTypeImageManifest, ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
			ArtifactType: bundle.ArtifactTypeFiles, Config: config, Layers: artifacts[architecture],
		})
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		d.ArtifactType = bundle.ArtifactTypeFiles
		d.Platform = &ocispec.Platform{OS: "linux", Architecture: architecture}
		index.Manifests = append(index.Manifests, d)
	}
	return a.w.PutJSON(ctx, ocispec.MediaTypeImageIndex, index)
}
