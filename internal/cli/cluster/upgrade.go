package cluster

import (
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/version"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

const upgradeExample = `  # to another version, by way of each minor version between
  slipway cluster upgrade demo --to v1.37.1

  # three workers at a time
  slipway cluster upgrade demo --to v1.37.1 --max-unavailable 3`

const upgradeLong = `Bring a cluster to a newer Kubernetes version. What would be done on each host is shown first, and done once it is agreed to:
a snapshot of etcd, control planes one after another and one minor version after another, then every node. Workers are
drained: disruption budgets are respected, and a pod that cannot go is named. Nothing goes on where something has failed;
slipway operation retry goes on from there.

An upgrade takes a minute or two for each node. Choose a quiet hour, and let nobody deploy or change settings meanwhile.
A cluster with one control plane has no API for some seconds each time that control plane moves.`

// upgrading is what the command line says about an upgrade.
type upgrading struct {
	to             string
	maxUnavailable int32
	force          bool
	drain          time.Duration
}

func newUpgrade(deps output.Deps, project *string) *cobra.Command {
	var u upgrading
	cmd := &cobra.Command{
		Use:     "upgrade NAME",
		Short:   "Bring a cluster to a newer Kubernetes version",
		Long:    upgradeLong,
		Example: upgradeExample,
		Args:    output.Args(cobra.ExactArgs(1)),
	}
	flags := cmd.Flags()
	flags.StringVar(&u.to, "to", "", "the version, such as v1.37.1; slipway get bundles lists them")
	flags.Int32Var(&u.maxUnavailable, "max-unavailable", 1, "how many workers are out of service at a time")
	flags.DurationVar(&u.drain, "drain-timeout", 0, "how long each drain may take (default 2h)")
	flags.BoolVar(&u.force, "force", false, "also take pods that nothing starts again, and those that a disruption budget holds")
	return proposed(cmd, deps, project, v1alpha1.VerbUpgrade, u.apply)
}

// apply edits the spec and says how.
func (u *upgrading) apply(spec *v1alpha1.ClusterSpec) (*v1alpha1.OperationParameters, error) {
	if _, err := version.ParseSemantic(u.to); err != nil || u.to[0] != 'v' {
		return nil, output.Usagef("cannot tell which version: give --to vX.Y.Z, such as --to v1.37.1")
	}
	if u.maxUnavailable < 1 {
		return nil, output.Usagef("cannot upgrade %d workers at a time: give --max-unavailable 1 or more", u.maxUnavailable)
	}
	if u.to == spec.Kubernetes.Version {
		return nil, output.Usagef("cannot upgrade to %s: the cluster's spec says so already; slipway operation retry goes on with an upgrade that failed", u.to)
	}
	spec.Kubernetes.Version = u.to
	return &v1alpha1.OperationParameters{Force: u.force, DrainSeconds: int32(u.drain / time.Second), MaxUnavailable: u.maxUnavailable}, nil
}
