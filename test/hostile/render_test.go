package hostile

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"slipway.dev/slipway/internal/step"
	"slipway.dev/slipway/internal/step/containerd"
	"slipway.dev/slipway/internal/step/flannel"
	"slipway.dev/slipway/internal/step/kubeadm"
	"slipway.dev/slipway/internal/step/reset"
)

// drawn is one string of a step, or of the host it runs on, that is put into a file or an object.
type drawn struct {
	good string
	step func(v string) (step.Step, step.Target)
	each int
}

func drawings() map[string]drawn {
	on := func(f func(t *step.Target)) step.Target {
		t := step.Target{Name: "w1", Address: "192.0.2.11", Architecture: "amd64", MTU: 1500, Platform: "192.0.2.1:8443", ControlPlane: true}
		if f != nil {
			f(&t)
		}
		return t
	}
	runtime, objects, documents := size(14_000), size(6_000), size(2_000)
	configure := func(f func(c *containerd.Configure, t *step.Target, v string)) drawn {
		return drawn{good: "marker", each: runtime, step: func(v string) (step.Step, step.Target) {
			c, t := containerd.Configure{DataDir: "/var/lib/containerd", PauseImage: "pause:1", CA: "ca", Token: step.SecretRef{Name: "demo", Key: "token"}}, on(nil)
			f(&c, &t, v)
			return c, t
		}}
	}
	settings := func(f func(s *kubeadm.Settings, v string)) drawn {
		return drawn{good: "marker", each: documents, step: func(v string) (step.Step, step.Target) {
			s := kubeadm.Settings{Name: "demo", Version: "v1.36.3", Endpoint: "e:6443", Port: 6443, PodCIDR: "p", ServiceCIDR: "s", DNSDomain: "d",
				CertSANs: []string{"one", "two"}, EtcdTag: "3", EtcdDataDir: "/var/lib/etcd", DNSTag: "1", ProxyMode: "nftables"}
			f(&s, v)
			return kubeadm.Configure{Settings: s, Token: step.SecretRef{Key: "token"}, CA: step.SecretRef{Key: "ca.crt"}}, on(nil)
		}}
	}
	network := func(f func(i *flannel.Install, v string)) drawn {
		return drawn{good: "marker", each: objects, step: func(v string) (step.Step, step.Target) {
			i := flannel.Install{Image: "flannel:1", PodCIDR: "p", APIHost: "h", APIPort: "6443"}
			f(&i, v)
			return i, on(nil)
		}}
	}
	return map[string]drawn{
		"containerd data directory": configure(func(c *containerd.Configure, _ *step.Target, v string) { c.DataDir = v }),
		"containerd pause image":    configure(func(c *containerd.Configure, _ *step.Target, v string) { c.PauseImage = v }),
		"containerd authority":      configure(func(c *containerd.Configure, _ *step.Target, v string) { c.CA = v }),
		"containerd token":          configure(func(c *containerd.Configure, _ *step.Target, v string) { c.Token.Key = v }),
		"containerd mirror":         configure(func(_ *containerd.Configure, t *step.Target, v string) { t.Platform = v }),
		"mirror of a registry": {good: "marker", each: runtime, step: func(v string) (step.Step, step.Target) {
			return containerd.Mirrors{Token: step.SecretRef{Key: "token"}, Registries: []containerd.Registry{{Name: "docker.io", Endpoints: []string{v, "https://two"}}}}, on(nil)
		}},
		"image":             pinned(objects, on(nil)),
		"kubeadm cluster":   settings(func(s *kubeadm.Settings, v string) { s.Name = v }),
		"kubeadm version":   settings(func(s *kubeadm.Settings, v string) { s.Version = v }),
		"kubeadm endpoint":  settings(func(s *kubeadm.Settings, v string) { s.Endpoint = v }),
		"kubeadm pods":      settings(func(s *kubeadm.Settings, v string) { s.PodCIDR = v }),
		"kubeadm services":  settings(func(s *kubeadm.Settings, v string) { s.ServiceCIDR = v }),
		"kubeadm domain":    settings(func(s *kubeadm.Settings, v string) { s.DNSDomain = v }),
		"kubeadm name":      settings(func(s *kubeadm.Settings, v string) { s.CertSANs[0] = v }),
		"kubeadm etcd tag":  settings(func(s *kubeadm.Settings, v string) { s.EtcdTag = v }),
		"kubeadm etcd data": settings(func(s *kubeadm.Settings, v string) { s.EtcdDataDir = v }),
		"kubeadm DNS tag":   settings(func(s *kubeadm.Settings, v string) { s.DNSTag = v }),
		"kubeadm proxy":     settings(func(s *kubeadm.Settings, v string) { s.ProxyMode = v }),
		"kubeadm node": {good: "marker", each: documents, step: func(v string) (step.Step, step.Target) {
			return kubeadm.Configure{Token: step.SecretRef{Key: "token"}, CA: step.SecretRef{Key: "ca.crt"}}, on(func(t *step.Target) { t.Name = v })
		}},
		"kubeadm token": {good: "marker", each: documents, step: func(v string) (step.Step, step.Target) {
			return kubeadm.Configure{Token: step.SecretRef{Key: v}, CA: step.SecretRef{Key: "ca.crt"}}, on(func(t *step.Target) { t.ControlPlane = false })
		}},
		"flannel image":    network(func(i *flannel.Install, v string) { i.Image = v }),
		"flannel network":  network(func(i *flannel.Install, v string) { i.PodCIDR = v }),
		"flannel API host": network(func(i *flannel.Install, v string) { i.APIHost = v }),
		"flannel API port": network(func(i *flannel.Install, v string) { i.APIPort = v }),
		"removed path": {good: "/etc/marker/x", each: 4 * objects, step: func(v string) (step.Step, step.Target) {
			return reset.Files{Paths: []string{v}}, on(nil)
		}},
	}
}

