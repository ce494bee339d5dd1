package bundle

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Export writes a bundle as a tar of the part of the OCI layout that belongs to it. The same bundle always gives the
// same bytes. The progress may be nil. Blobs are checked as they are read: a damaged one ends the export.
func (s *Store) Export(ctx context.Context, name string, w io.Writer, progress Progress) error {
	if err := s.export(ctx, name, w, progress); err != nil {
		return fmt.Errorf("cannot export bundle %s: %w", name, err)
	}
	return nil
}

func (s *Store) export(ctx context.Context, name string, w io.Writer, progress Progress) error {
	root, err := s.resolve(ctx, name)
	if err != nil {
		return err
	}
	t, err := s.readTree(ctx, root)
	if err != nil {
		return err
	}
	index := emptyIndex()
	index.Manifests = append(index.Manifests, root)
	archive := tar.NewWriter(w)
	documents := map[string]any{
		layoutFile: ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion},
		indexFile:  index,
	}
	for _, file := range sortedKeys(documents) {
		content, err := json.Marshal(documents[file])
		if err != nil {
			return err
		}
		if err := writeEntry(archive, file, int64(len(content)), strings.NewReader(string(content))); err != nil {
			return err
		}
	}
	refs := t.blobs()
	var total, done int64
	for _, ref := range refs {
		total += ref.size
	}
	for _, ref := range refs {
		if progress != nil {
			progress(done, total, ref.subject)
		}
		if err := s.exportBlob(ctx, archive, ref); err != nil {
			return fmt.Errorf("cannot read %s, blob %s: %w", ref.subject, ref.digest, err)
		}
		done += ref.size
	}
	return archive.Close()
}

func (s *Store) exportBlob(ctx context.Context, archive *tar.Writer, ref blobRef) error {
	file, info, err := s.openBlob(ctx, ref.digest)
	if err != nil {
		return err
	}
	if info.Size() != ref.size {
		return errors.Join(fmt.Errorf("it has %d bytes instead of %d", info.Size(), ref.size), file.Close())
	}
	hash := digest.SHA256.Digester()
	name := path.Join(blobsDir, string(digest.SHA256), ref.digest.Encoded())
	err = writeEntry(archive, name, ref.size, io.TeeReader(&contextReader{ctx, file}, hash.Hash()))
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	if found := hash.Digest(); found != ref.digest {
		return fmt.Errorf("its content is corrupt and has the digest %s", found)
	}
	return nil
}

func writeEntry(archive *tar.Writer, name string, size int64, content io.Reader) error {
	header := &tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0).UTC(), Format: tar.FormatPAX,
	}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.Copy(archive, content)
	return err
}

// Import reads a tar that Export wrote and gives the names of the bundles in it. Each becomes visible only when all
// its blobs are stored and verified; an import cut off anywhere changes nothing that readers see. The progress may be
// nil.
func (s *Store) Import(ctx context.Context, r io.Reader, progress Progress) (names []string, err error) {
	w, err := s.Writer(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	index, err := w.readArchive(ctx, tar.NewReader(r), progress)
	if err != nil {
		return nil, fmt.Errorf("cannot import bundle: %w", err)
	}
	for _, d := range index.Manifests {
		name := d.Annotations[ocispec.AnnotationRefName]
		if err := w.Commit(ctx, name, d, progress); err != nil {
			return names, err
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("cannot import bundle: the archive holds none; give a file that `slipway bundle export` wrote")
	}
	return names, nil
}

// readArchive stores the blobs of an archive and gives its index. Nothing else than a layout's files is accepted.
func (w *Writer) readArchive(ctx context.Context, archive *tar.Reader, progress Progress) (*ocispec.Index, error) {
	var index ocispec.Index
	var done int64
	blobs := path.Join(blobsDir, string(digest.SHA256)) + "/"
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return &index, nil
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the archive: %w", err)
		}
		encoded, isBlob := strings.CutPrefix(header.Name, blobs)
		switch {
		case header.Typeflag == tar.TypeDir, header.Name == layoutFile:
		case header.Typeflag != tar.TypeReg:
			return nil, fmt.Errorf("cannot accept %q: it is no regular file", header.Name)
		case header.Name == indexFile:
			content, err := io.ReadAll(io.LimitReader(archive, maxDocument))
			if err != nil {
				return nil, fmt.Errorf("cannot read the archive: %w", err)
			}
			if err := json.Unmarshal(content, &index); err != nil {
				return nil, fmt.Errorf("cannot read %s of the archive: %w", indexFile, err)
			}
		case isBlob:
			d := digest.NewDigestFromEncoded(digest.SHA256, encoded)
			if err := d.Validate(); err != nil {
				return nil, fmt.Errorf("cannot accept %q: %w", header.Name, err)
			}
			if progress != nil {
				progress(done, 0, "blob "+d.String())
			}
			size, err := w.PutBlobAs(ctx, d, archive)
			if err != nil {
				return nil, err
			}
			done += size
		default:
			return nil, fmt.Errorf("cannot accept %q: it belongs to no OCI image layout", header.Name)
		}
	}
}
