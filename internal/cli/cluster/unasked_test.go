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

// TestProposed: what a plan does to the cluster is shown before anybody is asked; one that policy lets run is followed, and
// nobody approves it.
func TestProposed(t *testing.T) {
	impact := &v1alpha1.OperationImpact{Moving: v1alpha1.PodNames{Count: 1, Names: []string{"shop/a"}}, Nodes: []v1alpha1.NodeImpact{{Name: "w1", Change: v1alpha1.NodeLeaves, Drains: true, Pods: 1}}}
	plan := &v1alpha1.PlanReference{Hash: "sha256:1", Summary: "scale cluster demo"}
	cases := map[string]struct {
		reason   string
		status   v1alpha1.OperationStatus
		approved string
		says     string
	}{
		"asks":    {"a person agrees to what was shown", v1alpha1.OperationStatus{Phase: v1alpha1.OperationPlanned, Plan: plan, Impact: impact}, "sha256:1", "is approved"},
		"unasked": {"a harmless plan runs already", v1alpha1.OperationStatus{Phase: v1alpha1.OperationRunning, Plan: plan, Impact: impact, Unasked: true}, "", "runs without approval"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := existing()
			c.Spec = *shape()
			b := outputtest.New(t, outputtest.Hooks{
				Create: func(o client.Object) error { o.SetName("demo-scale-x1"); return nil },
				Created: func(ctx context.Context, server client.Client, o client.Object) {
					op := o.(*v1alpha1.Operation)
					op.Status = tc.status
					if err := server.Status().Update(ctx, op); err != nil {
						t.Error(err)
					}
				},
			}, c)
			servePlan(t, b, "demo-scale-x1", view())
			if got := b.Run(t.Context(), New(b.Deps), "scale", "demo", "--remove", "b2", "--yes", "--no-wait"); got != output.ExitOK {
				t.Fatalf("%s: exit code %d\n%s", tc.reason, got, b.Everything())
			}
			for _, want := range []string{"moving:", "shop/a", tc.says} {
				if !strings.Contains(b.Out.String(), want) {
					t.Errorf("%s: it does not say %q:\n%s", tc.reason, want, b.Out.String())
				}
			}
			op := v1alpha1.Operation{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "demo-scale-x1"}}
			if err := b.Client.Get(t.Context(), client.ObjectKeyFromObject(&op), &op); err != nil || op.Spec.ApprovedPlan != tc.approved {
				t.Errorf("%s: approved %q, want %q (%v)", tc.reason, op.Spec.ApprovedPlan, tc.approved, err)
			}
		})
	}
}

// TestStatusSaysWhatWaits: a plan that waits because of policy says which, and how it is approved.
func TestStatusSaysWhatWaits(t *testing.T) {
	const message = "planned: upgrade cluster demo; it waits: Setting approval (required) wants every plan to upgrade a cluster approved. Read it, then: slipway operation approve demo-upgrade-2 -p default --plan sha256:1"
	op := operation(v1alpha1.VerbUpgrade)
	op.Name, op.Status = opName, v1alpha1.OperationStatus{Phase: v1alpha1.OperationPlanned, Message: message}
	b := outputtest.New(t, outputtest.Hooks{}, existing(), op)
	if code := b.Run(t.Context(), New(b.Deps), "status", "demo"); code != output.ExitOK || !strings.Contains(b.Out.String(), "upgrade, Planned: "+message) {
		t.Errorf("exit code %d:\n%s", code, b.Everything())
	}
}
