package app

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

// served gives every resource that the API serves, subresources too.
func (w *accessWorld) served(t *testing.T) []authorizationv1.ResourceAttributes {
	t.Helper()
	_, lists, err := discovery.NewDiscoveryClientForConfigOrDie(w.config).ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	var all []authorizationv1.ResourceAttributes
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list.APIResources {
			name, sub, _ := strings.Cut(r.Name, "/")
			what := authorizationv1.ResourceAttributes{Group: gv.Group, Version: gv.Version, Resource: name, Subresource: sub}
			if r.Namespaced {
				what.Namespace = "dev"
			}
			all = append(all, what)
		}
	}
	if len(all) < 40 {
		t.Fatalf("the API serves only %d resources: discovery is wrong", len(all))
	}
	return all
}

// testEveryKind: a kind that is new is denied, and this test asks for its row.
func testEveryKind(t *testing.T, w *accessWorld) {
	// Nobody reads these, and why.
	closed := map[string]string{
		"secrets":                     "for the server's eyes",
		"leases":                      "of the server's own parts",
		"apiservices":                 "of the server's own parts",
		"flowschemas":                 "of the server's own parts",
		"prioritylevelconfigurations": "of the server's own parts",
	}
	ours := []string{"bundles", "clusters", "credentials", "grants", "hosts", "operations", "projects", "settings", "users"}
	all := w.served(t)
	for resource := range closed {
		if !slices.ContainsFunc(all, func(what authorizationv1.ResourceAttributes) bool { return what.Resource == resource }) {
			t.Errorf("%s are not served: the line is not needed", resource)
		}
	}
	for _, what := range all {
		name := what.Resource + "." + what.Group
		if what.Subresource != "" {
			for _, who := range []string{sam, ada, paul, cleo, rita, outsider} {
				for _, what.Verb = range []string{"get", "create", "update", "patch", "delete"} {
					if w.may(t, who, what) {
						t.Errorf("%s may %s %s/%s: nobody but the server may", who, what.Verb, name, what.Subresource)
					}
				}
			}
			continue
		}
		what.Verb = "list"
		readable := w.may(t, ada, what)
		if _, listable := closed[what.Resource]; readable == listable && !strings.HasSuffix(what.Resource, "reviews") {
			t.Errorf("auditors may list %s: %v; write a row for it in internal/access/roles.go, or a line here why not", name, readable)
		}
		if w.may(t, sam, what) != readable {
			t.Errorf("system administrators do not read %s as auditors do", name)
		}
		for _, what.Verb = range []string{"create", "update", "patch", "delete"} {
			if got, want := w.may(t, sam, what), what.Group == v1alpha1.Group && slices.Contains(ours, what.Resource); got != want && !strings.HasPrefix(what.Resource, "selfsubject") {
				t.Errorf("system administrators may %s %s: %v, want %v", what.Verb, name, got, want)
			}
			if w.may(t, ada, what) && !strings.HasPrefix(what.Resource, "selfsubject") {
				t.Errorf("auditors may %s %s", what.Verb, name)
			}
		}
	}
}

// testStrangers: who is logged in and a member of nothing learns which kinds there are and who they are, and no more.
func testStrangers(t *testing.T, w *accessWorld) {
	for _, what := range w.served(t) {
		for _, what.Verb = range []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "bind", "escalate", "impersonate"} {
			for _, what.Namespace = range []string{"", "dev", "default", v1alpha1.SystemNamespace} {
				if w.may(t, outsider, what) && !(strings.HasPrefix(what.Resource, "selfsubject") && what.Verb == "create") {
					t.Errorf("everybody may %s %s/%s in %q", what.Verb, what.Resource, what.Subresource, what.Namespace)
				}
			}
		}
	}
	var bindings rbacv1.ClusterRoleBindingList
	var local rbacv1.RoleBindingList
	if err := errors.Join(w.server.List(t.Context(), &bindings), w.server.List(t.Context(), &local)); err != nil {
		t.Fatal(err)
	}
	var found []string
	note := func(where string, ref rbacv1.RoleRef, subjects []rbacv1.Subject) {
		for _, s := range subjects {
			if s.Name == "system:authenticated" || s.Name == "system:unauthenticated" {
				found = append(found, where+ref.Name+" "+s.Name)
			}
		}
	}
	for _, b := range bindings.Items {
		note("", b.RoleRef, b.Subjects)
	}
	for _, b := range local.Items {
		note(b.Namespace+"/", b.RoleRef, b.Subjects)
	}
	slices.Sort(found)
	want := []string{"system:basic-user system:authenticated", "system:discovery system:authenticated",
		"system:public-info-viewer system:authenticated", "system:public-info-viewer system:unauthenticated"}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("roles that everybody has (-want +got):\n%s", diff)
	}
}

