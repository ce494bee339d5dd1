package reset

import (
	"context"
	"fmt"
	"strings"

	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// undoSetup puts back what the host's set-up changed: swap, host records, SELinux, and which services run.
func undoSetup(ctx context.Context, w step.Writer) error {
	for _, undo := range []func(context.Context, step.Writer) error{undoSwapOff, undoHostRecords, undoPermissive, undoUnits} {
		if err := undo(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

// edit changes a file where change differs from it. A file that is gone stays so.
func edit(ctx context.Context, w step.Writer, path string, change func(string) string) error {
	have, err := host.ReadIfExists(ctx, w, path)
	if err != nil || have == nil || change(string(have)) == string(have) {
		return err
	}
	if err := w.WriteFile(ctx, path, host.File{Content: []byte(change(string(have)))}); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	return nil
}

// undoSwapOff takes our comments out of /etc/fstab and turns on again what was on and still can be.
func undoSwapOff(ctx context.Context, w step.Writer) error {
	err := edit(ctx, w, "/etc/fstab", func(text string) string { return strings.ReplaceAll(text, step.SwapComment, "") })
	if err != nil {
		return err
	}
	before, err := host.ReadIfExists(ctx, w, step.BeforeSwaps)
	if err != nil || len(before) == 0 {
		return err
	}
	now, err := w.ReadFile(ctx, "/proc/swaps")
	if err != nil {
		return fmt.Errorf("cannot read the active swap: %w", err)
	}
	for area := range strings.FieldsSeq(string(before)) {
		if strings.Contains(string(now), area+" ") || strings.Contains(string(now), area+"\t") {
			continue
		}
		if _, err := w.Run(ctx, host.Command{Argv: []string{"swapon", area}}); err != nil && !isCommandError(err) {
			return fmt.Errorf("cannot turn swap on again: %w", err)
		}
	}
	return nil
}

// undoHostRecords takes our lines out of /etc/hosts.
func undoHostRecords(ctx context.Context, w step.Writer) error {
	return edit(ctx, w, step.HostsPath, step.WithoutHostRecords)
}

// undoPermissive makes SELinux enforcing again where it was: live, in its configuration, or both.
func undoPermissive(ctx context.Context, w step.Writer) error {
	before, err := host.ReadIfExists(ctx, w, step.BeforeSELinux)
	if err != nil {
		return err
	}
	for place := range strings.FieldsSeq(string(before)) {
		if place == step.SELinuxLive {
			if _, err := w.Run(ctx, host.Command{Argv: []string{"setenforce", "1"}}); err != nil && !isCommandError(err) {
				return fmt.Errorf("cannot make SELinux enforcing again: %w", err)
			}
			continue
		}
		err := edit(ctx, w, place, func(text string) string {
			lines := strings.Split(text, "\n")
			for i, l := range lines {
				if l == "SELINUX=permissive" {
					lines[i] = "SELINUX=enforcing"
				}
			}
			return strings.Join(lines, "\n")
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// undoUnits lets each service that the set-up touched start at boot, and run, as before. One that runs is restarted,
// since its configuration may have gone.
func undoUnits(ctx context.Context, w step.Writer) error {
	before, err := host.ReadIfExists(ctx, w, step.BeforeUnits)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(before)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		var verbs []string
		switch {
		case len(f) > 2 && f[2] == "enabled":
			verbs = append(verbs, "enable")
		case len(f) > 2 && f[2] == "disabled":
			verbs = append(verbs, "disable")
		}
		if f[1] == "active" {
			verbs = append(verbs, "restart")
		} else {
			verbs = append(verbs, "stop")
		}
		for _, verb := range verbs {
			// A service that was removed, or no longer starts, must not keep the host from being released.
			if _, err := w.Run(ctx, host.Command{Argv: []string{"systemctl", verb, f[0]}}); err != nil && !isCommandError(err) {
				return fmt.Errorf("cannot put %s back: %w", f[0], err)
			}
		}
	}
	return nil
}
