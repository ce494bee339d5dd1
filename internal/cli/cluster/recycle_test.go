package cluster

import (
	"context"
	"errors"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
	"slipway.dev/slipway/internal/cli/output/outputtest"
)

// created is a cluster that ran once.
func created(recycle bool) *v1alpha1.Cluster {
	c := existing()
	c.Spec.Recycle = recycle
	c.Status.Conditions = append(c.Status.Conditions, metav1.Condition{Type: v1alpha1.ClusterCreated, Status: metav1.ConditionTrue, Reason: "Succeeded"})
	if recycle {
		c.Status.DeletedAfter = at(7200)
	}
	return c
}

// TestRecycle: deleting stops, undeleting starts, and --now does neither.
func TestRecycle(t *testing.T) {
	cases := map[string]struct {
		reason   string
		args     []string
		cluster  *v1alpha1.Cluster
		stdin    string
		terminal bool
		end      v1alpha1.OperationPhase
		want     output.ExitCode
		// recycle is what the cluster's spec says afterwards.
		recycle bool
		says    string
	}{
		"delete": {reason: "it can be taken back", args: []string{"delete", "demo", "--yes"}, cluster: created(false), end: v1alpha1.OperationSucceeded,
			want: output.ExitOK, recycle: true, says: "slipway cluster undelete demo"},
		"delete asked": {reason: "the prompt says that it comes into the bin", args: []string{"delete", "demo"}, cluster: created(false), stdin: "demo\n", terminal: true,
			end: v1alpha1.OperationSucceeded, want: output.ExitOK, recycle: true, says: "recycle bin"},
		"delete partly": {reason: "a host that was not stopped is no success", args: []string{"delete", "demo", "--yes"}, cluster: created(false), end: v1alpha1.OperationPartial,
			want: output.ExitPartial, recycle: true},
		"delete, no wait": {reason: "the server does it", args: []string{"delete", "demo", "--yes", "--no-wait"}, cluster: created(false), want: output.ExitOK, recycle: true},
		"delete twice":    {reason: "it does not go anywhere from the bin but by --now", args: []string{"delete", "demo", "--yes"}, cluster: created(true), want: output.ExitRefused, recycle: true, says: "--now"},
		"undelete": {reason: "it starts again", args: []string{"undelete", "demo"}, cluster: created(true), end: v1alpha1.OperationSucceeded,
			want: output.ExitOK, says: "start of cluster demo done"},
		"undelete what runs": {reason: "there is nothing to take back", args: []string{"undelete", "demo"}, cluster: created(false), want: output.ExitRefused, says: "not in the recycle bin"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := outputtest.New(t, outputtest.Hooks{Patched: func(ctx context.Context, server client.Client, o client.Object) {
				c, isCluster := o.(*v1alpha1.Cluster)
				if !isCluster || tc.end == "" {
					return
				}
				verb := v1alpha1.VerbStart
				if c.Spec.Recycle {
					verb = v1alpha1.VerbStop
				}
				// One of an earlier time in the bin is not the one to follow.
				for name, generation := range map[string]int64{"old": c.Generation - 1, "new": c.Generation} {
					op := operation(verb)
					op.Name, op.Spec.Generation = "demo-"+name, generation
					op.Labels[v1alpha1.LabelClusterUID] = "u1"
					op.Status.Phase, op.Status.StartedAt, op.Status.FinishedAt = v1alpha1.OperationFailed, at(0), at(4)
					if name == "new" {
						op.Status.Phase = tc.end
					}
					if err := server.Create(ctx, op); err != nil {
						t.Error(err)
					}
				}
			}}, tc.cluster)
			b.Deps.Terminal = tc.terminal
			b.In.WriteString(tc.stdin)
			if got := b.Run(t.Context(), New(b.Deps), tc.args...); got != tc.want || !strings.Contains(b.Everything(), tc.says) {
				t.Errorf("%s: exit code %d, want %d and %q\n%s", tc.reason, got, tc.want, tc.says, b.Everything())
			}
			var c v1alpha1.Cluster
			if err := b.Client.Get(t.Context(), client.ObjectKeyFromObject(tc.cluster), &c); err != nil || c.Spec.Recycle != tc.recycle {
				t.Errorf("%s: recycle is %t, %v", tc.reason, c.Spec.Recycle, err)
			}
		})
	}
}

