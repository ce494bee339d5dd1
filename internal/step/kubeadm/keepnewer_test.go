package kubeadm

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/step"
)

// TestKeepNewer: an upgrade over several versions that is tried again checks the steps of the first version on control planes
// that have gone further.
func TestKeepNewer(t *testing.T) {
	cases := map[string]struct {
		reason              string
		config, etcd, other string
		step                step.Step
		want                []string
	}{
		"behind":     {"it must be moved", "v1.35.4", "3.6.6-0", "v1.35.4", Manifests{Version: "v1.36.3", EtcdTag: "3.6.8-0", EtcdDataDir: "/d", KeepNewer: true}, []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}},
		"further":    {"it must not go back", "v1.37.1", "3.7.0-0", "v1.37.1", Manifests{Version: "v1.36.3", EtcdTag: "3.6.8-0", EtcdDataDir: "/d", KeepNewer: true}, nil},
		"half-way":   {"what has not moved yet moves", "v1.37.1", "3.6.6-0", "v1.37.1", Manifests{Version: "v1.36.3", EtcdTag: "3.6.8-0", EtcdDataDir: "/d", KeepNewer: true}, []string{"etcd"}},
		"only-etcd":  {"the rest is not looked at", "v1.35.4", "3.6.6-0", "v1.35.4", Manifests{Version: "v1.36.3", EtcdTag: "3.6.8-0", EtcdDataDir: "/d", Only: OnlyEtcd}, []string{"etcd"}},
		"only-api":   {"nor is etcd", "v1.35.4", "3.6.6-0", "v1.36.3", Manifests{Version: "v1.36.3", EtcdTag: "3.6.8-0", EtcdDataDir: "/d", Only: OnlyAPI}, nil},
		"restore":    {"a restore does go back", "v1.37.1", "3.7.0-0", "v1.37.1", Manifests{Version: "v1.36.3", EtcdTag: "3.7.0-0", EtcdDataDir: "/d"}, []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"}},
		"config":     {"kubeadm's configuration is of the version that it writes", "v1.35.4", "", "", Configure{Settings: Settings{Version: "v1.36.3"}, KeepNewer: true}, []string{strings.TrimSuffix(ConfigPath, ".yaml")}},
		"new-config": {"it stays as well", "v1.37.1", "", "", Configure{Settings: Settings{Version: "v1.36.3"}, KeepNewer: true}, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h := fake.New("cp1", v1alpha1.HostFacts{})
			h.Do(func(s *fake.State) {
				files := map[string]string{ConfigPath: "kubernetesVersion: " + c.config + "\n"}
				for _, pod := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
					tag := c.other
					if pod == "etcd" {
						tag = c.etcd
					}
					files[manifests+"/"+pod+".yaml"] = "    - --data-dir=/d\n    image: registry.k8s.io/" + pod + ":" + tag + "\n"
				}
				for path, content := range files {
					if err := s.WriteFile(path, []byte(content), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			})
			drift, err := c.step.Check(t.Context(), step.Reader{Reader: h, Secrets: vault{"": []byte("abc.def")}, Target: step.Target{Name: "cp1", ControlPlane: true}})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range drift {
				got = append(got, strings.TrimSuffix(strings.TrimPrefix(d.What, manifests+"/"), ".yaml"))
			}
			slices.Sort(got)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}
