package access

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"slipway.dev/slipway/api/v1alpha1"
)

// golden compares with a file; UPDATE_GOLDEN=1 writes it.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if os.Getenv("UPDATE_GOLDEN") == "1" {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; UPDATE_GOLDEN=1 writes it", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-file +now); UPDATE_GOLDEN=1 writes it:\n%s", path, diff)
	}
}

func project(members ...v1alpha1.ProjectMember) *v1alpha1.Project {
	p := &v1alpha1.Project{Spec: v1alpha1.ProjectSpec{Members: members}}
	p.Name, p.UID = "dev", types.UID("uid-dev")
	return p
}

func TestProjectRoles(t *testing.T) {
	for name, test := range map[string]struct {
		reason  string
		members []v1alpha1.ProjectMember
		grants  []v1alpha1.GrantSpec
	}{
		"every-role": {reason: "one of each, people and groups, one person with two roles", members: []v1alpha1.ProjectMember{
			{Kind: v1alpha1.MemberUser, Name: "paul", Role: v1alpha1.ProjectAdministrator},
			{Kind: v1alpha1.MemberGroup, Name: "oidc:operators", Role: v1alpha1.ClusterAdministrator},
			{Name: "oidc:rita@corp", Role: v1alpha1.ReadOnly},
			{Name: "paul", Role: v1alpha1.ReadOnly},
		}},
		"templates": {reason: "what is lent by name is read by name, and nothing else is", members: []v1alpha1.ProjectMember{{Name: "rita", Role: v1alpha1.ReadOnly}},
			grants: []v1alpha1.GrantSpec{{Kind: v1alpha1.GrantHost, Name: "w1"}, {Kind: v1alpha1.GrantClusterTemplate, Name: "small"},
				{Kind: v1alpha1.GrantClusterTemplate, Name: "large"}, {Kind: v1alpha1.GrantClusterTemplate, Name: "small"}}},
		"every-template": {reason: "templates that come later are lent too", members: []v1alpha1.ProjectMember{{Name: "rita", Role: v1alpha1.ReadOnly}},
			grants: []v1alpha1.GrantSpec{{Kind: v1alpha1.GrantClusterTemplate, Name: "small"}, {Kind: v1alpha1.GrantClusterTemplate, Name: v1alpha1.GrantEverything}}},
		"reader": {reason: "roles without members have no objects", members: []v1alpha1.ProjectMember{{Name: "rita", Role: v1alpha1.ReadOnly}}},
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			for _, o := range ProjectRoles(project(test.members...), test.grants...) {
				text, err := yaml.Marshal(o)
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&b, "---\n%s", text)
			}
			golden(t, filepath.Join("testdata", "project", name+".golden"), b.String())
		})
	}
	if got := ProjectRoles(project()); len(got) != 0 {
		t.Errorf("a project without members has %d roles and bindings, want none", len(got))
	}
}

// TestRolesEnumerate: a kind or verb that is new is denied until someone writes a row, so no rule may say "everything".
func TestRolesEnumerate(t *testing.T) {
	rules := credentialRules()
	for _, r := range append(platformRoles(), projectRoles()...) {
		rules = append(rules, r.rules...)
	}
	for _, r := range rules {
		for _, word := range slices.Concat(r.Verbs, r.APIGroups, r.Resources) {
			if strings.Contains(word, "*") {
				t.Errorf("%v says *", r)
			}
		}
		for _, resource := range r.Resources {
			reads := slices.ContainsFunc(r.Verbs, func(v string) bool { return v != "create" && v != "delete" })
			if r.APIGroups[0] == "" && resource == "secrets" && reads {
				t.Errorf("%v shows Secrets", r)
			}
			if strings.HasSuffix(resource, "/status") {
				t.Errorf("%v writes a status", r)
			}
		}
	}
	for _, row := range Table() {
		if row.Group != v1alpha1.Group || (row.Resource != "hostruns" && row.Resource != "hostclaims") {
			continue
		}
		for role, verbs := range row.Verbs {
			if diff := cmp.Diff(read(), verbs); diff != "" {
				t.Errorf("%s does more than read %s:\n%s", role, row.Resource, diff)
			}
		}
	}
}

