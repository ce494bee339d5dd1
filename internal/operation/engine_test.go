package operation_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/host"
	fakehost "slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/operation"
	"slipway.dev/slipway/internal/operation/operationtest"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/step"
)

func TestRun_Outcome(t *testing.T) {
	run := func(name string) step.Step { return command{Argv: []string{name}} }
	cases := map[string]struct {
		reason   string
		hosts    string
		stages   func(t *testing.T) []plan.Stage
		prepare  func(w *world)
		holder   host.Fence // of w1
		want     string     // the journal
		failures []v1alpha1.Failure
		message  string // part of the outcome's message
	}{
		"worker fails": {
			reason: "a worker is left out, those that wait for it go on, and the outcome names it",
			hosts:  "cp1 w1 w2",
			stages: func(t *testing.T) []plan.Stage {
				return []plan.Stage{on(t, "a", "cp1 w1 w2", "", run("x")), on(t, "b", "cp1 w1", "a", run("y"))}
			},
			prepare: func(w *world) { w.fails("w1", "x", 7) },
			want: "Partial 3/5\nstage a 2/3\nstage b 1/2\nfailure w1 a-0 Failed\n" +
				"cp1 a-0 Done changed=true\ncp1 b-0 Done changed=true\nw1 a-0 Failed changed=true\nw2 a-0 Done changed=true\n",
			failures: []v1alpha1.Failure{{Host: "w1", Step: "a-0", Reason: "Failed", Message: "cannot run x: x ended with exit code 7: no such device"}},
			message:  "w1 left out",
		},
		"control plane fails": {
			reason: "without a control plane nothing else begins",
			hosts:  "cp1 w1",
			stages: func(t *testing.T) []plan.Stage {
				return []plan.Stage{on(t, "a", "cp1", "", run("x"), run("never")), on(t, "b", "w1", "a", run("y"))}
			},
			prepare: func(w *world) { w.fails("cp1", "x", 1) },
			want:    "Failed 0/3\nstage a 0/2\nstage b 0/1\nfailure cp1 a-0 Failed\ncp1 a-0 Failed changed=true\n",
			message: "cp1: cannot run x: x ended with exit code 1: no such device",
		},
		"gate fails": {
			reason: "the other hosts finish the gate, so that a person sees all that is wrong; nothing behind it begins",
			hosts:  "cp1 w1 w2",
			stages: func(t *testing.T) []plan.Stage {
				return []plan.Stage{gate(on(t, "a", "cp1 w1 w2", "", run("x"))), on(t, "b", "cp1 w1 w2", "", run("y"))}
			},
			prepare: func(w *world) {
				w.fails("cp1", "x", 1)
				w.fails("w2", "x", 2)
			},
			want: "Failed 1/6\nstage a 1/3\nstage b 0/3\nfailure cp1 a-0 Failed\nfailure w2 a-0 Failed\n" +
				"cp1 a-0 Failed changed=true\nw1 a-0 Done changed=true\nw2 a-0 Failed changed=true\n",
			message: "(and 1 more)",
		},
		"every worker fails": {
			reason:  "nothing that is left out everywhere is a partial success",
			hosts:   "w1",
			stages:  func(t *testing.T) []plan.Stage { return []plan.Stage{on(t, "a", "w1", "", run("x"))} },
			prepare: func(w *world) { w.fails("w1", "x", 1) },
			want:    "Failed 0/1\nstage a 0/1\nfailure w1 a-0 Failed\nw1 a-0 Failed changed=true\n",
		},
		"panic in Apply": {
			reason:   "a broken step ends its host, not the server",
			hosts:    "w1",
			stages:   func(t *testing.T) []plan.Stage { return []plan.Stage{on(t, "a", "w1", "", crash{})} },
			want:     "Failed 0/1\nstage a 0/1\nfailure w1 a-0 InternalError\nw1 a-0 Failed changed=true\n",
			failures: []v1alpha1.Failure{{Host: "w1", Step: "a-0", Reason: "InternalError", Message: "cannot run a-0: Apply panicked: apply is broken", Fix: "report this to the maintainers with the operation's logs"}},
		},
		"panic in Check": {
			reason:   "the same before the step began",
			hosts:    "w1",
			stages:   func(t *testing.T) []plan.Stage { return []plan.Stage{on(t, "a", "w1", "", crash{InCheck: true})} },
			want:     "Failed 0/1\nstage a 0/1\nfailure w1 a-0 InternalError\n",
			failures: []v1alpha1.Failure{{Host: "w1", Step: "a-0", Reason: "InternalError", Message: "cannot run a-0: Check panicked: check is broken", Fix: "report this to the maintainers with the operation's logs"}},
		},
		"nothing changed": {
			reason: "an Apply that ends well and changes nothing is tried once more, then it is a failure",
			hosts:  "w1",
			stages: func(t *testing.T) []plan.Stage { return []plan.Stage{on(t, "a", "w1", "", stubborn{})} },
			want:   "Failed 0/1\nstage a 0/1\nfailure w1 a-0 NothingChanged\nw1 a-0 Failed changed=true\n",
			failures: []v1alpha1.Failure{{Host: "w1", Step: "a-0", Reason: "NothingChanged", Fix: "look at the operation's log of this host, then retry",
				Message: "cannot finish a-0: the step changed nothing: knob is off, not on"}},
		},
		"stuck": {
			reason: "what never comes ends at the step's deadline with what it waited for",
			hosts:  "w1",
			stages: func(t *testing.T) []plan.Stage {
				return []plan.Stage{on(t, "a", "w1", "", forever{Limit: 2 * time.Minute})}
			},
			want: "Failed 0/1\nstage a 0/1\nfailure w1 a-0 TimedOut\nw1 a-0 Failed changed=false\n",
			failures: []v1alpha1.Failure{{Host: "w1", Step: "a-0", Reason: "TimedOut", Fix: "look at the operation's log of this host, then retry",
				Message: "cannot finish a-0 in 2m0s: cannot see node w1: it has not registered"}},
		},
		"cut five times": {
			reason:  "transient errors are tried again",
			hosts:   "w1",
			stages:  func(t *testing.T) []plan.Stage { return []plan.Stage{on(t, "a", "w1", "", run("x"))} },
			prepare: func(w *world) { w.cuts("w1", "x", 5) },
			want:    "Succeeded 1/1\nstage a 1/1\nw1 a-0 Done changed=true\n",
			message: "1 of 1 steps are done on 1 hosts",
		},
		"cut for ever": {
			reason:  "but not for ever",
			hosts:   "w1",
			stages:  func(t *testing.T) []plan.Stage { return []plan.Stage{on(t, "a", "w1", "", run("x"))} },
			prepare: func(w *world) { w.cuts("w1", "x", 100) },
			want:    "Failed 0/1\nstage a 0/1\nfailure w1 a-0 OutcomeUnknown\nw1 a-0 Failed changed=true\n",
		},
		"busy for minutes": {
			reason:  "an orphan that holds the lock is waited for as long as the step may take",
			hosts:   "w1",
			stages:  func(t *testing.T) []plan.Stage { return []plan.Stage{on(t, "a", "w1", "", run("x"))} },
			prepare: func(w *world) { time.AfterFunc(3*time.Minute, w.hosts["w1"].Orphan("tar")) },
			want:    "Succeeded 1/1\nstage a 1/1\nw1 a-0 Done changed=true\n",
		},
		"unreachable": {
			reason: "a host without connection is left out before anything is on its record",
			hosts:  "cp1 w1",
			stages: func(t *testing.T) []plan.Stage {
				return []plan.Stage{on(t, "a", "cp1 w1", "", run("x"))}
			},
			prepare:  func(w *world) { w.hosts["w1"].PowerOff() },
			want:     "Partial 1/2\nstage a 1/2\nfailure w1  Unreachable\ncp1 a-0 Done changed=true\n",
			failures: []v1alpha1.Failure{{Host: "w1", Reason: "Unreachable", Message: "cannot reach host w1: no route to host"}},
		},
		"another installation": {
			reason:  "a host that another installation holds is not touched",
			hosts:   "w1",
			stages:  func(t *testing.T) []plan.Stage { return []plan.Stage{on(t, "a", "w1", "", run("x"))} },
			holder:  host.Fence{Owner: "elsewhere", Epoch: 3},
			want:    "Failed 0/1\nstage a 0/1\nfailure w1  HostOwnedByAnother\n",
			message: "the Slipway installation elsewhere holds it",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, planned(t, c.hosts, c.stages(t)...), interceptor.Funcs{})
				if c.prepare != nil {
					c.prepare(w)
				}
				if c.holder.Owner != "" {
					w.hold(t, "w1", c.holder)
				}
				out, err := w.run(t)
				if err != nil {
					t.Fatal(err)
				}
				got, err := operationtest.Journal(t.Context(), w.client, w.op)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("%s\n%s", c.reason, diff)
				}
				if diff := cmp.Diff(c.failures, out.Failures); c.failures != nil && diff != "" {
					t.Error(diff)
				}
				if !strings.Contains(out.Message, c.message) {
					t.Errorf("message %q, want %q in it", out.Message, c.message)
				}
				stored := w.stored(t).Status
				if stored.Message != out.Message || stored.FinishedAt == nil || stored.Phase != out.Phase {
					t.Errorf("the stored status differs from the outcome: %+v", stored)
				}
			})
		})
	}
}

