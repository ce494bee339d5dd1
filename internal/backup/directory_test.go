package backup

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/internal/fault"
)

// TestDirectoryStaysInside: a link in the directory does not lead out of it, and what else is there is left alone.
func TestDirectoryStaysInside(t *testing.T) {
	base := t.TempDir()
	path, outside := filepath.Join(base, "backups"), filepath.Join(base, "outside")
	for name, content := range map[string]string{outside: "secret", filepath.Join(path, "README.txt"): "by hand"} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(path, "demo-daily-link01")); err != nil {
		t.Fatal(err)
	}
	s := NewDirectory(path)
	if r, err := s.Get(t.Context(), "demo-daily-link01"); err == nil {
		t.Errorf("a link led out of the directory: %v", r.Close())
	}
	if _, err := s.Put(t.Context(), "demo-daily-link01", strings.NewReader("x")); err == nil {
		t.Error("a link was replaced")
	}
	if found, err := s.List(t.Context(), ""); err != nil || len(found) != 0 {
		t.Errorf("listed %v, %v", found, err)
	}
	if content, err := os.ReadFile(outside); err != nil || string(content) != "secret" {
		t.Errorf("what is outside became %q, %v", content, err)
	}
}

// TestDirectoryAbandoned: what a crash left goes with a later backup; what is being written stays.
func TestDirectoryAbandoned(t *testing.T) {
	path := t.TempDir()
	for name, age := range map[string]time.Duration{".new-OLD": 25 * time.Hour, ".new-YOUNG": time.Hour} {
		file := filepath.Join(path, name)
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := NewDirectory(path).Put(t.Context(), "demo-daily-abc123", strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{".new-OLD": false, ".new-YOUNG": true} {
		if _, err := os.Stat(filepath.Join(path, name)); (err == nil) != want {
			t.Errorf("%s: is there %v, want %v", name, err == nil, want)
		}
	}
}

func TestDirectoryThatCannotBe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, reason := range map[string]string{
		filepath.Join(file, "below"): "a file is in the way",
		"/proc/slipway/backups":      "the file system takes nothing",
	} {
		err := NewDirectory(path).Test(t.Context())
		if err == nil || !strings.Contains(err.Error(), "the test to write failed") || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v; want what failed and where", reason, err)
		}
	}
	denied := NewDirectory("/x").explain("keep", "a", fs.ErrPermission)
	if fault.ReasonOf(denied) != "NotAllowed" || fault.FixOf(denied) == "" {
		t.Errorf("no fix for %v", denied)
	}
}
