// Package configure plans how the settings of a cluster that runs are changed, and how what was changed by hand on its hosts
// is put back. It must never read anything but its input, nor restart what an edit does not concern.
package configure

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/step/etcd"
	"slipway.dev/slipway/internal/step/kubeadm"
	"slipway.dev/slipway/internal/step/node"
	"slipway.dev/slipway/internal/step/precheck"
)

// mostBatches is how many stages the workers get at most: an operation records so many.
const mostBatches = 32

// Plan gives the plan, or a Terminal error that lists every rule the input breaks. Where the wanted spec is the one that is
// applied, it looks at everything that hosts must have, and puts back what was changed by hand. Where an earlier change is
// half done, it brings the hosts that were changed from there to the wanted spec, which may be the one of before.
func Plan(in stages.Input) (*plan.Plan, error) {
	if in.Applied == nil {
		return nil, fault.NewBug(fmt.Errorf("cannot plan to configure cluster %s: nothing is applied", in.Name))
	}
	p := planner{in: in, controlPlanes: in.Spec.ControlPlane.Hosts, workers: in.Spec.WorkerHosts()}
	p.all = !slices.ContainsFunc(in.Had(), func(had v1alpha1.ClusterSpec) bool { return !p.same(had) })
	p.half = len(in.Attempted) > 0 && !p.all
	if err := precheck.Refusal(slices.Concat(p.others(), in.CheckSettings(nil))); err != nil {
		return nil, err
	}
	scratch := stages.New(in, v1alpha1.VerbConfigure, "", nil)
	edit := scratch.Differences(*in.Applied)
	hosts := p.hosts(edit, len(scratch.HostSettings("host", *in.Applied)) > 0)
	p.differences, p.hostSettings = edit, scratch.HostSettings("host", in.Had()...)
	for _, tried := range in.Attempted {
		d := scratch.Differences(tried)
		d.Proxy = d.Proxy && slices.Contains(in.Changed[p.controlPlanes[0]], "proxy")
		p.differences = p.differences.And(d)
	}
	p.controlPlanes, p.workers = p.held(p.controlPlanes, hosts), p.held(p.workers, hosts)
	if err := precheck.Refusal(in.CheckSettings(hosts)); err != nil {
		return nil, err
	}
	p.Builder = stages.New(in, v1alpha1.VerbConfigure, p.summary(), hosts)
	p.Running()
	if !p.half {
		p.look(hosts)
	}
	p.changeHosts(hosts)
	p.changeControlPlanes()
	p.share()
	p.changeKubelets()
	if p.half {
		p.look(hosts) // What is half done may be why they are not fit.
	}
	return p.Plan()
}

// settled gives a spec without what no plan of this verb looks at.
func settled(spec v1alpha1.ClusterSpec) v1alpha1.ClusterSpec {
	spec.Recycle = false
	return spec
}

// planner adds stages one after another. All of them hold back what comes behind: a setting that a component does not start
// with must not be given to the next one.
type planner struct {
	*stages.Builder
	in stages.Input
	// controlPlanes and workers are the ones that the plan holds.
	controlPlanes, workers []string
	// all says that nothing of the spec was changed: everything is looked at.
	all bool
	// half says that a change which is half done wanted something else.
	half         bool
	differences  stages.Differences
	hostSettings []stages.Call
}

// others refuses an edit of what this verb cannot change.
func (p *planner) others() []precheck.Finding {
	was, is := settled(*p.in.Applied.DeepCopy()), settled(p.in.Spec)
	was.Endpoint.CertSANs, was.Endpoint.ExternalAddress = is.Endpoint.CertSANs, is.Endpoint.ExternalAddress
	was.Network.NodePortRange, was.Network.KubeProxyMode = is.Network.NodePortRange, is.Network.KubeProxyMode
	was.Runtime.RegistryMirrors, was.HostSetup = is.Runtime.RegistryMirrors, is.HostSetup
	etcd := was.Components.Etcd
	was.Components = is.Components
	was.Components.Etcd = etcd
	if equality.Semantic.DeepEqual(was, is) {
		return nil
	}
	found := "other changes than those of settings"
	if !equality.Semantic.DeepEqual(was.Endpoint, is.Endpoint) {
		found = "another host, port or provider of the endpoint, by which every node and kubeconfig knows the cluster"
	}
	return []precheck.Finding{{Host: p.controlPlanes[0], Rule: "spec", Found: found,
		Needed: "an edit of certSANs, externalAddress, nodePortRange, kubeProxyMode, registryMirrors, hostSetup or components"}}
}

