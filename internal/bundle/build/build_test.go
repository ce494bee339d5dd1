package build

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/internal/bundle"
)

// toolModule is a Go module with one tiny program for everything that a bundle must hold.
const toolModule = "example.org/tool"

const imageList = "registry.k8s.io/kube-apiserver:v1.36.3\nregistry.k8s.io/etcd:3.6.8-0\n"

func requiredPrograms() []string {
	return []string{
		"kubeadm", "kubelet", "kubectl", "containerd", "containerd-shim-runc-v2", "ctr", "runc", "crictl",
		"loopback", "bridge", "host-local", "portmap",
	}
}

func roles() []string {
	return []string{
		bundle.RoleKubeAPIServer, bundle.RoleKubeControllerManager, bundle.RoleKubeScheduler, bundle.RoleKubeProxy,
		bundle.RoleEtcd, bundle.RoleCoreDNS, bundle.RolePause,
	}
}

func release() *bundle.Release {
	r := &bundle.Release{
		Kubernetes: "v1.36.3", Epoch: epoch(),
		Components: map[string]bundle.Component{"kubernetes": {
			Version: "v1.36.3", Requires: map[string]string{toolModule: "v1.0.0"}, Packages: map[string]string{},
		}},
	}
	for _, name := range requiredPrograms() {
		r.Components["kubernetes"].Packages[name] = toolModule + "/" + name
		r.Files = append(r.Files, bundle.FileRecipe{Program: "kubernetes/" + name, NodeRole: bundle.NodeRoleAll})
	}
	for _, role := range roles() {
		r.Images = append(r.Images, bundle.ImageRecipe{
			Name: "registry.k8s.io/" + role + ":v1.36.3", Role: role, NodeRole: bundle.NodeRoleAll,
			Programs: map[string]string{"/usr/local/bin/" + role: "kubernetes/kubelet"},
		})
	}
	return r
}

// moduleFiles gives the module's files; kubeadm answers with a list of images as the real one does.
func moduleFiles() map[string]string {
	files := map[string]string{"go.mod": "module " + toolModule + "\n\ngo 1.26.0\n"}
	for _, name := range requiredPrograms() {
		text := name
		if name == "kubeadm" {
			text = imageList
		}
		files[name+"/main.go"] = fmt.Sprintf("package main\n\nimport \"os\"\n\nfunc main() { os.Stdout.WriteString(%q) }\n", text)
	}
	return files
}

// hash1 is the module checksum that go.sum holds.
func hash1(files map[string]string) string {
	var names []string
	for name := range files {
		names = append(names, name)
	}
	sort.Strings(names)
	sum := sha256.New()
	for _, name := range names {
		fmt.Fprintf(sum, "%x  %s\n", sha256.Sum256([]byte(files[name])), name)
	}
	return "h1:" + base64.StdEncoding.EncodeToString(sum.Sum(nil))
}

