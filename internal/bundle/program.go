package bundle

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// programDir is where images of Kubernetes keep their programs.
const programDir = "usr/local/bin"

// ImageProgram writes the program of that name in the image with that digest to w. Every layer that is read is proven
// against its digest: after an error what was written is worthless. An image without it gives ErrNotFound.
func (s *Store) ImageProgram(ctx context.Context, image digest.Digest, name string, w io.Writer) error {
	var m ocispec.Manifest
	if _, err := s.readDocument(ctx, image, &m); err != nil {
		return fmt.Errorf("cannot read image %s: %w", image, err)
	}
	// The last layer that has it is the one that counts.
	for i := len(m.Layers) - 1; i >= 0; i-- {
		found, err := s.layerProgram(ctx, m.Layers[i], path.Join(programDir, name), w)
		if err != nil {
			return fmt.Errorf("cannot read program %s of image %s: layer %s: %w", name, image, m.Layers[i].Digest, err)
		}
		if found {
			return nil
		}
	}
	return fmt.Errorf("cannot read program %s of image %s: %w", name, image, ErrNotFound)
}

// FileProgram writes the node file with that digest to w, and proves it.
func (s *Store) FileProgram(ctx context.Context, file digest.Digest, w io.Writer) error {
	err := s.proven(ctx, file, func(content io.Reader) error {
		_, err := io.Copy(w, content)
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot read file %s: %w", file, err)
	}
	return nil
}

// proven hands a blob to read, and fails when the blob is not what its digest says.
func (s *Store) proven(ctx context.Context, d digest.Digest, read func(io.Reader) error) (err error) {
	file, _, err := s.openBlob(ctx, d)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	verifier := d.Verifier()
	content := io.TeeReader(&contextReader{ctx, file}, verifier)
	readErr := read(content)
	if _, err := io.Copy(io.Discard, content); err != nil {
		return errors.Join(readErr, err)
	}
	if !verifier.Verified() {
		return errors.Join(readErr, errors.New("its content is not what its digest says"))
	}
	return readErr
}

func (s *Store) layerProgram(ctx context.Context, layer ocispec.Descriptor, name string, w io.Writer) (found bool, err error) {
	err = s.proven(ctx, layer.Digest, func(content io.Reader) error {
		plain, err := decompress(layer.MediaType, content)
		if err != nil {
			return err
		}
		found, err = extract(plain, name, w)
		return errors.Join(err, plain.Close())
	})
	return found, err
}

// extract writes the regular file of that name.
func extract(plain io.Reader, name string, w io.Writer) (bool, error) {
	archive := tar.NewReader(plain)
	for {
		entry, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if entry.Typeflag == tar.TypeReg && path.Clean(strings.TrimPrefix(entry.Name, "/")) == name {
			_, err := io.Copy(w, archive)
			return err == nil, err
		}
	}
}

func decompress(mediaType string, r io.Reader) (io.ReadCloser, error) {
	switch {
	case strings.HasSuffix(mediaType, "+zstd"):
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case strings.HasSuffix(mediaType, "gzip"):
		return gzip.NewReader(r)
	default:
		return io.NopCloser(r), nil
	}
}
