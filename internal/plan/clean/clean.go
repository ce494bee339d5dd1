// Package clean plans how hosts are given back that were said to be lost and answer again.
// It must never read anything but its input, nor plan anything that needs the cluster: what such a host still runs is older
// than the cluster.
package clean

import (
	"fmt"
	"slices"
	"strings"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/plan/stages"
)

// Plan gives the plan for the hosts that the parameters name as lost. Kubelet and etcd stop first, and etcd's data goes
// with the rest. A host that the cluster has is refused.
func Plan(in stages.Input) (*plan.Plan, error) {
	names := in.Parameters.Lost
	refuse := func(reason, fix, format string, args ...any) (*plan.Plan, error) {
		return nil, fault.NewTerminal(reason, fix, fmt.Errorf("cannot clean hosts of cluster "+in.Name+": "+format, args...))
	}
	if len(names) == 0 {
		return refuse("NoHosts", "name them in spec.parameters.lost", "none is named")
	}
	for _, name := range names {
		switch {
		case slices.Contains(in.Spec.AllHosts(), name):
			return refuse("HostInUse", "take it out first: slipway cluster scale "+in.Name+" --remove "+name, "the cluster has host %s", name)
		case !slices.Contains(in.Uncleaned, name):
			return refuse("NotLost", "", "host %s is none that the cluster has lost", name)
		}
		if reason := in.Unreachable(name); reason != "" {
			return refuse("NotReachable", "mend the host or its credential", "host %s: %s", name, reason)
		}
	}
	b := stages.New(in, v1alpha1.VerbClean, fmt.Sprintf("clean what cluster %s had on %s, which was lost and answers again", in.Name, strings.Join(names, ", ")), names)
	b.Stage(plan.Stage{Name: "clean", Title: "Clean the hosts", Hosts: names}, stages.Clean(in.Spec))
	return b.Plan()
}
