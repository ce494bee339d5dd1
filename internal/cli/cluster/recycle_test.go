package cluster

import (
	"context"
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
		made     int
	}{
		"yes":  {"followed to the end", []string{"--yes"}, "", false, output.ExitOK, 1},
		"asks": {"a person agrees", nil, "y\n", true, output.ExitOK, 1},
		"no":   {"anything else is no", nil, "\n", true, output.ExitRefused, 0},
		"pipe": {"nobody can be asked", nil, "", false, output.ExitUsage, 0},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := outputtest.New(t, outputtest.Hooks{
				Create: func(o client.Object) error {
					o.SetName(o.GetGenerateName() + "x1")
					return nil
				},
				Created: func(ctx context.Context, server client.Client, o client.Object) {
					op := o.(*v1alpha1.Operation)
					op.Status.Phase, op.Status.StartedAt, op.Status.FinishedAt = v1alpha1.OperationSucceeded, at(0), at(4)
					if err := server.Status().Update(ctx, op); err != nil {
						t.Error(err)
					}
				},
			}, created(false))
			b.Deps.Terminal = tc.terminal
			b.In.WriteString(tc.stdin)
			if got := b.Run(t.Context(), New(b.Deps), append([]string{"renew-certs", "demo"}, tc.args...)...); got != tc.want {
				t.Errorf("%s: exit code %d, want %d\n%s", tc.reason, got, tc.want, b.Everything())
			}
			var all v1alpha1.OperationList
			if err := b.Client.List(t.Context(), &all); err != nil || len(all.Items) != tc.made {
				t.Fatalf("%s: %d operations, %v", tc.reason, len(all.Items), err)
			}
			if tc.made > 0 && (all.Items[0].Spec.Verb != v1alpha1.VerbRenew || all.Items[0].Spec.Wanted != nil) {
				t.Errorf("%s: %+v", tc.reason, all.Items[0].Spec)
			}
		})
	}
}
