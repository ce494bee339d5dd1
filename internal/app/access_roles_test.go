package app

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

// testStrangers: who is logged in and a member of nothing learns which kinds there are and who they are, and no more.
func testStrangers(t *testing.T, w *accessWorld) {
	for _, k := range w.served(t) {
		resource, sub := k.parts()
		what := authorizationv1.ResourceAttributes{Group: k.in.Group, Version: k.in.Version, Resource: resource, Subresource: sub}
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

// testMembers asks RBAC for the verbs that only policies ask for, and then for what the table of access does not have.
func testMembers(t *testing.T, w *accessWorld) {
	people := []string{sam, ada, paul, cleo, rita, outsider}
	for _, what := range []authorizationv1.ResourceAttributes{
		{Verb: "lend", Resource: "hosts"}, {Verb: "lend", Resource: "bundles"}, {Verb: "administer", Resource: "projects"},
		{Verb: "administer", Resource: "clusters", Subresource: "proxy"},
	} {
		what.Group = v1alpha1.Group
		for _, who := range people {
			if got, want := w.may(t, who, what), who == sam; got != want {
				t.Errorf("%s may %s %s: %v, want %v", who, what.Verb, what.Resource, got, want)
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
	}
	for _, who := range []string{paul, cleo, rita} {
		attempts[who+" one by list"] = attempt{reason: "as a watch of one object begins", who: who, do: list(&v1alpha1.ProjectList{}, client.MatchingFields{"metadata.name": "dev"})}
		attempts[who+" other"] = attempt{reason: "a project that is there and one that is not answer alike", who: who, do: get(&v1alpha1.Project{ObjectMeta: called("ops")}), refused: rbacSays}
	}
	w.try(t, attempts)
	if err := get(&v1alpha1.Project{ObjectMeta: called("none")})(t.Context(), w.as(t, rita)); !apierrors.IsForbidden(err) {
		t.Errorf("a project that does not exist gave %v, want Forbidden", err)
	}
}