func TestRun_UnknownStepIsBlocked(t *testing.T) {
	w := newWorld(t, planned(t, "cp1", on(t, "a", "cp1", "", file{Path: "/a"})), interceptor.Funcs{})
	w.plan.Stages[0].Calls[0].ID = "gone.step/v9"
	out, err := w.run(t)
	if err != nil {
		t.Fatal(err)
	}
	if out.Phase != v1alpha1.OperationBlocked || out.Failures[0].Reason != "UnknownStep" || out.Failures[0].Fix == "" {
		t.Errorf("outcome = %+v", out)
	}
	if w.hosts["cp1"].Commands() != 0 {
		t.Error("the host was touched")
	}
}

func TestRun_HostOfAnotherClusterTouchesNothing(t *testing.T) {
	for name, c := range map[string]struct{ reason, namespace, message string }{
		"same project":    {reason: "people of the project may know its clusters", namespace: "dev", message: "cannot claim host w1: cluster dev/other holds it"},
		"another project": {reason: "what other projects have is not for them to read", namespace: "secret", message: "cannot claim host w1: a cluster of another project holds it"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, planned(t, "cp1 w1", on(t, "a", "cp1 w1", "", file{Path: "/a"})), interceptor.Funcs{})
			claim := &v1alpha1.HostClaim{ObjectMeta: metav1.ObjectMeta{Name: "w1"}, Spec: v1alpha1.HostClaimSpec{Namespace: c.namespace, Cluster: "other"}}
			if err := w.client.Create(t.Context(), claim); err != nil {
				t.Fatal(err)
			}
			out, err := w.run(t)
			if err != nil {
				t.Fatal(err)
			}
			want := []v1alpha1.Failure{{Host: "w1", Reason: "HostClaimed", Message: c.message, Fix: "choose another host, or remove this one from that cluster first"}}
			if diff := cmp.Diff(want, out.Failures); diff != "" || out.Phase != v1alpha1.OperationFailed {
				t.Errorf("%s: %s %s", c.reason, out.Phase, diff)
			}
			if w.hosts["cp1"].Commands() != 0 {
				t.Error("a host was touched")
			}
		})
	}
}

