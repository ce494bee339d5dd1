package scale

import (
	"fmt"
	"maps"
	"slices"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/step/node"
)

// change is which hosts come, go and stay. Every list is in the order of the specs.
type change struct {
	// members are the control planes that etcd has before anything is done.
	members []string
	// newControlPlanes and newWorkers come.
	newControlPlanes, newWorkers []string
	// oldControlPlanes and oldWorkers go, lost ones not among them.
	oldControlPlanes, oldWorkers []string
	// strays are control planes that an edit which failed half-way began to bring in: etcd may count them or not.
	strays []string
	// lostControlPlanes and lostWorkers are gone already, as a person has confirmed.
	lostControlPlanes, lostWorkers []string
	// staying are control planes before and after.
	staying []string
	// comeBack are hosts that an edit which failed half-way began to take out, and that are to stay after all.
	comeBack []string
	// relabelled are workers that stay and get other labels or taints.
	relabelled []relabelling
	// retaint says that control planes stop or begin to run pods, since the first worker comes or the last one goes.
	retaint bool
}

// relabelling is what changes on the nodes of some workers.
type relabelling struct {
	name  string
	hosts []string
	step  node.Labels
}

func compare(in stages.Input) (change, error) {
	if in.Applied == nil {
		return change{}, fault.NewBug(fmt.Errorf("cannot plan to scale cluster %s: nothing is applied", in.Name))
	}
	was, is := in.Applied, &in.Spec
	before, after := was.AllHosts(), is.AllHosts()
	c := change{members: was.ControlPlane.Hosts}
	lost := func(name string) bool { return slices.Contains(in.Parameters.Lost, name) }
	for _, name := range was.ControlPlane.Hosts {
		switch {
		case slices.Contains(is.ControlPlane.Hosts, name):
			c.staying = append(c.staying, name)
		case lost(name):
			c.lostControlPlanes = append(c.lostControlPlanes, name)
		default:
			c.oldControlPlanes = append(c.oldControlPlanes, name)
		}
	}
	for _, name := range after {
		switch {
		case slices.Contains(before, name):
		case slices.Contains(is.ControlPlane.Hosts, name):
			c.newControlPlanes = append(c.newControlPlanes, name)
		default:
			c.newWorkers = append(c.newWorkers, name)
		}
	}
	c.relabelled = relabellings(was, is)
	c.retaint = (len(was.WorkerHosts()) == 0) != (len(is.WorkerHosts()) == 0)
	for i := range in.Attempted {
		tried := &in.Attempted[i]
		c.retaint = c.retaint || (len(tried.WorkerHosts()) == 0) != (len(is.WorkerHosts()) == 0)
		for _, r := range relabellings(tried, is) {
			r.name += fmt.Sprintf("-back-%d", i+1)
			r.hosts = slices.DeleteFunc(r.hosts, func(name string) bool { return !slices.Contains(before, name) })
			if len(r.hosts) > 0 {
				c.relabelled = append(c.relabelled, r)
			}
		}
	}
	// A claim says more than the spec that was applied: a host of an edit that failed half-way has to go as well.
	for _, name := range slices.Sorted(maps.Keys(in.Claims)) {
		switch {
		case in.Claims[name].ClusterUID != in.UID, slices.Contains(after, name), slices.Contains(was.ControlPlane.Hosts, name):
		case attempted(in, name) && lost(name):
			c.lostControlPlanes = append(c.lostControlPlanes, name)
		case attempted(in, name):
			c.strays = append(c.strays, name)
		case lost(name):
			c.lostWorkers = append(c.lostWorkers, name)
		default:
			c.oldWorkers = append(c.oldWorkers, name)
		}
	}
	for _, name := range after {
		leaving := func(spec v1alpha1.ClusterSpec) bool { return !slices.Contains(spec.AllHosts(), name) }
		if slices.Contains(before, name) && slices.ContainsFunc(in.Attempted, leaving) {
			c.comeBack = append(c.comeBack, name)
		}
	}
	return c, nil
}

// attempted says that a change which failed half-way began to make a host a control plane.
func attempted(in stages.Input, name string) bool {
	return slices.ContainsFunc(in.Attempted, func(spec v1alpha1.ClusterSpec) bool { return slices.Contains(spec.ControlPlane.Hosts, name) })
}

// relabellings compares the pool that each staying worker was in with the one that it is in.
func relabellings(was, is *v1alpha1.ClusterSpec) []relabelling {
	var all []relabelling
	for _, to := range is.WorkerPools {
		for _, from := range was.WorkerPools {
			r := relabelling{name: from.Name + "-" + to.Name, step: node.Labels{Labels: to.Labels, Taints: taints(to)}}
			for _, name := range to.Hosts {
				if slices.Contains(from.Hosts, name) {
					r.hosts = append(r.hosts, name)
				}
			}
			for _, key := range slices.Sorted(maps.Keys(from.Labels)) {
				if _, kept := to.Labels[key]; !kept {
					r.step.RemoveLabels = append(r.step.RemoveLabels, key)
				}
			}
			for _, t := range from.Taints {
				kept := slices.ContainsFunc(to.Taints, func(other v1alpha1.Taint) bool { return other.Key == t.Key && other.Effect == t.Effect })
				if !kept {
					r.step.RemoveTaints = append(r.step.RemoveTaints, fmt.Sprintf("%s:%s", t.Key, t.Effect))
				}
			}
			if len(r.hosts) > 0 && !(maps.Equal(from.Labels, to.Labels) && slices.Equal(from.Taints, to.Taints)) {
				all = append(all, r)
			}
		}
	}
	return all
}

func taints(pool v1alpha1.WorkerPool) []string {
	var all []string
	for _, t := range pool.Taints {
		all = append(all, fmt.Sprintf("%s=%s:%s", t.Key, t.Value, t.Effect))
	}
	return all
}
