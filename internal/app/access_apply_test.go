package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/access"
)

// kept lists what Apply keeps, with the version that each object has.
func (w *accessWorld) kept(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, list := range []client.ObjectList{
		&rbacv1.ClusterRoleList{}, &rbacv1.ClusterRoleBindingList{}, &rbacv1.RoleList{}, &rbacv1.RoleBindingList{},
		&admissionv1.ValidatingAdmissionPolicyList{}, &admissionv1.ValidatingAdmissionPolicyBindingList{},
		&admissionv1.MutatingAdmissionPolicyList{}, &admissionv1.MutatingAdmissionPolicyBindingList{},
	} {
		if err := w.server.List(t.Context(), list, client.HasLabels{access.LabelPart}); err != nil {
			t.Fatal(err)
		}
		err := meta.EachListItem(list, func(o runtime.Object) error {
			found[fmt.Sprintf("%T %s", o, o.(client.Object).GetName())] = o.(client.Object).GetResourceVersion()
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

func testApplyAgain(t *testing.T, w *accessWorld) {
	before := w.kept(t)
	if len(before) < 20 {
		t.Fatalf("found only %d roles and policies: the list is wrong", len(before))
	}
	began := time.Now()
	if err := access.Apply(t.Context(), w.server); err != nil {
		t.Fatal(err)
	}
	t.Logf("nothing to do took %s", time.Since(began).Round(time.Millisecond))
	if diff := cmp.Diff(before, w.kept(t)); diff != "" {
		t.Errorf("a second Apply wrote (-before +after):\n%s", diff)
	}
}

func testApplyMends(t *testing.T, w *accessWorld) {
	before := w.kept(t)
	older := map[string]string{access.LabelPart: "access"}
	w.create(t,
		&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "slipway:older", Labels: older}},
		&rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: "slipway:older", Labels: older}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "none"}},
		&admissionv1.ValidatingAdmissionPolicyBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "slipway-older", Labels: older},
			Spec:       admissionv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: "slipway-older", ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny}},
		},
		systemSecret("mend", v1alpha1.SecretTypeCredential))
	for reason, edit := range map[string]func(context.Context, client.Client) error{
		"a policy is switched off for everybody": apply(`{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicy, metadata: {name: slipway-secrets}, spec: {matchConditions: [{name: never, expression: "false"}]}}`),
		"a policy only warns":                    merge(&admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: called("slipway-users")}, `{"spec":{"validationActions":["Warn"]}}`),
		"auditors are given more":                merge(&rbacv1.ClusterRole{ObjectMeta: called(access.RoleAuditor)}, `{"rules":[{"verbs":["*"],"apiGroups":["*"],"resources":["*"]}]}`),
		"a binding is gone":                      removing(&admissionv1.MutatingAdmissionPolicyBinding{ObjectMeta: called("slipway-requests")}),
	} {
		if err := edit(t.Context(), w.as(t, admin)); err != nil {
			t.Fatalf("%s: %v", reason, err)
		}
	}
	// Without stamps nothing is made and nothing approved.
	unstamped := newOperation("unstamped", nil)
	w.create(t, unstamped)
	for _, do := range []func(context.Context, client.Client) error{
		creating(newCluster("unstamped", nil), client.DryRunAll), merge(unstamped, `{"spec":{"approvedPlan":"sha256:1"}}`),
	} {
		paul := w.as(t, paul)
		err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, 10*time.Second, true, func(ctx context.Context) (bool, error) {
			err := do(ctx, paul)
			return err != nil && strings.Contains(err.Error(), "not marked with who it is from"), nil
		})
		if err != nil {
			t.Errorf("without the policy that stamps, a request passed: %v", err)
		}
	}
	// The first try ends half-way, as when the server is killed.
	cut := &cutClient{Client: w.server}
	cut.left.Store(11)
	if err := access.Apply(t.Context(), cut); !errors.Is(err, errCut) {
		t.Fatalf("Apply() = %v, want that it was cut off", err)
	}
	if err := access.Apply(t.Context(), w.server); err != nil {
		t.Fatal(err)
	}
	after := w.kept(t)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(after))); diff != "" {
		t.Errorf("roles and policies (-before +after):\n%s", diff)
	}
	// At once: Apply has waited.
	w.try(t, map[string]attempt{
		"secrets":  {reason: "the condition is gone", who: admin, do: merge(systemSecret("mend", ""), `{}`), refused: "cannot be changed"},
		"users":    {reason: "it refuses again", who: custom, do: creating(user("oidc-x", "")), refused: "from the directory"},
		"auditors": {reason: "the role is as it was", who: ada, do: creating(&v1alpha1.Project{ObjectMeta: called("mine")}), refused: rbacSays},
	})
	c := newCluster("mended", nil)
	w.follow(t, c, []stamped{{reason: "it stamps again", who: paul, do: creating(c), want: [2]string{paul, ""}}})
}

var errCut = errors.New("cut off")

// cutClient fails every write after the first few.
type cutClient struct {
	client.Client
	left atomic.Int32
}

func (c *cutClient) Apply(ctx context.Context, o runtime.ApplyConfiguration, options ...client.ApplyOption) error {
	if c.left.Add(-1) < 0 {
		return errCut
	}
	return c.Client.Apply(ctx, o, options...)
}
