package cluster

import (
	"context"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
	"slipway.dev/slipway/internal/cli/output/outputtest"
)

// TestMember: everything about clusters works for who may read the own projects and nothing else.
func TestMember(t *testing.T) {
	others := existing()
	others.Namespace, others.Name = "ops", "secret"
	planned := v1alpha1.OperationStatus{Phase: v1alpha1.OperationPlanned, Plan: &v1alpha1.PlanReference{Hash: "sha256:1", Summary: "create cluster demo"}}
	spec := []string{"--kubernetes", "v1.36.3", "--control-plane", "cp1"}
	cases := map[string]struct {
		args    []string
		objects []client.Object
		says    string
	}{
		"list":     {[]string{"list"}, []client.Object{existing(), others}, "demo"},
		"list all": {[]string{"list", "-A"}, []client.Object{existing(), others}, "default   demo"},
		"status":   {[]string{"status", "demo"}, []client.Object{existing()}, "v1.36.3"},
		"create":   {append([]string{"create", "demo"}, spec...), nil, "cluster demo created"},
		"plan":     {append([]string{"plan", "demo"}, spec...), nil, "slipway operation approve"},
		"delete":   {[]string{"delete", "demo", "--now", "--yes"}, []client.Object{existing()}, "cluster demo deleted"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := outputtest.New(t, outputtest.Hooks{
				Create: func(object client.Object) error {
					if object.GetName() == "" {
						object.SetName(object.GetGenerateName() + "x1")
					}
					return nil
				},
				Created: func(ctx context.Context, server client.Client, object client.Object) {
					op, isPlan := object.(*v1alpha1.Operation)
					if isPlan {
						op.Status = planned
						if err := server.Status().Update(ctx, op); err != nil {
							t.Error(err)
						}
						return
					}
					made := operation(v1alpha1.VerbCreate)
					made.Status.Phase = v1alpha1.OperationSucceeded
					if err := server.Create(ctx, made); err != nil {
						t.Error(err)
					}
				},
				Deleted: func(ctx context.Context, server client.Client, object client.Object) {
					c := object.(*v1alpha1.Cluster)
					if err := server.Get(ctx, client.ObjectKeyFromObject(c), c); err != nil {
						t.Error(err)
						return
					}
					c.Finalizers = nil
					if err := server.Update(ctx, c); err != nil {
						t.Error(err)
					}
				},
			}, tc.objects...)
			b.AsMember(t, "default")
			servePlan(t, b, "demo-create-x1", view())
			if got := b.Run(t.Context(), New(b.Deps), tc.args...); got != output.ExitOK || !strings.Contains(b.Out.String(), tc.says) || strings.Contains(b.Everything(), "secret") {
				t.Errorf("exit code %d, want it to say %q\n%s", got, tc.says, b.Everything())
			}
		})
	}
	t.Run("another project", func(t *testing.T) {
		b := outputtest.New(t, outputtest.Hooks{}, others)
		b.AsMember(t, "default")
		if got := b.Run(t.Context(), New(b.Deps), "list", "-p", "ops"); got != output.ExitRefused {
			t.Errorf("exit code %d\n%s", got, b.Everything())
		}
	})
}
