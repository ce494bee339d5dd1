package stages

import (
	"fmt"
	"slices"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/step"
	"slipway.dev/slipway/internal/step/containerd"
	"slipway.dev/slipway/internal/step/etcd"
	"slipway.dev/slipway/internal/step/kubeadm"
	"slipway.dev/slipway/internal/step/kubelet"
	"slipway.dev/slipway/internal/step/node"
	"slipway.dev/slipway/internal/step/precheck"
	"slipway.dev/slipway/internal/step/system"
)

// CheckRunning gives every rule that hosts break which are nodes already and are to get what the bundle holds.
func (in Input) CheckRunning(hosts []string) []precheck.Finding {
	// A host that the cluster holds stays its own, whether or not it is still lent.
	c := checker{in: in, fresh: hosts}
	c.bundle()
	free := minimumsOf(in.Precheck).free
	for _, name := range hosts {
		h, known := in.Hosts[name]
		if !known {
			c.notLent(name, v1alpha1.GrantHost, name)
			continue
		}
		if !c.reachable(h) {
			continue
		}
		for _, path := range []string{"/var/lib", "/usr"} {
			if have, told := h.Status.Facts.FreeBytes[path]; told && have < free {
				c.add(name, "disk", fmt.Sprintf("%s free on %s", host.FormatBytes(have), path), host.FormatBytes(free))
			}
		}
	}
	return c.findings
}

// CheckBundle gives the rules that a bundle on the way to the wanted one breaks for hosts that are to get its images.
func (in Input) CheckBundle(m *bundle.Manifest, hosts []string) []precheck.Finding {
	in.Bundle, in.BundleProblem = m, ""
	in.Spec.Kubernetes.Version = m.KubernetesVersion
	c := checker{in: in, fresh: hosts}
	c.bundle()
	for i := range c.findings {
		c.findings[i].Found = m.KubernetesVersion + ": " + c.findings[i].Found
	}
	return c.findings
}

// At gives the builder of the same plan for what another bundle holds.
func (b *Builder) At(m *bundle.Manifest) *Builder {
	in := b.in
	in.Bundle, in.Spec.Kubernetes.Version = m, m.KubernetesVersion
	return &Builder{in: in, plan: b.plan}
}

// Running says that hosts are nodes already: everything that makes a host one is there.
func (b *Builder) Running() {
	b.Given(step.API, step.ServedAPI, step.Network, step.JoinInformation, step.StoredConfig, step.RuntimeFiles, step.Runtime, step.KubernetesFiles,
		step.KubeadmConfig, step.ControlPlaneKeys, step.ControlPlaneManifests)
}

// Images are those of the bundle that a host needs.
func (b *Builder) Images(controlPlane bool) containerd.PinImages { return b.images(controlPlane) }

// Old are the images that other bundles name and this one does not: nothing of the cluster runs them any more.
func (b *Builder) Old(others ...*bundle.Manifest) containerd.UnpinImages {
	var old containerd.UnpinImages
	for _, m := range others {
		if m == nil {
			continue
		}
		for _, i := range m.Images {
			named := slices.ContainsFunc(b.in.Bundle.Images, func(now bundle.Image) bool { return now.Name == i.Name })
			if !named && !slices.Contains(old.Names, i.Name) {
				old.Names = append(old.Names, i.Name)
			}
		}
	}
	slices.Sort(old.Names)
	return old
}

// MoveControlPlane brings a control plane that runs to the version of the bundle, but for its kubelet: that one may ask
// another API server of the cluster, and must never be newer than the oldest.
func (b *Builder) MoveControlPlane(prefix string) []Call { return b.moveControlPlane(prefix, false) }

// TakeBackControlPlane brings a control plane back to the version of the bundle, from a newer one that it was to have.
func (b *Builder) TakeBackControlPlane(prefix string) []Call { return b.moveControlPlane(prefix, true) }

// TakeBackConfig brings kubeadm and its configuration back, which is what the cluster is told.
func (b *Builder) TakeBackConfig(prefix string) []Call { return prefixed(prefix, b.moveConfig(true)) }

