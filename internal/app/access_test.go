package app

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/access"
	"slipway.dev/slipway/internal/controlplane"
)

// accessWorld is a real control plane with roles, policies, and the project dev with one member of each role.
type accessWorld struct {
	config *rest.Config
	// front is what the gateway uses.
	front  *rest.Config
	scheme *runtime.Scheme
	// server is what the server itself uses.
	server client.Client
}

// The people of the world. Only their names and groups say who they are, as the gateway would say them.
const (
	admin    = "admin" // With the admin token: system:masters.
	sam      = "sam"   // A system administrator.
	ada      = "ada"   // An auditor.
	paul     = "paul"  // Administrator of project dev.
	cleo     = "cleo"  // Cluster administrator in dev.
	rita     = "rita"  // Read-only in dev.
	otto     = "otto"  // Administrator of project ops.
	outsider = "oscar" // Logged in, member of nothing.
	custom   = "carl"  // Holds a role that somebody wrote by hand: see customRole.
)

func groupsOf(who string) []string {
	more := map[string]string{admin: "system:masters", sam: access.SystemAdministrators, ada: access.Auditors}
	groups := []string{"system:authenticated"}
	if g := more[who]; g != "" {
		groups = append(groups, g)
	}
	return groups
}

// customRole is wide, but without the verbs of ours that RBAC knows nothing about, lend for one host apart.
func customRole() []rbacv1.PolicyRule {
	all := []string{"get", "list", "watch", "create", "update", "patch", "delete"}
	return []rbacv1.PolicyRule{
		{Verbs: all, APIGroups: []string{v1alpha1.Group}, Resources: []string{"projects", "grants", "users"}},
		{Verbs: []string{"lend"}, APIGroups: []string{v1alpha1.Group}, Resources: []string{"hosts"}, ResourceNames: []string{"cp1"}},
		{Verbs: append(all, "bind", "escalate"), APIGroups: []string{rbacv1.GroupName}, Resources: []string{"clusterroles", "clusterrolebindings", "roles", "rolebindings"}},
		{Verbs: all, APIGroups: []string{""}, Resources: []string{"namespaces"}},
	}
}

// as gives a client whose requests are from that person.
func (w *accessWorld) as(t *testing.T, who string) client.Client {
	t.Helper()
	config := rest.CopyConfig(w.config)
	config.Impersonate = rest.ImpersonationConfig{UserName: who, Groups: groupsOf(who)}
	c, err := client.New(config, client.Options{Scheme: w.scheme})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// may asks RBAC.
func (w *accessWorld) may(t *testing.T, who string, what authorizationv1.ResourceAttributes) bool {
	t.Helper()
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: who, Groups: groupsOf(who), ResourceAttributes: &what}}
	if err := w.server.Create(t.Context(), review); err != nil {
		t.Fatal(err)
	}
	return review.Status.Allowed
}

// until waits for somebody's role: RBAC hears of new bindings from a watch of its own.
func (w *accessWorld) until(t *testing.T, who string, what authorizationv1.ResourceAttributes) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) { return w.may(t, who, what), nil })
	if err != nil {
		t.Fatalf("%s never got the role: %v", who, err)
	}
}

func (w *accessWorld) create(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		if err := w.server.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAccess starts the real server once for everything that needs one.
func TestAccess(t *testing.T) {
	w := newAccessWorld(t)
	tests := map[string]func(*testing.T, *accessWorld){
		"ApplyIsIdempotent":   testApplyAgain,
		"ApplyMends":          testApplyMends,
		"StrangersSeeNothing": testStrangers,
		"Members":             testMembers,
		"Users":               testUsers,
		"Projects":            testProjects,
		"Grants":              testGrants,
		"Names":               testNames,
		"Secrets":             testSecrets,
		"SecretsAreNotShown":  testSecretsNotShown,
		"References":          testReferences,
		"Requests":            testRequests,
		"Approvals":           testApprovals,
		"Marks":               testMarks,
		"Platform":            testPlatform,
		"RightsEnd":           testRightsEnd,
	}
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		t.Run(name, func(t *testing.T) { tests[name](t, w) })
	}
}

