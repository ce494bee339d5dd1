package flannel

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// TestManifest: every object that is applied, as it is applied. Its digest says when it must be applied again.
func TestManifest(t *testing.T) {
	i := Install{Image: "ghcr.io/flannel-io/flannel:v0.26.7", PodCIDR: "172.25.0.0/16", APIHost: "10.9.0.11", APIPort: "6443"}
	wanted, err := i.wanted()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	digests := map[string]bool{}
	for _, o := range wanted {
		b, err := yaml.Marshal(o.Object)
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString("---\n")
		out.Write(b)
		digests[o.GetAnnotations()[digestAnnotation]] = true
	}
	if len(digests) != len(wanted) || digests[""] {
		t.Errorf("%d digests of %d objects", len(digests), len(wanted))
	}
	path := filepath.Join("testdata", "manifest.golden")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), out.String()); diff != "" {
		t.Errorf("%s differs (-want +got), UPDATE_GOLDEN=1 writes it anew:\n%s", path, diff)
	}
	i.PodCIDR = "172.26.0.0/16"
	changed, err := i.wanted()
	if err != nil {
		t.Fatal(err)
	}
	for n, o := range changed {
		if same := o.GetAnnotations()[digestAnnotation] == wanted[n].GetAnnotations()[digestAnnotation]; same == (o.GetName() == "kube-flannel-cfg") {
			t.Errorf("%s %s: another pod network must change the configuration, and nothing else", o.GetKind(), o.GetName())
		}
	}
}
