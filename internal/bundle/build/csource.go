package build

import (
	"context"
	"embed"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"slipway.dev/slipway/internal/bundle"
)

// sources are the C programs that the builder brings itself.
//
//go:embed source/*.c
var sources embed.FS

func sourceDigest(name string) string {
	content, err := sources.ReadFile(path.Join("source", name))
	if err != nil {
		return "missing"
	}
	return digest.FromBytes(content).String()
}

// buildC compiles the one C source of a component into a static program.
func (b *builder) buildC(ctx context.Context, recipe bundle.Component, architecture, dir, out string) error {
	if architecture != b.hostArch {
		return fmt.Errorf("it needs the C compiler, which builds for %s only; build on a machine of that architecture", b.hostArch)
	}
	content, err := sources.ReadFile(path.Join("source", recipe.Source))
	if err != nil {
		return fmt.Errorf("cannot find the source %s, which the builder does not bring: %w", recipe.Source, err)
	}
	if err := os.WriteFile(filepath.Join(dir, recipe.Source), content, 0o644); err != nil {
		return fmt.Errorf("cannot write source: %w", err)
	}
	program := strings.TrimSuffix(recipe.Source, path.Ext(recipe.Source))
	argv := []string{"gcc", "-std=c11", "-D_POSIX_C_SOURCE=200809L", "-Os", "-Wall", "-Werror", "-static", "-s", "-Wl,--build-id=none"}
	for _, macro := range sortedNames(recipe.Macros) {
		argv = append(argv, "-D"+macro+"="+recipe.Macros[macro])
	}
	// The source is named without its directory, which would otherwise end up in the program.
	argv = append(argv, "-o", filepath.Join(out, program), recipe.Source)
	_, err = b.tools.output(ctx, command{argv: argv, dir: dir})
	return err
}
