package system

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// remember adds lines to one of the files below step.BeforeDir, before what they tell about is changed.
// The first word of a line names the thing. What is remembered of a thing already is never replaced:
// on another try the host no longer is what it was.
func remember(ctx context.Context, w step.Writer, path string, lines ...string) error {
	have, err := host.ReadIfExists(ctx, w, path)
	if err != nil {
		return err
	}
	content := string(have)
	for _, line := range lines {
		name, _, _ := strings.Cut(line, " ")
		known := slices.ContainsFunc(strings.Split(content, "\n"), func(l string) bool { return l == name || strings.HasPrefix(l, name+" ") })
		if !known {
			content += line + "\n"
		}
	}
	if content == string(have) {
		return nil
	}
	if err := w.WriteFile(ctx, path, host.File{Content: []byte(content)}); err != nil {
		return fmt.Errorf("cannot remember how the host was: %w", err)
	}
	return nil
}

// rememberUnits keeps whether units run, and whether they start at boot.
func rememberUnits(ctx context.Context, w step.Writer, names ...string) error {
	units, err := host.QueryUnits(ctx, w, names...)
	if err != nil {
		return err
	}
	var lines []string
	for _, u := range units {
		if u.LoadState == "loaded" {
			lines = append(lines, strings.Join([]string{u.ID, u.ActiveState, u.UnitFileState}, " "))
		}
	}
	return remember(ctx, w, step.BeforeUnits, lines...)
}
