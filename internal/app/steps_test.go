package app

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"

	"slipway.dev/slipway/api/v1alpha1"
	fakecluster "slipway.dev/slipway/internal/cluster/fake"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	fakehost "slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/step"
)

// vault is step.Secrets by key.
type vault map[string]string

func (v vault) Secret(_ context.Context, ref step.SecretRef) ([]byte, error) {
	value, ok := v[ref.Key]
	if !ok {
		return nil, fmt.Errorf("there is no secret %s", ref.Key)
	}
	return []byte(value), nil
}

// store is step.Blobs by digest.
type store map[string]string

type closer struct{ io.ReadSeeker }

func (closer) Close() error { return nil }

func (s store) Blob(_ context.Context, d string) (io.ReadSeekCloser, int64, error) {
	content, ok := s[d]
	if !ok {
		return nil, 0, fmt.Errorf("there is no blob %s", d)
	}
	return closer{strings.NewReader(content)}, int64(len(content)), nil
}

func digestOf(content string) string { return digest.FromString(content).String() }

// answering is a managed cluster in memory.
type answering struct {
	client.WithWatch
	*fakecluster.Etcd
	ready error
	// answers are those of the API server by path.
	answers map[string]string
}

func (c *answering) Ready(context.Context, string) error { return c.ready }

func (c *answering) Ask(_ context.Context, _, path string) ([]byte, error) {
	return []byte(c.answers[path]), c.ready
}

// Evict deletes the pod at once.
func (c *answering) Evict(ctx context.Context, namespace, pod string, _ *int64) error {
	return client.IgnoreNotFound(c.Delete(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: pod}}))
}

// nodeOf is how an API server finds the pods of a node.
func nodeOf(o client.Object) []string { return []string{o.(*corev1.Pod).Spec.NodeName} }

// bench is one fake host with one fake cluster.
type bench struct {
	t       *testing.T
	host    *fakehost.Host
	cluster *answering
	target  step.Target
	secrets vault
	blobs   store
	// dial reaches what the host serves; nil where a step must not.
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	backups shelf
}

func newBench(t *testing.T, tc stepCase) *bench {
	t.Helper()
	b := &bench{t: t, host: fakehost.New("w1", v1alpha1.HostFacts{}), target: target(), secrets: vault{}, blobs: store{}, backups: shelf{}}
	b.cluster = &answering{Etcd: &fakecluster.Etcd{}, WithWatch: clientfake.NewClientBuilder().WithScheme(scheme.Scheme).WithIndex(&corev1.Pod{}, "spec.nodeName", nodeOf).Build()}
	if tc.target != nil {
		tc.target(&b.target)
	}
	b.programs()
	if tc.prepare != nil {
		tc.prepare(b)
	}
	return b
}

func target() step.Target {
	return step.Target{Name: "w1", Address: "10.9.0.21", Architecture: "amd64", MTU: 1500, Platform: "10.9.0.1:8443"}
}

func (b *bench) reader() step.Reader {
	return step.Reader{Reader: b.host, Target: b.target, Secrets: b.secrets, Cluster: b.cluster, Backups: b.backups, Dial: b.dial}
}

func (b *bench) writer() step.Writer {
	return step.Writer{Writer: b.host.Writer(host.Fence{Owner: "test", Epoch: 1}), Target: b.target, Secrets: b.secrets, Blobs: b.blobs, Backups: b.backups, Cluster: b.cluster, Reading: b.reader()}
}

func (b *bench) write(path, content string) {
	b.t.Helper()
	b.host.Do(func(s *fakehost.State) {
		if err := s.WriteFile(path, []byte(content), 0o644); err != nil {
			b.t.Fatal(err)
		}
	})
}

func (b *bench) create(objects ...client.Object) {
	b.t.Helper()
	for _, o := range objects {
		if err := b.cluster.Create(b.t.Context(), o); err != nil {
			b.t.Fatal(err)
		}
	}
}

// unit gives the host a unit that its distribution brought; started says that it runs from boot on.
// What it has read when it started last is kept in /run/loaded, so that a start that is left out can be seen.
func (b *bench) unit(name, config string, started bool) {
	b.t.Helper()
	b.write("/usr/lib/systemd/system/"+name, "[Unit]\n")
	b.loads(name, config)
	if started {
		b.run("systemctl", "enable", "--now", name)
	}
}

