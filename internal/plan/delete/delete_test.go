package delete

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/step"
)

func TestPlan(t *testing.T) {
	cases := map[string]struct {
		reason string
		spec   func(*v1alpha1.ClusterSpec)
		hosts  []string
	}{
		"three-nodes": {"all hosts are cleaned side by side, without asking the cluster", func(*v1alpha1.ClusterSpec) {}, []string{"cp1", "w1", "w2"}},
		"other-directories": {"data goes from where it was kept", func(s *v1alpha1.ClusterSpec) {
			s.Runtime.DataDir, s.Components.Etcd.DataDir = "/srv/containerd", "/srv/etcd"
		}, []string{"cp1"}},
		"no-hosts": {"a cluster that never held a host has nothing to clean", func(*v1alpha1.ClusterSpec) {}, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in := Input{Namespace: "dev", Name: "demo"}
			in.Spec.Runtime.DataDir, in.Spec.Components.Etcd.DataDir = "/var/lib/containerd", "/var/lib/etcd"
			c.spec(&in.Spec)
			for _, h := range c.hosts {
				in.Hosts = append(in.Hosts, step.Target{Name: h})
			}
			p, err := Plan(in)
			if err != nil {
				t.Fatalf("%s: %v", c.reason, err)
			}
			got, err := p.Encode()
			if err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("testdata", name, "plan.golden"), got)
		})
	}
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if os.Getenv("UPDATE_GOLDEN") == "1" {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; UPDATE_GOLDEN=1 writes it", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("plan (-%s +now); UPDATE_GOLDEN=1 writes it:\n%s", path, diff)
	}
}