// TestRolesDocument keeps docs/reference/roles.md.
func TestRolesDocument(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Roles\n\nThis page is written by a test from the roles themselves (`internal/access`): `UPDATE_GOLDEN=1 go test ./internal/access`.\n" +
		"What is not in a table, nobody may do. *read* is get, list and watch; *write* is create, update, patch, delete and\ndeletecollection. " +
		"No role writes a status, reads a Secret, or writes HostRuns and HostClaims: the server does that.\n\n" +
		"The first two roles hold in the whole platform, the others in the projects where a person or group is a member.\n\n")
	render(&b, Roles(), Table())
	b.WriteString("\nEvery logged-in person may also ask who they are and what they may do (Kubernetes' `system:basic-user` and\n`system:discovery`).\n\n## On the project itself\n\n")
	byRole := map[string][]rbacv1.PolicyRule{}
	for _, o := range ProjectRoles(project(v1alpha1.ProjectMember{Name: "paul", Role: v1alpha1.ProjectAdministrator}), v1alpha1.GrantSpec{Kind: v1alpha1.GrantClusterTemplate, Name: "LENT"}) {
		if role, ok := o.(*rbacv1.ClusterRole); ok {
			byRole[strings.ReplaceAll(role.Name, "dev", "NAME")] = role.Rules
		}
	}
	b.WriteString("Every member has the first role, each project administrator the second too. They speak of the one project of that name.\n\n")
	render(&b, []string{"slipway:project:NAME", "slipway:project:NAME:administrator"}, table(byRole))
	b.WriteString("\n## In slipway-system\n\nSystem administrators have this role.\n\n")
	render(&b, []string{roleCredentials}, table(map[string][]rbacv1.PolicyRule{roleCredentials: credentialRules()}))
	b.WriteString("\n## What policies refuse besides\n\nWhat a role allows, an admission policy may still refuse. The server itself is exempt where it does what they refuse.\n\n| policy | refuses with |\n|---|---|\n")
	all, err := policies()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		validations, _, err := unstructured.NestedSlice(p.Object, "spec", "validations")
		if err != nil {
			t.Fatal(err)
		}
		var seen []any
		for _, v := range validations {
			message := v.(map[string]any)["message"]
			if message == nil {
				message = v.(map[string]any)["messageExpression"]
			}
			if !slices.Contains(seen, message) {
				seen = append(seen, message)
				fmt.Fprintf(&b, "| `%s` | %s |\n", p.GetName(), message)
			}
		}
	}
	b.WriteString("\nThe mutating policy `slipway-requests` writes who made a Cluster or an Operation, and who approved its plan, into the\n" +
		"annotations `slipway.dev/requested-by` and `slipway.dev/approved-by`. What a request says there itself is put back.\n")
	golden(t, filepath.Join("..", "..", "docs", "reference", "roles.md"), b.String())
}

func render(b *strings.Builder, roles []string, rows []Row) {
	fmt.Fprintf(b, "| | %s |\n|---|%s\n", strings.Join(roles, " | "), strings.Repeat("---|", len(roles)))
	for _, row := range rows {
		name := row.Resource
		if row.Group != v1alpha1.Group {
			name += " (" + row.Group + ")"
		}
		if row.Group == "" {
			name = row.Resource + " (Kubernetes)"
		}
		fmt.Fprintf(b, "| %s |", name)
		for _, role := range roles {
			fmt.Fprintf(b, " %s |", words(row.Verbs[role]))
		}
		b.WriteString("\n")
	}
}

// words says verbs shorter, where they come together.
func words(verbs []string) string {
	for word, of := range map[string][]string{"read": read(), "write": write()} {
		if !slices.ContainsFunc(of, func(v string) bool { return !slices.Contains(verbs, v) }) {
			verbs = append(slices.DeleteFunc(slices.Clone(verbs), func(v string) bool { return slices.Contains(of, v) }), word)
		}
	}
	verbs = slices.Compact(slices.Sorted(slices.Values(verbs)))
	return strings.Join(verbs, ", ")
}

// TestPoliciesAreStrict: a policy that cannot be evaluated refuses, and none is for everything.
func TestPoliciesAreStrict(t *testing.T) {
	all, err := policies()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 16 {
		t.Fatalf("found only %d policies and bindings", len(all))
	}
	for _, p := range append(all, probes("x")...) {
		if strings.HasSuffix(p.GetKind(), "Binding") {
			actions, _, err := unstructured.NestedStringSlice(p.Object, "spec", "validationActions")
			if err != nil {
				t.Fatal(err)
			}
			if p.GetKind() == "ValidatingAdmissionPolicyBinding" && !slices.Equal(actions, []string{"Deny"}) {
				t.Errorf("%s only says %v", p.GetName(), actions)
			}
			continue
		}
		if got, _, _ := unstructured.NestedString(p.Object, "spec", "failurePolicy"); got != "Fail" {
			t.Errorf("%s has failure policy %q: what cannot be judged would pass", p.GetName(), got)
		}
		rules, _, err := unstructured.NestedSlice(p.Object, "spec", "matchConstraints", "resourceRules")
		if err != nil || len(rules) == 0 {
			t.Fatalf("%s matches everything: %v", p.GetName(), err)
		}
		for _, r := range rules {
			groups, _, err := unstructured.NestedStringSlice(r.(map[string]any), "apiGroups")
			if err != nil || len(groups) != 1 || groups[0] == "*" {
				t.Errorf("%s is asked about groups %v: requests of others would pay for it", p.GetName(), groups)
			}
		}
		if strings.Contains(p.GetName(), ":") {
			t.Errorf("%s cannot be a name", p.GetName())
		}
	}
}