func TestRun_AbortThenRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, planned(t, "cp1 w1",
			on(t, "a", "cp1", "", command{Argv: []string{"x"}}, command{Argv: []string{"y"}}),
			on(t, "b", "w1", "", forever{Limit: time.Hour})), interceptor.Funcs{})
		abort := make(chan struct{})
		runs := map[string]int{}
		w.hosts["cp1"].Observe(func(e fakehost.Event) {
			if !e.Done {
				runs[e.Argv[0]]++
			}
			if e.Argv[0] == "x" && !e.Done && runs["x"] == 1 {
				synctest.Wait() // the other host waits in its step
				close(abort)
				synctest.Wait() // the engine has seen the abort while the step is in flight
			}
		})
		out, err := w.runUntil(t, abort)
		if err != nil {
			t.Fatal(err)
		}
		got, err := operationtest.Journal(t.Context(), w.client, w.op)
		if err != nil {
			t.Fatal(err)
		}
		want := "Aborted 1/3\nstage a 1/2\nstage b 0/1\ncp1 a-0 Done changed=true\nw1 b-0 Failed changed=false\n"
		if diff := cmp.Diff(want, got); diff != "" || out.Phase != v1alpha1.OperationAborted {
			t.Errorf("the step in flight ends, waits end, nothing begins: %s", diff)
		}

		w.plan.Stages[1] = on(t, "b", "w1", "", command{Argv: []string{"z"}})
		w.hosts["cp1"].Do(func(s *fakehost.State) {
			if err := s.Remove("/done/x"); err != nil {
				t.Fatal(err)
			}
		})
		if out, err = w.run(t); err != nil || out.Phase != v1alpha1.OperationSucceeded {
			t.Fatalf("retry: %+v %v", out, err)
		}
		if runs["x"] != 2 || runs["y"] != 1 {
			t.Errorf("a finished step that drifted must be done again: %v", runs)
		}
		if status := w.stored(t).Status; len(status.Failures) > 0 || status.Progress.Summary != "3/3" {
			t.Errorf("the old failures stayed: %+v", status)
		}
	})
}

