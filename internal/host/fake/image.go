package fake

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"slipway.dev/slipway/internal/host"
)

// ImportImages takes the images of an OCI archive in, as `ctr images import` does: each under its name, with labels. Like
// the real one it refuses an archive that lacks a blob, or has one with another digest, and then takes nothing.
func (s *State) ImportImages(archive []byte, labels map[string]string) error {
	files := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("unexpected end of archive: %w", err)
		}
		if files[header.Name], err = io.ReadAll(r); err != nil {
			return fmt.Errorf("unexpected end of archive: %w", err)
		}
	}
	var index ocispec.Index
	if err := json.Unmarshal(files[ocispec.ImageIndexFile], &index); err != nil {
		return fmt.Errorf("unrecognized image format: %w", err)
	}
	found := map[string]host.Image{}
	for _, d := range index.Manifests {
		content, err := blobOf(files, d.Digest)
		if err != nil {
			return err
		}
		var manifest ocispec.Manifest
		if err := json.Unmarshal(content, &manifest); err != nil {
			return err
		}
		for _, part := range append([]ocispec.Descriptor{manifest.Config}, manifest.Layers...) {
			if _, err := blobOf(files, part.Digest); err != nil {
				return err
			}
		}
		found[d.Annotations["io.containerd.image.name"]] = host.Image{Digest: d.Digest.String(), Labels: labels}
	}
	maps.Copy(s.Images, found)
	return nil
}

func blobOf(files map[string][]byte, d digest.Digest) ([]byte, error) {
	content, ok := files[path.Join(ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())]
	if !ok {
		return nil, fmt.Errorf("blob %s: not found", d)
	}
	if digest.FromBytes(content) != d {
		return nil, fmt.Errorf("blob %s: unexpected commit digest", d)
	}
	return content, nil
}