func (b *bench) loads(name, config string) {
	b.host.Do(func(s *fakehost.State) {
		s.UnitEffects[name] = func(s *fakehost.State, verb string) host.Result {
			content, err := s.ReadFile(config)
			if err != nil {
				content = []byte("nothing")
			}
			if verb == "stop" {
				content = []byte("stopped")
			}
			if err := s.WriteFile("/run/loaded/"+name, content, 0o644); err != nil {
				return fakehost.Fail(1, err.Error())
			}
			return host.Result{}
		}
	})
}

// run runs a program as somebody at the machine does.
func (b *bench) run(argv ...string) {
	b.t.Helper()
	b.host.Do(func(s *fakehost.State) {
		if r := s.Exec(fakehost.Call{Argv: argv}); r.ExitCode != 0 {
			b.t.Fatalf("%v: %s", argv, r.Stderr)
		}
	})
}

// programs makes the host play what the steps call, beside the built-in programs.
func (b *bench) programs() {
	b.host.Handle("setenforce", func(s *fakehost.State, c fakehost.Call) host.Result {
		return done(s.WriteFile("/sys/fs/selinux/enforce", []byte(c.Argv[1]), 0o644))
	})
	b.host.Handle("swapoff", func(s *fakehost.State, _ fakehost.Call) host.Result {
		return done(s.WriteFile("/proc/swaps", []byte("Filename Type Size Used Priority\n"), 0o444))
	})
	b.host.Handle("ip", func(s *fakehost.State, c fakehost.Call) host.Result {
		s.Links = slices.DeleteFunc(s.Links, func(l host.Link) bool { return l.Name == c.Argv[3] })
		return host.Result{}
	})
	b.host.Handle("nft", func(s *fakehost.State, c fakehost.Call) host.Result {
		s.NFTables = strings.Replace(s.NFTables, "table "+c.Argv[3]+" "+c.Argv[4]+" {\n}\n", "", 1)
		return host.Result{}
	})
	b.host.Handle("iptables-restore", func(s *fakehost.State, c fakehost.Call) host.Result {
		s.IPTables = string(c.Stdin)
		return host.Result{}
	})
	b.host.Handle("kill", func(s *fakehost.State, c fakehost.Call) host.Result {
		s.Containers = slices.DeleteFunc(s.Containers, func(p host.Process) bool { return slices.Contains(c.Argv, fmt.Sprint(p.PID)) })
		return host.Result{}
	})
	b.host.Handle("/usr/local/bin/ctr", func(s *fakehost.State, c fakehost.Call) host.Result {
		if c.Argv[6] == "import" {
			key, value, _ := strings.Cut(c.Argv[slices.Index(c.Argv, "--label")+1], "=")
			return done(s.ImportImages(c.Stdin, map[string]string{key: value}))
		}
		name := c.Argv[7]
		key, value, _ := strings.Cut(c.Argv[8], "=")
		s.Images[name] = host.Image{Digest: s.Images[name].Digest, Labels: map[string]string{key: value}}
		return host.Result{}
	})
}

func done(err error) host.Result {
	if err != nil {
		return fakehost.Fail(1, err.Error())
	}
	return host.Result{}
}

// phase makes kubeadm do f for one of its phases, and fail for every other.
func (b *bench) phase(name string, f func(s *fakehost.State) error) {
	b.host.Handle("/usr/local/bin/kubeadm", func(s *fakehost.State, c fakehost.Call) host.Result {
		if got := strings.Join(c.Argv[1:], " "); !strings.Contains(name, got) {
			return fakehost.Fail(1, "kubeadm: unexpected "+got)
		}
		return done(f(s))
	})
}

// stepCase is one step on a host that lacks what the step makes.
type stepCase struct {
	reason  string
	step    step.Step
	target  func(*step.Target)
	prepare func(*bench)
	// drift names what Check must find, in any order. None means that the step only waits.
	drift []string
	// event is what a waiting step waits for.
	event func(*bench)
	// golden lists the files that go into testdata/steps, and secrets what is masked in them.
	golden []string
}

func (b *bench) check(s step.Step) step.Drift {
	b.t.Helper()
	drift, err := s.Check(b.t.Context(), b.reader())
	if err != nil {
		b.t.Fatalf("Check: %v", err)
	}
	return drift
}

func (b *bench) clean(s step.Step, when string) {
	b.t.Helper()
	if drift := b.check(s); !drift.Clean() {
		b.t.Fatalf("drift %s: %v", when, drift)
	}
}

func (b *bench) apply(s step.Step) {
	b.t.Helper()
	if err := s.Apply(b.t.Context(), b.writer()); err != nil {
		b.t.Fatalf("Apply: %v", err)
	}
}

