package operation_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/blob"
	"slipway.dev/slipway/internal/host"
	fakehost "slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/operation"
	"slipway.dev/slipway/internal/operation/operationtest"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/step"
)

// digest describes every file that a host did not have at first, without the fence, times and random values.
func (w *world) digest(context.Context) (string, error) {
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(w.hosts)) {
		w.hosts[name].Do(func(s *fakehost.State) {
			token := "no token"
			if content, err := s.ReadFile("/etc/token"); err == nil {
				token = string(content)
			}
			for _, info := range s.Tree("/") {
				content, err := s.ReadFile(info.Path)
				if err != nil || strings.HasPrefix(info.Path, "/run/slipway") || strings.HasPrefix(info.Path, "/var/lib/slipway") {
					continue // a directory, or the fence
				}
				if strings.HasSuffix(info.Path, ".at") {
					content = []byte("TIME")
				}
				fmt.Fprintf(&out, "%s %s %v %q\n", name, info.Path, info.Mode, strings.ReplaceAll(string(content), token, "TOKEN"))
			}
		})
	}
	return out.String(), nil
}

// file gives the content of a file of a host, "" when it is missing.
func (w *world) file(name, path string) string {
	var content []byte
	w.hosts[name].Do(func(s *fakehost.State) {
		if b, err := s.ReadFile(path); err == nil {
			content = b
		}
	})
	return string(content)
}

// hold writes something as the given holder.
func (w *world) hold(t testing.TB, name string, f host.Fence) {
	t.Helper()
	if err := w.hosts[name].Writer(f).Remove(t.Context(), "/tmp/nothing"); err != nil {
		t.Fatal(err)
	}
}

// holder gives what the host remembers of its fence.
func (w *world) holder(t testing.TB, name string) host.Holder {
	t.Helper()
	result, err := w.hosts[name].Query(t.Context(), host.HolderQuery())
	if err != nil {
		t.Fatal(err)
	}
	holder, err := host.DecodeHolder(result)
	if err != nil {
		t.Fatal(err)
	}
	return holder
}

// fails makes a program of a host end badly.
func (w *world) fails(name, program string, code int) {
	w.hosts[name].Handle(program, func(*fakehost.State, fakehost.Call) host.Result {
		return fakehost.Fail(code, "first line\nno such device")
	})
}

// cuts cuts the connection of a host at the next runs of a program.
func (w *world) cuts(name, program string, times int) {
	for range times {
		w.hosts[name].Inject(fakehost.Fault{At: fakehost.BeforeCommand, Match: func(argv []string) bool { return argv[0] == program }})
	}
}

// vault is step.Secrets.
type vault map[string]string

func (v vault) Secret(_ context.Context, ref step.SecretRef) ([]byte, error) {
	value, ok := v[ref.Name]
	if !ok {
		return nil, fmt.Errorf("cannot read secret %s: there is none", ref.Name)
	}
	return []byte(value), nil
}

// world is one operation with all it works on.
type world struct {
	hosts  fakehost.Sessions
	deps   operation.Deps
	op     *v1alpha1.Operation
	plan   *plan.Plan
	logs   *blob.Directory
	client client.WithWatch
}

// newWorld makes a world for a plan. Hosts whose name begins with cp are control planes.
func newWorld(t testing.TB, p *plan.Plan, hooks interceptor.Funcs) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	op := &v1alpha1.Operation{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: "demo-create", UID: "1"},
		Spec: v1alpha1.OperationSpec{Verb: v1alpha1.VerbCreate, Cluster: "demo"}}
	store := fake.NewClientBuilder().WithScheme(scheme).WithObjects(op).WithInterceptorFuncs(hooks).
		WithStatusSubresource(&v1alpha1.Operation{}, &v1alpha1.HostRun{}).Build()
	logs, err := blob.Dir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := logs.Close(); err != nil {
			t.Error(err)
		}
	})
	registry, err := step.NewRegistry(file{}, boot{}, token{}, derived{}, login{}, command{}, crash{}, stubborn{}, forever{}, unwanted{}, reseated{}, passing{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{hosts: fakehost.Sessions{}, op: op, plan: p, logs: logs, client: store}
	succeeds := func(*fakehost.State, fakehost.Call) host.Result { return host.Result{} }
	for _, target := range p.Hosts {
		h := fakehost.New(target.Name, v1alpha1.HostFacts{})
		for _, program := range []string{"x", "y", "z", "join", "turn"} {
			h.Handle(program, succeeds)
		}
		w.hosts[target.Name] = h
	}
	w.deps = operation.Deps{Client: store, Sessions: w.hosts, Steps: registry, Secrets: vault{"password": "correct-horse-battery"},
		Logs: logs, Owner: "home", Log: slog.New(slog.DiscardHandler)}
	return w
}

func (w *world) trial() *operationtest.World {
	return &operationtest.World{Deps: w.deps, Operation: w.op, Plan: w.plan, Digest: w.digest}
}

func (w *world) run(t testing.TB) (operation.Outcome, error) {
	t.Helper()
	return w.runUntil(t, nil)
}

func (w *world) runUntil(t testing.TB, abort <-chan struct{}) (operation.Outcome, error) {
	t.Helper()
	engine, err := operation.New(w.deps)
	if err != nil {
		t.Fatal(err)
	}
	return engine.Run(t.Context(), w.stored(t), w.plan, abort)
}

func (w *world) stored(t testing.TB) *v1alpha1.Operation {
	t.Helper()
	var op v1alpha1.Operation
	if err := w.client.Get(t.Context(), client.ObjectKeyFromObject(w.op), &op); err != nil {
		t.Fatal(err)
	}
	return &op
}

func (w *world) log(t testing.TB, name string) string {
	t.Helper()
	f, err := w.logs.Open(t.Context(), operation.LogName("dev", "demo-create", name))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (w *world) record(t testing.TB, name string) v1alpha1.HostRunStatus {
	t.Helper()
	var run v1alpha1.HostRun
	if err := w.client.Get(t.Context(), client.ObjectKey{Namespace: "dev", Name: operation.HostRunName("demo-create", name)}, &run); err != nil {
		t.Fatal(err)
	}
	return run.Status
}

// planned makes a plan of stages on hosts.
func planned(t testing.TB, hosts string, stages ...plan.Stage) *plan.Plan {
	t.Helper()
	p := &plan.Plan{Format: plan.Format, Verb: v1alpha1.VerbCreate, Namespace: "dev", Cluster: "demo", Stages: stages}
	for name := range strings.FieldsSeq(hosts) {
		p.Hosts = append(p.Hosts, step.Target{Name: name, ControlPlane: strings.HasPrefix(name, "cp")})
	}
	return p
}

// on makes a stage of steps that are named after it.
func on(t testing.TB, name, hosts, needs string, steps ...step.Step) plan.Stage {
	t.Helper()
	s := plan.Stage{Name: name, Title: name, Hosts: strings.Fields(hosts), Needs: strings.Fields(needs)}
	for i, st := range steps {
		c, err := plan.NewCall(fmt.Sprintf("%s-%d", name, i), st)
		if err != nil {
			t.Fatal(err)
		}
		s.Calls = append(s.Calls, c)
	}
	return s
}

func gate(s plan.Stage) plan.Stage {
	s.Gate = true
	return s
}
