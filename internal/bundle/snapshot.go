package bundle

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// defaultRegistry completes image names that come without one, as kubeadm's images do.
const defaultRegistry = "registry.k8s.io"

// snapshot is what index.json held at one moment, arranged for lookups. It is never changed once built.
type snapshot struct {
	file os.FileInfo
	// tags gives the manifest of a repository and tag.
	tags map[string]map[string]ocispec.Descriptor
	// manifests gives every manifest and index by digest; made holds those that are in no file.
	manifests map[digest.Digest]ocispec.Descriptor
	made      map[digest.Digest][]byte
}

// current gives the snapshot of index.json as it is now, reading it again only when it was replaced.
func (s *Store) current(ctx context.Context) (*snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := os.Stat(filepath.Join(s.dir, indexFile))
	if err != nil {
		return nil, fmt.Errorf("cannot read bundle store %s: %w", s.dir, err)
	}
	// Every write makes a new file, so the same file is the same content.
	if old := s.snapshot; old != nil && os.SameFile(old.file, info) && old.file.ModTime().Equal(info.ModTime()) {
		return old, nil
	}
	next, err := s.readSnapshot(ctx, info)
	if err != nil {
		return nil, fmt.Errorf("cannot read bundle store %s: %w", s.dir, err)
	}
	s.snapshot = next
	return next, nil
}

func (s *Store) readSnapshot(ctx context.Context, info os.FileInfo) (*snapshot, error) {
	index, err := s.index(ctx)
	if err != nil {
		return nil, err
	}
	next := &snapshot{
		file: info, tags: map[string]map[string]ocispec.Descriptor{},
		manifests: map[digest.Digest]ocispec.Descriptor{}, made: map[digest.Digest][]byte{},
	}
	images := map[string][]ocispec.Descriptor{}
	for _, root := range index.Manifests {
		next.add(Repository, root.Annotations[ocispec.AnnotationRefName], root)
		var bundle ocispec.Index
		if _, err := s.readDocument(ctx, root.Digest, &bundle); err != nil {
			// A damaged bundle must not take the others with it; Verify names it.
			continue
		}
		for _, d := range bundle.Manifests {
			next.manifests[d.Digest] = d
			if name := d.Annotations[AnnotationImage]; name != "" {
				images[name] = withPlatform(images[name], d)
			}
		}
	}
	for name, found := range images {
		if err := next.addImage(name, found); err != nil {
			return nil, err
		}
	}
	return next, nil
}

// withPlatform keeps one image for each platform: the last bundle by name has the final say over a shared name.
func withPlatform(images []ocispec.Descriptor, next ocispec.Descriptor) []ocispec.Descriptor {
	for n, d := range images {
		if architectureOf(d) == architectureOf(next) {
			images[n] = next
			return images
		}
	}
	return append(images, next)
}

func (n *snapshot) add(repository, tag string, d ocispec.Descriptor) {
	if n.tags[repository] == nil {
		n.tags[repository] = map[string]ocispec.Descriptor{}
	}
	n.tags[repository][tag] = d
	n.manifests[d.Digest] = d
}

// addImage makes a name point to its image, or to an index over them when there is one for several platforms.
func (n *snapshot) addImage(name string, images []ocispec.Descriptor) error {
	repository, tag := splitTag(name)
	if len(images) == 1 {
		n.add(repository, tag, images[0])
		return nil
	}
	sort.Slice(images, func(i, j int) bool { return architectureOf(images[i]) < architectureOf(images[j]) })
	index := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: images,
	}
	content, err := json.Marshal(index)
	if err != nil {
		return fmt.Errorf("cannot encode the index of %s: %w", name, err)
	}
	d := ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromBytes(content), Size: int64(len(content)),
	}
	n.made[d.Digest] = content
	n.add(repository, tag, d)
	return nil
}

// repositories gives the repository names a request can mean. containerd asks a mirror for the path without the
// registry and names that in the query (ns); other clients write the whole name into the path.
func repositories(namespace, path string) []string {
	if namespace != "" {
		return []string{namespace + "/" + path}
	}
	return []string{path, defaultRegistry + "/" + path}
}

// find gives the tags of the first repository that exists.
func (n *snapshot) find(namespace, path string) (map[string]ocispec.Descriptor, bool) {
	for _, repository := range repositories(namespace, path) {
		if tags, ok := n.tags[repository]; ok {
			return tags, true
		}
	}
	return nil, false
}

// resolve gives the descriptor of a tag or digest; ErrNotFound when there is none.
func (n *snapshot) resolve(namespace, path, reference string) (ocispec.Descriptor, error) {
	if strings.Contains(reference, ":") {
		if d, ok := n.manifests[digest.Digest(reference)]; ok {
			return d, nil
		}
		return ocispec.Descriptor{}, ErrNotFound
	}
	tags, _ := n.find(namespace, path)
	if d, ok := tags[reference]; ok {
		return d, nil
	}
	return ocispec.Descriptor{}, ErrNotFound
}
