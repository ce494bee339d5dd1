package cluster

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

// binTime is how long a cluster stays in the recycle bin when Setting retention does not say.
const binTime = 2 * time.Hour

// recycle stops a cluster that goes into the bin and starts one that comes out, and gives the operation that does so: nil
// when there is nothing to do. One that was never created has nothing to stop.
func (r *Reconciler) recycle(ctx context.Context, c *v1alpha1.Cluster, created bool) (*v1alpha1.Operation, error) {
	s := &c.Status
	if !c.Spec.Recycle && s.RecycledAt == nil {
		return nil, nil
	}
	var last *v1alpha1.Operation
	if created {
		var err error
		if last, err = r.lastSwitch(ctx, c); err != nil {
			return nil, err
		}
	}
	stopped := last != nil && last.Spec.Verb == v1alpha1.VerbStop
	if c.Spec.Recycle {
		if s.RecycledAt == nil {
			now := metav1.Now()
			s.RecycledAt = &now
		}
		life, err := r.binTime(ctx)
		if err != nil {
			return nil, err
		}
		s.DeletedAfter = &metav1.Time{Time: s.RecycledAt.Add(life)}
		if created && !stopped {
			return r.create(ctx, c, r.switching(c, v1alpha1.VerbStop))
		}
		return last, nil
	}
	s.DeletedAfter = nil
	switch {
	case stopped:
		return r.create(ctx, c, r.switching(c, v1alpha1.VerbStart))
	case last == nil, last.Status.Phase == v1alpha1.OperationSucceeded, last.Status.Phase == v1alpha1.OperationPartial:
		s.RecycledAt = nil
	}
	return last, nil
}

func (r *Reconciler) switching(c *v1alpha1.Cluster, verb v1alpha1.Verb) *v1alpha1.Operation {
	op := newOperation(c, verb, changeName(c, verb))
	op.Spec.Generation = c.Generation
	return op
}

// lastSwitch gives the operation that stopped or started this cluster last, nil when none did.
func (r *Reconciler) lastSwitch(ctx context.Context, c *v1alpha1.Cluster) (*v1alpha1.Operation, error) {
	var all v1alpha1.OperationList
	own := client.MatchingLabels{v1alpha1.LabelCluster: c.Name, v1alpha1.LabelClusterUID: string(c.UID)}
	if err := r.Client.List(ctx, &all, client.InNamespace(c.Namespace), own); err != nil {
		return nil, fmt.Errorf("cannot list the operations of cluster %s: %w", c.Name, err)
	}
	var last *v1alpha1.Operation
	for i := range all.Items {
		op := &all.Items[i]
		if op.Spec.Verb != v1alpha1.VerbStop && op.Spec.Verb != v1alpha1.VerbStart {
			continue
		}
		// Generations only grow; two operations may be of the same second.
		if last == nil || op.Spec.Generation > last.Spec.Generation {
			last = op
		}
	}
	return last, nil
}

func (r *Reconciler) binTime(ctx context.Context) (time.Duration, error) {
	var setting v1alpha1.Setting
	err := r.Client.Get(ctx, client.ObjectKey{Name: v1alpha1.SettingRetention}, &setting)
	if client.IgnoreNotFound(err) != nil {
		return 0, fmt.Errorf("cannot read Setting %s: %w", v1alpha1.SettingRetention, err)
	}
	if p := setting.Spec.Retention; p != nil && p.RecycleMinutes > 0 {
		return time.Duration(p.RecycleMinutes) * time.Minute, nil
	}
	return binTime, nil
}

// empty deletes a cluster whose time in the bin is over. One that is taken back at the same moment stays: what is deleted is
// the version that was read.
func (r *Reconciler) empty(ctx context.Context, c *v1alpha1.Cluster) error {
	if !inBin(c) || c.Status.DeletedAfter == nil || time.Now().Before(c.Status.DeletedAfter.Time) {
		return nil
	}
	err := r.Client.Delete(ctx, c, client.Preconditions{UID: &c.UID, ResourceVersion: &c.ResourceVersion})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot delete cluster %s, whose time in the recycle bin is over: %w", c.Name, err)
	}
	return nil
}

func inBin(c *v1alpha1.Cluster) bool { return c.Spec.Recycle && c.DeletionTimestamp == nil }

// recycled says in the conditions that nothing of the cluster runs.
func recycled(c *v1alpha1.Cluster) {
	message := "the cluster is in the recycle bin"
	if after := c.Status.DeletedAfter; after != nil {
		message += " and will be deleted after " + after.UTC().Format(time.RFC3339)
	}
	meta.SetStatusCondition(&c.Status.Conditions, metav1.Condition{Type: v1alpha1.ClusterReady, Status: metav1.ConditionFalse,
		ObservedGeneration: c.Generation, Reason: "Recycled", Message: message})
}

// due is when the cluster must be looked at again though nothing happens.
func due(c *v1alpha1.Cluster) time.Duration {
	const often = time.Hour // Certificates come nearer to their end.
	if inBin(c) && c.Status.DeletedAfter != nil {
		return min(often, max(time.Until(c.Status.DeletedAfter.Time), time.Second))
	}
	return often
}
