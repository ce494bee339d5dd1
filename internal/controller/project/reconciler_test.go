package project

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"slipway.dev/slipway/api/v1alpha1"
)

// world is a platform with project dev.
type world struct {
	t      *testing.T
	client client.Client
	// listed is called after each list, as somebody else would act between two looks.
	listed func(client.ObjectList)
	// writes counts the changes of a status.
	writes int
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, corev1.AddToScheme, rbacv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{t: t}
	w.client = clientfake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&v1alpha1.Project{}, &v1alpha1.Operation{}).
		WithInterceptorFuncs(interceptor.Funcs{
			List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
				err := c.List(ctx, list, opts...)
				if w.listed != nil {
					w.listed(list)
				}
				return err
			},
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
				w.writes++
				return c.SubResource(sub).Patch(ctx, o, p, opts...)
			},
		}).Build()
	return w
}

func (w *world) reconcile() {
	w.t.Helper()
	r := New(Deps{Client: w.client, Log: slog.New(slog.DiscardHandler)})
	if _, err := r.Reconcile(w.t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: "dev"}}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) create(objects ...client.Object) {
	w.t.Helper()
	for _, o := range objects {
		if err := w.client.Create(w.t.Context(), o); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) delete(o client.Object) {
	w.t.Helper()
	if err := w.client.Delete(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
}

// get gives nil when there is none.
func get[T client.Object](w *world, namespace, name string, o T) T {
	w.t.Helper()
	err := w.client.Get(w.t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, o)
	if apierrors.IsNotFound(err) {
		var none T
		return none
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return o
}

func (w *world) project() *v1alpha1.Project {
	w.t.Helper()
	return get(w, "", "dev", &v1alpha1.Project{})
}

// ready fails the test unless the condition Ready has the reason; it gives its message.
func (w *world) ready(reason string) string {
	w.t.Helper()
	p := w.project()
	if p == nil {
		w.t.Fatalf("the project has gone, want it %s", reason)
	}
	c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ProjectReady)
	if c == nil || c.Reason != reason || (c.Status == metav1.ConditionTrue) != (reason == ReasonReady) {
		w.t.Fatalf("condition %+v, want reason %s", c, reason)
	}
	return c.Message
}

// roles names what RBAC has for the project.
func (w *world) roles() []string {
	w.t.Helper()
	found := []string{}
	for _, list := range kinds() {
		if err := w.client.List(w.t.Context(), list); err != nil {
			w.t.Fatal(err)
		}
		if err := meta.EachListItem(list, func(item runtime.Object) error {
			o := item.(client.Object)
			who := ""
			switch o := o.(type) {
			case *rbacv1.RoleBinding:
				who = subjects(o.Subjects)
			case *rbacv1.ClusterRoleBinding:
				who = subjects(o.Subjects)
			}
			found = append(found, strings.TrimSpace(fmt.Sprintf("%T %s %s", o, strings.TrimPrefix(o.GetNamespace()+"/"+o.GetName(), "/"), who))[len("*v1."):])
			return nil
		}); err != nil {
			w.t.Fatal(err)
		}
	}
	slices.Sort(found)
	return found
}

func subjects(all []rbacv1.Subject) string {
	var names []string
	for _, s := range all {
		names = append(names, s.Kind+" "+s.Name)
	}
	return strings.Join(names, ", ")
}

func (w *world) hasRoles(want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(append([]string{}, want...), w.roles()); diff != "" {
		w.t.Errorf("roles (-want +got):\n%s", diff)
	}
}

func project(members ...v1alpha1.ProjectMember) *v1alpha1.Project {
	return &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: "dev", UID: "p1"}, Spec: v1alpha1.ProjectSpec{Members: members}}
}

func member(name string, role v1alpha1.ProjectRole) v1alpha1.ProjectMember {
	return v1alpha1.ProjectMember{Kind: v1alpha1.MemberUser, Name: name, Role: role}
}

func namespace(labels, annotations map[string]string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "dev", Labels: labels, Annotations: annotations}}
}

func cluster(name string) *v1alpha1.Cluster {
	return &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: name}}
}

func operation(name string, phase v1alpha1.OperationPhase) *v1alpha1.Operation {
	return &v1alpha1.Operation{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: name}, Status: v1alpha1.OperationStatus{Phase: phase}}
}

const (
	annsBinding = "RoleBinding dev/slipway:project-administrator User ann"
	bobsBinding = "RoleBinding dev/slipway:read-only User bob"
)

