package plan

import "slipway.dev/slipway/api/v1alpha1"

// HolderFor names the cluster that holds a host to people of a project: one of another project has no name for them.
func HolderFor(project string, claim v1alpha1.HostClaimSpec) string {
	if claim.Namespace != project {
		return "a cluster of another project"
	}
	return "cluster " + claim.Namespace + "/" + claim.Cluster
}
