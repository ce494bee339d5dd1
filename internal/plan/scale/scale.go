// Package scale plans how hosts come into a cluster that runs and how they leave it. Only hosts whose part changes are in
// the plan. It must never read anything but its input, nor plan anything by which etcd would lose its majority.
package scale

import (
	"fmt"
	"slices"
	"strings"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/step"
	"slipway.dev/slipway/internal/step/etcd"
	"slipway.dev/slipway/internal/step/kubeadm"
	"slipway.dev/slipway/internal/step/node"
	"slipway.dev/slipway/internal/step/precheck"
)

// Plan gives the plan, or a Terminal error that lists every rule the input breaks.
func Plan(in stages.Input) (*plan.Plan, error) {
	c, err := compare(in)
	if err != nil {
		return nil, err
	}
	coming := slices.Concat(c.newControlPlanes, c.newWorkers)
	leaving := slices.Concat(c.strays, c.oldControlPlanes, c.oldWorkers)
	lost := slices.Concat(c.lostControlPlanes, c.lostWorkers)
	if err := precheck.Refusal(slices.Concat(in.Check(coming), c.refusals(in, leaving))); err != nil {
		return nil, err
	}
	hosts := slices.Concat(coming, leaving)
	more := slices.Clone(c.comeBack)
	for _, g := range c.relabelled {
		more = append(more, g.hosts...)
	}
	if c.retaint {
		more = append(more, c.staying...)
	}
	for _, name := range more {
		if !slices.Contains(hosts, name) {
			hosts = append(hosts, name)
		}
	}
	if len(lost) > 0 && !slices.Contains(hosts, c.staying[0]) {
		// What is left of a dead host is removed from the cluster by a control plane that lives.
		hosts = append([]string{c.staying[0]}, hosts...)
	}
	p := planner{change: c, in: in, Builder: stages.New(in, v1alpha1.VerbScale, c.summary(in), hosts)}
	p.Given(step.API, step.ServedAPI, step.Network)
	p.lose()
	p.keep()
	p.prepare(coming)
	p.joinControlPlanes()
	p.joinWorkers()
	p.relabel()
	p.leave()
	return p.Plan()
}

// refusals are the rules that only a cluster which runs has.
func (c change) refusals(in stages.Input, leaving []string) []precheck.Finding {
	var found []precheck.Finding
	add := func(host, rule, have, needed string) {
		found = append(found, precheck.Finding{Host: host, Rule: rule, Found: have, Needed: needed})
	}
	was, is := in.Applied, in.Spec
	if len(c.staying) == 0 {
		add(was.ControlPlane.Hosts[0], "control-plane", "no control plane would stay", "one that stays: replace them one edit after another")
	}
	before := was.AllHosts()
	for _, name := range is.AllHosts() {
		if slices.Contains(before, name) && slices.Contains(was.ControlPlane.Hosts, name) != slices.Contains(is.ControlPlane.Hosts, name) {
			add(name, "role", "it would change between control plane and worker", "to be taken out in one edit and brought in by the next")
		}
	}
	for _, name := range leaving {
		if reason := in.Unreachable(name); reason != "" {
			add(name, "reachable", reason, "a host that can be cleaned, or --lost "+name+" to confirm that it is gone for good")
		}
	}
	// Majority: members that live must be more than half of those that etcd counts, before and after each change.
	if alive := len(c.members) - len(c.lostControlPlanes); 2*alive <= len(c.members) {
		add(c.members[0], "quorum", fmt.Sprintf("%d of %d etcd members are lost", len(c.lostControlPlanes), len(c.members)), "a majority that lives; restore a backup instead")
	}
	return found
}

func (c change) summary(in stages.Input) string {
	var parts []string
	add := func(what string, hosts []string) {
		if len(hosts) > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", what, strings.Join(hosts[:min(len(hosts), 5)], ", ")))
			if more := len(hosts) - 5; more > 0 {
				parts[len(parts)-1] += fmt.Sprintf(" and %d more", more)
			}
		}
	}
	add("add control plane", c.newControlPlanes)
	add("add worker", c.newWorkers)
	add("remove control plane", slices.Concat(c.strays, c.oldControlPlanes))
	add("remove worker", c.oldWorkers)
	add("forget lost host", slices.Concat(c.lostControlPlanes, c.lostWorkers))
	add("keep", c.comeBack)
	if len(parts) == 0 {
		parts = []string{"labels and taints"}
	}
	return fmt.Sprintf("scale cluster %s: %s", in.Name, strings.Join(parts, "; "))
}

