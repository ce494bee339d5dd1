package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/util/version"

	"slipway.dev/slipway/internal/pki"
)

// keptSnapshots is how many copies of older data stay in DataDir/snapshots.
const keptSnapshots = 3

// dataLock holds the data directory for this process until it is released or the process ends.
type dataLock struct{ file *os.File }

func openDataDir(directory string) (*dataLock, error) {
	if directory == "" {
		return nil, errors.New("cannot open data directory: no directory was given")
	}
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return nil, fmt.Errorf("cannot create data directory: %w", err)
	}
	path := filepath.Join(directory, "lock")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock data directory %s: %w", directory, err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer file.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("cannot lock data directory %s: %w", directory, err)
		}
		holder, readErr := os.ReadFile(path)
		if readErr != nil {
			return nil, fmt.Errorf("cannot lock data directory %s: another server uses it: %w", directory, readErr)
		}
		return nil, fmt.Errorf("cannot lock data directory %s: another server uses it (pid %s); stop that one or give --data-dir another directory",
			directory, strings.TrimSpace(string(holder)))
	}
	// The lock is on this very file, so it is rewritten in place and never replaced.
	err = file.Truncate(0)
	if err == nil {
		_, err = file.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot write %s: %w", path, err), file.Close())
	}
	return &dataLock{file: file}, nil
}

func (l *dataLock) release() error {
	if err := l.file.Close(); err != nil {
		return fmt.Errorf("cannot release data directory: %w", err)
	}
	return nil
}

// admitVersion compares the version stamp of the data with this binary: newer data is refused, older data is
// copied aside first, and then the stamp says this version. The pre-release part does not count, so that
// builds between two releases can open each other's data.
func admitVersion(ctx context.Context, directory, own string, logger *slog.Logger) error {
	if own == "" {
		own = "0.0.0"
	}
	mine, err := release(own)
	if err != nil {
		return fmt.Errorf("cannot read the version of this binary: %w", err)
	}
	stamp := filepath.Join(directory, "version")
	content, err := os.ReadFile(stamp)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot read the version of the data: %w", err)
	}
	if err == nil {
		theirs, err := release(strings.TrimSpace(string(content)))
		if err != nil {
			return fmt.Errorf("cannot read the version of the data in %s: %w", stamp, err)
		}
		if mine.LessThan(theirs) {
			return fmt.Errorf("cannot open data directory %s: version %s wrote it and this is %s; run %s or newer, or put the copy in %s back as %s and remove %s",
				directory, theirs, mine, theirs, filepath.Join(directory, "snapshots"), filepath.Join(directory, "etcd"), stamp)
		}
		if mine.EqualTo(theirs) {
			return nil
		}
		if err := snapshot(ctx, directory, theirs.String(), logger); err != nil {
			return err
		}
	}
	return pki.WriteFile(stamp, []byte(mine.String()+"\n"), 0o600)
}

func release(text string) (*version.Version, error) {
	parsed, err := version.ParseSemantic(text)
	if err != nil {
		return nil, err
	}
	return version.MajorMinor(parsed.Major(), parsed.Minor()).WithPatch(parsed.Patch()), nil
}

// snapshot copies the store, which nobody has open, to snapshots/TIME-VERSION before a newer version opens it.
func snapshot(ctx context.Context, directory, from string, logger *slog.Logger) error {
	source, all := filepath.Join(directory, "etcd"), filepath.Join(directory, "snapshots")
	if _, err := os.Stat(source); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	name := time.Now().UTC().Format("20060102T150405Z") + "-" + from
	partial := filepath.Join(all, "partial")
	if err := os.RemoveAll(partial); err != nil {
		return fmt.Errorf("cannot snapshot data of version %s: %w", from, err)
	}
	err := os.MkdirAll(all, 0o700)
	if err == nil {
		err = os.CopyFS(partial, os.DirFS(source))
	}
	if err == nil {
		err = syncFileSystem(all)
	}
	if err == nil {
		err = os.Rename(partial, filepath.Join(all, name))
	}
	if err == nil {
		err = syncFileSystem(all)
	}
	if err != nil {
		return fmt.Errorf("cannot snapshot data of version %s: %w; make room in %s", from, err, directory)
	}
	logger.InfoContext(ctx, "copied the data before opening it with a newer version", "from", from, "copy", filepath.Join(all, name))
	return prune(all)
}

func prune(directory string) error {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return fmt.Errorf("cannot list snapshots: %w", err)
	}
	slices.Reverse(entries)
	for _, entry := range entries[min(keptSnapshots, len(entries)):] {
		if err := os.RemoveAll(filepath.Join(directory, entry.Name())); err != nil {
			return fmt.Errorf("cannot remove old snapshot: %w", err)
		}
	}
	return nil
}

func syncFileSystem(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(directory.Fd())), directory.Close())
}
