package bundle_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/catalog"
	"slipway.dev/slipway/internal/bundle"
)

func TestCatalogReleases(t *testing.T) {
	versions, err := bundle.Releases(catalog.FS)
	if err != nil {
		t.Fatal(err)
	}
	if len(versions) == 0 {
		t.Fatal("the catalog has no releases")
	}
	for _, version := range versions {
		release, err := bundle.LoadRelease(catalog.FS, version)
		if err != nil {
			t.Errorf("release %s: %v", version, err)
			continue
		}
		lock, err := bundle.LoadLock(catalog.FS, version)
		if err != nil {
			t.Errorf("lock of %s: %v", version, err)
			continue
		}
		for name, component := range release.Components {
			for module, want := range component.Requires {
				if !slices.Contains(lock.Components[name].Requires, module+" "+want) {
					t.Errorf("the lock of %s has not %s %s of %s: it was made from another recipe", version, module, want, name)
				}
			}
		}
		roles := map[string]bool{}
		for _, image := range release.Images {
			roles[image.Role] = true
		}
		for _, role := range []string{
			bundle.RoleKubeAPIServer, bundle.RoleKubeControllerManager, bundle.RoleKubeScheduler, bundle.RoleKubeProxy,
			bundle.RoleEtcd, bundle.RoleCoreDNS, bundle.RolePause, bundle.RoleFlannel, bundle.RoleKubeVIP,
		} {
			if !roles[role] {
				t.Errorf("release %s makes no image for %s", version, role)
			}
		}
	}
	_, err = bundle.LoadRelease(catalog.FS, "v0.0.1")
	if !errors.Is(err, bundle.ErrNotFound) || !strings.Contains(err.Error(), versions[0]) {
		t.Errorf("LoadRelease of an unknown version: %v, want ErrNotFound and the versions to choose from", err)
	}
}

// TestCatalogNamesWhatKubeadmAsksFor compares the names of images with those of `kubeadm config images list`. A release
// newer than etcd's own images keeps the tag that kubeadm asks for; v1.36.3 is told another one.
func TestCatalogNamesWhatKubeadmAsksFor(t *testing.T) {
	cases := map[string]struct{ reason, etcd, etcdVersion, coredns, pause string }{
		"v1.35.4": {"etcd 3.6 is where an upgrade starts", "3.6.6-0", "3.6.6", "v1.13.1", "3.10.1"},
		"v1.36.3": {"its etcd is newer than kubeadm's, which is told so", "3.6.9-0", "3.6.9", "v1.14.2", "3.10.2"},
		"v1.37.1": {"etcd 3.7 is the fixed 3.7.3 under kubeadm's tag", "3.7.0-0", "3.7.3", "v1.14.6", "3.10.2"},
	}
	for version, c := range cases {
		t.Run(version, func(t *testing.T) {
			release, err := bundle.LoadRelease(catalog.FS, version)
			if err != nil {
				t.Fatal(err)
			}
			got, want := map[string]string{}, map[string]string{
				bundle.RoleKubeAPIServer:         "registry.k8s.io/kube-apiserver:" + version,
				bundle.RoleKubeControllerManager: "registry.k8s.io/kube-controller-manager:" + version,
				bundle.RoleKubeScheduler:         "registry.k8s.io/kube-scheduler:" + version,
				bundle.RoleKubeProxy:             "registry.k8s.io/kube-proxy:" + version,
				bundle.RoleEtcd:                  "registry.k8s.io/etcd:" + c.etcd,
				bundle.RoleCoreDNS:               "registry.k8s.io/coredns/coredns:" + c.coredns,
				bundle.RolePause:                 "registry.k8s.io/pause:" + c.pause,
				bundle.RoleFlannel:               "ghcr.io/flannel-io/flannel:v0.26.7",
				bundle.RoleKubeVIP:               "ghcr.io/kube-vip/kube-vip:v0.9.1",
			}
			for _, image := range release.Images {
				got[image.Role] = image.Name
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: images (-want +got):\n%s", c.reason, diff)
			}
			if got := release.Components["etcd"].Version; got != c.etcdVersion {
				t.Errorf("%s: etcd %s, want %s", c.reason, got, c.etcdVersion)
			}
		})
	}
}

// TestCatalogControlPlaneTools proves that a control plane gets what backups and repairs of etcd need, and that workers
// do not.
func TestCatalogControlPlaneTools(t *testing.T) {
	versions, err := bundle.Releases(catalog.FS)
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range versions {
		release, err := bundle.LoadRelease(catalog.FS, version)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, file := range release.Files {
			if file.NodeRole == bundle.NodeRoleControlPlane {
				got = append(got, file.Program)
			}
		}
		if diff := cmp.Diff([]string{"etcd/etcdctl", "etcd/etcdutl"}, got); diff != "" {
			t.Errorf("node files of control planes only, in %s (-want +got):\n%s", version, diff)
		}
	}
}

