package access

import (
	"cmp"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"

	"slipway.dev/slipway/api/v1alpha1"
)

// Row says who may do what with one resource.
type Row struct {
	// Group is the API group, empty for Kubernetes' core; Resource has its subresource behind a slash.
	Group, Resource string
	// Verbs lists, by the name of a role, what the role may do; a role that is not there may do nothing.
	Verbs map[string][]string
}

// Roles names the ClusterRoles in the order of what they may do: first those for the platform, then those for a project.
func Roles() []string {
	var names []string
	for _, r := range append(platformRoles(), projectRoles()...) {
		names = append(names, r.Name)
	}
	return names
}

// Table gives what the ClusterRoles say, a row for each resource: ours first, then Kubernetes' own, each by name. What
// is not in it nobody may do, but for what the role slipway:credentials and the roles of each project say.
func Table() []Row {
	byRole := map[string][]rbacv1.PolicyRule{}
	for _, r := range append(platformRoles(), projectRoles()...) {
		byRole[r.Name] = r.rules
	}
	return table(byRole)
}

func table(byRole map[string][]rbacv1.PolicyRule) []Row {
	type key struct{ group, resource string }
	rows := map[key]Row{}
	for name, rules := range byRole {
		for _, rule := range rules {
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					row, known := rows[key{group, resource}]
					if !known {
						row = Row{Group: group, Resource: resource, Verbs: map[string][]string{}}
						rows[key{group, resource}] = row
					}
					row.Verbs[name] = append(row.Verbs[name], rule.Verbs...)
				}
			}
		}
	}
	var all []Row
	for _, row := range rows {
		all = append(all, row)
	}
	slices.SortFunc(all, func(a, b Row) int {
		ours := func(r Row) int {
			if r.Group == v1alpha1.Group {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(ours(a), ours(b)), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Resource, b.Resource))
	})
	return all
}