// rolls says that control planes change one after another.
func (p *planner) rolls() bool { return p.all || rolls(p.differences) }

func rolls(d stages.Differences) bool {
	return d.Names || d.APIServer || d.ControllerManager || d.Scheduler
}

// same says that a spec differs from the wanted one in nothing that a plan looks at.
func (p *planner) same(spec v1alpha1.ClusterSpec) bool {
	return equality.Semantic.DeepEqual(settled(p.in.Spec), settled(spec))
}

// hosts are those that the plan holds: those that the edit of the applied spec changes, those that a change which is half done
// has changed, and the first control plane, which tells the cluster. A host that nothing was done on need not be reachable to
// take a change back.
func (p *planner) hosts(edit stages.Differences, hostSettings bool) []string {
	var changed []string
	switch {
	case p.all || edit.Kubelet || hostSettings:
		return p.in.Spec.AllHosts()
	case rolls(edit) || edit.File:
		changed = p.controlPlanes
	default:
		changed = p.controlPlanes[:1]
	}
	return slices.DeleteFunc(p.in.Spec.AllHosts(), func(name string) bool {
		return !slices.Contains(changed, name) && len(p.in.Changed[name]) == 0
	})
}

func (p *planner) held(names, hosts []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !slices.Contains(hosts, name) })
}

// look changes nothing.
func (p *planner) look(hosts []string) {
	p.Stage(stages.Holding("look", "Look whether the nodes are fit", hosts), []stages.Call{{Name: "nodes-ready", Step: node.Ready{}}})
	if p.rolls() {
		p.Stage(stages.Holding("look-control-planes", "Look at etcd and the API servers", p.controlPlanes), []stages.Call{
			{Name: "etcd-fit", Step: p.etcd()},
			{Name: "api-fit", Step: kubeadm.ServeAPI{}},
		})
	}
}

// etcd waits until etcd is well: also the members on hosts that the plan does not hold.
func (p *planner) etcd() etcd.Healthy {
	return etcd.Healthy{Members: len(p.in.Spec.ControlPlane.Hosts)}
}

// changeHosts changes what restarts nothing, on all hosts side by side.
func (p *planner) changeHosts(hosts []string) {
	if p.all {
		const title = "Look at programs, kernel parameters, runtime and units; what differs is put back, and its service restarts"
		p.Stage(stages.Holding("control-plane-hosts", title, p.controlPlanes), p.HostAsWanted("control-plane", true))
		p.Stage(stages.Holding("worker-hosts", title, p.workers), p.HostAsWanted("worker", false))
		return
	}
	p.Stage(stages.Holding("hosts", "Settings of hosts; nothing restarts", hosts), p.hostSettings)
}

// changeControlPlanes changes the flags of control planes one after another, each from a healthy etcd to a healthy etcd. Where
// a change is half done, the one that it stopped at comes first: its API server may not run.
func (p *planner) changeControlPlanes() {
	if p.differences.File || p.all {
		p.Stage(stages.Holding("kubeadm-config", "Write kubeadm's configuration; nothing restarts", p.controlPlanes), p.Settings())
	}
	if !p.rolls() {
		return
	}
	order := slices.Clone(p.controlPlanes)
	slices.SortStableFunc(order, func(a, b string) int { return p.stoppedAt(b) - p.stoppedAt(a) })
	for _, name := range order {
		calls := slices.Concat([]stages.Call{{Name: name + "/etcd-before", Step: p.etcd()}},
			p.ChangeControlPlane(name, p.differences, p.all), []stages.Call{{Name: name + "/etcd-after", Step: p.etcd()}})
		p.Stage(stages.Holding("control-plane-"+name, p.controlPlaneTitle(name), []string{name}), calls)
	}
}

