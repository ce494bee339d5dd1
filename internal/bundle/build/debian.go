package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"slipway.dev/slipway/internal/bundle"
)

// debsDir holds downloaded Debian packages by digest, so that a lock stays buildable after the archive moved on.
const debsDir = "debs"

// apt is a private APT state: nothing of this machine's packages is read or changed.
type apt struct {
	tools *tools
	dir   string
	flags []string
}

// openAPT makes a private APT state for a base and reads the signed package lists of its sources.
func (b *builder) openAPT(ctx context.Context, base bundle.Base, architecture, dir string) (*apt, error) {
	for _, sub := range []string{"state/lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	sources, err := b.aptSources(ctx, base)
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		os.WriteFile(filepath.Join(dir, "sources.list"), []byte(sources), 0o644),
		os.WriteFile(filepath.Join(dir, "status"), nil, 0o644),
	)
	if err != nil {
		return nil, err
	}
	a := &apt{tools: b.tools, dir: dir}
	for _, setting := range []string{
		"Dir::State=" + filepath.Join(dir, "state"), "Dir::State::status=" + filepath.Join(dir, "status"),
		"Dir::Cache=" + filepath.Join(dir, "cache"), "Dir::Etc::sourcelist=" + filepath.Join(dir, "sources.list"),
		"Dir::Etc::sourceparts=/dev/null", "Dir::Etc::preferencesparts=/dev/null", "Dir::Etc::preferences=/dev/null",
		"APT::Architecture=" + architecture, "APT::Architectures::=" + architecture, "APT::Sandbox::User=root",
		"APT::Install-Recommends=false", "APT::Default-Release=", "Acquire::Languages=none", "Debug::NoLocking=1",
		"Acquire::Retries=3", "APT::Update::Post-Invoke::=true", "APT::Get::AllowUnauthenticated=false",
	} {
		a.flags = append(a.flags, "-o", setting)
	}
	return a, a.run(ctx, "update", "-q", "--error-on=any")
}

// aptSources gives the lines of a sources.list for the base's suites, at the mirrors that this machine is set up with.
func (b *builder) aptSources(ctx context.Context, base bundle.Base) (string, error) {
	out, err := b.tools.output(ctx, command{
		argv: []string{"apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"},
	})
	if err != nil {
		return "", fmt.Errorf("cannot list this machine's package sources: %w", err)
	}
	lines := map[string]bool{}
	found := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) == 3 && slices.Contains(base.Suites, fields[1]) && fields[2] == "main" {
			lines[fmt.Sprintf("deb [signed-by=%s] %s\n", base.Keyring, strings.Join(fields, " "))] = true
			found[fields[1]] = true
		}
	}
	for _, suite := range base.Suites {
		if !found[suite] {
			return "", fmt.Errorf("cannot find suite %s in this machine's package sources: build on Debian %s with that suite set up", suite, base.Suite)
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(lines)), ""), nil
}

func (a *apt) run(ctx context.Context, args ...string) error {
	argv := append(append([]string{"apt-get"}, a.flags...), args...)
	_, err := a.tools.output(ctx, command{argv: argv, dir: a.dir})
	return err
}

// download fetches packages with all they depend on, and gives the files. APT checks them against the signed lists.
func (a *apt) download(ctx context.Context, packages []string) ([]string, error) {
	if err := a.run(ctx, append([]string{"-q", "-y", "--download-only", "install"}, packages...)...); err != nil {
		return nil, err
	}
	return filepath.Glob(filepath.Join(a.dir, "cache", "archives", "*.deb"))
}

// resolvePackages works out the packages of a base and keeps their files.
func (b *builder) resolvePackages(ctx context.Context, base bundle.Base, architecture string) (locked []bundle.LockedPackage, err error) {
	dir, err := os.MkdirTemp(b.cache.dir, workPrefix)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	a, err := b.openAPT(ctx, base, architecture, dir)
	if err != nil {
		return nil, err
	}
	files, err := a.download(ctx, base.Packages)
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		pkg, err := b.keepPackage(ctx, file)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(base.Without, pkg.Name) {
			locked = append(locked, pkg)
		}
	}
	sort.Slice(locked, func(i, j int) bool { return locked[i].Name < locked[j].Name })
	return locked, nil
}

