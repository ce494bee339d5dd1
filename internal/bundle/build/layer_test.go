package build

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

func epoch() time.Time { return time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC) }

func packed(t *testing.T, tree *fileTree) []byte {
	t.Helper()
	dir := t.TempDir()
	if err := writeLayer(t.Context(), dir, tree, epoch()); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(dir, layerFile))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func listed(t *testing.T, layer []byte) map[string]string {
	t.Helper()
	decoder, err := zstd.NewReader(bytes.NewReader(layer))
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	list := map[string]string{}
	archive := tar.NewReader(decoder)
	last := ""
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimSuffix(header.Name, "/") <= last {
			t.Errorf("entry %s comes after %s", header.Name, last)
		}
		last = strings.TrimSuffix(header.Name, "/")
		if !header.ModTime.Equal(epoch()) || header.Uid != 0 || header.Gid != 0 {
			t.Errorf("entry %s has the time %s and owner %d:%d", header.Name, header.ModTime, header.Uid, header.Gid)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		list[header.Name] = header.FileInfo().Mode().String() + " " + header.Linkname + string(content)
	}
}

func TestLayerIsDeterministic(t *testing.T) {
	big := filepath.Join(t.TempDir(), "big")
	content := bytes.Repeat([]byte("program"), 1<<20)
	if err := os.WriteFile(big, content, 0o600); err != nil {
		t.Fatal(err)
	}
	parts := []func(*fileTree){
		func(tree *fileTree) { tree.file("etc/a", []byte("a"), 0o644) },
		func(tree *fileTree) { tree.link("usr/bin/sh", "busybox") },
		func(tree *fileTree) { tree.skeleton() },
		func(tree *fileTree) {
			tree.program("/usr/local/bin/big", program{path: big, digest: digest.FromBytes(content), size: int64(len(content))})
		},
	}
	forward, backward := newFileTree(), newFileTree()
	for n := range parts {
		parts[n](forward)
		parts[len(parts)-1-n](backward)
	}
	first, second := packed(t, forward), packed(t, backward)
	if !bytes.Equal(first, second) {
		t.Error("the order in which files are added changes the layer")
	}
	list := listed(t, first)
	for name, want := range map[string]string{
		"usr/local/bin/": "drwxr-xr-x ", "usr/bin/sh": "Lrwxrwxrwx busybox", "tmp/": "dtrwxrwxrwx ", "etc/a": "-rw-r--r-- a",
	} {
		if list[name] != want {
			t.Errorf("entry %s is %q, want %q", name, list[name], want)
		}
	}
}

func TestLayerRefusesDamagedProgram(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	tree := newFileTree()
	tree.program("bin/program", program{path: path, digest: digest.FromString("built"), size: 5})
	if err := writeLayer(t.Context(), t.TempDir(), tree, epoch()); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("writeLayer: %v, want an error that says damaged", err)
	}
}

func TestAddTarMergesUsr(t *testing.T) {
	var b bytes.Buffer
	archive := tar.NewWriter(&b)
	for _, header := range []*tar.Header{
		{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./sbin/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./sbin/tool", Typeflag: tar.TypeReg, Mode: 0o755, Size: 4},
		{Name: "./sbin/again", Typeflag: tar.TypeLink, Linkname: "./sbin/tool"},
		{Name: "./lib/libx.so", Typeflag: tar.TypeSymlink, Linkname: "../usr/lib/libx.so.1", Mode: 0o777},
		{Name: "./usr/share/man/tool.1", Typeflag: tar.TypeReg, Mode: 0o644, Size: 4},
	} {
		if err := archive.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if header.Size > 0 {
			if _, err := archive.Write([]byte("text")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	tree := newFileTree()
	if err := tree.addTar(&b, []string{"usr/share/man/"}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"lib": "Lrwxrwxrwx usr/lib", "sbin": "Lrwxrwxrwx usr/sbin", "usr/": "drwxr-xr-x ", "usr/lib/": "drwxr-xr-x ",
		"usr/sbin/": "drwxr-xr-x ", "usr/sbin/tool": "-rwxr-xr-x text", "usr/sbin/again": "-rwxr-xr-x text",
		"usr/lib/libx.so": "Lrwxrwxrwx /usr/lib/libx.so.1",
	}
	if diff := cmp.Diff(want, listed(t, packed(t, tree))); diff != "" {
		t.Errorf("files below / are in /usr, links still point where they did (-want +got):\n%s", diff)
	}
}

func TestCacheKeepsFinishedPartsOnly(t *testing.T) {
	dir := t.TempDir()
	c, err := openCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openCache(dir); err == nil || !strings.Contains(err.Error(), "another build") {
		t.Errorf("a second build opens the cache: %v", err)
	}
	_, id, err := c.find("tool", "key")
	if err != nil {
		t.Fatal(err)
	}
	failed := errors.New("compiler failed")
	_, err = c.produce(t.Context(), id, func(_ context.Context, _, out string) error {
		return errors.Join(os.WriteFile(filepath.Join(out, "tool"), []byte("half"), 0o600), failed)
	})
	if !errors.Is(err, failed) {
		t.Fatalf("produce: %v, want the compiler's error", err)
	}
	if found, _, err := c.find("tool", "key"); found != nil || err != nil {
		t.Errorf("a failed part is kept: %v, %v", found, err)
	}
	made, err := c.produce(t.Context(), id, func(_ context.Context, _, out string) error {
		return errors.Join(os.WriteFile(filepath.Join(out, "tool"), []byte("whole"), 0o600), writeNotes(out, map[string]string{"a": "b"}))
	})
	if err != nil {
		t.Fatal(err)
	}
	// A killed build leaves its work directory.
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, workPrefix+"1", "out"), 0o755), c.Close()); err != nil {
		t.Fatal(err)
	}
	if c, err = openCache(dir); err != nil {
		t.Fatal(err)
	}
	found, _, err := c.find("tool", "key")
	if err != nil || found == nil {
		t.Fatalf("a finished part is not found again: %v", err)
	}
	if diff := cmp.Diff(made, found, cmp.AllowUnexported(part{})); diff != "" {
		t.Errorf("the part found differs from the part made (-made +found):\n%s", diff)
	}
	if other, _, err := c.find("tool", "other key"); other != nil || err != nil {
		t.Errorf("another key finds %v, %v", other, err)
	}
	left, err := filepath.Glob(filepath.Join(dir, workPrefix+"*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
	if err := os.Truncate(found.path("tool"), 1); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.find("tool", "key"); err == nil || !strings.Contains(err.Error(), "remove") {
		t.Errorf("a cut-off file in the cache: %v, want an error with the fix", err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}
