package cluster

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

// LabelProject is on the Secret that holds a cluster's keys and names the project of the cluster.
const LabelProject = "slipway.dev/project"

// KeysName is the Secret in slipway-system that holds the keys of a cluster. Cluster names are unique in the platform.
func KeysName(cluster string) string { return "cluster-" + cluster }

// OwnsKeys says whether a Secret of keys belongs to the cluster of that name in the given project, and not to one
// in another project.
func OwnsKeys(keys *corev1.Secret, project string) bool {
	owner, named := keys.Labels[LabelProject]
	return !named || owner == project
}

// DropKeys removes the keys of a cluster that is gone. Keys of a cluster of the same name in another project stay,
// and keys that are gone already are fine.
func DropKeys(ctx context.Context, c client.Client, project, name string) error {
	var keys corev1.Secret
	err := c.Get(ctx, client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: KeysName(name)}, &keys)
	if err == nil && OwnsKeys(&keys, project) {
		err = c.Delete(ctx, &keys)
	}
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot remove the keys of cluster %s: %w", name, err)
	}
	return nil
}
