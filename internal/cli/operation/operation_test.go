package operation

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
	"slipway.dev/slipway/internal/cli/output/outputtest"
)

const name = "demo-create-1"

func at(seconds int) *metav1.Time {
	return new(metav1.NewTime(outputtest.Now().Add(time.Duration(seconds) * time.Second)))
}

// operation gives one in that phase, with a plan and no stages.
func operation(phase v1alpha1.OperationPhase, change func(op *v1alpha1.Operation)) *v1alpha1.Operation {
	op := &v1alpha1.Operation{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{v1alpha1.LabelCluster: "demo"}, CreationTimestamp: *at(-120)},
		Spec:       v1alpha1.OperationSpec{Verb: v1alpha1.VerbCreate, Cluster: "demo"},
		Status:     v1alpha1.OperationStatus{Phase: phase, Plan: &v1alpha1.PlanReference{Hash: "sha256:1", Summary: "create cluster demo: 2 hosts, 4 steps"}},
	}
	if change != nil {
		change(op)
	}
	return op
}

func failed() *v1alpha1.Operation {
	return operation(v1alpha1.OperationFailed, func(op *v1alpha1.Operation) {
		op.Status.Stage, op.Status.Progress = "join", v1alpha1.Progress{Steps: 4, Done: 3, Summary: "3/4"}
		op.Status.StartedAt, op.Status.FinishedAt = at(-110), at(-50)
		op.Status.Message = "stopped: host w1 could not join"
		op.Status.Stages = []v1alpha1.StageProgress{
			{Name: "precheck", Steps: 2, Done: 2, StartedAt: at(-110), FinishedAt: at(-108)},
			{Name: "join", Steps: 2, Done: 1, StartedAt: at(-108), FinishedAt: at(-50)},
			{Name: "ready", Steps: 2}}
		op.Status.Failures = []v1alpha1.Failure{{Host: "w1", Step: "join", Message: "cannot join host w1: \x1b[31mkubelet did not become ready", Fix: "look at the kubelet's journal"}}
	})
}

func hostRun(host string, steps ...v1alpha1.StepRecord) *v1alpha1.HostRun {
	return &v1alpha1.HostRun{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name + "-" + host, Labels: map[string]string{output.LabelOperation: name}},
		Spec:       v1alpha1.HostRunSpec{Operation: name, Host: host},
		Status:     v1alpha1.HostRunStatus{Steps: steps},
	}
}

func TestLook(t *testing.T) {
	done := v1alpha1.StepRecord{Name: "look", State: v1alpha1.StepDone, Attempts: 1, StartedAt: *at(-110), FinishedAt: at(-108)}
	changed := v1alpha1.StepRecord{Name: "runtime", State: v1alpha1.StepDone, Attempts: 2, Changed: true, StartedAt: *at(-108), FinishedAt: at(-80)}
	broken := v1alpha1.StepRecord{Name: "join", State: v1alpha1.StepFailed, Attempts: 3, StartedAt: *at(-80), FinishedAt: at(-50)}
	cases := map[string]struct {
		reason   string
		args     []string
		terminal bool
		want     output.ExitCode
	}{
		"show":          {reason: "stages, steps on each host, failures, and what to do", args: []string{"show", name}, want: output.ExitOK},
		"show-terminal": {reason: "signs on a terminal", args: []string{"show", name}, terminal: true, want: output.ExitOK},
		"show-none":     {reason: "a name that is not there", args: []string{"show", "none"}, want: output.ExitNotFound},
		"list":          {reason: "one line an operation", args: []string{"list"}, want: output.ExitOK},
		"list-wide":     {reason: "more of each", args: []string{"list", "--cluster", "demo", "-A", "-o", "wide"}, want: output.ExitOK},
		"list-other":    {reason: "none of another cluster", args: []string{"list", "--cluster", "other"}, want: output.ExitOK},
	}
	for test, tc := range cases {
		t.Run(test, func(t *testing.T) {
			b := outputtest.New(t, outputtest.Hooks{}, failed(), hostRun("w1", done, changed, broken), hostRun("cp1", done))
			b.Deps.Terminal = tc.terminal
			if got := b.Run(t.Context(), New(b.Deps), tc.args...); got != tc.want {
				t.Errorf("%s: exit code %d, want %d", tc.reason, got, tc.want)
			}
			outputtest.Golden(t, test, b.Everything())
		})
	}
}

