package reset

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// Files removes files and directories.
type Files struct {
	Paths []string `json:"paths"`
}

// ID is stored in plans.
func (Files) ID() step.ID { return "reset.files/v1" }

// Check looks for each path.
func (f Files) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	info, err := r.Stat(ctx, f.Paths...)
	if err != nil {
		return nil, fmt.Errorf("cannot look for files: %w", err)
	}
	var drift step.Drift
	for _, i := range info {
		if i.Exists {
			drift.Want(i.Path, "present", "absent")
		}
	}
	return drift, nil
}

// Apply removes each path and lets systemd forget units that are gone.
func (f Files) Apply(ctx context.Context, w step.Writer) error {
	if err := w.Remove(ctx, f.Paths...); err != nil {
		return fmt.Errorf("cannot remove files: %w", err)
	}
	for _, argv := range [][]string{{"systemctl", "daemon-reload"}, {"systemctl", "reset-failed"}} {
		if _, err := w.Run(ctx, host.Command{Argv: argv}); err != nil {
			return fmt.Errorf("cannot reload systemd: %w", err)
		}
	}
	return nil
}

// Restore puts kernel parameters and the host's set-up back and removes the last trace of Slipway, the fence included.
type Restore struct{}

// ID is stored in plans.
func (Restore) ID() step.ID { return "reset.restore/v1" }

// Check looks for what Slipway remembers on the host, apart from the fence, which is the engine's.
func (Restore) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	info, err := r.Stat(ctx, step.BeforeDir, step.MarkerPath)
	if err != nil {
		return nil, fmt.Errorf("cannot look for %s: %w", step.StateDir, err)
	}
	var drift step.Drift
	for _, i := range info {
		if i.Exists {
			drift.Want(i.Path, "present", "absent")
		}
	}
	return drift, nil
}

// Apply sets each remembered parameter that still exists, and then forgets.
func (Restore) Apply(ctx context.Context, w step.Writer) error {
	before, err := host.ReadIfExists(ctx, w, step.BeforeSysctls)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(before)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), " = ")
		if !ok {
			continue
		}
		// A parameter of a module that has gone cannot be set, nor one that a container may not write.
		if _, err := w.Run(ctx, host.Command{Argv: []string{"sysctl", "--quiet", "--write", key + "=" + value}}); err != nil && !isCommandError(err) {
			return fmt.Errorf("cannot put %s back: %w", key, err)
		}
	}
	if err := undoSetup(ctx, w); err != nil {
		return err
	}
	if err := removeAppeared(ctx, w); err != nil {
		return err
	}
	return w.Remove(ctx, step.StateDir)
}

// removeAppeared removes paths that were absent before. A directory that somebody else uses by now stays.
func removeAppeared(ctx context.Context, w step.Writer) error {
	absent, err := host.ReadIfExists(ctx, w, step.BeforeAbsent)
	if err != nil {
		return err
	}
	paths := strings.Fields(string(absent))
	if len(paths) == 0 {
		return nil
	}
	info, err := w.Stat(ctx, paths...)
	if err != nil {
		return fmt.Errorf("cannot look for paths: %w", err)
	}
	// The deepest go first.
	slices.SortFunc(info, func(a, b host.FileInfo) int { return strings.Compare(b.Path, a.Path) })
	for _, i := range info {
		switch {
		case !i.Exists:
		case i.Mode.IsDir():
			if _, err := w.Run(ctx, host.Command{Argv: []string{"rmdir", "--ignore-fail-on-non-empty", i.Path}}); err != nil {
				return fmt.Errorf("cannot remove %s: %w", i.Path, err)
			}
		case i.Mode.IsRegular() && i.Size == 0:
			if err := w.Remove(ctx, i.Path); err != nil {
				return fmt.Errorf("cannot remove %s: %w", i.Path, err)
			}
		}
	}
	return nil
}
