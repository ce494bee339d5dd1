package access

import (
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
)

// The ClusterRoles that this package keeps. The first two are bound to their groups in the whole platform; the others
// are bound to the members of a project in its namespace.
const (
	RoleSystemAdministrator  = "slipway:system-administrator"
	RoleAuditor              = "slipway:auditor"
	RoleProjectAdministrator = "slipway:project-administrator"
	RoleClusterAdministrator = "slipway:cluster-administrator"
	RoleReadOnly             = "slipway:read-only"
)

// roleCredentials lets system administrators put login secrets into slipway-system and take them away.
const roleCredentials = "slipway:credentials"

// role is one ClusterRole, and the members of a project or the group it is for.
type role struct {
	Name   string
	group  string
	member v1alpha1.ProjectRole
	rules  []rbacv1.PolicyRule
}

// Nothing below says "*": a kind or verb that is new is denied until someone writes a row for it here. No role writes
// a status, a HostRun or a HostClaim, and none reads a Secret.

func read() []string { return []string{"get", "list", "watch"} }

func write() []string { return []string{"create", "update", "patch", "delete", "deletecollection"} }

// platformRoles are for the whole platform.
func platformRoles() []role {
	return []role{
		{Name: RoleSystemAdministrator, group: SystemAdministrators, rules: join(everythingRead(), workWithClusters(), []rbacv1.PolicyRule{
			rule(write(), v1alpha1.Group, "backuplocations", "backups", "backupschedules", "bundles", "clusters", "clustertemplates", "credentials", "grants", "hosts", "operations",
				"projects", "settings", "users"),
			rule([]string{"lend"}, v1alpha1.Group, "backuplocations", "bundles", "clustertemplates", "hosts"),
			rule([]string{"administer"}, v1alpha1.Group, "projects"),
			rule([]string{"create"}, v1alpha1.Group, "users/password"),
			rule([]string{"create"}, v1alpha1.Group, "clusters/breakglass"),
			rule([]string{"administer"}, v1alpha1.Group, "clusters/proxy"),
		})},
		{Name: RoleAuditor, group: Auditors, rules: join(everythingRead(), []rbacv1.PolicyRule{
			rule([]string{"view"}, v1alpha1.Group, "clusters/proxy"),
		})},
	}
}

// projectRoles are for one project. Their rules must make sense in a namespace.
func projectRoles() []role {
	return []role{
		{Name: RoleProjectAdministrator, member: v1alpha1.ProjectAdministrator, rules: join(projectRead(), workWithClusters(), []rbacv1.PolicyRule{
			rule(write(), v1alpha1.Group, "backups", "backupschedules", "clusters", "operations"),
			rule([]string{"get"}, v1alpha1.Group, "audit"),
			rule([]string{"create"}, v1alpha1.Group, "clusters/breakglass"),
			rule([]string{"administer"}, v1alpha1.Group, "clusters/proxy"),
		})},
		{Name: RoleClusterAdministrator, member: v1alpha1.ClusterAdministrator, rules: join(projectRead(), workWithClusters(), []rbacv1.PolicyRule{
			rule([]string{"administer"}, v1alpha1.Group, "clusters/proxy"),
		})},
		{Name: RoleReadOnly, member: v1alpha1.ReadOnly, rules: join(projectRead(), workWithClusters())},
	}
}

// credentialRules are for slipway-system alone. To read, and to change, which answers with what was there, is for nobody.
func credentialRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{rule([]string{"create", "delete"}, "", "secrets")}
}

// everythingRead is what an auditor reads: all that is served but Secrets.
func everythingRead() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		rule(read(), v1alpha1.Group, "backuplocations", "backups", "backupschedules", "bundles", "clusters", "clustertemplates", "credentials", "grants", "hostclaims", "hostruns",
			"hosts", "operations", "projects", "settings", "users"),
		rule([]string{"get"}, v1alpha1.Group, "audit", "operations/log", "operations/plan"),
		rule(read(), "", "configmaps", "events", "namespaces", "resourcequotas", "serviceaccounts"),
		rule(read(), "events.k8s.io", "events"),
		rule(read(), rbacv1.GroupName, "clusterrolebindings", "clusterroles", "rolebindings", "roles"),
		rule(read(), "admissionregistration.k8s.io", "mutatingadmissionpolicies", "mutatingadmissionpolicybindings", "mutatingwebhookconfigurations",
			"validatingadmissionpolicies", "validatingadmissionpolicybindings", "validatingwebhookconfigurations"),
		rule(read(), "apiextensions.k8s.io", "customresourcedefinitions"),
	}
}

// projectRead is what every member of a project reads in it.
func projectRead() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		rule(read(), v1alpha1.Group, "backups", "backupschedules", "clusters", "grants", "hostruns", "operations"),
		rule([]string{"get"}, v1alpha1.Group, "operations/log", "operations/plan"),
		rule(read(), "", "events"),
		rule(read(), "events.k8s.io", "events"),
	}
}

// workWithClusters is a way into the clusters themselves, to look.
func workWithClusters() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		rule([]string{"create"}, v1alpha1.Group, "clusters/kubeconfig"),
		rule([]string{"view"}, v1alpha1.Group, "clusters/proxy"),
	}
}

func rule(verbs []string, group string, resources ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: verbs, APIGroups: []string{group}, Resources: resources}
}

func join(parts ...[]rbacv1.PolicyRule) []rbacv1.PolicyRule {
	var all []rbacv1.PolicyRule
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func kind(name string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: name}
}

func roleRef(kind, name string) rbacv1.RoleRef {
	return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: name}
}
