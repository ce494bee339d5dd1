package impact

import (
	"slices"

	"slipway.dev/slipway/internal/step"
	"slipway.dev/slipway/internal/step/access"
	"slipway.dev/slipway/internal/step/backup"
	"slipway.dev/slipway/internal/step/bundlefile"
	"slipway.dev/slipway/internal/step/containerd"
	"slipway.dev/slipway/internal/step/etcd"
	"slipway.dev/slipway/internal/step/flannel"
	"slipway.dev/slipway/internal/step/kubeadm"
	"slipway.dev/slipway/internal/step/kubelet"
	"slipway.dev/slipway/internal/step/kubevip"
	"slipway.dev/slipway/internal/step/node"
	"slipway.dev/slipway/internal/step/precheck"
	"slipway.dev/slipway/internal/step/reset"
	"slipway.dev/slipway/internal/step/restore"
	"slipway.dev/slipway/internal/step/system"
)

// declarations is the one place that says how each step is felt on a node. internal/app's TestEveryStepDeclaresItsImpact
// fails for a step that is not here. On a host that is no node yet nobody feels anything, so only what a step does to a node
// that runs is said.
func declarations() map[step.ID]declaration {
	return map[step.ID]declaration{
		access.Roles{}.ID():           none,
		backup.Drill{}.ID():           none, // It runs on the server.
		backup.Take{}.ID():            none,
		bundlefile.Install{}.ID():     none,
		containerd.Configure{}.ID():   always(restarts(Containerd)),
		containerd.Mirrors{}.ID():     none, // containerd reads them at each pull.
		containerd.PinImages{}.ID():   none,
		containerd.UnpinImages{}.ID(): none,

		etcd.AddMember{}.ID():     none,
		etcd.Healthy{}.ID():       none,
		etcd.MoveLeader{}.ID():    none,
		etcd.PromoteMember{}.ID(): always(Effect{Kind: EtcdJoins}),
		etcd.RemoveMember{}.ID(): depending(func(s etcd.RemoveMember) []Effect {
			return []Effect{{Kind: EtcdLeaves, Node: s.Name}}
		}),
		etcd.Snapshot{}.ID(): none,

		flannel.ConfigureNode{}.ID(): none,
		flannel.Install{}.ID():       always(Effect{Kind: RollsOut, Components: []string{Flannel}}),

		kubeadm.AdminAccess{}.ID():       none,
		kubeadm.AllowJoin{}.ID():         none,
		kubeadm.Certificates{}.ID():      none,
		kubeadm.Configure{}.ID():         none,
		kubeadm.DNS{}.ID():               always(Effect{Kind: RollsOut, Components: []string{CoreDNS}}),
		kubeadm.FinalizeKubelet{}.ID():   always(restarts(Kubelet)),
		kubeadm.FinishJoin{}.ID():        none,
		kubeadm.InstallKeys{}.ID():       none,
		kubeadm.Join{}.ID():              none,
		kubeadm.JoinToken{}.ID():         none,
		kubeadm.Kubeconfigs{}.ID():       none,
		kubeadm.KubeletConfig{}.ID():     none,
		kubeadm.Manifests{}.ID():         depending(manifests),
		kubeadm.MarkControlPlane{}.ID():  none,
		kubeadm.Proxy{}.ID():             always(Effect{Kind: RollsOut, Components: []string{KubeProxy}}),
		kubeadm.RenewCertificates{}.ID(): always(restarts(Kubelet)),
		kubeadm.RenewKubelet{}.ID():      always(restarts(Kubelet)),
		kubeadm.RestartProxy{}.ID():      always(Effect{Kind: RollsOut, Components: []string{KubeProxy}}),
		kubeadm.ServeAPI{}.ID():          none,
		kubeadm.ServeCertificates{}.ID(): always(restarts(controlPlane()...)),
		kubeadm.ServeSettings{}.ID():     none,
		kubeadm.ServeVersion{}.ID():      none,
		kubeadm.StartKubelet{}.ID():      none,
		kubeadm.UploadConfig{}.ID():      none,
		kubeadm.ValidCertificates{}.ID(): none,

		kubelet.InstallUnit{}.ID():   none,
		kubelet.RunConfigured{}.ID(): always(restarts(Kubelet)),
		kubelet.Start{}.ID():         always(Effect{Kind: StartsAgain, Components: append(controlPlane(), Kubelet, Containerd)}),
		kubelet.Stop{}.ID():          depending(stop),
		kubevip.HandOver{}.ID():      always(restarts(KubeVIP)),
		kubevip.Install{}.ID():       always(restarts(KubeVIP)),

		node.Cordon{}.ID():          none, // Pods that run there run on.
		node.Drain{}.ID():           depending(func(s node.Drain) []Effect { return []Effect{{Kind: Drains, Node: s.Node}} }),
		node.EndpointAnswers{}.ID(): none,
		node.FreeVolumes{}.ID():     none,
		node.KubeletVersion{}.ID():  none,
		node.Labels{}.ID():          depending(labels),
		node.Ready{}.ID():           none,
		node.Remove{}.ID():          depending(func(s node.Remove) []Effect { return []Effect{{Kind: Leaves, Node: s.Node}} }),
		node.ServiceAnswers{}.ID():  none,
		node.Uncordon{}.ID():        none,
		node.Workloads{}.ID():       none,

		precheck.Look{}.ID():        none,
		precheck.Mark{}.ID():        none,
		precheck.RemovedAPIs{}.ID(): none,
		precheck.Skew{}.ID():        none,

		reset.Files{}.ID():      none, // What comes before it has stopped what uses them.
		reset.Kubernetes{}.ID(): always(Effect{Kind: Leaves}),
		reset.Network{}.ID():    none,
		reset.Restore{}.ID():    none,

		restore.Data{}.ID():           none, // Stop comes first.
		restore.Finish{}.ID():         none,
		restore.MatchNodes{}.ID():     none, // It removes nodes whose hosts have left.
		restore.Prove{}.ID():          none,
		restore.RestartKubelet{}.ID(): always(restarts(Kubelet)),
		restore.Start{}.ID():          depending(func(s restore.Start) []Effect { return []Effect{{Kind: StartsAgain, Components: s.Pods}} }),
		restore.Stop{}.ID():           always(Effect{Kind: Stops, Components: controlPlane()}),

		system.HostRecords{}.ID():       none,
		system.Kernel{}.ID():            none,
		system.RunInstalled{}.ID():      depending(runInstalled),
		system.SELinuxPermissive{}.ID(): none,
		system.StopFirewall{}.ID():      none,
		system.SwapOff{}.ID():           none,
		system.TimeServers{}.ID():       none,
	}
}

