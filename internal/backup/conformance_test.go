package backup_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"slipway.dev/slipway/internal/backup"
	"slipway.dev/slipway/internal/backup/backuptest"
)

func TestDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "not", "there", "yet")
	backuptest.Run(t, backup.NewDirectory(path))
	for name, want := range map[string]fs.FileMode{path: 0o700 | fs.ModeDir, filepath.Join(path, "demo-daily-small1"): 0o600} {
		info, err := os.Stat(name)
		if err != nil || info.Mode() != want {
			t.Errorf("%s: mode %v, %v; want %v", name, info.Mode(), err, want)
		}
	}
	entries, err := os.ReadDir(path)
	if err != nil || len(entries) != 2 {
		t.Errorf("%v, %v are left, want the two backups alone", entries, err)
	}
}