// testMembers asks RBAC what the roles say, and then for the objects themselves.
func testMembers(t *testing.T, w *accessWorld) {
	people := []string{sam, ada, paul, cleo, rita, outsider}
	readers, members := []string{sam, ada, paul, cleo, rita}, []string{sam, paul, cleo, rita}
	for name, test := range map[string]struct {
		verb, resource, sub string
		dev, ops            []string
	}{
		"list clusters":      {verb: "list", resource: "clusters", dev: readers, ops: []string{sam, ada}},
		"watch operations":   {verb: "watch", resource: "operations", dev: readers, ops: []string{sam, ada}},
		"get grants":         {verb: "get", resource: "grants", dev: readers, ops: []string{sam, ada}},
		"list hostruns":      {verb: "list", resource: "hostruns", dev: readers, ops: []string{sam, ada}},
		"read a plan":        {verb: "get", resource: "operations", sub: "plan", dev: readers, ops: []string{sam, ada}},
		"read a log":         {verb: "get", resource: "operations", sub: "log", dev: readers, ops: []string{sam, ada}},
		"create cluster":     {verb: "create", resource: "clusters", dev: []string{sam, paul}, ops: []string{sam}},
		"delete cluster":     {verb: "delete", resource: "clusters", dev: []string{sam, paul}, ops: []string{sam}},
		"approve":            {verb: "patch", resource: "operations", dev: []string{sam, paul}, ops: []string{sam}},
		"kubeconfig":         {verb: "create", resource: "clusters", sub: "kubeconfig", dev: members, ops: []string{sam}},
		"break glass":        {verb: "create", resource: "clusters", sub: "breakglass", dev: []string{sam, paul}, ops: []string{sam}},
		"into clusters":      {verb: "administer", resource: "clusters", sub: "proxy", dev: []string{sam, paul, cleo}, ops: []string{sam}},
		"look into clusters": {verb: "view", resource: "clusters", sub: "proxy", dev: readers, ops: []string{sam, ada}},
		"lend":               {verb: "create", resource: "grants", dev: []string{sam}, ops: []string{sam}},
		"forge progress":     {verb: "create", resource: "hostruns"},
		"release a host":     {verb: "delete", resource: "hostclaims"},
	} {
		for _, who := range people {
			for project, allowed := range map[string][]string{"dev": test.dev, "ops": test.ops} {
				what := authorizationv1.ResourceAttributes{Verb: test.verb, Group: v1alpha1.Group, Resource: test.resource, Subresource: test.sub, Namespace: project}
				if got, want := w.may(t, who, what), slices.Contains(allowed, who); got != want {
					t.Errorf("%s: %s in %s: %v, want %v", name, who, project, got, want)
				}
			}
		}
	}
	for verb, what := range map[string]authorizationv1.ResourceAttributes{
		"lend": {Resource: "hosts"}, "administer": {Resource: "projects"}, "create": {Resource: "users", Subresource: "password"},
	} {
		what.Verb, what.Group = verb, v1alpha1.Group
		for _, who := range people {
			if got, want := w.may(t, who, what), who == sam; got != want {
				t.Errorf("%s may %s %s: %v, want %v", who, verb, what.Resource, got, want)
			}
		}
	}
	list := func(into client.ObjectList, options ...client.ListOption) func(context.Context, client.Client) error {
		return func(ctx context.Context, c client.Client) error { return c.List(ctx, into, options...) }
	}
	get := func(o client.Object) func(context.Context, client.Client) error {
		return func(ctx context.Context, c client.Client) error { return c.Get(ctx, client.ObjectKeyFromObject(o), o) }
	}
	attempts := map[string]attempt{
		"outsider project": {reason: "member of nothing", who: outsider, do: get(&v1alpha1.Project{ObjectMeta: called("dev")}), refused: rbacSays},
		"cleo creates":     {reason: "cannot make clusters", who: cleo, do: creating(newCluster("x", nil)), refused: rbacSays},
		"rita deletes":     {reason: "changes nothing", who: rita, do: removing(newOperation("x", nil)), refused: rbacSays},
		"paul, elsewhere":  {reason: "another project", who: paul, do: list(&v1alpha1.ClusterList{}, client.InNamespace("ops")), refused: rbacSays},
	}
	for _, who := range []string{paul, cleo, rita} {
		attempts[who+" own project"] = attempt{reason: "a member sees the project", who: who, do: get(&v1alpha1.Project{ObjectMeta: called("dev")})}
		attempts[who+" own namespace"] = attempt{reason: "a member sees the namespace", who: who, do: get(&corev1.Namespace{ObjectMeta: called("dev")})}
		attempts[who+" one by list"] = attempt{reason: "as a watch of one object begins", who: who, do: list(&v1alpha1.ProjectList{}, client.MatchingFields{"metadata.name": "dev"})}
		attempts[who+" clusters"] = attempt{reason: "a member reads the project", who: who, do: list(&v1alpha1.ClusterList{}, client.InNamespace("dev"))}
		attempts[who+" all projects"] = attempt{reason: "which projects there are is not for members", who: who, do: list(&v1alpha1.ProjectList{}), refused: rbacSays}
		attempts[who+" all clusters"] = attempt{reason: "one project, not all", who: who, do: list(&v1alpha1.ClusterList{}), refused: rbacSays}
		attempts[who+" hosts"] = attempt{reason: "members see what is lent", who: who, do: list(&v1alpha1.HostList{}), refused: rbacSays}
		attempts[who+" other"] = attempt{reason: "a project that is there and one that is not answer alike", who: who, do: get(&v1alpha1.Project{ObjectMeta: called("ops")}), refused: rbacSays}
	}
	w.try(t, attempts)
	if err := get(&v1alpha1.Project{ObjectMeta: called("none")})(t.Context(), w.as(t, rita)); !apierrors.IsForbidden(err) {
		t.Errorf("a project that does not exist gave %v, want Forbidden", err)
	}
}
