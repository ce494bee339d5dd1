package operation

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/impact"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/step"
)

// lookTime bounds the look at a cluster before its plan is shown.
const lookTime = 20 * time.Second

// foreseen is what a plan's impact is made from.
type foreseen struct {
	impact.Input
	certificates []v1alpha1.ClusterCertificate
}

// foreseen gives what is known without asking the cluster, and nil for a cluster that is not created.
func (r *Reconciler) foreseen(ctx context.Context, op *v1alpha1.Operation, p *plan.Plan) (*foreseen, error) {
	c, err := r.cluster(ctx, op)
	if err != nil || c == nil || c.Status.Applied == nil {
		return nil, err
	}
	in := &foreseen{certificates: c.Status.Certificates,
		Input: impact.Input{Plan: p, Applied: c.Status.Applied, Wanted: c.Status.Applied, Hosts: map[string]v1alpha1.Host{}}}
	if op.Spec.Wanted != nil {
		in.Wanted = op.Spec.Wanted
	}
	for _, t := range p.Hosts {
		var h v1alpha1.Host
		err := r.Client.Get(ctx, client.ObjectKey{Name: t.Name}, &h)
		if client.IgnoreNotFound(err) != nil {
			return nil, fmt.Errorf("cannot read host %s: %w", t.Name, err)
		}
		if !apierrors.IsNotFound(err) {
			in.Hosts[t.Name] = h
		}
	}
	var earlier v1alpha1.OperationList
	if err := r.Client.List(ctx, &earlier, client.InNamespace(op.Namespace), client.MatchingLabels{v1alpha1.LabelCluster: op.Spec.Cluster}); err != nil {
		return nil, fmt.Errorf("cannot list operations: %w", err)
	}
	in.Earlier = earlier.Items
	return in, nil
}

// look asks the cluster what the impact depends on. A cluster that does not tell is a problem, never an error.
func (r *Reconciler) look(ctx context.Context, in *foreseen) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	if r.Cluster == nil {
		in.Problem = "clusters are not asked here"
		return
	}
	cluster := r.Cluster(in.Plan.Namespace, in.Plan.Cluster)
	seen, err := see(ctx, cluster, in.Applied.ControlPlane.Hosts)
	if seen != nil {
		seen.At = time.Now()
		in.Seen = seen
	}
	if err != nil {
		in.Problem = err.Error()
	}
	in.Warnings = warnings(ctx, cluster, &in.Input, in.certificates, time.Now())
}

// see reads what matters of a cluster. Where etcd alone does not answer there is something seen and an error as well.
func see(ctx context.Context, c step.ClusterReader, controlPlanes []string) (*impact.Seen, error) {
	var nodes corev1.NodeList
	var pods corev1.PodList
	var budgets policyv1.PodDisruptionBudgetList
	for _, ask := range []struct {
		what string
		list client.ObjectList
	}{{"nodes", &nodes}, {"pods", &pods}, {"disruption budgets", &budgets}} {
		if err := c.List(ctx, ask.list); err != nil {
			return nil, fmt.Errorf("the cluster does not tell its %s: %w", ask.what, err)
		}
	}
	seen := &impact.Seen{Nodes: nodes.Items, Pods: pods.Items, Budgets: budgets.Items}
	if _, err := c.EtcdMembers(ctx); err != nil {
		return seen, fmt.Errorf("etcd does not tell its members: %w", err)
	}
	for _, name := range controlPlanes {
		_, err := c.EtcdStatus(ctx, name)
		if ctx.Err() != nil {
			return seen, errors.Join(errors.New("etcd was not asked to the end"), ctx.Err())
		}
		if err != nil {
			seen.Silent = append(seen.Silent, name)
		}
	}
	return seen, nil
}