func TestMembers(t *testing.T) {
	w := newWorld(t, project(member("ann", v1alpha1.ProjectAdministrator), member("bob", v1alpha1.ReadOnly)))
	w.reconcile()
	w.ready(ReasonReady)
	if n := get(w, "", "dev", &corev1.Namespace{}); n == nil || n.Labels[v1alpha1.LabelProject] != "dev" || n.Annotations[AnnotationAdopted] != "" {
		t.Fatalf("namespace %v, want one of the project's own", n)
	}
	both := []string{"ClusterRole slipway:project:dev", "ClusterRole slipway:project:dev:administrator",
		"ClusterRoleBinding slipway:project:dev User ann, User bob", "ClusterRoleBinding slipway:project:dev:administrator User ann", annsBinding, bobsBinding}
	w.hasRoles(both...)

	writes, before := w.writes, get(w, "dev", "slipway:read-only", &rbacv1.RoleBinding{}).ResourceVersion
	w.reconcile()
	if w.writes != writes {
		t.Error("a status that did not change was written")
	}

	// Drift is put back.
	tampered := get(w, "dev", "slipway:read-only", &rbacv1.RoleBinding{})
	tampered.Subjects = append(tampered.Subjects, rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: "User", Name: "eve"})
	if err := w.client.Update(t.Context(), tampered); err != nil {
		t.Fatal(err)
	}
	w.delete(get(w, "dev", "slipway:project-administrator", &rbacv1.RoleBinding{}))
	w.create(&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "more", Labels: map[string]string{v1alpha1.LabelProject: "dev"}}})
	w.reconcile()
	w.hasRoles(both...)
	if before == get(w, "dev", "slipway:read-only", &rbacv1.RoleBinding{}).ResourceVersion {
		t.Error("the test did not tamper with the binding")
	}

	// Who is taken out has no rights left, and a role without members no binding.
	p := w.project()
	p.Spec.Members = p.Spec.Members[1:]
	if err := w.client.Update(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	w.reconcile()
	w.hasRoles("ClusterRole slipway:project:dev", "ClusterRoleBinding slipway:project:dev User bob", bobsBinding)
}

func TestNamespace(t *testing.T) {
	now := metav1.Now()
	going := namespace(nil, nil)
	going.DeletionTimestamp, going.Finalizers = &now, []string{"kubernetes"}
	cases := map[string]struct {
		reason    string
		namespace *corev1.Namespace
		want      string
		adopted   bool
	}{
		"none":         {reason: "it is made", want: ReasonReady},
		"own":          {reason: "a second look changes nothing", namespace: namespace(map[string]string{v1alpha1.LabelProject: "dev"}, nil), want: ReasonReady},
		"before":       {reason: "clusters from before have theirs already, and it stays when the project goes", namespace: namespace(map[string]string{"team": "a"}, nil), want: ReasonReady, adopted: true},
		"adopted":      {reason: "that it was there before is not forgotten", namespace: namespace(map[string]string{v1alpha1.LabelProject: "dev"}, map[string]string{AnnotationAdopted: "true"}), want: ReasonReady, adopted: true},
		"lost label":   {reason: "a label that somebody took away is put back", namespace: namespace(nil, map[string]string{AnnotationAdopted: "true"}), want: ReasonReady, adopted: true},
		"another's":    {reason: "members of one project must not get into another", namespace: namespace(map[string]string{v1alpha1.LabelProject: "ops"}, nil), want: ReasonTaken},
		"being erased": {reason: "nothing can be made in it", namespace: going, want: ReasonTerminating},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			objects := []client.Object{project(member("ann", v1alpha1.ReadOnly))}
			if tc.namespace != nil {
				objects = append(objects, tc.namespace)
			}
			w := newWorld(t, objects...)
			w.reconcile()
			w.reconcile()
			w.ready(tc.want)
			n := get(w, "", "dev", &corev1.Namespace{})
			if tc.want != ReasonReady {
				w.hasRoles()
				if n.Labels[v1alpha1.LabelProject] == "dev" {
					t.Errorf("%s: it was taken: %v", tc.reason, n.Labels)
				}
				return
			}
			if n.Labels[v1alpha1.LabelProject] != "dev" || (n.Annotations[AnnotationAdopted] != "") != tc.adopted {
				t.Errorf("%s: labels %v, annotations %v", tc.reason, n.Labels, n.Annotations)
			}
			if tc.namespace != nil && n.Labels["team"] != tc.namespace.Labels["team"] {
				t.Errorf("%s: somebody else's label is gone: %v", tc.reason, n.Labels)
			}
		})
	}
}

func TestCount(t *testing.T) {
	w := newWorld(t, project(), cluster("a"), cluster("b"), &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: "ops", Name: "c"}})
	w.reconcile()
	if got := w.project().Status.Clusters; got != 2 {
		t.Errorf("%d clusters, want the two of the project", got)
	}
}

