package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"time"

	"slipway.dev/slipway/internal/bundle"
)

// settleLock decides on the lock this build follows: the one given, checked against recipe and machine, or one
// resolved now as far as the update allows. It says whether the result differs from the one given.
func (b *builder) settleLock(ctx context.Context) (changed bool, err error) {
	settings, err := b.tools.goSettings(ctx)
	if err != nil {
		return false, err
	}
	b.hostArch = settings.HostArch
	update := b.Update
	if b.Lock == nil {
		update = UpdateAll
	}
	next := &bundle.Lock{
		Kubernetes: b.Release.Kubernetes, Go: settings.Version, Toolchain: map[string]bundle.LockedTool{},
		Components: map[string]bundle.LockedModules{}, Bases: map[string][]bundle.LockedPackage{},
	}
	b.lock = next
	if err := b.lockToolchain(ctx, next); err != nil {
		return false, err
	}
	if update == UpdateNone {
		b.lock = b.Lock
		return false, errors.Join(b.compareMachine(next), b.compareModules(b.Lock))
	}
	if update == UpdateMachine {
		if err := b.compareModules(b.Lock); err != nil {
			return false, err
		}
		next.Components = b.Lock.Components
	} else if err := b.lockModules(ctx, settings, next); err != nil {
		return false, err
	}
	for _, name := range sortedNames(b.Release.Bases) {
		for _, architecture := range b.Architectures {
			started := time.Now()
			packages, err := b.resolvePackages(ctx, b.Release.Bases[name], architecture)
			if err != nil {
				return false, fmt.Errorf("cannot resolve the packages of base %s: %w", name, err)
			}
			next.Bases[name+"/"+architecture] = packages
			b.resolved("base "+name, started, len(packages), "packages")
		}
	}
	return !reflect.DeepEqual(next, b.Lock), nil
}

func (b *builder) resolved(part string, started time.Time, count int, what string) {
	b.Progress(Event{
		Part: "lock " + part, State: Done, Elapsed: time.Since(started), Detail: fmt.Sprintf("%d %s", count, what),
	})
}

func (b *builder) lockModules(ctx context.Context, settings goSettings, next *bundle.Lock) error {
	if settings.SumDB == "off" || settings.NoSumDB != "" {
		return fmt.Errorf("cannot lock Go modules unchecked: the checksum database is off for some or all; " +
			"unset GOSUMDB, GONOSUMDB and GOPRIVATE")
	}
	for _, name := range sortedNames(b.Release.Components) {
		recipe := b.Release.Components[name]
		if recipe.Source != "" {
			continue
		}
		started := time.Now()
		modules, err := b.resolveModules(ctx, name, recipe)
		if err != nil {
			return fmt.Errorf("cannot resolve the modules of %s: %w", name, err)
		}
		next.Components[name] = modules
		b.resolved(name, started, len(modules.Requires), "modules")
	}
	return nil
}

// compareMachine refuses to build when this machine differs from the one the lock was made on.
func (b *builder) compareMachine(found *bundle.Lock) error {
	var problems []error
	differs := func(what, locked, have string) {
		problems = append(problems, fmt.Errorf("%s is locked at %s but this machine has %s", what, locked, have))
	}
	if found.Go != b.Lock.Go {
		differs("the Go toolchain", b.Lock.Go, found.Go)
	}
	for _, name := range sortedNames(found.Toolchain) {
		have, locked := found.Toolchain[name], b.Lock.Toolchain[name]
		switch {
		case locked.Version == "":
			differs("package "+name, "no version", have.Version)
		case have.Version != locked.Version:
			differs("package "+name, locked.Version, have.Version)
		case have != locked:
			problems = append(problems, fmt.Errorf("package %s %s has other files than the lock says", name, have.Version))
		}
	}
	if len(problems) > 0 {
		problems = append(problems, fmt.Errorf("install what the lock names, or accept this machine with --update-lock=machine"))
	}
	return errors.Join(problems...)
}

// compareModules refuses a lock that was made from another recipe.
func (b *builder) compareModules(lock *bundle.Lock) error {
	var problems []error
	if lock.Kubernetes != b.Release.Kubernetes {
		problems = append(problems, fmt.Errorf("the lock is for Kubernetes %s", lock.Kubernetes))
	}
	for _, name := range sortedNames(b.Release.Components) {
		recipe := b.Release.Components[name]
		locked := map[string]string{}
		for _, require := range lock.Components[name].Requires {
			module, version, _ := strings.Cut(require, " ")
			locked[module] = version
		}
		for _, module := range sortedNames(recipe.Requires) {
			if want := recipe.Requires[module]; locked[module] != want {
				problems = append(problems, fmt.Errorf("%s: the recipe wants %s %s, the lock has %q", name, module, want, locked[module]))
			}
		}
	}
	if len(problems) > 0 {
		problems = append(problems, fmt.Errorf("bring the lock up to date with --update-lock"))
	}
	return errors.Join(problems...)
}

// lockToolchain notes the installed version of every package whose content ends up in programs.
func (b *builder) lockToolchain(ctx context.Context, next *bundle.Lock) error {
	for _, name := range sortedNames(b.Release.Components) {
		for _, pkg := range b.Release.Components[name].Toolchain {
			if _, ok := next.Toolchain[pkg]; ok {
				continue
			}
			tool, err := b.installed(ctx, pkg)
			if err != nil {
				return fmt.Errorf("cannot build %s: %w; run `apt-get install %s`", name, err, pkg)
			}
			next.Toolchain[pkg] = tool
		}
	}
	return nil
}

func (b *builder) installed(ctx context.Context, pkg string) (bundle.LockedTool, error) {
	out, err := b.tools.output(ctx, command{
		argv: []string{"dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Version}", pkg},
	})
	if err != nil {
		return bundle.LockedTool{}, err
	}
	status, version, _ := strings.Cut(string(out), " ")
	if status != "installed" {
		return bundle.LockedTool{}, fmt.Errorf("package %s is not installed", pkg)
	}
	for _, name := range []string{pkg, pkg + ":" + b.hostArch} {
		sums, err := os.ReadFile("/var/lib/dpkg/info/" + name + ".md5sums")
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return bundle.LockedTool{}, err
		}
		sum := sha256.Sum256(sums)
		return bundle.LockedTool{Version: version, Files: hex.EncodeToString(sum[:])}, nil
	}
	return bundle.LockedTool{}, fmt.Errorf("package %s has no list of files", pkg)
}

// lockedTools gives the part of the lock that a component's programs depend on.
func (b *builder) lockedTools(recipe bundle.Component) map[string]bundle.LockedTool {
	tools := map[string]bundle.LockedTool{}
	for _, pkg := range recipe.Toolchain {
		tools[pkg] = b.lock.Toolchain[pkg]
	}
	return tools
}