// TestStep: Check finds the drift, Apply mends it, and a second time changes nothing.
func TestStep(t *testing.T) {
	covered := map[step.ID]bool{}
	for name, tc := range stepCases() {
		covered[tc.step.ID()] = true
		t.Run(name, func(t *testing.T) {
			t.Log(tc.reason)
			b := newBench(t, tc)
			if tc.event != nil {
				waits(t, b, tc)
				return
			}
			var found []string
			for _, d := range b.check(tc.step) {
				found = append(found, d.What)
			}
			slices.Sort(found)
			want := slices.Sorted(slices.Values(tc.drift))
			if diff := cmp.Diff(want, found); diff != "" {
				t.Errorf("drift (-want +got):\n%s", diff)
			}
			if len(want) > 0 {
				b.apply(tc.step)
			}
			b.clean(tc.step, "after Apply")
			once := b.host.Snapshot()
			b.apply(tc.step)
			b.clean(tc.step, "after the second Apply")
			if diff := cmp.Diff(once, b.host.Snapshot()); diff != "" {
				t.Errorf("the second Apply changed the host (-once +twice):\n%s", diff)
			}
			b.golden(name, tc.golden)
		})
	}
	registry, err := Steps()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range registry.IDs() {
		if !covered[id] {
			t.Errorf("step %s has no case: add one to stepCases", id)
		}
	}
}

// waits proves that a step says Waiting until the event, and nothing after it.
func waits(t *testing.T, b *bench, tc stepCase) {
	t.Helper()
	_, err := tc.step.Check(t.Context(), b.reader())
	if fault.ClassOf(err) != fault.Waiting {
		t.Fatalf("before the event: %v, want an error of class Waiting", err)
	}
	tc.event(b)
	if drift := b.check(tc.step); !drift.Clean() {
		if len(tc.drift) == 0 {
			t.Fatalf("after the event: %v", drift)
		}
		b.apply(tc.step)
	}
	b.clean(tc.step, "after the event")
}

// TestStepCut: wherever Apply is cut off, the next Check sees it, and what follows ends like a run without a cut.
func TestStepCut(t *testing.T) {
	for name, tc := range stepCases() {
		if len(tc.drift) == 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			whole := newBench(t, tc)
			if tc.event != nil {
				tc.event(whole)
			}
			before := whole.host.Writes()
			whole.apply(tc.step)
			want, writes := whole.host.Snapshot(), whole.host.Writes()-before
			for n := range writes {
				for _, at := range []fakehost.Point{fakehost.BeforeCommand, fakehost.BeforeExitCode} {
					b := newBench(t, tc)
					if tc.event != nil {
						tc.event(b)
					}
					b.host.Inject(fakehost.Fault{At: at, Skip: n})
					if err := tc.step.Apply(t.Context(), b.writer()); err == nil {
						t.Fatalf("write %d, cut %d: Apply says nothing of the cut", n, at)
					}
					if !b.check(tc.step).Clean() {
						b.apply(tc.step)
					}
					b.clean(tc.step, fmt.Sprintf("after a cut of write %d", n))
					if diff := cmp.Diff(want, b.host.Snapshot()); diff != "" {
						t.Errorf("write %d, cut %d: the host ends otherwise (-whole +cut):\n%s", n, at, diff)
					}
				}
			}
		})
	}
}

// golden compares files of the host with testdata/steps/NAME.golden; UPDATE_GOLDEN=1 writes it anew.
func (b *bench) golden(name string, paths []string) {
	b.t.Helper()
	if len(paths) == 0 {
		return
	}
	var out bytes.Buffer
	b.host.Do(func(s *fakehost.State) {
		for _, p := range paths {
			content, err := s.ReadFile(p)
			if err != nil {
				b.t.Fatal(err)
			}
			text := string(content)
			for key, secret := range b.secrets {
				if !strings.HasSuffix(key, ".crt") {
					text = strings.ReplaceAll(text, secret, "[redacted]")
				}
			}
			fmt.Fprintf(&out, "==> %s %v\n%s", p, s.Lookup(p).Mode, text)
		}
	})
	path := filepath.Join("testdata", "steps", strings.ReplaceAll(name, " ", "-")+".golden")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			b.t.Fatal(err)
		}
		if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		b.t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), out.String()); diff != "" {
		b.t.Errorf("%s differs (-want +got), UPDATE_GOLDEN=1 writes it anew:\n%s", path, diff)
	}
}