// planner adds stages one after another; last is what the next control plane has to wait for.
type planner struct {
	change
	*stages.Builder
	in   stages.Input
	last []string
	// present are the etcd members at this point of the plan.
	present []string
}

// lose takes dead hosts out of the cluster: first of etcd, whose majority counts them.
func (p *planner) lose() {
	p.present = slices.DeleteFunc(slices.Clone(p.members), func(name string) bool { return slices.Contains(p.lostControlPlanes, name) })
	var calls []stages.Call
	for _, name := range p.lostControlPlanes {
		calls = append(calls, stages.Call{Name: name + "/etcd", Step: etcd.RemoveMember{Name: name, Address: p.in.Hosts[name].Status.InternalAddress}})
	}
	for _, name := range slices.Concat(p.lostControlPlanes, p.lostWorkers) {
		calls = append(calls,
			stages.Call{Name: name + "/drain", Step: node.Drain{Node: name, IgnoreUnreachable: true, Force: p.in.Parameters.Force, TimeoutSeconds: int64(p.in.Parameters.DrainSeconds)}},
			stages.Call{Name: name + "/remove", Step: node.Remove{Node: name}},
			stages.Call{Name: name + "/volumes", Step: node.FreeVolumes{Node: name}},
		)
	}
	if len(calls) > 0 && p.Stage(plan.Stage{Name: "forget", Title: "Take lost hosts out", Hosts: p.staying[:1], Gate: true}, calls) {
		p.last = []string{"forget"}
	}
}

// keep takes back what a change that failed half-way did to hosts which were to go and to control planes which were to come.
// etcd comes first: the majority counts each member, also one that never started.
func (p *planner) keep() {
	for _, name := range p.strays {
		calls := p.goodbye([]stages.Call{{Name: "etcd", Step: etcd.RemoveMember{Name: name, Address: p.in.Hosts[name].Status.InternalAddress}}})
		for i := range calls {
			calls[i].Name = name + "/" + calls[i].Name
		}
		stage := "leave-" + name
		p.Stage(plan.Stage{Name: stage, Title: "Take control plane " + name + " out", Hosts: []string{name}, Needs: p.last}, calls)
		p.last = []string{stage}
	}
	p.Stage(plan.Stage{Name: "keep", Title: "Give nodes pods again", Hosts: p.comeBack, Needs: p.last}, []stages.Call{
		{Name: "keep/ready", Step: node.Ready{}}, {Name: "keep/uncordon", Step: node.Uncordon{}},
	})
	var members []string
	for _, name := range p.comeBack {
		if slices.Contains(p.staying, name) {
			members = append(members, name)
		}
	}
	if p.Stage(plan.Stage{Name: "keep-members", Title: "See that etcd has them", Hosts: members, Needs: []string{"keep"}},
		[]stages.Call{{Name: "keep/etcd-healthy", Step: etcd.Healthy{Members: len(p.present)}}}) {
		p.last = []string{"keep-members"}
	}
}

func (p *planner) prepare(coming []string) {
	p.Stage(plan.Stage{Name: "precheck", Title: "Check the hosts", Hosts: coming, Gate: true}, p.Precheck(coming))
	p.Stage(plan.Stage{Name: "prepare-control-plane", Title: "Prepare the control planes", Hosts: p.newControlPlanes}, p.Prepare("control-plane", true, nil))
	p.Stage(plan.Stage{Name: "prepare-workers", Title: "Prepare the workers", Hosts: p.newWorkers}, p.Prepare("worker", false, nil))
}