// TestRun_WhatPassesIsNotRepeated: a node that was drained, moved and given back is not drained again because another host
// failed; one whose stage is not done is.
func TestRun_WhatPassesIsNotRepeated(t *testing.T) {
	for name, c := range map[string]struct {
		after step.Step
		want  int
	}{
		"stage done":     {command{Argv: []string{"y"}}, 1},
		"stage not done": {forever{Limit: time.Hour}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, planned(t, "cp1 w1",
					on(t, "a", "cp1", "", passing{command{Argv: []string{"x"}}}, c.after),
					on(t, "b", "w1", "", forever{Limit: time.Hour})), interceptor.Funcs{})
				runs := 0
				w.hosts["cp1"].Observe(func(e fakehost.Event) {
					if e.Argv[0] == "x" && !e.Done {
						runs++
					}
				})
				if out, err := w.run(t); err != nil || out.Phase == v1alpha1.OperationSucceeded {
					t.Fatalf("first run: %+v %v", out, err)
				}
				w.hosts["cp1"].Do(func(s *fakehost.State) {
					if err := s.Remove("/done/x"); err != nil {
						t.Fatal(err)
					}
				})
				w.plan.Stages[1] = on(t, "b", "w1", "", command{Argv: []string{"z"}})
				if _, err := w.run(t); err != nil {
					t.Fatal(err)
				}
				if runs != c.want {
					t.Errorf("the node was drained %d times, want %d", runs, c.want)
				}
				if summary := w.stored(t).Status.Progress.Summary; c.want == 1 && summary != "3/3" {
					t.Errorf("progress is %s, want 3/3", summary)
				}
			})
		})
	}
}

func TestRun_ServerStopLeavesTheRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, planned(t, "w1", on(t, "a", "w1", "", file{Path: "/a"}, forever{Limit: time.Hour})), interceptor.Funcs{})
		engine, err := operation.New(w.deps)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := engine.Run(ctx, w.op, w.plan, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Run = %v", err)
		}
		if got := w.stored(t).Status.Phase; got != v1alpha1.OperationRunning {
			t.Errorf("phase = %s", got)
		}
		if got := w.record(t, "w1"); got.Step != "a-1" || got.State != v1alpha1.StepRunning {
			t.Errorf("record = %+v", got)
		}
	})
}

func TestRun_SecretsStayOut(t *testing.T) {
	var printed strings.Builder
	w := newWorld(t, planned(t, "w1", on(t, "a", "w1", "", login{Ref: step.SecretRef{Name: "password", Key: "value"}})), interceptor.Funcs{})
	w.deps.Log = slog.New(slog.NewJSONHandler(&printed, nil))
	const password = "correct-horse-battery"
	w.hosts["w1"].Handle("systemctl", func(*fakehost.State, fakehost.Call) host.Result {
		return host.Result{ExitCode: 1, Stdout: []byte("trying " + password), Stderr: []byte("wrong password " + password)}
	})
	out, err := w.run(t)
	if err != nil {
		t.Fatal(err)
	}
	log := w.log(t, "w1")
	for what, text := range map[string]string{"log": log, "server log": printed.String(), "status": fmt.Sprint(w.stored(t).Status), "outcome": fmt.Sprint(out)} {
		if strings.Contains(text, "horse") {
			t.Errorf("the secret is in the %s: %s", what, text)
		}
	}
	for _, evidence := range []string{`"argv":["systemctl","--password=[redacted]","restart","demo.service"]`, `"exitCode":1`,
		`"stderr":"wrong password [redacted]"`, `"journal of demo.service"`, `"path":"/etc/login"`, `"write 21 bytes, mode 0644"`} {
		if !strings.Contains(log, evidence) {
			t.Errorf("%s is not in the log: %s", evidence, log)
		}
	}
}

func TestRun_WaitingHostsHoldNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// w1 waits for its service while it holds the only slot, unless waiting gives it back.
		w := newWorld(t, planned(t, "w1 w2", on(t, "a", "w1 w2", "", boot{}), on(t, "b", "w1 w2", "a", file{Path: "/b"})), interceptor.Funcs{})
		w.deps.Parallel = 1
		start := time.Now()
		out, err := w.run(t)
		if err != nil || out.Phase != v1alpha1.OperationSucceeded {
			t.Fatalf("%+v %v", out, err)
		}
		if took := time.Since(start); took > bootTime+4*time.Second {
			t.Errorf("the hosts waited one after another: %s", took)
		}
	})
}

func TestRun_WritesLittle(t *testing.T) {
	var updates, patches atomic.Int32
	hooks := interceptor.Funcs{
		SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, o client.Object, opts ...client.SubResourceUpdateOption) error {
			updates.Add(1)
			return c.SubResource(sub).Update(ctx, o, opts...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			patches.Add(1)
			return c.SubResource(sub).Patch(ctx, o, p, opts...)
		},
	}
	var steps []step.Step
	for i := range 20 {
		steps = append(steps, file{Path: fmt.Sprintf("/f%d", i), Content: "x"})
	}
	w := newWorld(t, planned(t, "w1", on(t, "a", "w1", "", steps...)), hooks)
	for _, want := range []int32{21, 1} { // one for each changed step and the last; then only the epoch
		updates.Store(0)
		patches.Store(0)
		if _, err := w.run(t); err != nil {
			t.Fatal(err)
		}
		if updates.Load() != want || patches.Load() > 4 {
			t.Errorf("%d writes of the journal, want %d; %d of the operation", updates.Load(), want, patches.Load())
		}
	}
}
