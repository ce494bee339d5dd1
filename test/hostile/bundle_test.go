package hostile

import (
	"regexp"
	"testing"

	"github.com/opencontainers/go-digest"

	"slipway.dev/slipway/internal/bundle"
)

// word is what a name or a version in a bundle may look like, image that of an image.
var (
	harmlessWord  = regexp.MustCompile(`\A[A-Za-z0-9][A-Za-z0-9._+~-]*\z`)
	harmlessImage = regexp.MustCompile(`\A[a-z0-9][a-z0-9._/:-]*:[A-Za-z0-9_][A-Za-z0-9._-]*\z`)
	harmlessSum   = regexp.MustCompile(`\A[a-z0-9]+:[0-9a-f]+\z`)
)

// written is one string in the manifest of a bundle.
type written struct {
	good     string
	set      func(m *bundle.Manifest, v string)
	harmless *regexp.Regexp
	// reason says why nothing can come of the string where harmless is nil.
	reason string
}

func bundleStrings() map[string]written {
	image := func(f func(i *bundle.Image, v string)) func(*bundle.Manifest, string) {
		return func(m *bundle.Manifest, v string) { f(&m.Images[6], v) } // that of the pause container
	}
	file := func(f func(f *bundle.File, v string)) func(*bundle.Manifest, string) {
		return func(m *bundle.Manifest, v string) { f(&m.Files[0], v) }
	}
	return map[string]written{
		".name":                  {good: "v1.36.3", set: func(m *bundle.Manifest, v string) { m.Name = v }, reason: "the store names bundles by its own index"},
		".kubernetesVersion":     {good: "v1.36.3", set: func(m *bundle.Manifest, v string) { m.KubernetesVersion = v }, harmless: harmlessWord},
		".architectures[]":       {good: "amd64", set: func(m *bundle.Manifest, v string) { m.Architectures[0] = v }, harmless: harmlessWord},
		".components{key}":       {good: "etcd", set: func(m *bundle.Manifest, v string) { m.Components[v] = "1" }, harmless: harmlessWord},
		".components{}":          {good: "3.6.8", set: func(m *bundle.Manifest, v string) { m.Components["etcd"] = v }, harmless: harmlessWord},
		".lockDigest":            {good: "", set: func(m *bundle.Manifest, v string) { m.LockDigest = digest.Digest(v) }, reason: "nobody reads it"},
		".images[].name":         {good: "registry.k8s.io/pause:3.10.2", set: image(func(i *bundle.Image, v string) { i.Name = v }), harmless: harmlessImage},
		".images[].role":         {good: "pause", set: image(func(i *bundle.Image, v string) { i.Role = v }), harmless: harmlessWord},
		".images[].nodeRole":     {good: "all", set: image(func(i *bundle.Image, v string) { i.NodeRole = v }), harmless: harmlessWord},
		".images[].architecture": {good: "amd64", set: image(func(i *bundle.Image, v string) { i.Architecture = v }), harmless: harmlessWord},
		".images[].digest":       {good: string(digest.FromString("x")), set: image(func(i *bundle.Image, v string) { i.Digest = digest.Digest(v) }), harmless: harmlessSum},
		".files[].name":          {good: "kubelet", set: file(func(f *bundle.File, v string) { f.Name = v }), harmless: regexp.MustCompile(`\A[A-Za-z0-9_][A-Za-z0-9._-]*\z`)},
		".files[].component":     {good: "kubernetes", set: file(func(f *bundle.File, v string) { f.Component = v }), harmless: harmlessWord},
		".files[].nodeRole":      {good: "all", set: file(func(f *bundle.File, v string) { f.NodeRole = v }), harmless: harmlessWord},
		".files[].architecture":  {good: "amd64", set: file(func(f *bundle.File, v string) { f.Architecture = v }), harmless: harmlessWord},
		".files[].digest":        {good: string(digest.FromString("x")), set: file(func(f *bundle.File, v string) { f.Digest = digest.Digest(v) }), harmless: harmlessSum},
	}
}

// TestBundle_StringsAreRefusedOrHarmless: whoever makes a bundle cannot name anything so that a program on a host, or a
// person's terminal, takes it for something else.
func TestBundle_StringsAreRefusedOrHarmless(t *testing.T) {
	t.Parallel()
	each := size(12_000)
	for path, w := range bundleStrings() {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := newSource(uint64(len(path)))
			for i := range each {
				v := w.good
				if i > 0 {
					v = s.near(w.good)
				}
				m := goodBundle()
				w.set(m, v)
				tried.add("strings of bundles", path+" "+v)
				err := m.Validate()
				if i == 0 && err != nil {
					t.Fatalf("%q is no good example: %v", v, err)
				}
				if err == nil && w.harmless != nil && !w.harmless.MatchString(v) {
					t.Fatalf("%q is accepted", v)
				}
				if w.harmless == nil && w.reason == "" {
					t.Fatal("the table says neither what is harmless nor why anything is")
				}
			}
		})
	}
	m := goodBundle()
	m.Files[0].Mode = 0o4755
	if m.Validate() == nil {
		t.Error("a bundle can bring programs that run as their owner")
	}
}