// controlPlane are the static pods of a control plane.
func controlPlane() []string { return []string{Etcd, APIServer, ControllerManager, Scheduler} }

func manifests(s kubeadm.Manifests) []Effect {
	switch s.Only {
	case kubeadm.OnlyEtcd:
		return []Effect{restarts(Etcd)}
	case kubeadm.OnlyAPI:
		return []Effect{restarts(controlPlane()[1:]...)}
	default:
		return []Effect{restarts(controlPlane()...)}
	}
}

func stop(s kubelet.Stop) []Effect {
	all := append(controlPlane(), Kubelet, Containerd)
	if s.KeepEtcd {
		all = all[1:]
	}
	return []Effect{{Kind: Stops, Components: all}, {Kind: StopsAll}}
}

// labels drains when a taint is set that ends what does not tolerate it.
func labels(s node.Labels) []Effect {
	if slices.ContainsFunc(s.Taints, noExecute) {
		return []Effect{{Kind: Drains}}
	}
	return nil
}

func runInstalled(s system.RunInstalled) []Effect {
	switch s.Unit {
	case containerd.Unit:
		return []Effect{restarts(Containerd)}
	case kubelet.Unit:
		return []Effect{restarts(Kubelet)}
	default:
		return []Effect{restarts(s.Unit)}
	}
}
