package bundle

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sort"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// Release is the recipe of a bundle: what is built from which modules, and which images and node files come out.
// It is data in catalog/releases, named by the Kubernetes version.
type Release struct {
	// Kubernetes is the Kubernetes version with its leading v.
	Kubernetes string `json:"kubernetes"`
	// Epoch is the time stamped on every file and image, so that two builds are identical.
	Epoch time.Time `json:"epoch"`
	// Components gives the recipe of each component by name.
	Components map[string]Component `json:"components"`
	// Bases gives the recipes of the base layers that images can stand on, by name.
	Bases map[string]Base `json:"bases,omitempty"`
	// Images lists the container images to make.
	Images []ImageRecipe `json:"images"`
	// Files lists the node files to take.
	Files []FileRecipe `json:"files"`
}

// Component is one upstream project and how its programs are built: from Go packages, or from one C source.
type Component struct {
	// Version is the component's version as its project writes it.
	Version string `json:"version"`
	// Requires pins Go modules before resolution, module path to version. It holds at least the modules of Packages.
	Requires map[string]string `json:"requires,omitempty"`
	// Packages gives the Go main package of each program, by the name the program gets.
	Packages map[string]string `json:"packages,omitempty"`
	// Source is the C source of the component's only program, one of those the builder brings, such as pause.c. The
	// program is named after the file.
	Source string `json:"source,omitempty"`
	// Tags lists Go build tags.
	Tags []string `json:"tags,omitempty"`
	// Cgo builds with the C compiler and links statically; without it programs are pure Go.
	Cgo bool `json:"cgo,omitempty"`
	// Variables sets Go string variables at link time, import path and name to value.
	Variables map[string]string `json:"variables,omitempty"`
	// Macros sets C preprocessor macros of Source, name to value.
	Macros map[string]string `json:"macros,omitempty"`
	// Toolchain lists the Debian packages on the build machine whose content ends up in the programs, such as
	// libseccomp-dev. Their versions are locked.
	Toolchain []string `json:"toolchain,omitempty"`
}

// Base is a base layer made of Debian packages. They are unpacked, not installed: no script of theirs runs.
type Base struct {
	// Suite is the Debian release, such as bookworm.
	Suite string `json:"suite"`
	// Suites lists the APT suites to take packages from, such as bookworm-security. Their mirrors are those that the
	// building machine is set up with.
	Suites []string `json:"suites"`
	// Keyring is the file with the keys that sign the suites.
	Keyring string `json:"keyring"`
	// Packages lists the packages to unpack together with everything they depend on.
	Packages []string `json:"packages"`
	// Without lists packages that only installation scripts need and that are left out.
	Without []string `json:"without,omitempty"`
	// Exclude lists path prefixes to leave out, such as usr/share/man/.
	Exclude []string `json:"exclude,omitempty"`
	// Links gives symbolic links to add, path to target.
	Links map[string]string `json:"links,omitempty"`
}

// ImageRecipe is one container image to make.
type ImageRecipe struct {
	// Name is the normal image name with its tag.
	Name string `json:"name"`
	// Role says what the image is for; see the Role constants.
	Role string `json:"role"`
	// NodeRole says which nodes need it: all (default) or control-plane.
	NodeRole string `json:"nodeRole,omitempty"`
	// Base names the base layer; empty for an image that holds only its programs.
	Base string `json:"base,omitempty"`
	// Programs gives the absolute path of each program in the image, to "component/program".
	Programs map[string]string `json:"programs"`
	// Entrypoint is the command the image runs.
	Entrypoint []string `json:"entrypoint,omitempty"`
	// User is the user (and group) the image runs as; empty is root.
	User string `json:"user,omitempty"`
}

// FileRecipe is one node file to take.
type FileRecipe struct {
	// Program is the program to take, as "component/program"; the file is named after the program.
	Program string `json:"program"`
	// NodeRole says which nodes need it: all (default) or control-plane.
	NodeRole string `json:"nodeRole,omitempty"`
}

// Lock pins everything a build takes from outside, so that two builds from one lock are identical.
type Lock struct {
	// Kubernetes is the version of the release this lock belongs to.
	Kubernetes string `json:"kubernetes"`
	// Go is the version of the Go toolchain, such as go1.26.8.
	Go string `json:"go"`
	// Toolchain pins Debian packages of the build machine that end up in programs, by name.
	Toolchain map[string]LockedTool `json:"toolchain,omitempty"`
	// Components pins the Go modules of each component.
	Components map[string]LockedModules `json:"components"`
	// Bases pins the Debian packages of each base layer, by "base/architecture".
	Bases map[string][]LockedPackage `json:"bases,omitempty"`
}

// LockedTool is a Debian package installed on the build machine.
type LockedTool struct {
	// Version is the Debian version.
	Version string `json:"version"`
	// Files is the sha256 over the package's list of file checksums.
	Files string `json:"files"`
}

// LockedModules is a resolved Go module graph.
type LockedModules struct {
	// Language is the go directive of the build module.
	Language string `json:"language"`
	// Requires lists "module version" for the whole build list.
	Requires []string `json:"requires"`
	// Sums lists the lines of go.sum, as the Go checksum database confirmed them.
	Sums []string `json:"sums"`
}

// LockedPackage is one Debian package file.
type LockedPackage struct {
	// Name and Version are the package's as Debian writes them.
	Name    string `json:"name"`
	Version string `json:"version"`
	// SHA256 is the digest of the .deb file in hexadecimal.
	SHA256 string `json:"sha256"`
}

const (
	releaseSuffix = ".yaml"
	lockSuffix    = ".lock.yaml"
)

