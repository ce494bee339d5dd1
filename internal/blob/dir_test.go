package blob_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/internal/blob"
)

func open(t *testing.T) (*blob.Directory, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "blobs")
	d, err := blob.Dir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d, path
}

func content(t *testing.T, d *blob.Directory, name string) string {
	t.Helper()
	f, err := d.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func names(t *testing.T, d *blob.Directory, prefix string) []string {
	t.Helper()
	infos, err := d.List(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, i := range infos {
		out = append(out, i.Name)
	}
	return out
}

func TestDir_KeepsWhatWasStored(t *testing.T) {
	d, _ := open(t)
	ctx := t.Context()
	for name, text := range map[string]string{"a/b/one": "1", "a/bc": "2", "top": "3"} {
		if err := d.Put(ctx, name, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Put(ctx, "a/b/one", []byte("replaced")); err != nil {
		t.Fatal(err)
	}
	for _, more := range []string{"x", "y"} {
		if err := d.Append(ctx, "logs/w1.jsonl", []byte(more)); err != nil {
			t.Fatal(err)
		}
	}
	if got := content(t, d, "a/b/one") + content(t, d, "logs/w1.jsonl"); got != "replacedxy" {
		t.Errorf("content = %q", got)
	}
	if diff := cmp.Diff([]string{"a/b/one", "a/bc", "logs/w1.jsonl", "top"}, names(t, d, "")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"a/b/one"}, names(t, d, "a/b")); diff != "" {
		t.Error(diff)
	}
	if err := d.Remove(ctx, "a/b"); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(ctx, "never/was"); err != nil {
		t.Errorf("removing nothing: %v", err)
	}
	if diff := cmp.Diff([]string{"a/bc", "logs/w1.jsonl", "top"}, names(t, d, "")); diff != "" {
		t.Error(diff)
	}
	if got := names(t, d, "a/b"); got != nil {
		t.Errorf("List of a missing prefix = %v", got)
	}
}

func TestDir_Refuses(t *testing.T) {
	d, path := open(t)
	cases := map[string]struct {
		reason string
		name   string
	}{
		"empty":    {"an empty prefix would remove everything", ""},
		"parent":   {"nothing outside the store may be reached", "a/../../etc/passwd"},
		"absolute": {"nothing outside the store may be reached", "/etc/passwd"},
		"hidden":   {"hidden names are the store's own", ".new-1"},
		"double":   {"one blob must not have two names", "a//b"},
		"control":  {"names are printed to terminals", "a\nb"},
		"long":     {"file systems have limits", strings.Repeat("n", 300)},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, openErr := d.Open(t.Context(), c.name)
			for what, err := range map[string]error{
				"Put":    d.Put(t.Context(), c.name, nil),
				"Append": d.Append(t.Context(), c.name, nil),
				"Remove": d.Remove(t.Context(), c.name),
				"Open":   openErr,
			} {
				if err == nil {
					t.Errorf("%s accepted %q: %s", what, c.name, c.reason)
				}
			}
		})
	}
	if err := os.Symlink("/etc", filepath.Join(path, "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Open(t.Context(), "link/passwd"); err == nil {
		t.Error("a link leads out of the store")
	}
	if _, err := d.Open(t.Context(), "missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing blob: %v", err)
	}
}

func TestDir_FailedPutLeavesNothing(t *testing.T) {
	d, path := open(t)
	if err := os.MkdirAll(filepath.Join(path, "taken", "below"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.Put(t.Context(), "taken", []byte("x")); err == nil {
		t.Error("a folder was replaced by a file")
	}
	left, err := filepath.Glob(filepath.Join(path, ".new-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %v %v", left, err)
	}
}

func TestDir_FollowGivesEveryByteOnce(t *testing.T) {
	d, _ := open(t)
	const name, lines = "logs/w1.jsonl", 200
	if err := d.Append(t.Context(), name, []byte("0123456789")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for range lines {
				if err := d.Append(ctx, name, []byte("line\n")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var got strings.Builder
	want := "6789" + strings.Repeat("line\n", 4*lines)
	err := d.Follow(ctx, name, 6, func(b []byte) error {
		got.Write(b)
		if got.Len() >= len(want) {
			writers.Wait()
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Follow = %v", err)
	}
	if got.String() != want {
		t.Errorf("got %d bytes, want %d", got.Len(), len(want))
	}
}

func TestDir_FollowWaitsForTheFirstByte(t *testing.T) {
	d, _ := open(t)
	enough := errors.New("enough")
	result := make(chan error)
	go func() {
		result <- d.Follow(t.Context(), "late/log", 0, func([]byte) error { return enough })
	}()
	if err := d.Append(t.Context(), "late/log", []byte("first")); err != nil {
		t.Fatal(err)
	}
	if err := <-result; !errors.Is(err, enough) {
		t.Errorf("Follow = %v", err)
	}
}