func TestRenewCerts(t *testing.T) {
	cases := map[string]struct {
		reason   string
		args     []string
		stdin    string
		terminal bool
		want     output.ExitCode
		// made counts operations; approved says that the one was.
		made     int
		approved bool
	}{
		"yes":  {"followed to the end, and nobody reads", []string{"--yes"}, "", false, output.ExitOK, 1, false},
		"asks": {"a person agrees to what was shown", nil, "y\n", true, output.ExitOK, 1, true},
		"no":   {"anything else is no", nil, "\n", true, output.ExitRefused, 1, false},
		"pipe": {"nobody can be asked", nil, "", false, output.ExitUsage, 0, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			end := func(ctx context.Context, server client.Client, op *v1alpha1.Operation) {
				op.Status.Phase, op.Status.StartedAt, op.Status.FinishedAt = v1alpha1.OperationSucceeded, at(0), at(4)
				if err := server.Status().Update(ctx, op); err != nil {
					t.Error(err)
				}
			}
			b := outputtest.New(t, outputtest.Hooks{
				Create: func(o client.Object) error {
					o.SetName(o.GetGenerateName() + "x1")
					return nil
				},
				Created: func(ctx context.Context, server client.Client, o client.Object) {
					op := o.(*v1alpha1.Operation)
					if !op.Spec.Propose {
						end(ctx, server, op)
						return
					}
					propose(ctx, t, server, op)
				},
				Patched: func(ctx context.Context, server client.Client, o client.Object) {
					end(ctx, server, o.(*v1alpha1.Operation))
				},
			}, created(false))
			servePlan(t, b, "demo-renew-x1", view())
			b.Deps.Terminal = tc.terminal
			b.In.WriteString(tc.stdin)
			if got := b.Run(t.Context(), New(b.Deps), append([]string{"renew-certs", "demo"}, tc.args...)...); got != tc.want {
				t.Errorf("%s: exit code %d, want %d\n%s", tc.reason, got, tc.want, b.Everything())
			}
			var all v1alpha1.OperationList
			if err := b.Client.List(t.Context(), &all); err != nil || len(all.Items) != tc.made {
				t.Fatalf("%s: %d operations, %v", tc.reason, len(all.Items), err)
			}
			if tc.made == 0 {
				return
			}
			op := all.Items[0]
			if op.Spec.Verb != v1alpha1.VerbRenew || op.Spec.Wanted != nil || op.Spec.Propose != tc.terminal || (op.Spec.ApprovedPlan != "") != tc.approved {
				t.Errorf("%s: %+v", tc.reason, op.Spec)
			}
			if shown := strings.Contains(b.Out.String(), "shop/a"); shown != tc.terminal {
				t.Errorf("%s: the impact is shown: %t\n%s", tc.reason, shown, b.Everything())
			}
		})
	}
}

// propose plans an operation as the server does.
func propose(ctx context.Context, t *testing.T, server client.Client, op *v1alpha1.Operation) {
	t.Helper()
	op.Status.Phase, op.Status.Plan = v1alpha1.OperationPlanned, &v1alpha1.PlanReference{Hash: "sha256:1", Summary: "what it does"}
	op.Status.Impact = &v1alpha1.OperationImpact{Moving: v1alpha1.PodNames{Count: 1, Names: []string{"shop/a"}},
		Nodes: []v1alpha1.NodeImpact{{Name: "w1", Change: v1alpha1.NodeLeaves, Drains: true, Pods: 1}}}
	if err := server.Status().Update(ctx, op); err != nil {
		t.Error(err)
	}
}

// TestDeleteForesees: who is asked has read what it does to the cluster; the plan that said so is gone, and what cannot be told
// keeps nobody from deleting.
func TestDeleteForesees(t *testing.T) {
	cases := map[string]struct {
		reason string
		args   []string
		verb   v1alpha1.Verb
		plans  func(ctx context.Context, server client.Client, op *v1alpha1.Operation)
		refuse error
		says   string
	}{
		"into the bin": {"pods stop", nil, v1alpha1.VerbStop, nil, nil, "shop/a"},
		"now":          {"pods are gone", []string{"--now"}, v1alpha1.VerbDelete, nil, nil, "shop/a"},
		"no plan": {"the server cannot plan it", nil, v1alpha1.VerbStop, func(ctx context.Context, server client.Client, op *v1alpha1.Operation) {
			op.Status.Phase, op.Status.Message = v1alpha1.OperationFailed, "no host can be reached"
			if err := server.Status().Update(ctx, op); err != nil {
				t.Error(err)
			}
		}, nil, "is not known: the plan is refused: no host can be reached"},
		"not allowed": {"one may delete clusters and not make operations", nil, v1alpha1.VerbStop, nil, errors.New("operations is forbidden"), "is not known: operations is forbidden"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := created(false)
			c.Status.Applied = c.Spec.DeepCopy()
			var made []v1alpha1.OperationSpec
			b := outputtest.New(t, outputtest.Hooks{
				Create: func(o client.Object) error {
					o.SetName(o.GetGenerateName() + "x1")
					return tc.refuse
				},
				Created: func(ctx context.Context, server client.Client, o client.Object) {
					op := o.(*v1alpha1.Operation)
					made = append(made, op.Spec)
					if tc.plans != nil {
						tc.plans(ctx, server, op)
						return
					}
					propose(ctx, t, server, op)
				},
			}, c)
			b.Deps.Terminal = true
			b.In.WriteString("another name\n")
			code := b.Run(t.Context(), New(b.Deps), append([]string{"delete", "demo"}, tc.args...)...)
			said := b.ErrOut.String()
			if before, _, asked := strings.Cut(said, "Type its name to go on"); code != output.ExitRefused || !asked || !strings.Contains(before, tc.says) {
				t.Errorf("%s: exit code %d, want %q before it asks:\n%s", tc.reason, code, tc.says, b.Everything())
			}
			if tc.refuse == nil && (len(made) != 1 || made[0].Verb != tc.verb || !made[0].Propose) {
				t.Errorf("%s: made %+v", tc.reason, made)
			}
			var all v1alpha1.OperationList
			if err := b.Client.List(t.Context(), &all); err != nil || len(all.Items) != 0 {
				t.Errorf("%s: %d operations are left, %v", tc.reason, len(all.Items), err)
			}
		})
	}
}
