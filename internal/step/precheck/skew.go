package precheck

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/version"

	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

const (
	// MostSkew is how many minor versions a kubelet may be behind an API server.
	MostSkew = 3
	// mostVersion is the longest version that a finding repeats, in bytes.
	mostVersion = 40
)

// Skew is a gate: it refuses a version whose API servers a kubelet of the cluster could not work with, also that of a node
// which Slipway did not make.
type Skew struct {
	// Version is the Kubernetes version to come, vX.Y.Z.
	Version string `json:"version"`
}

// ID is stored in plans.
func (Skew) ID() step.ID { return "precheck.skew/v1" }

// Needs tells what must be there.
func (Skew) Needs() []step.Output { return []step.Output{step.API} }

// Check reads what every kubelet says it is. One that is too old, or newer than the version to come, is a Terminal error
// that names all such nodes.
func (s Skew) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	to, err := version.ParseGeneric(s.Version)
	if err != nil {
		return nil, fmt.Errorf("cannot read version %q: %w", s.Version, err)
	}
	var nodes corev1.NodeList
	if err := r.Cluster.List(ctx, &nodes); err != nil {
		return nil, fmt.Errorf("cannot list the nodes: %w", err)
	}
	p := &problems{}
	for _, n := range nodes.Items {
		p.host = host.Clean(n.Name, 253)
		have := host.Clean(n.Status.NodeInfo.KubeletVersion, mostVersion)
		v, err := version.ParseGeneric(have)
		switch {
		case err != nil:
			p.add("skew", fmt.Sprintf("a kubelet that says it is %q", have), "a kubelet that reports its version; look at the node, or take it out of the cluster")
		case v.Major() != to.Major() || int(to.Minor())-int(v.Minor()) > MostSkew:
			p.add("skew", "kubelet "+have, fmt.Sprintf("v%d.%d or newer for API servers of %s: upgrade in smaller steps, or take the node out of the cluster", to.Major(), to.Minor()-MostSkew, s.Version))
		case v.Minor() > to.Minor():
			p.add("skew", "kubelet "+have, fmt.Sprintf("v%d.%d or older: no kubelet may be newer than an API server", to.Major(), to.Minor()))
		}
	}
	return nil, Refusal(p.findings)
}

// Apply has nothing to do.
func (Skew) Apply(context.Context, step.Writer) error { return nil }
