package cluster

import (
	"slices"
	"time"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

const scaleExample = `  # two more workers in the pool of w1 and w2
  slipway cluster scale demo --add-worker w3 --add-worker w4

  # one worker out: its pods move first, and budgets are respected
  slipway cluster scale demo --remove w2

  # a control plane whose machine burned down, replaced
  slipway cluster scale demo --remove cp2 --lost cp2 --add-control-plane cp4`

// scaling is what the command line says about hosts that come and go.
type scaling struct {
	controlPlane, workers, remove, lost []string
	pool                                string
	force                               bool
	drain                               time.Duration
}

func newScale(deps output.Deps, project *string) *cobra.Command {
	var s scaling
	cmd := &cobra.Command{
		Use:   "scale NAME",
		Short: "Bring hosts into a cluster and take others out",
		Long: "Bring hosts into a cluster and take others out. What would be done on each host is shown first, and done once it is\n" +
			"agreed to. A worker that leaves is drained: disruption budgets are respected, and a pod that cannot go is named.",
		Example: scaleExample,
		Args:    output.Args(cobra.ExactArgs(1)),
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&s.controlPlane, "add-control-plane", nil, "host that becomes a control plane; repeat")
	flags.StringSliceVar(&s.workers, "add-worker", nil, "host that becomes a worker; repeat")
	flags.StringVar(&s.pool, "pool", "", "pool of the new workers (default: the first one, or "+defaultPool+")")
	flags.StringSliceVar(&s.remove, "remove", nil, "host that leaves; repeat")
	flags.StringSliceVar(&s.lost, "lost", nil, "host that leaves and is gone for good: nothing is asked of it; repeat")
	flags.DurationVar(&s.drain, "drain-timeout", 0, "how long each drain may take (default 2h)")
	flags.BoolVar(&s.force, "force", false, "also take pods that nothing starts again, and those that a disruption budget holds")
	return proposed(cmd, deps, project, v1alpha1.VerbScale, s.apply)
}

// apply edits the spec and says how.
func (s *scaling) apply(spec *v1alpha1.ClusterSpec) (*v1alpha1.OperationParameters, error) {
	leaving := slices.Concat(s.remove, s.lost)
	if len(s.controlPlane)+len(s.workers)+len(leaving) == 0 {
		return nil, output.Usagef("cannot tell what to change: give --add-worker, --add-control-plane, --remove or --lost")
	}
	for _, name := range slices.Concat(s.controlPlane, s.workers) {
		if slices.Contains(spec.AllHosts(), name) {
			return nil, output.Usagef("cannot add host %s: the cluster has it", name)
		}
	}
	for _, name := range s.remove {
		if !slices.Contains(spec.AllHosts(), name) {
			return nil, output.Usagef("cannot remove host %s: the cluster does not have it", name)
		}
	}
	gone := func(name string) bool { return slices.Contains(leaving, name) }
	spec.ControlPlane.Hosts = append(slices.DeleteFunc(spec.ControlPlane.Hosts, gone), s.controlPlane...)
	for i := range spec.WorkerPools {
		spec.WorkerPools[i].Hosts = slices.DeleteFunc(spec.WorkerPools[i].Hosts, gone)
	}
	if len(s.workers) > 0 {
		name := s.pool
		if name == "" {
			name = defaultPool
			if len(spec.WorkerPools) > 0 {
				name = spec.WorkerPools[0].Name
			}
		}
		p := pool(spec, name, true)
		p.Hosts = append(p.Hosts, s.workers...)
	}
	spec.WorkerPools = slices.DeleteFunc(spec.WorkerPools, func(p v1alpha1.WorkerPool) bool { return len(p.Hosts) == 0 })
	return &v1alpha1.OperationParameters{Force: s.force, DrainSeconds: int32(s.drain / time.Second), Lost: s.lost}, nil
}