// keepPackage moves a downloaded package to where it is found by its digest.
func (b *builder) keepPackage(ctx context.Context, file string) (bundle.LockedPackage, error) {
	out, err := b.tools.output(ctx, command{
		argv: []string{"dpkg-deb", "--show", "--showformat", "${Package} ${Version}", file},
	})
	if err != nil {
		return bundle.LockedPackage{}, err
	}
	name, version, _ := strings.Cut(string(out), " ")
	sum, err := fileSHA256(file)
	if err != nil {
		return bundle.LockedPackage{}, err
	}
	if err := os.MkdirAll(filepath.Join(b.cache.dir, debsDir), 0o755); err != nil {
		return bundle.LockedPackage{}, err
	}
	return bundle.LockedPackage{Name: name, Version: version, SHA256: sum}, os.Rename(file, b.debPath(sum))
}

func (b *builder) debPath(sum string) string { return filepath.Join(b.cache.dir, debsDir, sum+".deb") }

func fileSHA256(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	_, err = io.Copy(hash, file)
	return hex.EncodeToString(hash.Sum(nil)), errors.Join(err, file.Close())
}

// fetchPackages makes sure that the files of all locked packages are kept, and that they are the locked ones.
func (b *builder) fetchPackages(ctx context.Context, base bundle.Base, locked []bundle.LockedPackage, architecture, dir string) error {
	var missing []string
	for _, pkg := range locked {
		sum, err := fileSHA256(b.debPath(pkg.SHA256))
		if err == nil && sum == pkg.SHA256 {
			continue
		}
		missing = append(missing, pkg.Name+"="+pkg.Version)
	}
	if len(missing) == 0 {
		return nil
	}
	a, err := b.openAPT(ctx, base, architecture, dir)
	if err != nil {
		return err
	}
	// Asked for one by one, so that nothing but the locked packages comes.
	if err := a.run(ctx, append([]string{"-q", "download"}, missing...)...); err != nil {
		return fmt.Errorf("cannot fetch locked packages: %w\nif the archive has replaced them, accept the new ones with "+
			"--update-lock=machine", err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil {
		return err
	}
	for _, file := range files {
		got, err := b.keepPackage(ctx, file)
		if err != nil {
			return err
		}
		if !slices.Contains(locked, got) {
			return fmt.Errorf("cannot use package %s %s: its digest %s is not the locked one", got.Name, got.Version, got.SHA256)
		}
	}
	return nil
}

// baseLayer unpacks the locked packages of a base into one layer.
func (b *builder) baseLayer(ctx context.Context, name, architecture string) (*part, error) {
	base := b.Release.Bases[name]
	locked := b.lock.Bases[name+"/"+architecture]
	if len(locked) == 0 {
		return nil, fmt.Errorf("the lock has no packages of base %s for %s; bring it up to date with --update-lock", name, architecture)
	}
	key := struct {
		Format       int
		Architecture string
		Base         bundle.Base
		Packages     []bundle.LockedPackage
		Epoch        string
	}{formatVersion, architecture, base, locked, b.Release.Epoch.UTC().String()}
	return b.part(ctx, "base "+name+" "+architecture, "base-"+name, key, func(ctx context.Context, dir, out string) error {
		if err := b.fetchPackages(ctx, base, locked, architecture, dir); err != nil {
			return err
		}
		tree := newFileTree()
		for _, pkg := range locked {
			if err := b.unpack(ctx, tree, base, pkg); err != nil {
				return fmt.Errorf("cannot unpack %s %s: %w", pkg.Name, pkg.Version, err)
			}
		}
		for link, target := range base.Links {
			tree.link(link, target)
		}
		tree.skeleton()
		return writeLayer(ctx, out, tree, b.Release.Epoch)
	})
}

// unpack adds the files of one package, and its description where image scanners look for it.
func (b *builder) unpack(ctx context.Context, tree *fileTree, base bundle.Base, pkg bundle.LockedPackage) error {
	file := b.debPath(pkg.SHA256)
	err := b.tools.stream(ctx, command{argv: []string{"dpkg-deb", "--fsys-tarfile", file}}, func(r io.Reader) error {
		return tree.addTar(r, base.Exclude)
	})
	if err != nil {
		return err
	}
	description, err := b.tools.output(ctx, command{argv: []string{"dpkg-deb", "--field", file}})
	if err != nil {
		return err
	}
	tree.file("var/lib/dpkg/status.d/"+pkg.Name, description, 0o644)
	return nil
}