func TestDelete(t *testing.T) {
	claim := &v1alpha1.HostClaim{ObjectMeta: metav1.ObjectMeta{Name: "w1"}, Spec: v1alpha1.HostClaimSpec{Namespace: "dev", Cluster: "demo"}}
	approved := operation("approved", v1alpha1.OperationPlanned)
	approved.Spec.ApprovedPlan = "sha256:1"
	var seven []client.Object
	for _, name := range []string{"g", "f", "e", "d", "c", "b", "a"} {
		seven = append(seven, cluster(name))
	}
	cases := map[string]struct {
		reason string
		held   []client.Object
		says   string
	}{
		"one cluster":   {reason: "its hosts are in use", held: []client.Object{cluster("demo")}, says: "it holds cluster demo; delete them first: slipway cluster delete NAME -p dev"},
		"many clusters": {reason: "a message stays short", held: seven, says: "it holds clusters a, b, c, d, e and 2 more; delete them first: slipway cluster delete NAME -p dev"},
		"running":       {reason: "hosts are being changed", held: []client.Object{operation("op", v1alpha1.OperationRunning)}, says: "it holds running operation op; wait for them or abort them: slipway operation abort NAME -p dev"},
		"queued":        {reason: "hosts will be changed", held: []client.Object{operation("op", v1alpha1.OperationQueued)}, says: "running operation op"},
		"approved":      {reason: "it begins any moment", held: []client.Object{approved}, says: "running operation approved"},
		"unclean":       {reason: "without its operation nobody could clean the host any more", held: []client.Object{claim}, says: "it holds host w1 that could not be cleaned; when they can be reached again: slipway operation retry NAME -p dev"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, project(member("ann", v1alpha1.ProjectAdministrator)))
			w.reconcile()
			before := w.roles()
			w.create(tc.held...)
			w.delete(w.project())
			w.reconcile()
			if got := w.ready(ReasonHasClusters); !strings.Contains(got, tc.says) {
				t.Errorf("%s: %q, want %q", tc.reason, got, tc.says)
			}
			w.hasRoles(before...) // Who can delete what holds it must still be able to.
			for _, o := range tc.held {
				w.delete(o)
			}
			w.reconcile()
			if get(w, "", "dev", &corev1.Namespace{}) != nil {
				t.Fatal("the namespace is still there")
			}
			w.hasRoles()
			w.ready(ReasonDeleting)
			w.reconcile()
			if w.project() != nil {
				t.Error("the project is still there")
			}
		})
	}
	t.Run("ended operations do not hold", func(t *testing.T) {
		w := newWorld(t, project(), operation("failed", v1alpha1.OperationFailed), operation("read", v1alpha1.OperationPlanned))
		w.reconcile()
		w.delete(w.project())
		w.reconcile()
		w.reconcile()
		if w.project() != nil {
			t.Error("the project is still there")
		}
	})
	t.Run("a cluster that comes between two looks", func(t *testing.T) {
		w := newWorld(t, project(member("ann", v1alpha1.ProjectAdministrator)))
		w.reconcile()
		before := w.roles()
		w.delete(w.project())
		w.listed = func(list client.ObjectList) {
			if _, claims := list.(*v1alpha1.HostClaimList); claims {
				w.listed = nil
				w.create(cluster("late"))
			}
		}
		w.reconcile()
		w.ready(ReasonHasClusters)
		w.hasRoles(before...)
		if get(w, "", "dev", &corev1.Namespace{}) == nil {
			t.Error("the namespace of a living cluster was deleted")
		}
	})
	t.Run("a namespace from before stays", func(t *testing.T) {
		ended := operation("ended", v1alpha1.OperationSucceeded)
		ended.Finalizers = []string{v1alpha1.Finalizer}
		grant := &v1alpha1.Grant{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: "hosts-all"}}
		other := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: "theirs"}}
		w := newWorld(t, project(member("ann", v1alpha1.ReadOnly)), namespace(map[string]string{"team": "a"}, nil), ended, grant, other)
		w.reconcile()
		w.delete(w.project())
		w.reconcile()
		w.ready(ReasonDeleting)
		o := get(w, "dev", "ended", &v1alpha1.Operation{})
		o.Finalizers = nil
		if err := w.client.Update(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		w.reconcile()
		if w.project() != nil {
			t.Error("the project is still there")
		}
		w.hasRoles()
		n := get(w, "", "dev", &corev1.Namespace{})
		if n == nil || n.Labels["team"] != "a" || n.Labels[v1alpha1.LabelProject] != "" || n.Annotations[AnnotationAdopted] != "" {
			t.Errorf("namespace %+v, want it as it was", n)
		}
		if get(w, "dev", "hosts-all", &v1alpha1.Grant{}) != nil || get(w, "dev", "theirs", &corev1.ConfigMap{}) == nil {
			t.Error("Slipway's objects go, others stay")
		}
	})
	t.Run("a namespace that was never its own", func(t *testing.T) {
		w := newWorld(t, project(), namespace(map[string]string{v1alpha1.LabelProject: "ops"}, nil))
		w.reconcile()
		w.delete(w.project())
		w.reconcile()
		if w.project() != nil || get(w, "", "dev", &corev1.Namespace{}) == nil {
			t.Error("the project must go, and the namespace of another one stay")
		}
	})
}

