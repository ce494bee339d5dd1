package bundle

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/catalog"
	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/bundle/build"
)

// locksDir is where a store keeps the locks of its bundles that differ from the catalog's.
const locksDir = "locks"

// buildFlags are the flags of `bundle build`.
type buildFlags struct {
	kubernetes    string
	out           string
	cacheDir      string
	lock          string
	updateLock    string
	architectures []string
}

func newBuildCommand(where *location) *cobra.Command {
	f := &buildFlags{}
	command := &cobra.Command{
		Use:   "build --kubernetes VERSION",
		Short: "Build a bundle from Go modules and Debian packages on this machine",
		Long: `Build a bundle from source on this machine: Kubernetes, etcd, CoreDNS, containerd, runc, CNI plugins, flannel,
kube-vip, crictl and pause, as container images and node files.

What is taken from outside is pinned by a lock: Go modules by checksum, Debian packages by digest, the toolchains by
version. Two builds from one lock give identical bundles, and a build refuses what differs from its lock.
--update-lock=machine accepts this machine's toolchains and today's Debian packages; --update-lock resolves all anew.

Finished parts are kept in the cache, so a build that was cut off goes on where it stopped.`,
		Example: "  slipway bundle build --kubernetes v1.36.3 --data-dir /var/lib/slipway-server",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.out != "" {
				where.out = f.out
			}
			return f.run(cmd, where)
		},
	}
	flags := command.Flags()
	flags.StringVar(&f.kubernetes, "kubernetes", "", "Kubernetes version to build, such as v1.36.3")
	flags.StringVar(&f.out, "out", "", "bundle store to write to; the same as --store")
	flags.StringVar(&f.cacheDir, "cache-dir", "", "where finished parts are kept (default: slipway/parts in the user's cache directory)")
	flags.StringVar(&f.lock, "lock", "", "lock file to read, and to write with --update-lock (default: locks/VERSION.lock.yaml in the store, else the catalog's)")
	flags.StringVar(&f.updateLock, "update-lock", "", "what of the lock may be replaced: machine or all")
	flags.Lookup("update-lock").NoOptDefVal = string(build.UpdateAll)
	flags.StringSliceVar(&f.architectures, "arch", nil, "architectures to build for (default: this machine's)")
	// The flag exists: it was declared above.
	_ = command.MarkFlagRequired("kubernetes")
	return command
}

func (f *buildFlags) run(cmd *cobra.Command, where *location) error {
	update := build.Update(f.updateLock)
	switch update {
	case build.UpdateNone, build.UpdateMachine, build.UpdateAll:
	default:
		return fmt.Errorf("cannot build bundle: --update-lock=%s is unknown; choose machine or all", f.updateLock)
	}
	release, err := bundle.LoadRelease(catalog.FS, f.kubernetes)
	if err != nil {
		return err
	}
	lock, err := f.readLock(where)
	if err != nil {
		return err
	}
	store, err := where.open()
	if err != nil {
		return err
	}
	cacheDir := f.cacheDir
	if cacheDir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return fmt.Errorf("cannot find the cache directory: %w; name one with --cache-dir", err)
		}
		cacheDir = filepath.Join(user, "slipway", "parts")
	}
	result, err := build.Build(cmd.Context(), build.Options{
		Release: release, Lock: lock, Update: update, Store: store, CacheDir: cacheDir,
		Architectures: f.architectures, Environ: os.Environ(), Progress: printer(cmd.OutOrStdout()),
	})
	if err != nil {
		return err
	}
	if result.LockChanged {
		if err := f.writeLock(where, result.Lock, cmd.OutOrStdout()); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "bundle %s is in %s\n", result.Manifest.Name, store.Dir())
	return err
}

// ownLock is the lock file that this build may write.
func (f *buildFlags) ownLock(where *location) string {
	if f.lock != "" {
		return f.lock
	}
	return filepath.Join(where.dir(), locksDir, f.kubernetes+".lock.yaml")
}

// readLock gives the user's own lock if there is one, else the catalog's, else none.
func (f *buildFlags) readLock(where *location) (*bundle.Lock, error) {
	path := f.ownLock(where)
	content, err := os.ReadFile(path)
	if err == nil {
		return bundle.ParseLock(content)
	}
	if !errors.Is(err, fs.ErrNotExist) || (f.lock != "" && f.updateLock == "") {
		return nil, fmt.Errorf("cannot read lock file: %w", err)
	}
	lock, err := bundle.LoadLock(catalog.FS, f.kubernetes)
	if errors.Is(err, bundle.ErrNotFound) {
		return nil, nil
	}
	return lock, err
}

func (f *buildFlags) writeLock(where *location, lock *bundle.Lock, w io.Writer) error {
	content, err := lock.Encode()
	if err != nil {
		return err
	}
	path := f.ownLock(where)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("cannot write lock file: %w", err)
	}
	temporary := path + ".new"
	if err := errors.Join(os.WriteFile(temporary, content, 0o644), os.Rename(temporary, path)); err != nil {
		return fmt.Errorf("cannot write lock file: %w", err)
	}
	_, err = fmt.Fprintf(w, "lock written to %s\n", path)
	return err
}

// printer shows a build's progress as plain lines.
func printer(w io.Writer) func(build.Event) {
	return func(e build.Event) {
		line := fmt.Sprintf("%8s  %-8s  %s  %s", seconds(e.Elapsed), e.State, e.Part, e.Detail)
		// Progress is a courtesy: a terminal that went away must not end a build.
		_, _ = fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
}
