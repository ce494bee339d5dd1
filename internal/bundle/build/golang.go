package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"time"

	"slipway.dev/slipway/internal/bundle"
)

// workingEvery is how often a long compilation says how far it is.
const workingEvery = 15 * time.Second

// goEnv gives the environment of the go command for one component.
func goEnv(recipe bundle.Component, architecture, modMode string) []string {
	cgo := "0"
	if recipe.Cgo {
		cgo = "1"
	}
	return []string{
		"GOFLAGS=-mod=" + modMode, "GOWORK=off", "GOTOOLCHAIN=local", "GOOS=linux", "GOARCH=" + architecture,
		"GOAMD64=v1", "CGO_ENABLED=" + cgo, "CGO_CFLAGS=-O2", "CGO_LDFLAGS=-O2", "CC=gcc", "PKG_CONFIG=pkg-config",
	}
}

// packages lists the Go packages of a component, sorted by program name.
func packages(recipe bundle.Component) []string {
	var list []string
	for _, program := range sortedNames(recipe.Packages) {
		list = append(list, recipe.Packages[program])
	}
	return list
}

// resolveModules works out the whole module graph of a component. Every module is checked against the Go checksum
// database by the go command.
func (b *builder) resolveModules(ctx context.Context, name string, recipe bundle.Component) (bundle.LockedModules, error) {
	var locked bundle.LockedModules
	dir, err := os.MkdirTemp(b.cache.dir, workPrefix)
	if err != nil {
		return locked, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	language := regexp.MustCompile(`^\d+\.\d+`).FindString(strings.TrimPrefix(b.lock.Go, "go"))
	requires := make([]string, 0, len(recipe.Requires))
	for _, module := range sortedNames(recipe.Requires) {
		requires = append(requires, module+" "+recipe.Requires[module])
	}
	if err := writeModule(dir, name, bundle.LockedModules{Language: language + ".0", Requires: requires}); err != nil {
		return locked, err
	}
	env := goEnv(recipe, b.Architectures[0], "mod")
	argv := []string{"go", "get"}
	for _, pkg := range packages(recipe) {
		_, version, _ := recipe.Module(pkg)
		argv = append(argv, pkg+"@"+version)
	}
	if _, err := b.tools.output(ctx, command{argv: argv, dir: dir, env: env}); err != nil {
		return locked, err
	}
	out, err := b.tools.output(ctx, command{argv: []string{"go", "mod", "edit", "-json"}, dir: dir, env: env})
	if err != nil {
		return locked, err
	}
	var file struct {
		Go      string
		Require []struct{ Path, Version string }
	}
	if err := json.Unmarshal(out, &file); err != nil {
		return locked, err
	}
	locked.Language = file.Go
	for _, r := range file.Require {
		locked.Requires = append(locked.Requires, r.Path+" "+r.Version)
	}
	sums, err := os.ReadFile(filepath.Join(dir, "go.sum"))
	if err != nil {
		return locked, err
	}
	locked.Sums = strings.Split(strings.TrimSpace(string(sums)), "\n")
	sort.Strings(locked.Requires)
	sort.Strings(locked.Sums)
	return locked, err
}

// writeModule writes the go.mod and go.sum of a build module.
func writeModule(dir, name string, locked bundle.LockedModules) error {
	var mod strings.Builder
	fmt.Fprintf(&mod, "module slipway.dev/parts/%s\n\ngo %s\n\nrequire (\n", name, locked.Language)
	for _, require := range locked.Requires {
		fmt.Fprintf(&mod, "\t%s\n", require)
	}
	mod.WriteString(")\n")
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(mod.String()), 0o644); err != nil {
		return fmt.Errorf("cannot write build module: %w", err)
	}
	sums := strings.Join(append(append([]string{}, locked.Sums...), ""), "\n")
	if err := os.WriteFile(filepath.Join(dir, "go.sum"), []byte(sums), 0o644); err != nil {
		return fmt.Errorf("cannot write build module: %w", err)
	}
	return nil
}

// buildGo compiles all programs of a component in one run, so that they share what they have in common. The locked
// go.sum makes the go command refuse any module that differs.
func (b *builder) buildGo(ctx context.Context, name string, recipe bundle.Component, architecture, dir, out string) error {
	if recipe.Cgo && architecture != b.hostArch {
		return fmt.Errorf("it needs the C compiler, which builds for %s only; build on a machine of that architecture", b.hostArch)
	}
	if err := writeModule(dir, name, b.lock.Components[name]); err != nil {
		return err
	}
	raw := filepath.Join(dir, "raw")
	if err := os.Mkdir(raw, 0o755); err != nil {
		return err
	}
	argv := append([]string{"go", "build", "-v"}, buildFlags(recipe)...)
	argv = append(argv, "-o", raw+"/")
	compiled, last := 0, time.Now()
	started := last
	_, err := b.tools.output(ctx, command{
		argv: append(argv, packages(recipe)...), dir: dir, env: goEnv(recipe, architecture, "readonly"),
		line: func(string) {
			compiled++
			if time.Since(last) >= workingEvery {
				last = time.Now()
				b.Progress(Event{
					Part: name + " " + architecture, State: Working, Elapsed: time.Since(started),
					Detail: fmt.Sprintf("%d packages compiled", compiled),
				})
			}
		},
	})
	if err != nil {
		return err
	}
	for program, pkg := range recipe.Packages {
		if err := os.Rename(filepath.Join(raw, builtName(pkg)), filepath.Join(out, program)); err != nil {
			return fmt.Errorf("cannot find the program %s: %w", program, err)
		}
	}
	return nil
}

// buildFlags gives the flags that decide a program's content.
func buildFlags(recipe bundle.Component) []string {
	link := []string{"-s", "-w", "-buildid="}
	for _, variable := range sortedNames(recipe.Variables) {
		link = append(link, "-X="+variable+"="+recipe.Variables[variable])
	}
	if recipe.Cgo {
		link = append(link, "-linkmode=external", `'-extldflags=-static -Wl,--build-id=none'`)
	}
	flags := []string{"-trimpath", "-buildvcs=false", "-ldflags=" + strings.Join(link, " ")}
	if len(recipe.Tags) > 0 {
		flags = append(flags, "-tags="+strings.Join(recipe.Tags, ","))
	}
	return flags
}

// builtName is the name the go command gives a program: the last path element that is no major version.
func builtName(pkg string) string {
	name := path.Base(pkg)
	if regexp.MustCompile(`^v\d+$`).MatchString(name) {
		return path.Base(path.Dir(pkg))
	}
	return name
}
