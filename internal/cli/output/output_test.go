package output_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
	"slipway.dev/slipway/internal/cli/output/outputtest"
	"slipway.dev/slipway/internal/fault"
)

func TestReport(t *testing.T) {
	resource := schema.GroupResource{Group: v1alpha1.Group, Resource: "clusters"}
	cases := map[string]struct {
		reason string
		err    error
		code   output.ExitCode
		text   string
	}{
		"None":      {reason: "nothing to tell", err: nil, code: output.ExitOK},
		"Plain":     {reason: "an unknown error is a failure", err: errors.New("boom"), code: output.ExitFailed, text: "error: boom\n"},
		"Usage":     {reason: "a wrong command line has its own code", err: output.Usagef("cannot read --x"), code: output.ExitUsage, text: "error: cannot read --x\nfix: see --help\n"},
		"NotFound":  {reason: "the API's reason decides", err: fmt.Errorf("cannot find it: %w", apierrors.NewNotFound(resource, "demo")), code: output.ExitNotFound, text: "error: cannot find it: clusters.slipway.dev \"demo\" not found\n"},
		"Exists":    {reason: "what the API refuses changed nothing", err: apierrors.NewAlreadyExists(resource, "demo"), code: output.ExitRefused, text: "error: clusters.slipway.dev \"demo\" already exists\n"},
		"Precheck":  {reason: "a precheck's fault is a refusal", err: fault.NewTerminal(output.ReasonPrecheck, "mend it", errors.New("host w1: memory")), code: output.ExitRefused, text: "error: host w1: memory\nfix: mend it\n"},
		"Timeout":   {reason: "a deadline is a time-out", err: fmt.Errorf("cannot wait: %w", context.DeadlineExceeded), code: output.ExitTimedOut, text: "error: cannot wait: context deadline exceeded\n"},
		"Interrupt": {reason: "cancelled means interrupted", err: context.Canceled, code: output.ExitInterrupted, text: "error: context canceled\n"},
		"Escape":    {reason: "no text steers the terminal", err: errors.New("bad \x1b[31mhost\u009b"), code: output.ExitFailed, text: "error: bad [31mhost\n"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var w bytes.Buffer
			if code := output.Report(&w, tc.err); code != tc.code {
				t.Errorf("%s: exit code %d, want %d", tc.reason, code, tc.code)
			}
			if diff := cmp.Diff(tc.text, w.String()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestOutcome(t *testing.T) {
	cases := map[string]struct {
		reason   string
		phase    v1alpha1.OperationPhase
		failures []v1alpha1.Failure
		want     output.ExitCode
	}{
		"Succeeded": {reason: "all was done", phase: v1alpha1.OperationSucceeded, want: output.ExitOK},
		"Failed":    {reason: "it stopped on an error", phase: v1alpha1.OperationFailed, failures: []v1alpha1.Failure{{Reason: "TimedOut"}}, want: output.ExitOperationFailed},
		"Precheck":  {reason: "only prechecks failed", phase: v1alpha1.OperationFailed, failures: []v1alpha1.Failure{{Reason: output.ReasonPrecheck}}, want: output.ExitRefused},
		"Partial":   {reason: "hosts were left out", phase: v1alpha1.OperationPartial, want: output.ExitPartial},
		"Aborted":   {reason: "a person stopped it", phase: v1alpha1.OperationAborted, want: output.ExitAborted},
		"Blocked":   {reason: "it cannot run", phase: v1alpha1.OperationBlocked, want: output.ExitRefused},
		"Planned":   {reason: "it waits for approval", phase: v1alpha1.OperationPlanned, want: output.ExitRefused},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			op := &v1alpha1.Operation{Status: v1alpha1.OperationStatus{Phase: tc.phase, Failures: tc.failures}}
			op.Name, op.Spec.Verb, op.Spec.Cluster = "demo-1", v1alpha1.VerbCreate, "demo"
			c := &output.Connection{Project: "default"}
			if got := output.CodeOf(c.Outcome(op)); got != tc.want {
				t.Errorf("%s: exit code %d, want %d", tc.reason, got, tc.want)
			}
		})
	}
}

func TestShowProgress(t *testing.T) {
	b := outputtest.New(t, outputtest.Hooks{})
	connection, err := b.Deps.Connect("")
	if err != nil {
		t.Fatal(err)
	}
	f := output.NewFollower(b.Deps, connection)
	begin := metav1.NewTime(outputtest.Now())
	at := func(seconds int) *metav1.Time {
		return new(metav1.NewTime(begin.Add(time.Duration(seconds) * time.Second)))
	}
	f.Clock = func() time.Time { return begin.Add(20 * time.Second) }
	op := &v1alpha1.Operation{Spec: v1alpha1.OperationSpec{Verb: v1alpha1.VerbCreate, Cluster: "demo"}}
	op.Name = "demo-create-1"
	show := func(change func(s *v1alpha1.OperationStatus)) {
		change(&op.Status)
		f.Show(t.Context(), op)
		f.Show(t.Context(), op)
	}
	show(func(s *v1alpha1.OperationStatus) {
		s.Phase, s.Plan = v1alpha1.OperationQueued, &v1alpha1.PlanReference{Hash: "sha256:1", Summary: "create cluster demo on 3 hosts"}
	})
	show(func(s *v1alpha1.OperationStatus) {
		s.Phase, s.StartedAt = v1alpha1.OperationRunning, &begin
		s.Stages = []v1alpha1.StageProgress{{Name: "precheck", Steps: 3, StartedAt: at(0)}, {Name: "join", Steps: 4}}
	})
	show(func(s *v1alpha1.OperationStatus) {
		s.Stages[0].Done, s.Stages[0].FinishedAt = 3, at(2)
		s.Stages[1].StartedAt = at(2)
	})
	f.Clock = func() time.Time { return begin.Add(30 * time.Second) }
	show(func(s *v1alpha1.OperationStatus) { s.Stages[1].Done = 2 })
	show(func(s *v1alpha1.OperationStatus) {
		s.Failures = []v1alpha1.Failure{{Host: "w1", Step: "kubelet-start", Message: "kubelet did\nnot start"}}
	})
	show(func(s *v1alpha1.OperationStatus) { s.Stages[1].FinishedAt = at(40) })
	outputtest.Golden(t, "progress", b.Out.String())
}

func TestWatchSurvivesBreaks(t *testing.T) {
	host := &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: "h1"}}
	b := outputtest.New(t, outputtest.Hooks{}, host)
	var opened int
	broken := watch.NewFake()
	c := interceptor.NewClient(b.Client, interceptor.Funcs{
		Watch: func(ctx context.Context, next client.WithWatch, list client.ObjectList, options ...client.ListOption) (watch.Interface, error) {
			if opened++; opened == 1 {
				return broken, nil
			}
			if opened == 2 {
				return nil, errors.New("connection refused")
			}
			return next.Watch(ctx, list, options...)
		},
	})
	var lost []bool
	err := output.Watch(t.Context(), c, &v1alpha1.HostList{}, func(err error) { lost = append(lost, err != nil) }, func(all []*v1alpha1.Host) (bool, error) {
		switch {
		case len(all) != 1:
			return false, fmt.Errorf("saw %d hosts", len(all))
		case opened == 1:
			broken.Stop()
			return false, nil
		case all[0].Spec.Region == "":
			changed := all[0].DeepCopy()
			changed.Spec.Region = "r1"
			return false, b.Client.Update(t.Context(), changed)
		default:
			return true, nil
		}
	}, output.Named("h1"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]bool{true, false}, lost); diff != "" {
		t.Errorf("the break is told once, and its end (-want +got):\n%s", diff)
	}
}
