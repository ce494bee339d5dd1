package bundle

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// tree is a bundle read down to its descriptors: everything but layer and file contents.
type tree struct {
	root     ocispec.Descriptor
	images   []imageNode
	files    []filesNode
	manifest *Manifest
}

// imageNode is one container image as the bundle's index describes it.
type imageNode struct {
	descriptor ocispec.Descriptor
	manifest   ocispec.Manifest
}

// filesNode is the node files artifact of one architecture.
type filesNode struct {
	descriptor ocispec.Descriptor
	manifest   ocispec.Manifest
}

// readTree reads the documents of the bundle that root describes. Each is checked against its digest.
func (s *Store) readTree(ctx context.Context, root ocispec.Descriptor) (*tree, error) {
	var index ocispec.Index
	if _, err := s.readDocument(ctx, root.Digest, &index); err != nil {
		return nil, fmt.Errorf("cannot read its index, blob %s: %w", root.Digest, err)
	}
	if index.ArtifactType != ArtifactTypeBundle {
		return nil, fmt.Errorf("its index is of type %q, not %s", index.ArtifactType, ArtifactTypeBundle)
	}
	t := &tree{root: root}
	for _, d := range index.Manifests {
		var m ocispec.Manifest
		if _, err := s.readDocument(ctx, d.Digest, &m); err != nil {
			return nil, fmt.Errorf("cannot read the manifest of %s, blob %s: %w", subject(d), d.Digest, err)
		}
		switch {
		case d.ArtifactType == ArtifactTypeFiles:
			t.files = append(t.files, filesNode{d, m})
		case d.Annotations[AnnotationImage] != "":
			t.images = append(t.images, imageNode{d, m})
		default:
			return nil, fmt.Errorf("its index lists %s, which is neither an image nor node files", d.Digest)
		}
	}
	if len(t.files) == 0 {
		return nil, fmt.Errorf("its index lists no node files")
	}
	config := t.files[0].manifest.Config
	for _, f := range t.files {
		if f.manifest.Config.Digest != config.Digest {
			return nil, fmt.Errorf("its architectures have different bundle manifests, %s and %s", config.Digest, f.manifest.Config.Digest)
		}
	}
	t.manifest = &Manifest{}
	if _, err := s.readDocument(ctx, config.Digest, t.manifest); err != nil {
		return nil, fmt.Errorf("cannot read the bundle manifest, blob %s: %w", config.Digest, err)
	}
	if err := t.manifest.Validate(); err != nil {
		return nil, fmt.Errorf("cannot use the bundle manifest, blob %s: %w", config.Digest, err)
	}
	return t, nil
}

// subject names what a descriptor of a bundle's index is, for people.
func subject(d ocispec.Descriptor) string {
	if image := d.Annotations[AnnotationImage]; image != "" {
		return "image " + image
	}
	if d.ArtifactType == ArtifactTypeFiles && d.Platform != nil {
		return "node files for " + d.Platform.Architecture
	}
	return "entry " + d.Digest.String()
}

// blobRef is one blob of a bundle and what it is for.
type blobRef struct {
	digest  digest.Digest
	size    int64
	subject string
}

// blobs lists every blob of the bundle once, documents first.
func (t *tree) blobs() []blobRef {
	var refs []blobRef
	seen := map[digest.Digest]bool{}
	add := func(d ocispec.Descriptor, subject string) {
		if !seen[d.Digest] {
			seen[d.Digest] = true
			refs = append(refs, blobRef{d.Digest, d.Size, subject})
		}
	}
	add(t.root, "bundle index")
	for _, f := range t.files {
		add(f.descriptor, subject(f.descriptor))
		add(f.manifest.Config, "bundle manifest")
	}
	for _, i := range t.images {
		add(i.descriptor, subject(i.descriptor))
		add(i.manifest.Config, subject(i.descriptor)+", config")
	}
	for _, f := range t.files {
		for _, layer := range f.manifest.Layers {
			architecture := ""
			if f.descriptor.Platform != nil {
				architecture = f.descriptor.Platform.Architecture
			}
			add(layer, fmt.Sprintf("node file %s for %s", layer.Annotations[AnnotationName], architecture))
		}
	}
	for _, i := range t.images {
		for n, layer := range i.manifest.Layers {
			add(layer, fmt.Sprintf("%s, layer %d", subject(i.descriptor), n+1))
		}
	}
	return refs
}
