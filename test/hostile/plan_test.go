package hostile

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/app"
	"slipway.dev/slipway/internal/bundle"
	fakehost "slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/pki"
	"slipway.dev/slipway/internal/plan/create"
	plandelete "slipway.dev/slipway/internal/plan/delete"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/step"
)

func effect(v string) corev1.TaintEffect { return corev1.TaintEffect(v) }

// land is where a request goes: kinds that judge it, a bundle, and three hosts with three time services.
type land struct {
	kinds  kinds
	bundle *bundle.Manifest
	hosts  fakehost.Sessions
	steps  step.Registry
	vault  vault
	ca     string
}

func newLand(t testing.TB) *land {
	t.Helper()
	ca, err := pki.NewCA("land", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	l := &land{kinds: loadKinds(t), bundle: goodBundle(), hosts: fakehost.Sessions{}, vault: vault{ca.CertPEM()}, ca: string(ca.CertPEM())}
	if l.steps, err = app.Steps(); err != nil {
		t.Fatal(err)
	}
	for name, service := range map[string]string{"cp1": "systemd-timesyncd.service", "w1": "chrony.service", "w2": "chronyd.service"} {
		h := fakehost.New(name, v1alpha1.HostFacts{})
		h.Do(func(s *fakehost.State) {
			for path, content := range map[string]string{
				"/usr/lib/systemd/system/" + service: "[Unit]\n", "/usr/local/bin/ctr": "", "/run/containerd/containerd.sock": "",
				"/proc/swaps": "Filename Type Size Used Priority\n", "/etc/fstab": "", "/var/lib/kubelet/pki/kubelet-client-current.pem": "",
			} {
				if err := s.WriteFile(path, []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
		l.hosts[name] = h
	}
	return l
}

func goodBundle() *bundle.Manifest {
	m := &bundle.Manifest{Name: "v1.36.3", KubernetesVersion: "v1.36.3", Architectures: []string{"amd64"}, Components: map[string]string{"etcd": "3.6.8"}}
	for name := range strings.FieldsSeq("containerd containerd-shim-runc-v2 ctr runc crictl bridge host-local loopback portmap kubeadm kubelet kubectl") {
		m.Files = append(m.Files, bundle.File{Name: name, Component: "some", Architecture: "amd64", NodeRole: bundle.NodeRoleAll, Digest: digest.FromString(name), Mode: 0o755})
	}
	for _, i := range [][2]string{
		{bundle.RoleKubeAPIServer, "registry.k8s.io/kube-apiserver:v1.36.3"}, {bundle.RoleKubeControllerManager, "registry.k8s.io/kube-controller-manager:v1.36.3"},
		{bundle.RoleKubeScheduler, "registry.k8s.io/kube-scheduler:v1.36.3"}, {bundle.RoleEtcd, "registry.k8s.io/etcd:3.6.8-0"},
		{bundle.RoleCoreDNS, "registry.k8s.io/coredns/coredns:v1.14.2"}, {bundle.RoleKubeProxy, "registry.k8s.io/kube-proxy:v1.36.3"},
		{bundle.RolePause, "registry.k8s.io/pause:3.10.2"}, {bundle.RoleFlannel, "ghcr.io/flannel-io/flannel:v0.26.7"},
	} {
		m.Images = append(m.Images, bundle.Image{Name: i[1], Role: i[0], NodeRole: bundle.NodeRoleAll, Architecture: "amd64", Digest: digest.FromString(i[1])})
	}
	return m
}

// input gives what the planner gets for a request, as the operation's controller puts it together.
func (l *land) input(r *request) stages.Input {
	in := stages.Input{
		Namespace: "dev", Name: "demo", UID: "uid-1", Secret: "cluster-demo", PlatformCA: l.ca, Bundle: l.bundle, Spec: r.Cluster.Spec,
		Hosts: map[string]v1alpha1.Host{}, Platform: map[string]string{},
		Grants:  []v1alpha1.GrantSpec{{Kind: v1alpha1.GrantHost, Name: v1alpha1.GrantEverything}, {Kind: v1alpha1.GrantBundle, Name: v1alpha1.GrantEverything}},
		Systems: []stages.System{{ID: "debian", Versions: []string{"12"}, KernelMin: "3.10"}},
	}
	for _, s := range r.NTP.Spec.NTP.Servers {
		in.TimeServers = append(in.TimeServers, s.Address)
	}
	for i, name := range []string{"cp1", "w1", "w2"} {
		address := fmt.Sprintf("192.0.2.%d", 10+i)
		in.Hosts[name] = v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: v1alpha1.HostStatus{
			InternalAddress: address, Conditions: []metav1.Condition{{Type: v1alpha1.HostReachable, Status: metav1.ConditionTrue}},
			Facts: &v1alpha1.HostFacts{MachineID: name, OS: v1alpha1.HostOS{ID: "debian", Version: "12"}, Kernel: "6.1.0", Architecture: "amd64", CPUs: 4,
				MemoryBytes: 8 << 30, CgroupVersion: 2, KernelFeatures: []string{"overlay", "vxlan", "bridge", "nf_tables"},
				NICs: []v1alpha1.HostNIC{{Name: "eth0", MTU: 1500, Addresses: []string{address + "/24"}}}},
		}}
		in.Platform[name] = net.JoinHostPort(r.Platform.Spec.Platform.Address, "8443")
	}
	return in
}

// follow plans a request, create and delete, and plays both on every host. An error of the first kind says that the plan
// is refused, one of the second that a step could not be played.
func (l *land) follow(ctx context.Context, r *request) (s shape, refused, broken error) {
	in := l.input(r)
	made, refused := create.Plan(in)
	if refused != nil {
		return nil, refused, nil
	}
	gone, refused := plandelete.Plan(plandelete.Input{Namespace: in.Namespace, Name: in.Name, Spec: in.Spec, Hosts: made.Hosts})
	if refused != nil {
		return nil, refused, nil
	}
	for _, stage := range slices.Concat(made.Stages, gone.Stages) {
		for _, call := range stage.Calls {
			st, err := l.steps.Decode(call.ID, call.Parameters)
			if err != nil {
				return nil, nil, err
			}
			for _, name := range stage.Hosts {
				target, _ := made.Target(name)
				out, err := play(ctx, l.hosts[name], target, l.vault, st)
				if err != nil {
					return nil, nil, fmt.Errorf("%s on %s: %w", call.Name, name, err)
				}
				for _, leaf := range out {
					leaf.where = name + " " + call.Name + " " + leaf.where
					s = append(s, leaf)
				}
			}
		}
	}
	return s, nil, nil
}

// wire gives a string as it arrives in JSON.
func wire(v string) string {
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil {
		panic(err)
	}
	return v
}

// TestPeople_StringsAreRefusedOrHarmless: whatever people write, the API's own rules refuse it or it is made of
// characters that mean nothing to a shell, a file format or a terminal.
func TestPeople_StringsAreRefusedOrHarmless(t *testing.T) {
	t.Parallel()
	each := size(6000)
	l := newLand(t)
	for n, p := range people() {
		t.Run(p.kind+p.path, func(t *testing.T) {
			t.Parallel()
			s, accepted := newSource(uint64(n)), 0
			for i := range each {
				v := p.good
				if i > 0 {
					v = s.near(p.good)
				}
				r := goodRequest()
				p.set(r, v)
				tried.add("people's strings against the API", p.kind+p.path+" "+v)
				object := p.object(r)
				err := l.kinds.admit(t.Context(), p.kind, object, object)
				if i == 0 && err != nil {
					t.Fatalf("%q is no good example: %v", v, err)
				}
				if err != nil {
					continue
				}
				accepted++
				// An empty value is left out and stands for the default.
				if v = wire(v); v != "" && p.harmless != nil && !p.harmless.MatchString(v) {
					t.Fatalf("%q is accepted", v)
				}
				if p.harmless == nil && p.reason == "" {
					t.Fatal("the table says neither what is harmless nor why anything is")
				}
			}
			if accepted == each {
				if p.reason == "" {
					t.Error("nothing was refused")
				}
			}
		})
	}
}

// TestPeople_StringsArriveAsOneValue: what the API accepts is refused by the plan, or arrives on every host as exactly
// one value at exactly the places where the good example arrives.
func TestPeople_StringsArriveAsOneValue(t *testing.T) {
	t.Parallel()
	each, most := size(120), size(12_000)
	l := newLand(t)
	for n, p := range people() {
		if !p.rendered {
			continue
		}
		t.Run(p.kind+p.path, func(t *testing.T) {
			t.Parallel()
			good, refused, broken := l.follow(t.Context(), goodRequest())
			if refused != nil || broken != nil {
				t.Fatal(refused, broken)
			}
			if same := good.diff(good.with(p.good, "another")); len(same) == 0 && p.path != ".spec.workerPools[].name" {
				t.Fatalf("%q is found nowhere", p.good)
			}
			s, followed, tries := newSource(1000+uint64(n)), 0, 0
			for ; followed < each && tries < most; tries++ {
				v := s.near(p.good)
				r := goodRequest()
				p.set(r, v)
				tried.add("people's strings followed to the hosts", p.kind+p.path+" "+v)
				object := p.object(r)
				if l.kinds.admit(t.Context(), p.kind, object, object) != nil {
					continue
				}
				v = wire(v)
				got, refused, broken := l.follow(t.Context(), r)
				if broken != nil {
					t.Fatalf("%q breaks a step: %v", v, broken)
				}
				if refused != nil {
					continue
				}
				followed++
				want := good.with(p.good, v)
				if strings.HasSuffix(p.path, ".dataDir") {
					want, got = want.without(step.BeforeAbsent), got.without(step.BeforeAbsent)
				}
				if v == "" {
					continue // An empty value stands for the default, which is another.
				}
				if only := want.diff(got); len(only) > 0 {
					t.Fatalf("%q arrives otherwise: %d differences, such as %q", v, len(only), only[:min(len(only), 4)])
				}
			}
			if followed < each/4 {
				t.Errorf("only %d of %d tries came through: the generator is too wild", followed, tries)
			}
		})
	}
}

// without leaves the leaves of one file out.
func (s shape) without(file string) shape {
	return slices.DeleteFunc(slices.Clone(s), func(l leaf) bool { return strings.Contains(l.where, "file "+path.Clean(file)) })
}