func pinned(each int, t step.Target) drawn {
	return drawn{good: "marker", each: each, step: func(v string) (step.Step, step.Target) {
		return containerd.PinImages{Images: []containerd.Image{{Name: v, Digest: "sha256:" + strings.Repeat("0", 64), Architecture: "amd64"}}}, t
	}}
}

// TestDrawings_HoldExactlyTheString: every file and object that is made of strings is read back by the parser of those
// who read it on a host, and holds the string as one value and everything else as before, whatever the string is. No
// rule of the API stands before it here.
func TestDrawings_HoldExactlyTheString(t *testing.T) {
	t.Parallel()
	l := newLand(t)
	for name, d := range drawings() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			draw := func(v string) (shape, error) {
				st, target := d.step(v)
				return play(t.Context(), l.hosts["w1"], target, l.vault, st)
			}
			good, err := draw(d.good)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(fmt.Sprint(good), d.good) {
				t.Fatal("the string is nowhere")
			}
			s := newSource(uint64(len(name)))
			s.longest = 512
			refused := 0
			for range d.each {
				v := wire(s.near(d.good))
				tried.add("strings in files and objects", name+" "+v)
				got, err := draw(v)
				if errors.Is(err, errUnreadable) {
					t.Fatalf("%q: %v", v, err)
				}
				if err != nil || v == "" {
					refused++ // An encoder, or the guard of paths, does not take it; nothing is left out.
					continue
				}
				only := good.with(d.good, v).diff(got)
				if strings.ContainsAny(v, "\u0085\u2028\u2029") {
					// YAML folds, or doubles, line ends that its encoder leaves alone: another value, but one.
					only = good.with(d.good, v).folded().diff(got.folded())
				}
				if len(only) > 0 {
					t.Fatalf("%q arrives otherwise: %d differences, such as %q", v, len(only), only[:min(len(only), 4)])
				}
			}
			if refused > d.each*4/5 {
				t.Errorf("%d of %d did not come through", refused, d.each)
			}
		})
	}
}
