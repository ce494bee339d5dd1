package access

import (
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

// ProjectRoles gives what lets the members of a project work in it: who they are is in its spec, what they may do in the
// roles of this package. It is a pure function; the order is always the same, and every object has its type, the label
// LabelProject and the Project as owner, so that what another generation of it had can be found and removed.
//
// In the whole platform: every member may see the Project, its namespace and the cluster templates that grants lend to the
// project, from which they create clusters, and its administrators may change the Project, within what the admission policy slipway-projects lets them. In the namespace: one RoleBinding for each role
// that has members. A role without members has no objects.
func ProjectRoles(project *v1alpha1.Project, grants ...v1alpha1.GrantSpec) []client.Object {
	byRole, all := subjects(project.Spec.Members)
	var objects []client.Object
	if len(all) > 0 {
		rules := append([]rbacv1.PolicyRule{
			only(project.Name, rule(read(), v1alpha1.Group, "projects")),
			only(project.Name, rule(read(), "", "namespaces")),
		}, lentTemplates(grants)...)
		objects = append(objects, projectClusterRole(project, "", all, rules...)...)
	}
	if administrators := byRole[v1alpha1.ProjectAdministrator]; len(administrators) > 0 {
		objects = append(objects, projectClusterRole(project, ":administrator", administrators,
			only(project.Name, rule([]string{"update", "patch"}, v1alpha1.Group, "projects")))...)
	}
	for _, role := range projectRoles() {
		if len(byRole[role.member]) == 0 {
			continue
		}
		meta := projectMeta(project, role.Name)
		meta.Namespace = project.Name
		objects = append(objects, &rbacv1.RoleBinding{
			TypeMeta: kind("RoleBinding"), ObjectMeta: meta, RoleRef: roleRef("ClusterRole", role.Name), Subjects: byRole[role.member],
		})
	}
	return objects
}

// lentTemplates gives the right to read the cluster templates that are lent: each by its name, or all of them.
func lentTemplates(grants []v1alpha1.GrantSpec) []rbacv1.PolicyRule {
	const templates = "clustertemplates"
	var names []string
	for _, g := range grants {
		switch {
		case g.Kind != v1alpha1.GrantClusterTemplate:
		case g.Name == v1alpha1.GrantEverything:
			return []rbacv1.PolicyRule{rule(read(), v1alpha1.Group, templates)}
		case !slices.Contains(names, g.Name):
			names = append(names, g.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	named := rule([]string{"get"}, v1alpha1.Group, templates)
	named.ResourceNames = names
	return []rbacv1.PolicyRule{named}
}

// projectClusterRole gives a role that speaks of one project alone, and its binding.
func projectClusterRole(project *v1alpha1.Project, suffix string, who []rbacv1.Subject, rules ...rbacv1.PolicyRule) []client.Object {
	name := "slipway:project:" + project.Name + suffix
	return []client.Object{
		&rbacv1.ClusterRole{TypeMeta: kind("ClusterRole"), ObjectMeta: projectMeta(project, name), Rules: rules},
		&rbacv1.ClusterRoleBinding{
			TypeMeta: kind("ClusterRoleBinding"), ObjectMeta: projectMeta(project, name), RoleRef: roleRef("ClusterRole", name), Subjects: who,
		},
	}
}

// subjects gives the members of each role, and every member once, in the order of the list.
func subjects(members []v1alpha1.ProjectMember) (byRole map[v1alpha1.ProjectRole][]rbacv1.Subject, all []rbacv1.Subject) {
	byRole, seen := map[v1alpha1.ProjectRole][]rbacv1.Subject{}, map[rbacv1.Subject]bool{}
	for _, m := range members {
		s := rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: m.Name}
		if m.Kind == v1alpha1.MemberGroup {
			s.Kind = rbacv1.GroupKind
		}
		byRole[m.Role] = append(byRole[m.Role], s)
		if !seen[s] {
			seen[s] = true
			all = append(all, s)
		}
	}
	return byRole, all
}

func projectMeta(project *v1alpha1.Project, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: name, Labels: map[string]string{v1alpha1.LabelProject: project.Name},
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: v1alpha1.GroupVersion().String(), Kind: "Project", Name: project.Name, UID: project.UID,
		}},
	}
}

// only narrows a rule to the object of that name.
func only(name string, r rbacv1.PolicyRule) rbacv1.PolicyRule {
	r.ResourceNames = []string{name}
	return r
}
