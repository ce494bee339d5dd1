package hostile

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/blob"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/host/ssh"
	"slipway.dev/slipway/internal/operation"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/step"
)

// put makes a file.
type put struct {
	Path string `json:"path"`
}

func (put) ID() step.ID { return "test.put/v1" }

func (p put) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	have, err := host.ReadIfExists(ctx, r, p.Path)
	var drift step.Drift
	drift.Want(p.Path, string(have), "there\n")
	return drift, err
}

func (p put) Apply(ctx context.Context, w step.Writer) error {
	return w.WriteFile(ctx, p.Path, host.File{Content: []byte("there\n")})
}

// fleet is one operation over SSH: two stages of three files each on cp1, w1 and w2, every one a machine of its own.
type fleet struct {
	machines map[string]*machine
	pool     *ssh.Pool
	client   client.Client
	logs     *blob.Directory
	printed  *bytes.Buffer
	deps     operation.Deps
	op       *v1alpha1.Operation
	plan     *plan.Plan
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	f := &fleet{machines: map[string]*machine{}, printed: &bytes.Buffer{},
		op: &v1alpha1.Operation{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: "demo-create", UID: "1"},
			Spec: v1alpha1.OperationSpec{Verb: v1alpha1.VerbCreate, Cluster: "demo"}},
		plan: &plan.Plan{Format: plan.Format, Verb: v1alpha1.VerbCreate, Namespace: "dev", Cluster: "demo"}}
	f.client = fake.NewClientBuilder().WithScheme(scheme).WithObjects(f.op).WithStatusSubresource(&v1alpha1.Operation{}, &v1alpha1.HostRun{}).Build()
	targets := map[string]ssh.Target{}
	for _, name := range []string{"cp1", "w1", "w2"} {
		f.machines[name] = newMachine(t)
		targets[name] = f.machines[name].start(name)
		f.plan.Hosts = append(f.plan.Hosts, step.Target{Name: name, ControlPlane: name == "cp1"})
	}
	for _, s := range []plan.Stage{{Name: "first"}, {Name: "second", Needs: []string{"first"}}} {
		s.Title, s.Hosts = s.Name, []string{"cp1", "w1", "w2"}
		for _, n := range []string{"1", "2", "3"} {
			c, err := plan.NewCall(s.Name+"-"+n, put{Path: "/var/lib/slipway/" + s.Name + n})
			if err != nil {
				t.Fatal(err)
			}
			s.Calls = append(s.Calls, c)
		}
		f.plan.Stages = append(f.plan.Stages, s)
	}
	f.pool = ssh.NewPool(func(_ context.Context, name string) (ssh.Target, error) { return targets[name], nil })
	steps, err := step.NewRegistry(put{})
	if err != nil {
		t.Fatal(err)
	}
	if f.logs, err = blob.Dir(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = f.pool.Close(), f.logs.Close()
	})
	f.deps = operation.Deps{Client: f.client, Sessions: f.pool, Steps: steps, Logs: f.logs, Owner: "home", Log: slog.New(slog.NewTextHandler(f.printed, nil))}
	return f
}

func (f *fleet) run(t *testing.T) operation.Outcome {
	t.Helper()
	engine, err := operation.New(f.deps)
	if err != nil {
		t.Fatal(err)
	}
	var op v1alpha1.Operation
	if err := f.client.Get(t.Context(), client.ObjectKeyFromObject(f.op), &op); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := engine.Run(ctx, &op, f.plan, nil)
	if err != nil {
		t.Fatalf("the operation has no outcome: %v", err)
	}
	return out
}

// steps gives how many steps are done on a host.
func (f *fleet) steps(t *testing.T, name string) int {
	t.Helper()
	var run v1alpha1.HostRun
	if err := f.client.Get(t.Context(), client.ObjectKey{Namespace: "dev", Name: operation.HostRunName("demo-create", name)}, &run); err != nil {
		t.Fatal(err)
	}
	done := 0
	for _, s := range run.Status.Steps {
		if s.State == v1alpha1.StepDone {
			done++
		}
	}
	return done
}