// stoppedAt is larger the later a change that is half done came to a control plane; 0 where it did not.
func (p *planner) stoppedAt(name string) int {
	for _, call := range p.in.Changed[name] {
		if strings.HasPrefix(call, name+"/") {
			return 1 + slices.Index(p.in.Spec.ControlPlane.Hosts, name)
		}
	}
	return 0
}

func (p *planner) controlPlaneTitle(name string) string {
	restarts := p.restarts()
	switch {
	case p.all || p.half:
		return "Control plane " + name + ": what differs is put back, and restarts"
	case len(restarts) == 0:
		return "Control plane " + name + ": a new certificate of the API server, which does not restart"
	default:
		return "Control plane " + name + ": " + strings.Join(restarts, ", ") + " restart"
	}
}

// restarts are the components of control planes that an edit restarts.
func (p *planner) restarts() []string {
	var all []string
	for _, c := range []struct {
		name     string
		restarts bool
	}{{"kube-apiserver", p.differences.APIServer}, {"kube-controller-manager", p.differences.ControllerManager}, {"kube-scheduler", p.differences.Scheduler}} {
		if c.restarts {
			all = append(all, c.name)
		}
	}
	return all
}

// share tells the cluster what those who join later read.
func (p *planner) share() {
	var calls []stages.Call
	if p.differences.File || p.all {
		calls = append(calls, p.ShareSettings())
	}
	if p.differences.Proxy || p.all {
		calls = append(calls, p.ConfigureProxy())
	}
	title := "Tell the cluster its settings"
	if p.differences.Proxy && !p.all {
		title += "; kube-proxy restarts, one node after another"
		calls = append(calls, p.RestartProxy())
	}
	p.Stage(stages.Holding("cluster", title, p.controlPlanes[:1]), calls)
}

// changeKubelets restarts kubelets: one control plane after another, then some workers at a time.
func (p *planner) changeKubelets() {
	if !p.differences.Kubelet && !p.all {
		return
	}
	for _, name := range p.controlPlanes {
		p.Stage(stages.Holding("kubelet-"+name, "Kubelet of control plane "+name+" restarts where its configuration differs", []string{name}), stages.ChangeKubelet("kubelet-"+name))
	}
	n := 0
	for batch := range slices.Chunk(p.workers, p.atOnce()) {
		n++
		name := fmt.Sprintf("kubelets-%d", n)
		p.Stage(stages.Holding(name, "Kubelet of "+short(batch)+" restarts where its configuration differs", batch), stages.ChangeKubelet(name))
	}
}

// atOnce is how many workers change at a time.
func (p *planner) atOnce() int {
	return max(1, int(p.in.Parameters.MaxUnavailable), (len(p.workers)+mostBatches-1)/mostBatches)
}

func short(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// summary says first of all what restarts: people choose the hour by it.
func (p *planner) summary() string {
	begin := "configure cluster " + p.in.Name + ": "
	if p.half {
		begin = "configure cluster " + p.in.Name + ", which a change has left half done: "
	}
	if p.half && p.same(*p.in.Applied) {
		begin = "take a change of the settings of cluster " + p.in.Name + " back: "
	}
	if p.all {
		return "configure cluster " + p.in.Name + ": look at every host, and put back what was changed by hand; what differs restarts"
	}
	var restarts []string
	if of := p.restarts(); len(of) > 0 {
		text := strings.Join(of, ", ") + " restart on one control plane after another"
		if len(p.in.Spec.ControlPlane.Hosts) == 1 && p.differences.APIServer {
			text += ", and the API is away for some seconds"
		}
		restarts = append(restarts, text)
	}
	if p.differences.Proxy {
		restarts = append(restarts, "kube-proxy restarts on one node after another")
	}
	if p.differences.Kubelet {
		restarts = append(restarts, "kubelets restart, and pods run on")
	}
	if len(restarts) == 0 {
		return begin + "nothing restarts"
	}
	return begin + strings.Join(restarts, "; ") + "; choose a quiet hour"
}