// moduleProxy makes a module proxy in a directory, and the environment that uses it and nothing else.
func moduleProxy(t *testing.T) (environ []string, lines []string) {
	t.Helper()
	dir := t.TempDir()
	at := filepath.Join(dir, toolModule, "@v")
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	files, prefixed := moduleFiles(), map[string]string{}
	var archive bytes.Buffer
	w := zip.NewWriter(&archive)
	for name, text := range files {
		full := toolModule + "@v1.0.0/" + name
		prefixed[full] = text
		f, err := w.Create(full)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	err := errors.Join(w.Close(),
		os.WriteFile(filepath.Join(at, "v1.0.0.zip"), archive.Bytes(), 0o600),
		os.WriteFile(filepath.Join(at, "v1.0.0.mod"), []byte(files["go.mod"]), 0o600),
		os.WriteFile(filepath.Join(at, "v1.0.0.info"), []byte(`{"Version":"v1.0.0"}`), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	modules := filepath.Join(t.TempDir(), "mod")
	environ = append(os.Environ(), "GOPROXY=file://"+filepath.ToSlash(dir), "GOMODCACHE="+modules)
	t.Cleanup(func() {
		// The go command keeps its module cache read-only.
		clean := exec.Command("go", "clean", "-modcache")
		clean.Env = environ
		if out, err := clean.CombinedOutput(); err != nil {
			t.Errorf("cannot clean the module cache: %v: %s", err, out)
		}
	})
	return environ, []string{
		toolModule + " v1.0.0 " + hash1(prefixed),
		toolModule + " v1.0.0/go.mod " + hash1(map[string]string{"go.mod": files["go.mod"]}),
	}
}

func lockFor(t *testing.T, sums []string) *bundle.Lock {
	t.Helper()
	settings, err := newTools(os.Environ()).goSettings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return &bundle.Lock{
		Kubernetes: "v1.36.3", Go: settings.Version,
		Components: map[string]bundle.LockedModules{"kubernetes": {
			Language: "1.26.0", Requires: []string{toolModule + " v1.0.0"}, Sums: sums,
		}},
	}
}

func options(t *testing.T, environ []string, lock *bundle.Lock) Options {
	t.Helper()
	store, err := bundle.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return Options{Release: release(), Lock: lock, Store: store, CacheDir: t.TempDir(), Environ: environ}
}

func digestOf(t *testing.T, s *bundle.Store) string {
	t.Helper()
	entries, err := s.List(t.Context())
	if err != nil || len(entries) != 1 {
		t.Fatalf("the store lists %v (%v), want one bundle", entries, err)
	}
	return entries[0].Digest.String()
}

func TestBuildIsReproducible(t *testing.T) {
	environ, sums := moduleProxy(t)
	first, second := options(t, environ, lockFor(t, sums)), options(t, environ, lockFor(t, sums))
	result, err := Build(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	if result.LockChanged {
		t.Error("a build from a lock says that the lock changed")
	}
	if _, err := Build(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	if a, b := digestOf(t, first.Store), digestOf(t, second.Store); a != b {
		t.Errorf("two builds from one lock in different directories differ: %s and %s", a, b)
	}
	manifest, err := first.Store.Get(t.Context(), "v1.36.3")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(result.Manifest, manifest); diff != "" {
		t.Errorf("the manifest stored differs from the one given (-given +stored):\n%s", diff)
	}
	states := map[State]int{}
	first.Progress = func(e Event) { states[e.State]++ }
	if _, err := Build(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	// One component and one layer for each image; only the store is worked on.
	if states[Reused] != 1+len(roles()) || states[Done] != 1 {
		t.Errorf("a second build reports %v, want every part reused and only the store done", states)
	}
}

func TestBuildRefuses(t *testing.T) {
	environ, sums := moduleProxy(t)
	cases := map[string]struct {
		reason string
		change func(*Options)
		want   []string
	}{
		"OtherChecksum": {
			reason: "a module whose content is not the locked one is refused",
			change: func(o *Options) {
				modules := o.Lock.Components["kubernetes"]
				modules.Sums = []string{toolModule + " v1.0.0 h1:" + strings.Repeat("A", 43) + "=", sums[1]}
				o.Lock.Components["kubernetes"] = modules
			},
			want: []string{"checksum mismatch", toolModule},
		},
		"OtherGo": {
			reason: "another Go toolchain gives other programs",
			change: func(o *Options) { o.Lock.Go = "go1.2.3" },
			want:   []string{"go1.2.3", "--update-lock=machine"},
		},
		"OtherRecipe": {
			reason: "a lock made from another recipe does not fit",
			change: func(o *Options) { o.Release.Components["kubernetes"].Requires[toolModule] = "v2.0.0" },
			want:   []string{toolModule, "v2.0.0", "--update-lock"},
		},
		"MissingImage": {
			reason: "an image that kubeadm will ask for must be made",
			change: func(o *Options) {
				for n, image := range o.Release.Images {
					if image.Role == bundle.RoleEtcd {
						o.Release.Images = append(o.Release.Images[:n:n], o.Release.Images[n+1:]...)
						return
					}
				}
			},
			want: []string{"registry.k8s.io/etcd:3.6.8-0"},
		},
		"UncheckedModules": {
			reason: "modules are never locked without the checksum database",
			change: func(o *Options) { o.Lock = nil; o.Environ = append(o.Environ, "GOSUMDB=off") },
			want:   []string{"checksum database"},
		},
		"CgoForOthers": {
			reason: "C cannot be compiled for another architecture",
			change: func(o *Options) {
				recipe := o.Release.Components["kubernetes"]
				recipe.Cgo = true
				o.Release.Components["kubernetes"] = recipe
				o.Architectures = []string{otherArchitecture()}
			},
			want: []string{"C compiler", "build on a machine"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			o := options(t, environ, lockFor(t, sums))
			c.change(&o)
			_, err := Build(t.Context(), o)
			if err == nil {
				t.Fatalf("%s: the build went through", c.reason)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%s: %q lacks %q", c.reason, err, want)
				}
			}
			entries, err := o.Store.List(t.Context())
			if err != nil || len(entries) > 0 {
				t.Errorf("%s: the store lists %v (%v)", c.reason, entries, err)
			}
		})
	}
}

func otherArchitecture() string {
	if runtime.GOARCH == "amd64" {
		return "arm64"
	}
	return "amd64"
}

func TestBuildGoesOnAfterCancel(t *testing.T) {
	environ, sums := moduleProxy(t)
	o := options(t, environ, lockFor(t, sums))
	ctx, cancel := context.WithCancel(t.Context())
	o.Progress = func(e Event) {
		if e.State == Done && strings.HasPrefix(e.Part, "kubernetes") {
			cancel()
		}
	}
	if _, err := Build(ctx, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("Build: %v, want context.Canceled", err)
	}
	var reused []string
	o.Progress = func(e Event) {
		if e.State == Reused {
			reused = append(reused, e.Part)
		}
	}
	if _, err := Build(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"kubernetes " + runtime.GOARCH}, reused); diff != "" {
		t.Errorf("the next build takes what was finished and makes the rest (-want +got):\n%s", diff)
	}
}
