package node

import (
	"context"
	"fmt"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

// KubeletVersion waits until the host's kubelet has told the cluster that it is of a version.
type KubeletVersion struct {
	// Version is the Kubernetes version, vX.Y.Z.
	Version string `json:"version"`
}

// ID is stored in plans.
func (KubeletVersion) ID() step.ID { return "node.kubelet-version/v1" }

// Needs tells what must be there.
func (KubeletVersion) Needs() []step.Output { return []step.Output{step.API} }

// Check reads the node.
func (v KubeletVersion) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	n, err := read(ctx, r.Cluster, r.Target.Name)
	if err != nil {
		return nil, err
	}
	if n == nil {
		return nil, fault.NewWaiting("NodeNotRegistered", fmt.Errorf("cannot see node %s in the cluster", r.Target.Name))
	}
	if have := n.Status.NodeInfo.KubeletVersion; have != v.Version {
		return nil, fault.NewWaiting("KubeletStarting", fmt.Errorf("the kubelet of node %s was %s when it last reported, not %s", n.Name, have, v.Version))
	}
	return nil, nil
}

// Apply has nothing to do: the kubelet reports by itself.
func (KubeletVersion) Apply(context.Context, step.Writer) error { return nil }