func TestChange(t *testing.T) {
	cases := map[string]struct {
		reason string
		op     *v1alpha1.Operation
		args   []string
		want   output.ExitCode
		spec   func(s *v1alpha1.OperationSpec)
	}{
		"approve":         {reason: "the plan as it is now", op: operation(v1alpha1.OperationPlanned, nil), args: []string{"approve", name}, spec: func(s *v1alpha1.OperationSpec) { s.ApprovedPlan = "sha256:1" }},
		"approve-hash":    {reason: "the plan that was read", op: operation(v1alpha1.OperationPlanned, nil), args: []string{"approve", name, "--plan", "sha256:1"}, spec: func(s *v1alpha1.OperationSpec) { s.ApprovedPlan = "sha256:1" }},
		"approve-changed": {reason: "another plan than the one that was read", op: operation(v1alpha1.OperationPlanned, nil), args: []string{"approve", name, "--plan", "sha256:0"}, want: output.ExitRefused},
		"approve-running": {reason: "what runs needs no approval", op: operation(v1alpha1.OperationRunning, nil), args: []string{"approve", name}, want: output.ExitRefused},
		"retry":           {reason: "one attempt more", op: failed(), args: []string{"retry", name}, spec: func(s *v1alpha1.OperationSpec) { s.Attempt = 1 }},
		"retry-aborted": {reason: "the abort is taken back", op: operation(v1alpha1.OperationAborted, func(op *v1alpha1.Operation) {
			op.Spec.Abort, op.Spec.Attempt, op.Status.Attempt = true, 2, 2
		}), args: []string{"retry", name}, spec: func(s *v1alpha1.OperationSpec) { s.Attempt, s.Abort = 3, false }},
		"retry-running":   {reason: "what runs cannot be tried again", op: operation(v1alpha1.OperationRunning, nil), args: []string{"retry", name}, want: output.ExitRefused},
		"retry-succeeded": {reason: "what is done is done", op: operation(v1alpha1.OperationSucceeded, nil), args: []string{"retry", name}, want: output.ExitRefused},
		"retry-twice":     {reason: "the server has not seen the last wish yet", op: operation(v1alpha1.OperationFailed, func(op *v1alpha1.Operation) { op.Spec.Attempt = 1 }), args: []string{"retry", name}, want: output.ExitRefused},
		"abort":           {reason: "after the steps in flight", op: operation(v1alpha1.OperationRunning, nil), args: []string{"abort", name}, spec: func(s *v1alpha1.OperationSpec) { s.Abort = true }},
		"abort-ended":     {reason: "nothing is left to stop", op: operation(v1alpha1.OperationSucceeded, nil), args: []string{"abort", name}, want: output.ExitRefused},
	}
	for test, tc := range cases {
		t.Run(test, func(t *testing.T) {
			b := outputtest.New(t, outputtest.Hooks{}, tc.op.DeepCopy())
			if got := b.Run(t.Context(), New(b.Deps), tc.args...); got != tc.want {
				t.Errorf("%s: exit code %d, want %d", tc.reason, got, tc.want)
			}
			var op v1alpha1.Operation
			if err := b.Client.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: name}, &op); err != nil {
				t.Fatal(err)
			}
			want := tc.op.Spec
			if tc.spec != nil {
				tc.spec(&want)
			}
			if diff := cmp.Diff(want, op.Spec); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			outputtest.Golden(t, test, b.Everything())
		})
	}
}

func TestRetryWaits(t *testing.T) {
	b := outputtest.New(t, outputtest.Hooks{Patched: func(ctx context.Context, server client.Client, object client.Object) {
		op := object.(*v1alpha1.Operation)
		op.Status = v1alpha1.OperationStatus{Phase: v1alpha1.OperationSucceeded, Attempt: op.Spec.Attempt, Plan: op.Status.Plan, StartedAt: at(0), FinishedAt: at(9),
			Progress: v1alpha1.Progress{Steps: 2, Done: 2, Summary: "2/2"},
			Stages:   []v1alpha1.StageProgress{{Name: "join", Steps: 2, Done: 2, StartedAt: at(0), FinishedAt: at(9)}}}
		if err := server.Status().Update(ctx, op); err != nil {
			t.Error(err)
		}
	}}, failed())
	if got := b.Run(t.Context(), New(b.Deps), "retry", name, "--wait"); got != output.ExitOK {
		t.Errorf("exit code %d", got)
	}
	outputtest.Golden(t, "retry-wait", b.Everything())
}

func TestLogs(t *testing.T) {
	const lines = `{"time":"2030-01-02T03:04:05Z","host":"w1","step":"runtime","attempt":1,"level":"info","message":"begins"}
{"time":"2030-01-02T03:04:06Z","host":"w1","step":"runtime","attempt":1,"level":"info","argv":["tar","-x","a b"],"exitCode":0,"durationMillis":12,"stdout":"quiet\n"}
{"time":"2030-01-02T03:04:07Z","host":"w1","step":"join","attempt":2,"level":"error","message":"command failed","argv":["kubeadm","join"],"exitCode":1,"stdout":"one\ntwo\n","stderr":"\u001b[31mno route"}
`
	cases := map[string]struct {
		reason, query string
		args          []string
		body          string
		want          output.ExitCode
	}{
		"logs":        {reason: "what failed commands said", query: "", args: []string{"logs", name}, body: lines},
		"logs-follow": {reason: "the flags reach the server", query: "follow=true&host=w1", args: []string{"logs", name, "-f", "--host", "w1", "--full"}, body: lines},
		"logs-json":   {reason: "as it came", query: "", args: []string{"logs", name, "-o", "json"}, body: lines},
		"logs-broken": {reason: "a line that is no JSON is an error", query: "", args: []string{"logs", name}, body: "{", want: output.ExitFailed},
	}
	for test, tc := range cases {
		t.Run(test, func(t *testing.T) {
			b := outputtest.New(t, outputtest.Hooks{})
			b.Mux.HandleFunc("GET /slipway/v1/projects/default/operations/"+name+"/log", func(w http.ResponseWriter, r *http.Request) {
				if r.URL.RawQuery != tc.query {
					t.Errorf("query %q, want %q", r.URL.RawQuery, tc.query)
				}
				w.Header().Set("Content-Type", "application/x-ndjson")
				if _, err := w.Write([]byte(tc.body)); err != nil {
					t.Error(err)
				}
			})
			if got := b.Run(t.Context(), New(b.Deps), tc.args...); got != tc.want {
				t.Errorf("%s: exit code %d, want %d", tc.reason, got, tc.want)
			}
			outputtest.Golden(t, test, b.Everything())
		})
	}
}
