package bundle_test

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/bundle/bundletest"
)

func open(t *testing.T) *bundle.Store {
	t.Helper()
	s, err := bundle.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func write(t *testing.T, s *bundle.Store, o bundletest.Options) *bundle.Manifest {
	t.Helper()
	m, err := bundletest.Write(t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func blobPath(s *bundle.Store, d digest.Digest) string {
	return filepath.Join(s.Dir(), "blobs", "sha256", d.Encoded())
}

func names(t *testing.T, s *bundle.Store) []string {
	t.Helper()
	entries, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list := []string{}
	for _, e := range entries {
		list = append(list, e.Name)
	}
	return list
}

func TestStoreRoundTrip(t *testing.T) {
	s := open(t)
	want := write(t, s, bundletest.Options{Architectures: []string{"amd64", "arm64"}})
	write(t, s, bundletest.Options{Name: "v1.35.4"})
	if diff := cmp.Diff([]string{"v1.35.4", "v1.36.3"}, names(t, s)); diff != "" {
		t.Errorf("List: both bundles sorted by name (-want +got):\n%s", diff)
	}
	again, err := bundle.Open(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	got, err := again.Get(t.Context(), "v1.36.3")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Get from a store opened again (-want +got):\n%s", diff)
	}
	file, ok := got.File("kubelet", "arm64")
	if !ok {
		t.Fatal("the manifest has no kubelet for arm64")
	}
	blob, size, err := again.Blob(t.Context(), file.Digest)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(blob)
	if err := errors.Join(err, blob.Close()); err != nil {
		t.Fatal(err)
	}
	if size != file.Size || digest.FromBytes(content) != file.Digest {
		t.Errorf("Blob gives %d bytes with digest %s, want %d and %s", size, digest.FromBytes(content), file.Size, file.Digest)
	}
	if _, err := again.Get(t.Context(), "v1.0.0"); !errors.Is(err, bundle.ErrNotFound) {
		t.Errorf("Get of an unknown name: %v, want ErrNotFound", err)
	}
	if _, _, err := again.Blob(t.Context(), "sha256:../../etc/passwd"); err == nil {
		t.Error("Blob accepts a digest that is a path")
	}
}

func TestOpenRefusesForeignDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := bundle.Open(dir); err == nil || !strings.Contains(err.Error(), "notes.txt") {
		t.Errorf("Open: %v, want an error that names notes.txt", err)
	}
}

func TestWriterIsExclusive(t *testing.T) {
	s := open(t)
	first, err := s.Writer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Writer(t.Context()); !errors.Is(err, bundle.ErrLocked) {
		t.Errorf("second writer: %v, want ErrLocked", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := s.Writer(t.Context())
	if err != nil {
		t.Fatalf("writer after the first was closed: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyNamesDamage(t *testing.T) {
	flip := func(t *testing.T, path string) {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		content[len(content)-1] ^= 1
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	image := func(m *bundle.Manifest) digest.Digest { i, _ := m.Image(bundle.RoleEtcd, "amd64"); return i.Digest }
	file := func(m *bundle.Manifest) digest.Digest { f, _ := m.File("kubelet", "amd64"); return f.Digest }
	cases := map[string]struct {
		reason string
		blob   func(m *bundle.Manifest) digest.Digest
		damage func(t *testing.T, path string)
		want   []string
	}{
		"FlippedBitInFile": {
			reason: "one wrong bit in a node file is found and named with its blob",
			blob:   file, damage: flip, want: []string{"node file kubelet", "corrupt", "build or import"},
		},
		"TruncatedFile": {
			reason: "a blob that was cut off is found by its size",
			blob:   file,
			damage: func(t *testing.T, path string) {
				if err := os.Truncate(path, 10); err != nil {
					t.Fatal(err)
				}
			},
			want: []string{"node file kubelet", "10 bytes instead of"},
		},
		"MissingFile": {
			reason: "a blob that is gone is named",
			blob:   file,
			damage: func(t *testing.T, path string) {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			},
			want: []string{"node file kubelet", "missing"},
		},
		"FlippedBitInImageManifest": {
			reason: "a damaged image manifest names the image, not only a digest",
			blob:   image, damage: flip, want: []string{"registry.k8s.io/etcd:3.6.9-0"},
		},
		"MissingImageManifest": {
			reason: "an image whose manifest is gone is named",
			blob:   image,
			damage: func(t *testing.T, path string) {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			},
			want: []string{"registry.k8s.io/etcd:3.6.9-0", "not found"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			m := write(t, s, bundletest.Options{})
			if err := s.Verify(t.Context(), m.Name, nil); err != nil {
				t.Fatalf("before the damage: %v", err)
			}
			d := c.blob(m)
			c.damage(t, blobPath(s, d))
			err := s.Verify(t.Context(), m.Name, nil)
			var found *bundle.VerifyError
			if !errors.As(err, &found) {
				t.Fatalf("%s: got %v, want a VerifyError", c.reason, err)
			}
			for _, want := range append(c.want, d.String()) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%s: %q lacks %q", c.reason, err, want)
				}
			}
			write(t, s, bundletest.Options{})
			if err := s.Verify(t.Context(), m.Name, nil); err != nil {
				t.Errorf("writing the bundle again repairs it, but: %v", err)
			}
		})
	}
}

func TestCommitRefusesWrongBundle(t *testing.T) {
	cases := map[string]struct {
		reason  string
		options bundletest.Options
		want    string
	}{
		"MissingImage": {
			reason:  "a bundle without an image every cluster needs never becomes visible",
			options: bundletest.Options{OmitRoles: []string{bundle.RoleCoreDNS}}, want: "image for coredns",
		},
		"MissingFile": {
			reason:  "a bundle without a file every node needs never becomes visible",
			options: bundletest.Options{OmitFiles: []string{"runc"}}, want: "node file runc",
		},
		"WrongMachine": {
			reason:  "a program for another machine is found by its ELF header",
			options: bundletest.Options{Machine: elf.EM_AARCH64}, want: "EM_AARCH64 but is listed for amd64",
		},
		"WrongConfig": {
			reason:  "an image whose config names another platform would be skipped by containerd",
			options: bundletest.Options{ConfigArchitecture: "arm64"}, want: "its config says linux/arm64",
		},
		"UnknownArchitecture": {
			reason:  "an architecture nobody knows cannot be checked",
			options: bundletest.Options{Architectures: []string{"pdp11"}}, want: "unknown architecture pdp11",
		},
		"BadName": {
			reason:  "a name is also a tag and a file name",
			options: bundletest.Options{Name: "../x"}, want: "its name must look like",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			_, err := bundletest.Write(t.Context(), s, c.options)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: got %v, want %q", c.reason, err, c.want)
			}
			if list := names(t, s); len(list) != 0 {
				t.Errorf("%s: the store lists %v", c.reason, list)
			}
		})
	}
}

func TestKilledWriterLeavesNothing(t *testing.T) {
	s := open(t)
	write(t, s, bundletest.Options{})
	before, err := os.ReadFile(filepath.Join(s.Dir(), "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(s.Dir(), ".ingest", "blob-123")
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var archive bytes.Buffer
	if err := s.Export(t.Context(), "v1.36.3", &archive, nil); err != nil {
		t.Fatal(err)
	}
	blobs := 0
	_, err = s.Import(ctx, &archive, func(int64, int64, string) {
		if blobs++; blobs == 5 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Import: %v, want context.Canceled", err)
	}
	after, err := os.ReadFile(filepath.Join(s.Dir(), "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, after) {
		t.Error("an import that was cut off changed index.json")
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("what a killed writer left is still there: %v", err)
	}
	if err := s.Verify(t.Context(), "v1.36.3", nil); err != nil {
		t.Errorf("the bundle that was there is damaged: %v", err)
	}
}

func TestExportImport(t *testing.T) {
	s := open(t)
	want := write(t, s, bundletest.Options{})
	write(t, s, bundletest.Options{Name: "v1.35.4"})
	var first, second bytes.Buffer
	if err := errors.Join(s.Export(t.Context(), want.Name, &first, nil), s.Export(t.Context(), want.Name, &second, nil)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two exports of one bundle differ")
	}
	archive := first.Bytes()
	cases := map[string]struct {
		reason string
		mutate func([]byte) []byte
		want   string
	}{
		"Whole":  {reason: "a whole archive is taken", mutate: func(b []byte) []byte { return b }},
		"CutOff": {reason: "half an archive is refused", mutate: func(b []byte) []byte { return b[:len(b)/2] }, want: "cannot"},
		"CutBeforeBlobs": {
			reason: "an archive that ends cleanly but lacks blobs is refused",
			mutate: func(b []byte) []byte { return append(append([]byte{}, b[:4*512]...), make([]byte, 1024)...) }, want: "not found",
		},
		"FlippedBit": {
			reason: "a flipped bit in a blob is refused with the blob's name",
			mutate: func(b []byte) []byte {
				b = append([]byte{}, b...)
				b[bytes.Index(b, []byte("layer of etcd"))] ^= 1
				return b
			},
			want: "its content has the digest",
		},
		"NoArchive": {reason: "an empty file holds no bundle", mutate: func([]byte) []byte { return nil }, want: "holds none"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			target := open(t)
			got, err := target.Import(t.Context(), bytes.NewReader(c.mutate(archive)), nil)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s: got %v, want %q", c.reason, err, c.want)
				}
				if list := names(t, target); len(list) != 0 {
					t.Errorf("%s: the store lists %v", c.reason, list)
				}
				return
			}
			if err != nil {
				t.Fatalf("%s: %v", c.reason, err)
			}
			if diff := cmp.Diff([]string{want.Name}, got); diff != "" {
				t.Errorf("%s: only the exported bundle comes (-want +got):\n%s", c.reason, diff)
			}
			manifest, err := target.Get(t.Context(), want.Name)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, manifest); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

func TestLayoutIsStandard(t *testing.T) {
	s := open(t)
	write(t, s, bundletest.Options{})
	content, err := os.ReadFile(filepath.Join(s.Dir(), "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index ocispec.Index
	if err := json.Unmarshal(content, &index); err != nil {
		t.Fatal(err)
	}
	if len(index.Manifests) != 1 || index.Manifests[0].Annotations[ocispec.AnnotationRefName] != "v1.36.3" {
		t.Errorf("index.json lists %+v, want one entry named v1.36.3", index.Manifests)
	}
	layout, err := os.ReadFile(filepath.Join(s.Dir(), "oci-layout"))
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"imageLayoutVersion":"1.0.0"}`; string(layout) != want {
		t.Errorf("oci-layout is %s, want %s", layout, want)
	}
}

func TestWatch(t *testing.T) {
	s := open(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	changes, err := s.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := <-changes; !ok {
		t.Fatal("the watch gives no first signal")
	}
	write(t, s, bundletest.Options{})
	if _, ok := <-changes; !ok {
		t.Fatal("the watch gives no signal for a new bundle")
	}
	cancel()
	for range changes {
	}
}