func TestFirst(t *testing.T) {
	system := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.SystemNamespace}}
	names := func(w *world) (projects, grants []string) {
		var all v1alpha1.ProjectList
		var lent v1alpha1.GrantList
		for _, list := range []client.ObjectList{&all, &lent} {
			if err := w.client.List(t.Context(), list); err != nil {
				t.Fatal(err)
			}
		}
		for _, p := range all.Items {
			projects = append(projects, p.Name)
		}
		for _, g := range lent.Items {
			grants = append(grants, g.Namespace+" "+g.Name+" "+string(g.Spec.Kind)+" "+g.Spec.Name)
		}
		return projects, grants
	}
	first := func(w *world) {
		t.Helper()
		if err := First(t.Context(), w.client, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(t *testing.T, w *world, projects, grants []string) {
		t.Helper()
		gotProjects, gotGrants := names(w)
		if diff := cmp.Diff([][]string{projects, grants}, [][]string{gotProjects, gotGrants}); diff != "" {
			t.Errorf("projects and grants (-want +got):\n%s", diff)
		}
	}
	everything := func(project string) []string {
		return []string{project + " bundles-all Bundle *", project + " hosts-all Host *"}
	}
	t.Run("a new store", func(t *testing.T) {
		w := newWorld(t, system.DeepCopy())
		first(w)
		expect(t, w, []string{"default"}, everything("default"))
		first(w)
		expect(t, w, []string{"default"}, everything("default"))
	})
	t.Run("grants that were taken back stay away", func(t *testing.T) {
		w := newWorld(t, system.DeepCopy())
		first(w)
		w.delete(&v1alpha1.Grant{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "hosts-all"}})
		first(w)
		expect(t, w, []string{"default"}, everything("default")[:1])
	})
	t.Run("a store from before projects", func(t *testing.T) {
		w := newWorld(t, system.DeepCopy(), cluster("a"), cluster("b"), &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: "ops", Name: "c"}})
		first(w)
		expect(t, w, []string{"default", "dev", "ops"}, slices.Concat(everything("default"), everything("dev"), everything("ops")))
	})
	t.Run("a start that was cut off", func(t *testing.T) {
		w := newWorld(t, system.DeepCopy(), cluster("a"), project())
		w.create(&v1alpha1.Grant{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "hosts-all"}, Spec: v1alpha1.GrantSpec{Kind: v1alpha1.GrantHost, Name: "*"}})
		first(w)
		expect(t, w, []string{"default", "dev"}, everything("default"))
	})
	t.Run("clusters elsewhere, later", func(t *testing.T) {
		w := newWorld(t, system.DeepCopy())
		first(w)
		w.create(cluster("a"))
		first(w)
		expect(t, w, []string{"default"}, everything("default"))
	})
	t.Run("another project instead of default", func(t *testing.T) {
		w := newWorld(t, system.DeepCopy())
		first(w)
		w.create(project())
		w.delete(&v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
		first(w)
		expect(t, w, []string{"dev"}, everything("default"))
	})
}

// TestLentTemplates: members read the cluster templates that are lent to them, until the grant is taken back, and no others.
func TestLentTemplates(t *testing.T) {
	w := newWorld(t, project(member("bob", v1alpha1.ReadOnly)))
	lent := &v1alpha1.Grant{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: "small"}, Spec: v1alpha1.GrantSpec{Kind: v1alpha1.GrantClusterTemplate, Name: "small"}}
	w.create(lent, &v1alpha1.Grant{ObjectMeta: metav1.ObjectMeta{Namespace: "ops", Name: "large"}, Spec: v1alpha1.GrantSpec{Kind: v1alpha1.GrantClusterTemplate, Name: "large"}})
	readable := func() []string {
		w.reconcile()
		var names []string
		for _, r := range get(w, "", "slipway:project:dev", &rbacv1.ClusterRole{}).Rules {
			if slices.Contains(r.Resources, "clustertemplates") {
				names = append(names, r.ResourceNames...)
			}
		}
		return names
	}
	if got := readable(); !slices.Equal(got, []string{"small"}) {
		t.Errorf("members may read the templates %v, want the one that is lent to them", got)
	}
	w.delete(lent)
	if got := readable(); len(got) > 0 {
		t.Errorf("members may read the templates %v after the grant was taken back", got)
	}
}
