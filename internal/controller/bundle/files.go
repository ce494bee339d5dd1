package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"slipway.dev/slipway/internal/bundle"
)

// maxDocument bounds a JSON document of a bundle, in bytes.
const maxDocument = 8 << 20

// files is what a look at the blobs of a bundle found, without reading more than its documents.
type files struct {
	// stamp moves when a blob comes, goes, or gets another size or time.
	stamp string
	// bytes is the size of all blobs that are there.
	bytes int64
}

// walk looks at every blob of the bundle whose index has the digest root. Damage moves the stamp and is no error.
func walk(ctx context.Context, s Store, root digest.Digest) (files, error) {
	w := walker{store: s, hash: digest.SHA256.Digester(), seen: map[digest.Digest]bool{}}
	if err := w.visit(ctx, root, 0); err != nil {
		return files{}, err
	}
	return files{stamp: w.hash.Digest().Encoded()[:32], bytes: w.bytes}, nil
}

type walker struct {
	store Store
	hash  digest.Digester
	seen  map[digest.Digest]bool
	bytes int64
}

// visit stamps a blob; the index (depth 0) and manifests (depth 1) are read for what they refer to.
func (w *walker) visit(ctx context.Context, d digest.Digest, depth int) error {
	if w.seen[d] {
		return nil
	}
	w.seen[d] = true
	content, err := w.stamp(ctx, d, depth < 2)
	if err != nil || depth == 2 {
		return err
	}
	var document struct {
		Manifests []ocispec.Descriptor `json:"manifests"`
		Config    *ocispec.Descriptor  `json:"config"`
		Layers    []ocispec.Descriptor `json:"layers"`
	}
	if err := json.Unmarshal(content, &document); err != nil {
		// Verify says what is wrong with it; here it is enough that there is nothing to follow.
		return nil
	}
	next := append(document.Manifests, document.Layers...)
	if document.Config != nil {
		next = append(next, *document.Config)
	}
	for _, child := range next {
		below := 2
		if depth == 0 {
			below = 1
		}
		if err := w.visit(ctx, child.Digest, below); err != nil {
			return err
		}
	}
	return nil
}

// stamp adds one blob to the stamp and gives its content when that is wanted.
func (w *walker) stamp(ctx context.Context, d digest.Digest, read bool) (content []byte, err error) {
	blob, size, err := w.store.Blob(ctx, d)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		_, err = fmt.Fprintf(w.hash.Hash(), "%s missing %t\n", d, errors.Is(err, bundle.ErrNotFound))
		return nil, err
	}
	defer func() { err = errors.Join(err, blob.Close()) }()
	w.bytes += size
	changed := int64(0)
	if file, ok := blob.(fs.File); ok {
		info, err := file.Stat()
		if err != nil {
			return nil, fmt.Errorf("cannot look at blob %s: %w", d, err)
		}
		changed = info.ModTime().UnixNano()
	}
	if _, err := fmt.Fprintf(w.hash.Hash(), "%s %d %d\n", d, size, changed); err != nil {
		return nil, err
	}
	if !read {
		return nil, nil
	}
	return io.ReadAll(io.LimitReader(blob, maxDocument))
}