func newAccessWorld(t *testing.T) *accessWorld {
	crds, err := crds()
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	plane, err := controlplane.Start(t.Context(), controlplane.Config{DataDir: t.TempDir(), Version: "1.2.3", CRDs: crds, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := plane.Stop(context.Background()); err != nil {
			t.Errorf("Stop() = %v", err)
		}
	})
	w := &accessWorld{config: plane.RESTConfig(), front: plane.GatewayConfig()}
	if w.scheme, err = Scheme(); err != nil {
		t.Fatal(err)
	}
	if w.server, err = client.New(w.config, client.Options{Scheme: w.scheme}); err != nil {
		t.Fatal(err)
	}
	if _, err := prepareStore(t.Context(), w.server); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := access.Apply(t.Context(), w.server); err != nil {
		t.Fatalf("Apply() = %v", err)
	}
	t.Logf("roles and policies were in force after %s", time.Since(began).Round(time.Millisecond))
	w.project(t, &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: "dev"}, Spec: v1alpha1.ProjectSpec{
		DisplayName: "Development",
		Members: []v1alpha1.ProjectMember{
			{Name: paul, Role: v1alpha1.ProjectAdministrator}, {Name: cleo, Role: v1alpha1.ClusterAdministrator}, {Name: rita, Role: v1alpha1.ReadOnly},
		},
	}})
	w.project(t, &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: "ops"}, Spec: v1alpha1.ProjectSpec{
		Members: []v1alpha1.ProjectMember{{Name: otto, Role: v1alpha1.ProjectAdministrator}},
	}})
	w.create(t,
		&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "custom"}, Rules: customRole()},
		&rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "custom"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "custom"},
			Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: custom}},
		})
	for who, what := range map[string]authorizationv1.ResourceAttributes{
		paul:   {Verb: "update", Group: v1alpha1.Group, Resource: "projects", Name: "dev"},
		cleo:   {Verb: "administer", Group: v1alpha1.Group, Resource: "clusters", Subresource: "proxy", Namespace: "dev"},
		rita:   {Verb: "list", Group: v1alpha1.Group, Resource: "clusters", Namespace: "dev"},
		otto:   {Verb: "update", Group: v1alpha1.Group, Resource: "projects", Name: "ops"},
		custom: {Verb: "list", Resource: "namespaces"},
	} {
		w.until(t, who, what)
	}
	return w
}

// project makes a Project, and what its controller makes of it.
func (w *accessWorld) project(t *testing.T, p *v1alpha1.Project) {
	t.Helper()
	w.create(t, p)
	w.create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: p.Name, Labels: map[string]string{v1alpha1.LabelProject: p.Name}}})
	w.create(t, access.ProjectRoles(p)...)
}

// attempt is one request of one person, and what comes of it: refused is part of the answer's message, empty means
// that it is allowed.
type attempt struct {
	reason, who, refused string
	do                   func(context.Context, client.Client) error
}

// rbacSays is in every refusal that comes from RBAC and not from a policy.
const rbacSays = "cannot"

func (w *accessWorld) try(t *testing.T, attempts map[string]attempt) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(attempts)) {
		a := attempts[name]
		t.Run(name, func(t *testing.T) {
			err := a.do(t.Context(), w.as(t, a.who))
			switch {
			case a.refused == "" && err != nil:
				t.Errorf("%s was refused: %v\n%s", a.who, err, a.reason)
			case a.refused != "" && err == nil:
				t.Errorf("%s was not refused\n%s", a.who, a.reason)
			case a.refused != "" && !strings.Contains(err.Error(), a.refused):
				t.Errorf("%s was refused with %q, want %q in it\n%s", a.who, err, a.refused, a.reason)
			}
		})
	}
}

// creating, removing, merge, put and apply are requests as kubectl sends them.
func creating(o client.Object, options ...client.CreateOption) func(context.Context, client.Client) error {
	return func(ctx context.Context, c client.Client) error {
		return c.Create(ctx, o.DeepCopyObject().(client.Object), options...)
	}
}

func removing(o client.Object, options ...client.DeleteOption) func(context.Context, client.Client) error {
	return func(ctx context.Context, c client.Client) error {
		return c.Delete(ctx, o.DeepCopyObject().(client.Object), options...)
	}
}

func merge(o client.Object, patch string) func(context.Context, client.Client) error {
	return func(ctx context.Context, c client.Client) error {
		return c.Patch(ctx, o.DeepCopyObject().(client.Object), client.RawPatch(types.MergePatchType, []byte(patch)))
	}
}

// put reads, changes and sends the whole object.
func put[T client.Object](o T, change func(T)) func(context.Context, client.Client) error {
	return func(ctx context.Context, c client.Client) error {
		o := o.DeepCopyObject().(T)
		if err := c.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		change(o)
		return c.Update(ctx, o)
	}
}

// apply is a forced server-side apply.
func apply(manifest string) func(context.Context, client.Client) error {
	return func(ctx context.Context, c client.Client) error {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(manifest), &o.Object); err != nil {
			return err
		}
		return c.Apply(ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner("kubectl"), client.ForceOwnership)
	}
}

func statusMerge(o client.Object, patch string) func(context.Context, client.Client) error {
	return func(ctx context.Context, c client.Client) error {
		return c.Status().Patch(ctx, o.DeepCopyObject().(client.Object), client.RawPatch(types.MergePatchType, []byte(patch)))
	}
}
