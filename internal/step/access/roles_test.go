package access

import (
	"slices"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
)

// TestViewerOnlyLooks: nothing in the role changes anything, reads a secret or reaches into a pod.
func TestViewerOnlyLooks(t *testing.T) {
	for _, rule := range viewer().Rules {
		for _, verb := range rule.Verbs {
			if !slices.Contains([]string{"get", "list", "watch"}, verb) {
				t.Errorf("a viewer may %s %v", verb, rule.Resources)
			}
		}
		for _, forbidden := range []string{"secrets", "nodes/proxy", "pods/exec", "pods/attach", "pods/portforward", "pods/proxy", "services/proxy", rbacv1.ResourceAll} {
			if slices.Contains(rule.Resources, forbidden) {
				t.Errorf("a viewer may read %s", forbidden)
			}
		}
	}
}

// TestGroupsAreApart: viewers get no role but view and their own.
func TestGroupsAreApart(t *testing.T) {
	roles := map[string][]string{}
	for _, b := range bindings() {
		for _, s := range b.Subjects {
			roles[s.Name] = append(roles[s.Name], b.RoleRef.Name)
		}
	}
	if !slices.Equal(roles[Viewers], []string{"slipway:viewer", "view"}) || !slices.Equal(roles[Administrators], []string{"cluster-admin"}) || len(roles) != 2 {
		t.Errorf("the groups have %v", roles)
	}
}
