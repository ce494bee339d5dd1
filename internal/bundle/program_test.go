package bundle_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"slipway.dev/slipway/internal/bundle"
)

// layer packs files and gives what a store needs to know of it.
func layer(t *testing.T, mediaType string, files ...string) (string, []byte) {
	t.Helper()
	var packed bytes.Buffer
	var out io.WriteCloser
	switch {
	case strings.HasSuffix(mediaType, "zstd"):
		w, err := zstd.NewWriter(&packed)
		if err != nil {
			t.Fatal(err)
		}
		out = w
	default:
		out = gzip.NewWriter(&packed)
	}
	archive := tar.NewWriter(out)
	for _, f := range files {
		name, content, _ := strings.Cut(f, "=")
		if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(archive, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(archive.Close(), out.Close()); err != nil {
		t.Fatal(err)
	}
	return mediaType, packed.Bytes()
}

func TestImageProgram(t *testing.T) {
	s := open(t)
	w, err := s.Writer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var m ocispec.Manifest
	add := func(mediaType string, content []byte) digest.Digest {
		d, size, err := w.PutBlob(t.Context(), bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: size})
		return d
	}
	add(layer(t, ocispec.MediaTypeImageLayerGzip, "usr/local/bin/etcd=older", "./usr/local/bin/etcdctl=control"))
	last := add(layer(t, ocispec.MediaTypeImageLayerZstd, "etc/passwd=root", "/usr/local/bin/etcd=newer", "usr/local/bin/rest=rest"))
	image, err := w.PutJSON(t.Context(), ocispec.MediaTypeImageManifest, m)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"etcd": "newer", "etcdctl": "control"} {
		var got bytes.Buffer
		if err := s.ImageProgram(t.Context(), image.Digest, name, &got); err != nil || got.String() != want {
			t.Errorf("program %s is %q, want %q: %v", name, &got, want, err)
		}
	}
	if err := s.ImageProgram(t.Context(), image.Digest, "passwd", io.Discard); !errors.Is(err, bundle.ErrNotFound) {
		t.Errorf("a file that is no program gives %v", err)
	}
	// A bit behind the program: who reads only as far would take it.
	path := blobPath(s, last)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)-1] ^= 1
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.ImageProgram(t.Context(), image.Digest, "etcd", io.Discard); err == nil {
		t.Error("a program of a damaged layer is taken")
	}
	if err := s.FileProgram(t.Context(), last, io.Discard); err == nil {
		t.Error("a damaged file is taken")
	}
}
