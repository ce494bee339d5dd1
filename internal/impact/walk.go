package impact

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/step/kubeadm"
	"slipway.dev/slipway/internal/step/node"
)

// walk goes through a plan as people read it, one stage after another. Stages that may run side by side are then said to
// take each other's room less than they do; those of our plans that disturb a node wait for each other.
type walk struct {
	in    Input
	out   v1alpha1.OperationImpact
	order []string
	acts  map[string]*v1alpha1.NodeImpact
	etcd  majority
	pods  pods
	room  room
}

func newWalk(in Input) *walk {
	w := &walk{in: in, acts: map[string]*v1alpha1.NodeImpact{}, etcd: newMajority(in)}
	for _, t := range in.Plan.Hosts {
		if !w.isNode(t.Name) && w.comes(t.Name) {
			w.act(t.Name).Change = v1alpha1.NodeJoins
		}
	}
	w.pods = newPods(in.Seen)
	w.room = newRoom(in)
	return w
}

// isNode says that the host is part of the cluster before anything is done.
func (w *walk) isNode(name string) bool { return slices.Contains(w.in.Applied.AllHosts(), name) }

// comes says that the plan makes the host a node. One that a failed edit left half-way only has to be cleaned.
func (w *walk) comes(name string) bool {
	return slices.ContainsFunc(w.in.Plan.Stages, func(s plan.Stage) bool {
		return slices.Contains(s.Hosts, name) && slices.ContainsFunc(s.Calls, func(c plan.Call) bool {
			return c.ID == kubeadm.Join{}.ID() || c.ID == kubeadm.StartKubelet{}.ID()
		})
	})
}

func (w *walk) act(name string) *v1alpha1.NodeImpact {
	a := w.acts[name]
	if a == nil {
		a = &v1alpha1.NodeImpact{Name: name}
		w.acts[name], w.order = a, append(w.order, name)
	}
	return a
}

func (w *walk) stage(s plan.Stage) {
	var drained []string
	for _, c := range s.Calls {
		all, err := Effects(c)
		if err != nil {
			w.out.Unknown = err.Error()
			continue
		}
		for _, e := range all {
			names := s.Hosts
			if e.Node != "" {
				names = []string{e.Node}
			}
			if e.Kind == EtcdJoins {
				w.etcd.join(names)
				continue
			}
			names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !w.isNode(name) })
			if len(names) == 0 {
				continue
			}
			if e.Kind == Drains {
				drained = append(drained, names...)
			}
			w.feel(e, names)
		}
	}
	if len(drained) == 0 {
		return
	}
	back := slices.ContainsFunc(s.Calls, func(c plan.Call) bool { return c.ID == node.Uncordon{}.ID() })
	var going []*corev1.Pod
	for _, name := range drained {
		moving, err := w.pods.drain(&w.out, w.act(name), drained)
		if err != nil {
			w.out.Unknown = err.Error()
		}
		going = append(going, moving...)
	}
	for _, p := range w.room.move(going, drained, back) {
		note(&w.out.NoRoom, p)
	}
}

// feel notes one effect on the nodes that it reaches at the same time.
func (w *walk) feel(e Effect, names []string) {
	switch e.Kind {
	case RollsOut:
		add(&w.out.Everywhere, e.Components)
		return
	case EtcdLeaves:
		w.etcd.leave(names)
		return
	}
	for _, name := range names {
		a := w.act(name)
		switch e.Kind {
		case Restarts, Stops:
			add(&a.Restarts, w.runsOn(name, e.Components))
		case Drains:
			a.Drains = true
		case Reboots:
			a.Reboots = true
			w.pods.stop(&w.out, a)
		case StopsAll:
			if a.Change == "" {
				a.Change = v1alpha1.NodeStops
				w.pods.stop(&w.out, a)
			}
		case Leaves:
			if a.Change != v1alpha1.NodeLeaves {
				a.Change = v1alpha1.NodeLeaves
				if !a.Drains {
					w.pods.lose(&w.out, a)
				}
			}
		}
	}
	w.etcd.feel(e, names)
}

// runsOn leaves out what only control planes run.
func (w *walk) runsOn(name string, components []string) []string {
	if slices.Contains(w.in.Applied.ControlPlane.Hosts, name) {
		return components
	}
	return slices.DeleteFunc(slices.Clone(components), func(c string) bool { return slices.Contains(controlPlane(), c) })
}

// nodes puts what happens to each into the impact. What restarts on a node that goes or stops is of no interest.
func (w *walk) nodes(out *v1alpha1.OperationImpact) {
	for _, name := range w.order {
		a := w.acts[name]
		if a.Change != "" {
			a.Restarts = nil
		}
		if a.Change == "" && len(a.Restarts) == 0 && !a.Drains && !a.Reboots {
			continue
		}
		if len(out.Nodes) == most {
			out.MoreNodes++
			continue
		}
		out.Nodes = append(out.Nodes, *a)
	}
}

func add(list *[]string, more []string) {
	for _, m := range more {
		if !slices.Contains(*list, m) {
			*list = append(*list, m)
		}
	}
}

func noExecute(taint string) bool {
	return strings.HasSuffix(taint, ":"+string(corev1.TaintEffectNoExecute))
}
