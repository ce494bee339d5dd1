package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"sync"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ErrNotFound says that a store holds no such bundle, image or blob; test for it with errors.Is.
var ErrNotFound = errors.New("not found")

// maxDocument bounds every JSON document that is read whole (index, manifest, config): 8 MiB.
const maxDocument = 8 << 20

const (
	indexFile  = "index.json"
	lockFile   = ".lock"
	ingestDir  = ".ingest"
	blobsDir   = "blobs"
	layoutFile = ocispec.ImageLayoutFile
)

// Store is a directory that holds bundles as one OCI image layout. It is safe for concurrent use, and readers
// need no lock: a writer, this process or another, only adds blobs and then replaces index.json.
type Store struct {
	dir string

	mu       sync.Mutex
	snapshot *snapshot
}

// Entry is one bundle as index.json names it.
type Entry struct {
	// Name is the bundle's name, such as v1.36.3.
	Name string
	// Digest is the digest of the bundle's OCI image index.
	Digest digest.Digest
	// Size is the size in bytes of that index document, not of the bundle.
	Size int64
}

// Open opens the store in dir, and makes an empty one when dir is missing or empty.
// A directory that holds something else than an OCI image layout is refused.
func Open(dir string) (*Store, error) {
	if err := openLayout(dir); err != nil {
		return nil, fmt.Errorf("cannot open bundle store %s: %w", dir, err)
	}
	return &Store{dir: dir}, nil
}

// Dir gives the directory of the store.
func (s *Store) Dir() string { return s.dir }

func openLayout(dir string) error {
	var layout ocispec.ImageLayout
	content, err := os.ReadFile(filepath.Join(dir, layoutFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return createLayout(dir)
	case err != nil:
		return err
	}
	if err := json.Unmarshal(content, &layout); err != nil {
		return fmt.Errorf("cannot read %s: %w", layoutFile, err)
	}
	if layout.Version != ocispec.ImageLayoutVersion {
		return fmt.Errorf("its OCI layout version is %q, this version reads %q", layout.Version, ocispec.ImageLayoutVersion)
	}
	return nil
}

func createLayout(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, blobsDir, string(digest.SHA256)), 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		switch entry.Name() {
		case blobsDir, indexFile, lockFile, ingestDir:
		default:
			return fmt.Errorf("it holds %s and is no OCI image layout; choose an empty directory", entry.Name())
		}
	}
	if _, err := os.Stat(filepath.Join(dir, indexFile)); errors.Is(err, fs.ErrNotExist) {
		if err := writeJSON(filepath.Join(dir, indexFile), emptyIndex()); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	// The layout file comes last: without it a directory is no store yet and Open starts over.
	return writeJSON(filepath.Join(dir, layoutFile), ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
}

func emptyIndex() ocispec.Index {
	return ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{},
	}
}

// List gives the bundles of the store sorted by name. It reads index.json only, so a damaged bundle is listed too.
func (s *Store) List(ctx context.Context) ([]Entry, error) {
	index, err := s.index(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot list bundles in %s: %w", s.dir, err)
	}
	entries := make([]Entry, 0, len(index.Manifests))
	for _, d := range index.Manifests {
		if name := d.Annotations[ocispec.AnnotationRefName]; name != "" {
			entries = append(entries, Entry{Name: name, Digest: d.Digest, Size: d.Size})
		}
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name < entries[j].Name })
	return entries, nil
}

// Get gives the manifest of a bundle. A name the store does not hold gives ErrNotFound.
func (s *Store) Get(ctx context.Context, name string) (*Manifest, error) {
	d, err := s.resolve(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("cannot read bundle %s: %w", name, err)
	}
	t, err := s.readTree(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("cannot read bundle %s: %w", name, err)
	}
	return t.manifest, nil
}

// Blob opens a blob by digest and gives its size in bytes. The caller closes it. The content is not hashed here:
// readers that must not take damaged bytes check the digest as they read. A missing blob gives ErrNotFound.
func (s *Store) Blob(ctx context.Context, d digest.Digest) (io.ReadSeekCloser, int64, error) {
	file, info, err := s.openBlob(ctx, d)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot open blob %s: %w", d, err)
	}
	return file, info.Size(), nil
}

func (s *Store) openBlob(ctx context.Context, d digest.Digest) (*os.File, fs.FileInfo, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	path, err := s.blobPath(d)
	if err != nil {
		return nil, nil, err
	}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, ErrNotFound
	}
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return file, info, nil
}

func (s *Store) blobPath(d digest.Digest) (string, error) {
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("cannot use digest %q: %w", d, err)
	}
	if d.Algorithm() != digest.SHA256 {
		return "", fmt.Errorf("cannot use digest %s: only sha256 is stored", d)
	}
	return filepath.Join(s.dir, blobsDir, string(digest.SHA256), d.Encoded()), nil
}

// readDocument reads one JSON blob whole and checks its digest.
func (s *Store) readDocument(ctx context.Context, d digest.Digest, into any) ([]byte, error) {
	file, info, err := s.openBlob(ctx, d)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxDocument {
		return nil, errors.Join(fmt.Errorf("it has %d bytes, at most %d are allowed", info.Size(), maxDocument), file.Close())
	}
	content, err := io.ReadAll(io.LimitReader(file, maxDocument))
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	if found := digest.FromBytes(content); found != d {
		return nil, fmt.Errorf("its content has the digest %s", found)
	}
	if into == nil {
		return content, nil
	}
	return content, json.Unmarshal(content, into)
}

func (s *Store) index(ctx context.Context) (*ocispec.Index, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	content, err := os.ReadFile(filepath.Join(s.dir, indexFile))
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(content, &index); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", indexFile, err)
	}
	return &index, nil
}

func (s *Store) resolve(ctx context.Context, name string) (ocispec.Descriptor, error) {
	index, err := s.index(ctx)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	for _, d := range index.Manifests {
		if d.Annotations[ocispec.AnnotationRefName] == name {
			return d, nil
		}
	}
	return ocispec.Descriptor{}, ErrNotFound
}