// TestSwap_AnotherKeyInTheMiddleStopsTheHost: a machine is replaced by another one between two steps. The other one gets
// no password and no command, the operation says what happened with both fingerprints, the other hosts do what they do
// when a host is lost, and with the right machine back a retry ends well.
func TestSwap_AnotherKeyInTheMiddleStopsTheHost(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		reason, swapped string
		phase           v1alpha1.OperationPhase
		// others is how many steps the hosts beside it have done.
		others map[string]int
	}{
		"worker":        {"the cluster is usable without a worker, so the others go on", "w1", v1alpha1.OperationPartial, map[string]int{"cp1": 6, "w2": 6}},
		"control plane": {"without the control plane nothing else begins", "cp1", v1alpha1.OperationFailed, nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t)
			m := f.machines[tc.swapped]
			right, wrong := m.signer(), newSigner(t)
			var secrets, commands int64
			f.deps.Edges = func(_ context.Context, e operation.Edge) error {
				if e.Host == tc.swapped && e.Call == "first-1" && e.Point == operation.AfterVerify {
					m.become(wrong)
					secrets, commands = m.secrets.Load(), m.commands.Load()
				}
				return nil
			}
			out := f.run(t)
			if out.Phase != tc.phase || len(out.Failures) != 1 {
				t.Fatalf("%s: %+v", tc.reason, out)
			}
			failure := out.Failures[0]
			if failure.Host != tc.swapped || failure.Reason != ssh.ReasonHostKeyChanged || failure.Fix == "" {
				t.Errorf("the failure is %+v", failure)
			}
			for _, key := range []gossh.Signer{right, wrong} {
				if print := gossh.FingerprintSHA256(key.PublicKey()); !strings.Contains(failure.Message, print) || !strings.Contains(out.Message, print) {
					t.Errorf("the message does not name %s: %s", print, failure.Message)
				}
			}
			if m.secrets.Load() != secrets || m.commands.Load() != commands {
				t.Errorf("the other machine got %d passwords and %d commands", m.secrets.Load()-secrets, m.commands.Load()-commands)
			}
			if got := f.steps(t, tc.swapped); got != 1 {
				t.Errorf("%d steps are done on the swapped host, want 1", got)
			}
			for other, want := range tc.others {
				if got := f.steps(t, other); got != want {
					t.Errorf("%s: %d steps are done on %s, want %d", tc.reason, got, other, want)
				}
			}
			m.become(right)
			f.deps.Edges = nil
			if out := f.run(t); out.Phase != v1alpha1.OperationSucceeded {
				t.Errorf("the retry with the right machine: %+v", out)
			}
			if got := f.steps(t, tc.swapped); got != 6 {
				t.Errorf("%d steps are done after the retry", got)
			}
		})
	}
}

