package operation

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
	"slipway.dev/slipway/internal/cli/output/outputtest"
)

// TestMember: everything about operations works for who may read the own projects and nothing else.
func TestMember(t *testing.T) {
	of := func(project, name string) *v1alpha1.Operation {
		return &v1alpha1.Operation{ObjectMeta: metav1.ObjectMeta{Namespace: project, Name: name}, Spec: v1alpha1.OperationSpec{Verb: v1alpha1.VerbCreate, Cluster: "demo"},
			Status: v1alpha1.OperationStatus{Phase: v1alpha1.OperationPlanned, Plan: &v1alpha1.PlanReference{Hash: "sha256:1", Summary: "create cluster demo"}}}
	}
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"list": {[]string{"list", "-p", "dev"}, "mine"}, "list all": {[]string{"list", "-A"}, "dev       mine"}, "show": {[]string{"show", "mine", "-p", "dev"}, "sha256:1"},
		"approve": {[]string{"approve", "mine", "-p", "dev"}, "approved"}, "abort": {[]string{"abort", "mine", "-p", "dev"}, "abort asked for"},
	} {
		t.Run(name, func(t *testing.T) {
			b := outputtest.New(t, outputtest.Hooks{}, of("dev", "mine"), of("ops", "secret"))
			b.AsMember(t, "dev", "empty")
			if got := b.Run(t.Context(), New(b.Deps), tc.args...); got != output.ExitOK || !strings.Contains(b.Out.String(), tc.want) || strings.Contains(b.Everything(), "secret") {
				t.Errorf("exit code %d, want it to say %q\n%s", got, tc.want, b.Everything())
			}
		})
	}
}