// TestCatalogSharesComponents proves that what does not belong to a Kubernetes version is the same in every release: it
// is built once, and an upgrade does not touch it.
func TestCatalogSharesComponents(t *testing.T) {
	versions, err := bundle.Releases(catalog.FS)
	if err != nil {
		t.Fatal(err)
	}
	shared := []string{"cni-plugins", "containerd", "crictl", "flannel", "kube-vip", "runc"}
	type locked struct {
		Component bundle.Component
		Modules   bundle.LockedModules
	}
	want := map[string]locked{}
	for _, version := range versions {
		release, err := bundle.LoadRelease(catalog.FS, version)
		if err != nil {
			t.Fatal(err)
		}
		lock, err := bundle.LoadLock(catalog.FS, version)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]locked{}
		for _, name := range shared {
			got[name] = locked{release.Components[name], lock.Components[name]}
		}
		if version == versions[0] {
			want = got
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("components of %s differ from those of %s (-%s +%s):\n%s", version, versions[0], versions[0], version, diff)
		}
	}
}

const smallRelease = `
kubernetes: v1.36.3
epoch: "2026-10-01T00:00:00Z"
components:
  tool:
    version: v1
    requires: {example.org/tool: v1.0.0}
    packages: {tool: example.org/tool/cmd/tool}
images:
  - {name: "example.org/tool:v1", role: tool, programs: {/tool: tool/tool}}
files:
  - {program: tool/tool}
`

func TestParseRelease(t *testing.T) {
	cases := map[string]struct {
		reason       string
		from, to     string
		want         string
		wantNodeRole string
	}{
		"Valid":       {reason: "a complete recipe is taken, and node roles default to all", wantNodeRole: "all"},
		"Typo":        {reason: "unknown fields are refused", from: "epoch:", to: "epcoh:", want: "epcoh"},
		"NoVersion":   {reason: "components have versions", from: "version: v1\n", to: "version: \"\"\n", want: "tool has no version"},
		"NoModule":    {reason: "packages come from required modules", from: "{example.org/tool: v1.0.0}", to: "{}", want: "requires no module"},
		"NoProgram":   {reason: "images hold what is built", from: "/tool: tool/tool", to: "/tool: tool/other", want: "tool/other"},
		"NoAbsolute":  {reason: "programs have absolute paths in images", from: "/tool: tool", to: "tool: tool", want: "no absolute path"},
		"NoBase":      {reason: "bases are in the recipe", from: "role: tool", to: "role: tool, base: debian", want: "unknown base"},
		"NoNodeRole":  {reason: "node roles are known", from: "role: tool", to: "role: tool, nodeRole: some", want: "node role"},
		"UnknownFile": {reason: "node files are built", from: "{program: tool/tool}", to: "{program: x/y}", want: "x/y"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			text := smallRelease
			if c.from != "" {
				text = strings.Replace(text, c.from, c.to, 1)
			}
			release, err := bundle.ParseRelease([]byte(text))
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s: got %v, want %q", c.reason, err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatalf("%s: %v", c.reason, err)
			}
			if got := release.Files[0].NodeRole; got != c.wantNodeRole {
				t.Errorf("%s: node role %q, want %q", c.reason, got, c.wantNodeRole)
			}
		})
	}
}

func TestLoadReleaseRefusesOtherVersion(t *testing.T) {
	files := fstest.MapFS{"releases/v1.35.4.yaml": {Data: []byte(smallRelease)}}
	if _, err := bundle.LoadRelease(files, "v1.35.4"); err == nil || !strings.Contains(err.Error(), "v1.36.3") {
		t.Errorf("LoadRelease of a misnamed file: %v, want an error that names v1.36.3", err)
	}
}

func TestComponentModuleIsTheLongest(t *testing.T) {
	c := bundle.Component{Requires: map[string]string{"example.org/a": "v1", "example.org/a/b": "v2"}}
	cases := map[string]struct{ reason, pkg, module, version string }{
		"Longest": {"the nested module holds its packages", "example.org/a/b/cmd/x", "example.org/a/b", "v2"},
		"Outer":   {"other packages are in the outer module", "example.org/a/cmd/x", "example.org/a", "v1"},
		"Prefix":  {"a name that only starts alike is another module", "example.org/abc", "", ""},
	}
	for name, c2 := range cases {
		t.Run(name, func(t *testing.T) {
			module, version, _ := c.Module(c2.pkg)
			if diff := cmp.Diff([]string{c2.module, c2.version}, []string{module, version}); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c2.reason, diff)
			}
		})
	}
}

func TestLockRoundTrip(t *testing.T) {
	want := &bundle.Lock{
		Kubernetes: "v1.36.3", Go: "go1.26.8",
		Toolchain:  map[string]bundle.LockedTool{"gcc-12": {Version: "12.2.0-14", Files: "ab"}},
		Components: map[string]bundle.LockedModules{"x": {Language: "1.26.0", Requires: []string{"a v1"}, Sums: []string{"a v1 h1:x="}}},
		Bases:      map[string][]bundle.LockedPackage{"debian/amd64": {{Name: "libc6", Version: "2.36-9", SHA256: "cd"}}},
	}
	content, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := bundle.ParseLock(content)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("a lock survives being written (-want +got):\n%s", diff)
	}
	if _, err := bundle.ParseLock([]byte("kubernetes: v1.36.3\n")); err == nil {
		t.Error("a lock without a Go version is accepted")
	}
}
