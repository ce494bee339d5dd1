// Package node owns the steps that take nodes in and out of a cluster, and those that wait for what it does by itself, on its
// nodes and in its workloads. It must never change a host.
package node

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

// Ready waits until the host's node is Ready.
type Ready struct {
	// Since is when its kubelet was, or may have been, off: what it said before does not count. The cluster takes a node for
	// Ready for most of a minute after its kubelet has ended. Nil takes what the cluster says.
	Since *metav1.Time `json:"since,omitempty"`
}

// ID is stored in plans.
func (Ready) ID() step.ID { return "node.ready/v1" }

// Needs tells what must be there.
func (Ready) Needs() []step.Output { return []step.Output{step.API} }

// Check reads the node.
func (s Ready) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	var n corev1.Node
	err := r.Cluster.Get(ctx, client.ObjectKey{Name: r.Target.Name}, &n)
	if apierrors.IsNotFound(err) {
		return nil, fault.NewWaiting("NodeNotRegistered", fmt.Errorf("cannot see node %s in the cluster yet", r.Target.Name))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read node %s: %w", r.Target.Name, err)
	}
	for _, c := range n.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		if c.Status == corev1.ConditionTrue {
			return nil, s.fresh(ctx, r.Cluster, n.Name, c.LastHeartbeatTime)
		}
		return nil, fault.NewWaiting("NodeNotReady", fmt.Errorf("node %s is not Ready: %s", r.Target.Name, c.Message))
	}
	return nil, fault.NewWaiting("NodeNotReady", fmt.Errorf("node %s has not reported yet", r.Target.Name))
}

// Apply has nothing to do: the kubelet works by itself.
func (Ready) Apply(context.Context, step.Writer) error { return nil }

// controllers names the lease of the controller manager that works.
const controllers = "kube-controller-manager"

// silence is longer than any that the cluster takes for life.
const silence = time.Minute

// fresh says Waiting while all that is known of a kubelet is from before Since. One that runs reports when it has started, and
// then only what changes; the lease it renews every few seconds shows that one which never stopped is alive. Both are of the
// host's own clock: one that is behind makes this wait as much longer.
func (s Ready) fresh(ctx context.Context, c client.Reader, name string, heard metav1.Time) error {
	if s.Since == nil || heard.After(s.Since.Time) {
		return nil
	}
	renewed, err := renewal(ctx, c, corev1.NamespaceNodeLease, name)
	if err != nil || renewed.After(s.Since.Add(silence)) {
		return err
	}
	return fault.NewWaiting("NodeSilent", fmt.Errorf("node %s has not reported since %s", name, s.Since.UTC().Format(time.RFC3339)))
}

// renewal is when a lease was renewed last; zero when there is none.
func renewal(ctx context.Context, c client.Reader, namespace, name string) (time.Time, error) {
	var lease coordinationv1.Lease
	err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &lease)
	if client.IgnoreNotFound(err) != nil {
		return time.Time{}, fmt.Errorf("cannot read lease %s/%s: %w", namespace, name, err)
	}
	if err != nil || lease.Spec.RenewTime == nil {
		return time.Time{}, nil
	}
	return lease.Spec.RenewTime.Time, nil
}

// Workloads waits until a Deployment or DaemonSet has every replica it wants.
type Workloads struct {
	// Since is when the controllers were off, which count the replicas: what they counted before does not count. Nil takes
	// what the cluster says.
	Since *metav1.Time `json:"since,omitempty"`
	// Deployments and DaemonSets are NAMESPACE/NAME.
	Deployments []string `json:"deployments,omitempty"`
	DaemonSets  []string `json:"daemonSets,omitempty"`
}

// ID is stored in plans.
func (Workloads) ID() step.ID { return "node.workloads/v1" }

// Needs tells what must be there.
func (Workloads) Needs() []step.Output { return []step.Output{step.API} }

// Check reads each.
func (w Workloads) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	if w.Since != nil {
		renewed, err := renewal(ctx, r.Cluster, metav1.NamespaceSystem, controllers)
		if err != nil {
			return nil, err
		}
		if !renewed.After(w.Since.Time) {
			return nil, fault.NewWaiting("ControllersStarting", fmt.Errorf("no controller manager has worked since %s", w.Since.UTC().Format(time.RFC3339)))
		}
	}
	for _, name := range w.Deployments {
		var d appsv1.Deployment
		if err := r.Cluster.Get(ctx, key(name), &d); err != nil {
			return nil, fmt.Errorf("cannot read deployment %s: %w", name, err)
		}
		want := int32(1)
		if d.Spec.Replicas != nil {
			want = *d.Spec.Replicas
		}
		if d.Status.ObservedGeneration < d.Generation || d.Status.AvailableReplicas < want {
			return nil, waiting("deployment", name, d.Status.AvailableReplicas, want)
		}
	}
	for _, name := range w.DaemonSets {
		var d appsv1.DaemonSet
		if err := r.Cluster.Get(ctx, key(name), &d); err != nil {
			return nil, fmt.Errorf("cannot read daemon set %s: %w", name, err)
		}
		want := d.Status.DesiredNumberScheduled
		if d.Status.ObservedGeneration < d.Generation || want == 0 || d.Status.NumberAvailable < want {
			return nil, waiting("daemon set", name, d.Status.NumberAvailable, want)
		}
	}
	return nil, nil
}

func waiting(kind, name string, have, want int32) error {
	return fault.NewWaiting("WorkloadNotAvailable", fmt.Errorf("%s %s has %d of %d replicas available", kind, name, have, want))
}

// Apply has nothing to do: the cluster works by itself.
func (Workloads) Apply(context.Context, step.Writer) error { return nil }

func key(name string) client.ObjectKey {
	for i := range name {
		if name[i] == '/' {
			return client.ObjectKey{Namespace: name[:i], Name: name[i+1:]}
		}
	}
	return client.ObjectKey{Name: name}
}