// joinControlPlanes brings them in one after another: etcd takes one learner at a time.
func (p *planner) joinControlPlanes() {
	for _, name := range p.newControlPlanes {
		p.present = append(p.present, name)
		start := &kubeadm.EtcdStart{Members: p.in.EtcdMembers(p.present), Existing: true}
		calls := slices.Concat(
			[]stages.Call{{Name: "etcd-config", Step: p.Configure(start)}},
			p.Keys(),
			[]stages.Call{{Name: "etcd-healthy", Step: etcd.Healthy{Members: len(p.present) - 1, Before: etcd.Joining}}, {Name: "add-member", Step: etcd.AddMember{}}},
			p.Manifests(start),
			[]stages.Call{
				{Name: "start-kubelet", Step: kubeadm.StartKubelet{}},
				{Name: "promote-member", Step: etcd.PromoteMember{}},
				{Name: "serve-api", Step: kubeadm.ServeAPI{}},
			},
			p.Register("register"),
			[]stages.Call{{Name: "ready", Step: node.Ready{}}},
		)
		for i := range calls {
			calls[i].Name = name + "/" + calls[i].Name
		}
		stage := "join-" + name
		p.Stage(plan.Stage{Name: stage, Title: "Join control plane " + name, Hosts: []string{name}, Needs: append(p.last, "prepare-control-plane")}, calls)
		p.last = []string{stage}
	}
}

func (p *planner) joinWorkers() {
	calls := slices.Concat([]stages.Call{{Name: "join-token", Step: p.JoinToken()}}, p.Join(), p.Ready())
	p.Stage(plan.Stage{Name: "join", Title: "Join the workers", Hosts: p.newWorkers, Needs: []string{"prepare-workers"}}, calls)
}

// controlPlaneTaint keeps pods off control planes where there are workers.
const controlPlaneTaint = "node-role.kubernetes.io/control-plane:NoSchedule"

// relabel changes the labels and taints of nodes that stay.
func (p *planner) relabel() {
	for _, r := range p.relabelled {
		p.Stage(plan.Stage{Name: "labels-" + r.name, Title: "Change labels and taints", Hosts: r.hosts}, []stages.Call{{Name: "labels-" + r.name, Step: r.step}})
	}
	if !p.retaint {
		return
	}
	step := node.Labels{Taints: []string{controlPlaneTaint}}
	if len(p.in.Spec.WorkerHosts()) == 0 {
		step = node.Labels{RemoveTaints: []string{controlPlaneTaint}}
	}
	needs := []string{}
	if len(p.newWorkers) > 0 {
		needs = append(needs, "join")
	}
	p.Stage(plan.Stage{Name: "schedulable", Title: "Say whether control planes run pods", Hosts: p.staying, Needs: needs}, []stages.Call{{Name: "schedulable", Step: step}})
}

// leave takes hosts out after others came, so that there is room for what they ran: workers side by side, control planes
// one after another.
func (p *planner) leave() {
	needs := slices.Clone(p.last)
	if len(p.newWorkers) > 0 {
		needs = append(needs, "join")
	}
	p.Stage(plan.Stage{Name: "leave", Title: "Take workers out", Hosts: p.oldWorkers, Needs: needs}, p.goodbye(nil))
	for _, name := range p.oldControlPlanes {
		calls := append([]stages.Call{{Name: "etcd-healthy", Step: etcd.Healthy{Members: len(p.present), Before: etcd.Leaving}}},
			p.goodbye([]stages.Call{{Name: "etcd", Step: etcd.RemoveMember{Name: name, Address: p.in.Hosts[name].Status.InternalAddress}}})...)
		for i := range calls {
			calls[i].Name = name + "/" + calls[i].Name
		}
		stage := "leave-" + name
		p.Stage(plan.Stage{Name: stage, Title: "Take control plane " + name + " out", Hosts: []string{name}, Needs: p.last}, calls)
		p.last = []string{stage}
		p.present = slices.DeleteFunc(p.present, func(n string) bool { return n == name })
	}
}

// goodbye moves the pods away, does what must be done before the host stops, and cleans it. The node is removed once its
// kubelet has stopped, which would register it again.
func (p *planner) goodbye(before []stages.Call) []stages.Call {
	parameters, clean := p.in.Parameters, stages.Clean(*p.in.Applied)
	return slices.Concat(
		[]stages.Call{
			{Name: "cordon", Step: node.Cordon{}},
			{Name: "drain", Step: node.Drain{Force: parameters.Force, TimeoutSeconds: int64(parameters.DrainSeconds)}},
		},
		before, clean[:1],
		[]stages.Call{{Name: "remove", Step: node.Remove{}}, {Name: "volumes", Step: node.FreeVolumes{}}},
		clean[1:],
	)
}