// TestLiar_OperationsEnd: one worker lies to the engine. The operation ends in time, names that worker and no other, and
// nothing of what it sent is in a log, a status or the server's log other than as harmless text of bounded length.
func TestLiar_OperationsEnd(t *testing.T) {
	t.Parallel()
	const odd = "\x1b[2J\x1b]0;owned\x07\u202etxt\u009b31m\xff\xfe\r\x00"
	kinds := loadKinds(t)
	fenced := func(line string) bool { return strings.Contains(line, "slipway-fence: ") }
	holder := func(line string) bool { return !fenced(line) && strings.Contains(line, "$1/holder") }
	says := func(code uint32, out, errOut string) func(string, gossh.Channel) uint32 {
		return func(line string, c gossh.Channel) uint32 {
			begin(line, c)
			_, _ = io.WriteString(c, out)
			_, _ = io.WriteString(c.Stderr(), errOut)
			return code
		}
	}
	cases := map[string]struct {
		reason string
		when   func(line string) bool
		say    func(line string, c gossh.Channel) uint32
		fault  string
	}{
		"newer epoch":    {"a host alone cannot say that another engine has taken over", fenced, says(202, "", "slipway-fence: 999\n"), host.ReasonFencedOff},
		"owned":          {"it belongs to somebody else all of a sudden", fenced, says(201, "", "slipway-fence: "+odd+" 1\n"), host.ReasonOwnedByAnother},
		"nonsense":       {"the fence's memory is nonsense", holder, says(0, odd+strings.Repeat("holder x\n", 9999), odd), host.ReasonFenceDamaged},
		"last epoch":     {"an epoch after which none comes", holder, says(0, "holder home 99999999999999999\nepoch 100000000000000000\n", ""), host.ReasonFenceDamaged},
		"negative epoch": {"an epoch before the first", holder, says(0, "epoch -5\n", ""), host.ReasonFenceDamaged},
		"odd error":      {"an error that paints the terminal", fenced, says(1, strings.Repeat(odd+"\n", 50_000), strings.Repeat(odd, 100_000)+"\n"+odd+"end"), "Failed"},
		"flood": {"output without end", fenced, func(line string, c gossh.Channel) uint32 {
			begin(line, c)
			for {
				if _, err := io.WriteString(c.Stderr(), strings.Repeat(odd, 4000)); err != nil {
					return 0
				}
			}
		}, ssh.ReasonTooMuchOutput},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t)
			m := f.machines["w1"]
			m.answer = func(line string, c gossh.Channel) (uint32, bool) {
				if tc.when(line) {
					return tc.say(line, c), true
				}
				return m.run(line, c), true
			}
			begun := time.Now()
			out := f.run(t)
			if took := time.Since(begun); took > 30*time.Second {
				t.Errorf("%s: it took %s", tc.reason, took)
			}
			if out.Phase != v1alpha1.OperationPartial || len(out.Failures) != 1 || out.Failures[0].Host != "w1" || out.Failures[0].Reason != tc.fault {
				t.Errorf("%s: %+v", tc.reason, out)
			}
			if f.steps(t, "cp1") != 6 || f.steps(t, "w2") != 6 {
				t.Errorf("%s: the hosts beside it did not go on", tc.reason)
			}
			f.harmless(t, kinds)
			tried.add("lies to an operation", name)
		})
	}
}

// harmless looks at everything that an operation has left on the server.
func (f *fleet) harmless(t *testing.T, kinds kinds) {
	t.Helper()
	var op v1alpha1.Operation
	if err := f.client.Get(t.Context(), client.ObjectKeyFromObject(f.op), &op); err != nil {
		t.Fatal(err)
	}
	stored := op
	if err := kinds.admit(t.Context(), "Operation", &op, &stored); err != nil {
		t.Errorf("the API refuses the status: %v", err)
	}
	clean := func(what string, most int) func(string) {
		return func(text string) {
			if text != host.Clean(text, most) {
				t.Errorf("the %s holds %.200q", what, text)
			}
		}
	}
	eachString(reflect.ValueOf(op.Status), clean("status", 4096))
	log, err := f.logs.Open(t.Context(), operation.LogName("dev", "demo-create", "w1"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	b, err := io.ReadAll(log)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 256<<10 {
		t.Errorf("the log of a short operation has %d bytes", len(b))
	}
	for line := range bytes.Lines(b) {
		var entry operation.LogEntry
		if err := json.Unmarshal(line, &entry); err != nil {
			t.Errorf("%q is no entry: %v", line, err)
		}
		eachString(reflect.ValueOf(entry), func(text string) {
			for one := range strings.SplitSeq(text, "\n") {
				clean("log", 32<<10)(one)
			}
		})
	}
	for line := range strings.Lines(f.printed.String()) {
		clean("server's log", 64<<10)(strings.TrimSuffix(line, "\n"))
	}
}
