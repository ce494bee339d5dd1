package build

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sort"
	"time"

	"github.com/opencontainers/go-digest"

	"slipway.dev/slipway/internal/bundle"
)

// formatVersion goes into every part's key: raise it when the way parts are built or packed changes.
const formatVersion = 1

// Update says what of an existing lock a build may replace.
type Update string

const (
	// UpdateNone takes the lock as it is and refuses every difference.
	UpdateNone Update = ""
	// UpdateMachine keeps the Go modules locked and takes the toolchains and Debian packages that are to be had now.
	UpdateMachine Update = "machine"
	// UpdateAll resolves everything anew from the recipe.
	UpdateAll Update = "all"
)

// Options says what to build and with what.
type Options struct {
	// Release is the recipe.
	Release *bundle.Release
	// Lock pins what is taken from outside; nil resolves it from the recipe.
	Lock *bundle.Lock
	// Update says what of Lock may be replaced; by default nothing.
	Update Update
	// Store receives the bundle, which is named by the Kubernetes version.
	Store *bundle.Store
	// CacheDir keeps finished parts between builds. It is made when missing. One build uses it at a time.
	CacheDir string
	// Architectures lists what to build for; by default the architecture of this machine.
	Architectures []string
	// Environ is the environment of the tools that are run, as os.Environ gives it.
	Environ []string
	// Progress follows the build; may be nil. It is called from one goroutine at a time.
	Progress func(Event)
}

// State says where a part of a build stands.
type State string

const (
	// Started says that work on a part begins.
	Started State = "started"
	// Working says that a part makes progress; the event's detail says how far.
	Working State = "working"
	// Done says that a part was built.
	Done State = "done"
	// Reused says that a finished part of an earlier build is taken.
	Reused State = "reused"
)

// Event is one line of a build's progress.
type Event struct {
	// Part names the part, such as "kubernetes amd64".
	Part string
	// State says where the part stands.
	State State
	// Elapsed is the time spent on the part so far.
	Elapsed time.Duration
	// Detail adds what a person may want to know; it may be empty.
	Detail string
}

// Result is what a build gives.
type Result struct {
	// Manifest is the bundle's manifest as the store holds it.
	Manifest *bundle.Manifest
	// Lock is the lock the bundle was built from.
	Lock *bundle.Lock
	// LockChanged says that Lock differs from the one given and should be kept.
	LockChanged bool
}

// builder is one run of Build.
type builder struct {
	Options
	tools    *tools
	cache    *cache
	lock     *bundle.Lock
	hostArch string
}

// Build makes the bundle of a release and adds it, verified, to the store. Parts that an earlier build finished are
// taken from the cache, so a build that was cut off goes on where it stopped. Two builds from one lock give the same
// digests.
func Build(ctx context.Context, o Options) (result *Result, err error) {
	if len(o.Architectures) == 0 {
		o.Architectures = []string{runtime.GOARCH}
	}
	sort.Strings(o.Architectures)
	if o.Progress == nil {
		o.Progress = func(Event) {}
	}
	c, err := openCache(o.CacheDir)
	if err != nil {
		return nil, fmt.Errorf("cannot build bundle %s: %w", o.Release.Kubernetes, err)
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	b := &builder{Options: o, cache: c, tools: newTools(o.Environ)}
	result, err = b.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot build bundle %s: %w", o.Release.Kubernetes, err)
	}
	return result, nil
}

func (b *builder) run(ctx context.Context) (*Result, error) {
	changed, err := b.settleLock(ctx)
	if err != nil {
		return nil, err
	}
	encoded, err := b.lock.Encode()
	if err != nil {
		return nil, err
	}
	manifest := &bundle.Manifest{
		Name: b.Release.Kubernetes, KubernetesVersion: b.Release.Kubernetes, Architectures: b.Architectures,
		Components: map[string]string{}, LockDigest: digest.FromBytes(encoded),
	}
	for name, component := range b.Release.Components {
		manifest.Components[name] = component.Version
	}
	packs := map[string]*pack{}
	for _, architecture := range b.Architectures {
		p, err := b.buildArchitecture(ctx, architecture)
		if err != nil {
			return nil, err
		}
		packs[architecture] = p
	}
	if err := b.assemble(ctx, manifest, packs); err != nil {
		return nil, err
	}
	return &Result{Manifest: manifest, Lock: b.lock, LockChanged: changed}, nil
}

// pack is everything built for one architecture.
type pack struct {
	programs map[string]program // by "component/program"
	layers   []imageLayers      // in the order of the recipe's images
}

// program is one built executable in the cache.
type program struct {
	path   string
	digest digest.Digest
	size   int64
}

func (b *builder) buildArchitecture(ctx context.Context, architecture string) (*pack, error) {
	p := &pack{programs: map[string]program{}}
	for _, name := range sortedNames(b.Release.Components) {
		built, err := b.component(ctx, name, architecture)
		if err != nil {
			return nil, fmt.Errorf("cannot build %s for %s: %w", name, architecture, err)
		}
		for file, info := range built.Files {
			p.programs[name+"/"+file] = program{built.path(file), info.Digest, info.Size}
		}
	}
	if err := b.checkImageList(ctx, p, architecture); err != nil {
		return nil, err
	}
	for _, image := range b.Release.Images {
		layers, err := b.layers(ctx, image, p, architecture)
		if err != nil {
			return nil, fmt.Errorf("cannot pack image %s for %s: %w", image.Name, architecture, err)
		}
		p.layers = append(p.layers, layers)
	}
	return p, nil
}

// component builds one component or takes it from the cache.
func (b *builder) component(ctx context.Context, name, architecture string) (*part, error) {
	recipe := b.Release.Components[name]
	key := componentKey{
		Format: formatVersion, Architecture: architecture, Component: recipe, Go: b.lock.Go,
		Modules: b.lock.Components[name], Toolchain: b.lockedTools(recipe),
	}
	produce := func(ctx context.Context, dir, out string) error {
		return b.buildGo(ctx, name, recipe, architecture, dir, out)
	}
	if recipe.Source != "" {
		key.Go, key.Source = "", sourceDigest(recipe.Source)
		produce = func(ctx context.Context, dir, out string) error {
			return b.buildC(ctx, recipe, architecture, dir, out)
		}
	}
	return b.part(ctx, name+" "+architecture, name, key, produce)
}

// componentKey is everything that decides the content of a component's programs.
type componentKey struct {
	Format       int
	Architecture string
	Component    bundle.Component
	Go           string
	Source       string
	Modules      bundle.LockedModules
	Toolchain    map[string]bundle.LockedTool
}

// part takes a part from the cache or makes it, and reports both.
func (b *builder) part(ctx context.Context, title, name string, key any, build makeFunc) (*part, error) {
	started := time.Now()
	found, id, err := b.cache.find(name, key)
	if err != nil {
		return nil, err
	}
	if found != nil {
		b.Progress(Event{Part: title, State: Reused, Elapsed: time.Since(started)})
		return found, nil
	}
	b.Progress(Event{Part: title, State: Started})
	made, err := b.cache.produce(ctx, id, build)
	if err != nil {
		return nil, err
	}
	b.Progress(Event{Part: title, State: Done, Elapsed: time.Since(started)})
	return made, nil
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
