package containerd

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"slipway.dev/slipway/internal/step"
)

// importName is the annotation by which containerd names an image that it imports.
const importName = "io.containerd.image.name"

// archive writes images as one OCI archive; a blob that several share goes once. The runtime checks every digest.
type archive struct {
	blobs step.Blobs
	tar   *tar.Writer
	sent  map[digest.Digest]bool
}

func (a *archive) write(ctx context.Context, images []Image, out io.Writer) error {
	a.tar, a.sent = tar.NewWriter(out), map[digest.Digest]bool{}
	layout, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return fmt.Errorf("cannot encode the archive's layout: %w", err)
	}
	if err := a.file(ocispec.ImageLayoutFile, int64(len(layout)), strings.NewReader(string(layout))); err != nil {
		return err
	}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, i := range images {
		manifest, size, err := a.image(ctx, digest.Digest(i.Digest))
		if err != nil {
			return fmt.Errorf("cannot send image %s: %w", i.Name, err)
		}
		index.Manifests = append(index.Manifests, ocispec.Descriptor{
			MediaType: manifest.MediaType, Digest: digest.Digest(i.Digest), Size: size, Annotations: map[string]string{importName: i.Name},
		})
	}
	b, err := json.Marshal(index)
	if err != nil {
		return fmt.Errorf("cannot encode the archive's index: %w", err)
	}
	if err := a.file(ocispec.ImageIndexFile, int64(len(b)), strings.NewReader(string(b))); err != nil {
		return err
	}
	return a.tar.Close()
}

// image writes all blobs of one image, and gives its manifest and the manifest's size.
func (a *archive) image(ctx context.Context, d digest.Digest) (ocispec.Manifest, int64, error) {
	content, size, err := a.blobs.Blob(ctx, string(d))
	if err != nil {
		return ocispec.Manifest{}, 0, err
	}
	defer content.Close()
	var manifest ocispec.Manifest
	if err := json.NewDecoder(content).Decode(&manifest); err != nil {
		return ocispec.Manifest{}, 0, fmt.Errorf("cannot read manifest %s: %w", d, err)
	}
	for _, part := range append([]ocispec.Descriptor{{Digest: d}, manifest.Config}, manifest.Layers...) {
		if err := a.blob(ctx, part.Digest); err != nil {
			return ocispec.Manifest{}, 0, err
		}
	}
	return manifest, size, nil
}

func (a *archive) blob(ctx context.Context, d digest.Digest) error {
	if a.sent[d] {
		return nil
	}
	a.sent[d] = true
	content, size, err := a.blobs.Blob(ctx, string(d))
	if err != nil {
		return err
	}
	defer content.Close()
	return a.file(ocispec.ImageBlobsDir+"/"+d.Algorithm().String()+"/"+d.Encoded(), size, content)
}

func (a *archive) file(name string, size int64, content io.Reader) error {
	if err := a.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size}); err != nil {
		return fmt.Errorf("cannot write %s: %w", name, err)
	}
	if _, err := io.Copy(a.tar, content); err != nil {
		return fmt.Errorf("cannot write %s: %w", name, err)
	}
	return nil
}
