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
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ErrLocked says that another writer holds the store; test for it with errors.Is.
var ErrLocked = errors.New("another process is writing to it; try again when it has ended")

// Writer adds bundles to a store. Blobs become durable one by one; a bundle becomes visible only with Commit, so a
// writer that dies leaves the store as readers saw it. Exactly one Writer exists for a store at any time.
type Writer struct {
	store *Store
	lock  *os.File
}

// Writer takes the exclusive write lock of the store, and clears what a killed writer left half-written.
// When another writer holds the lock it fails at once with ErrLocked. The caller closes the Writer.
func (s *Store) Writer(ctx context.Context) (*Writer, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("cannot write to bundle store %s: %w", s.dir, err)
	}
	lock, err := lockExclusive(filepath.Join(s.dir, lockFile))
	if err != nil {
		return nil, fmt.Errorf("cannot write to bundle store %s: %w", s.dir, err)
	}
	w := &Writer{store: s, lock: lock}
	ingest := filepath.Join(s.dir, ingestDir)
	if err := errors.Join(os.RemoveAll(ingest), os.MkdirAll(ingest, 0o755)); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot clear %s: %w", ingest, err), w.Close())
	}
	return w, nil
}

func lockExclusive(path string) (*os.File, error) {
	lock, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// Close gives the write lock back. What was not committed stays invisible.
func (w *Writer) Close() error {
	if err := w.lock.Close(); err != nil {
		return fmt.Errorf("cannot unlock bundle store %s: %w", w.store.dir, err)
	}
	return nil
}

// PutBlob stores what r gives until its end and returns its digest and size in bytes. A blob that is stored already
// is written anew, which also repairs a damaged one; HasBlob tells whether that can be saved.
func (w *Writer) PutBlob(ctx context.Context, r io.Reader) (digest.Digest, int64, error) {
	d, size, err := w.putBlob(ctx, r, "")
	if err != nil {
		return "", 0, fmt.Errorf("cannot store blob: %w", err)
	}
	return d, size, nil
}

// PutBlobAs is PutBlob for content whose digest is known: other content is refused and not stored.
func (w *Writer) PutBlobAs(ctx context.Context, want digest.Digest, r io.Reader) (int64, error) {
	_, size, err := w.putBlob(ctx, r, want)
	if err != nil {
		return 0, fmt.Errorf("cannot store blob %s: %w", want, err)
	}
	return size, nil
}

func (w *Writer) putBlob(ctx context.Context, r io.Reader, want digest.Digest) (d digest.Digest, size int64, err error) {
	temporary, err := os.CreateTemp(filepath.Join(w.store.dir, ingestDir), "blob-")
	if err != nil {
		return "", 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreMissing(os.Remove(temporary.Name())))
		}
	}()
	hash := digest.SHA256.Digester()
	size, err = io.Copy(io.MultiWriter(temporary, hash.Hash()), &contextReader{ctx, r})
	if err == nil {
		err = errors.Join(temporary.Chmod(0o644), temporary.Sync())
	}
	if err = errors.Join(err, temporary.Close()); err != nil {
		return "", 0, err
	}
	d = hash.Digest()
	if want != "" && want != d {
		return "", 0, fmt.Errorf("its content has the digest %s", d)
	}
	path, err := w.store.blobPath(d)
	if err != nil {
		return "", 0, err
	}
	// The new bytes always win: what was stored under this digest may have been damaged since.
	return d, size, os.Rename(temporary.Name(), path)
}

// HasBlob says whether the store holds the blob undamaged; it reads the whole blob.
func (w *Writer) HasBlob(ctx context.Context, d digest.Digest, size int64) (bool, error) {
	err := w.store.checkBlob(ctx, d, size)
	var damaged *blobError
	if errors.As(err, &damaged) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot check blob %s: %w", d, err)
	}
	return true, nil
}

// PutJSON stores a value as a JSON blob and describes it. Equal values give equal digests.
func (w *Writer) PutJSON(ctx context.Context, mediaType string, value any) (ocispec.Descriptor, error) {
	content, err := json.Marshal(value)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("cannot encode %s: %w", mediaType, err)
	}
	d, size, err := w.PutBlob(ctx, strings.NewReader(string(content)))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: size}, nil
}

// Commit checks every blob of the bundle that root describes, and only then makes it visible under name, replacing
// what had that name before. A bundle that fails the check stays invisible; the error is then a *VerifyError.
func (w *Writer) Commit(ctx context.Context, name string, root ocispec.Descriptor, progress Progress) error {
	if err := w.commit(ctx, name, root, progress); err != nil {
		return fmt.Errorf("cannot add bundle %s: %w", name, err)
	}
	return nil
}

func (w *Writer) commit(ctx context.Context, name string, root ocispec.Descriptor, progress Progress) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("its name must look like v1.36.3: letters, digits, dot, dash and underscore")
	}
	if err := w.store.verify(ctx, name, root, progress); err != nil {
		return err
	}
	index, err := w.store.index(ctx)
	if err != nil {
		return err
	}
	entry := ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageIndex, ArtifactType: ArtifactTypeBundle,
		Digest: root.Digest, Size: root.Size,
		Annotations: map[string]string{ocispec.AnnotationRefName: name},
	}
	kept := []ocispec.Descriptor{entry}
	for _, d := range index.Manifests {
		if d.Annotations[ocispec.AnnotationRefName] != name {
			kept = append(kept, d)
		}
	}
	sort.Slice(kept, func(i, j int) bool {
		return kept[i].Annotations[ocispec.AnnotationRefName] < kept[j].Annotations[ocispec.AnnotationRefName]
	})
	index.Manifests = kept
	if err := syncDir(filepath.Join(w.store.dir, blobsDir, string(digest.SHA256))); err != nil {
		return err
	}
	return writeJSON(filepath.Join(w.store.dir, indexFile), index)
}

// writeJSON replaces a file atomically and durably.
func writeJSON(path string, value any) (err error) {
	content, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("cannot encode %s: %w", path, err)
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreMissing(os.Remove(temporary.Name())))
		}
	}()
	_, err = temporary.Write(content)
	if err = errors.Join(err, temporary.Chmod(0o644), temporary.Sync(), temporary.Close()); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	if err := os.Rename(temporary.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// contextReader ends a long copy when its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