func (b *Builder) moveConfig(back bool) []Call {
	configure := b.Configure(nil)
	configure.KeepNewer = !back
	return []Call{
		{"programs", b.files(step.KubernetesFiles, only(kubernetesPaths(), "kubeadm", "kubectl"))},
		{"kubeadm-config", configure},
	}
}

func (b *Builder) moveControlPlane(prefix string, back bool) []Call {
	calls := b.moveConfig(back)
	calls = slices.Concat(calls, b.handOver(), b.endpoint())
	// etcd last: what cannot be taken back comes when all else has worked.
	manifests := b.manifests()
	manifests.KeepNewer, manifests.Only = !back, kubeadm.OnlyAPI
	serve := kubeadm.ServeVersion{Version: b.in.Spec.Kubernetes.Version, Exact: back}
	calls = append(calls, Call{"manifests", manifests}, Call{"serve-version", serve})
	if len(b.in.Spec.ControlPlane.Hosts) > 1 {
		calls = append(calls, Call{"etcd-leader", etcd.MoveLeader{}})
	}
	manifests.Only = kubeadm.OnlyEtcd
	serve.EtcdTag = manifests.EtcdTag
	return prefixed(prefix, append(calls, Call{"etcd-manifest", manifests}, Call{"serve-with-etcd", serve}))
}

// Node puts the runtime and the kubelet of the bundle on a node that runs, and makes it run them. Nothing is asked of the API.
func (b *Builder) Node(prefix string) []Call {
	return prefixed(prefix, []Call{
		{"runtime-files", b.files(step.RuntimeFiles, runtimePaths())},
		{"containerd", b.containerd()},
		{"containerd-runs", system.RunInstalled{Unit: containerd.Unit, Program: containerd.Program, After: step.RuntimeFiles}},
		{"programs", b.files(step.KubernetesFiles, kubernetesPaths())},
		{"kubelet-unit", kubelet.InstallUnit{}},
		{"kubelet-runs", system.RunInstalled{Unit: kubelet.Unit, Program: kubelet.Program, After: step.KubernetesFiles}},
	})
}

// MoveNode brings the runtime and the kubelet of a node to what the bundle holds. A node that is drained gets its pods
// off first and may have some again at the end.
func (b *Builder) MoveNode(prefix string, drain bool) []Call {
	var before, after []Call
	if drain {
		p := b.in.Parameters
		before = []Call{{"cordon", node.Cordon{}}, {"drain", node.Drain{Force: p.Force, TimeoutSeconds: int64(p.DrainSeconds)}}}
		after = []Call{{"uncordon", node.Uncordon{}}}
	}
	return prefixed(prefix, slices.Concat(before, []Call{
		{"runtime-files", b.files(step.RuntimeFiles, runtimePaths())},
		{"containerd", b.containerd()},
		{"containerd-runs", system.RunInstalled{Unit: containerd.Unit, Program: containerd.Program, After: step.RuntimeFiles}},
		{"programs", b.files(step.KubernetesFiles, kubernetesPaths())},
		{"kubelet-unit", kubelet.InstallUnit{}},
		{"kubelet-config", kubeadm.KubeletConfig{}},
		{"kubelet-runs", system.RunInstalled{Unit: kubelet.Unit, Program: kubelet.Program, After: step.KubernetesFiles}},
		{"kubelet-version", node.KubeletVersion{Version: b.in.Spec.Kubernetes.Version}},
		{"ready", node.Ready{}},
	}, after))
}

func only(paths map[string]string, names ...string) map[string]string {
	some := map[string]string{}
	for _, name := range names {
		some[name] = paths[name]
	}
	return some
}

// Holding is the place in a plan where every stage behind waits for this one, and is not begun when it fails.
func Holding(name, title string, hosts []string) plan.Stage {
	return plan.Stage{Name: name, Title: title, Hosts: hosts, Gate: true}
}