// Releases lists the Kubernetes versions that a catalog has recipes for, oldest first as text.
func Releases(catalog fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(catalog, "releases")
	if err != nil {
		return nil, fmt.Errorf("cannot list releases of the catalog: %w", err)
	}
	var versions []string
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasSuffix(name, releaseSuffix) && !strings.HasSuffix(name, lockSuffix) {
			versions = append(versions, strings.TrimSuffix(name, releaseSuffix))
		}
	}
	sort.Strings(versions)
	return versions, nil
}

// LoadRelease reads the recipe of a Kubernetes version from a catalog and checks it. A version the catalog does not
// know gives an error that is ErrNotFound and names those it knows.
func LoadRelease(catalog fs.FS, version string) (*Release, error) {
	content, err := fs.ReadFile(catalog, path.Join("releases", version+releaseSuffix))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		known, listErr := Releases(catalog)
		if listErr != nil {
			return nil, listErr
		}
		return nil, fmt.Errorf("cannot find a recipe for Kubernetes %s: %w; choose one of %s",
			version, ErrNotFound, strings.Join(known, ", "))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the recipe for Kubernetes %s: %w", version, err)
	}
	release, err := ParseRelease(content)
	if err != nil {
		return nil, fmt.Errorf("cannot read the recipe for Kubernetes %s: %w", version, err)
	}
	if release.Kubernetes != version {
		return nil, fmt.Errorf("cannot use the recipe for Kubernetes %s: it says it is for %s", version, release.Kubernetes)
	}
	return release, nil
}

// LoadLock reads the lock of a Kubernetes version from a catalog; ErrNotFound when the catalog has none.
func LoadLock(catalog fs.FS, version string) (*Lock, error) {
	content, err := fs.ReadFile(catalog, path.Join("releases", version+lockSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot find a lock for Kubernetes %s: %w", version, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the lock for Kubernetes %s: %w", version, err)
	}
	return ParseLock(content)
}

// ParseLock reads a lock file. Unknown fields are refused.
func ParseLock(content []byte) (*Lock, error) {
	var lock Lock
	if err := yaml.UnmarshalStrict(content, &lock); err != nil {
		return nil, fmt.Errorf("cannot read lock file: %w", err)
	}
	if lock.Kubernetes == "" || lock.Go == "" {
		return nil, fmt.Errorf("cannot use lock file: kubernetes and go must be set")
	}
	return &lock, nil
}

// Encode gives the lock file's content. Equal locks give equal bytes.
func (l *Lock) Encode() ([]byte, error) {
	content, err := yaml.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("cannot encode lock file: %w", err)
	}
	return content, nil
}

// ParseRelease reads a recipe and checks that its parts fit together. Unknown fields are refused.
func ParseRelease(content []byte) (*Release, error) {
	var release Release
	if err := yaml.UnmarshalStrict(content, &release); err != nil {
		return nil, err
	}
	for n := range release.Images {
		release.Images[n].NodeRole = orAll(release.Images[n].NodeRole)
	}
	for n := range release.Files {
		release.Files[n].NodeRole = orAll(release.Files[n].NodeRole)
	}
	if err := errors.Join(release.check()...); err != nil {
		return nil, err
	}
	return &release, nil
}

func orAll(nodeRole string) string {
	if nodeRole == "" {
		return NodeRoleAll
	}
	return nodeRole
}

func (r *Release) check() (problems []error) {
	report := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if r.Kubernetes == "" || r.Epoch.IsZero() {
		report("kubernetes and epoch must be set")
	}
	for _, name := range sortedKeys(r.Components) {
		component := r.Components[name]
		if component.Version == "" {
			report("component %s has no version", name)
		}
		if (component.Source == "") == (len(component.Packages) == 0) {
			report("component %s must have either packages or a source", name)
		}
		for _, program := range sortedKeys(component.Packages) {
			if _, _, ok := component.Module(component.Packages[program]); !ok {
				report("component %s requires no module that holds %s", name, component.Packages[program])
			}
		}
	}
	for _, image := range r.Images {
		if _, ok := r.Bases[image.Base]; image.Base != "" && !ok {
			report("image %s stands on the unknown base %s", image.Name, image.Base)
		}
		if image.Name == "" || image.Role == "" || !knownNodeRole(image.NodeRole) {
			report("image %q must have a name, a role and the node role all or control-plane", image.Name)
		}
		for _, target := range sortedKeys(image.Programs) {
			if !r.has(image.Programs[target]) || !path.IsAbs(target) {
				report("image %s has the program %s at %s, which no component builds or is no absolute path",
					image.Name, image.Programs[target], target)
			}
		}
	}
	for _, file := range r.Files {
		if !r.has(file.Program) || !knownNodeRole(file.NodeRole) {
			report("node file %s is built by no component or has an unknown node role", file.Program)
		}
	}
	return problems
}

func knownNodeRole(role string) bool { return role == NodeRoleAll || role == NodeRoleControlPlane }

func (r *Release) has(program string) bool {
	name, base, _ := strings.Cut(program, "/")
	component, ok := r.Components[name]
	if !ok {
		return false
	}
	if component.Source != "" {
		return strings.TrimSuffix(component.Source, path.Ext(component.Source)) == base
	}
	return component.Packages[base] != ""
}

// Module finds the required module that holds a Go package, the longest path when several do, and its version; false
// when none does.
func (c Component) Module(pkg string) (module, version string, ok bool) {
	for path, required := range c.Requires {
		if (pkg == path || strings.HasPrefix(pkg, path+"/")) && len(path) > len(module) {
			module, version, ok = path, required, true
		}
	}
	return module, version, ok
}
