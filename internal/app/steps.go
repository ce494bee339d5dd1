package app

import (
	"slipway.dev/slipway/internal/step"
	"slipway.dev/slipway/internal/step/access"
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
	"slipway.dev/slipway/internal/step/system"
)

// Steps lists every step that a stored plan may name. A line is only ever removed two releases after
// the last plan that could hold it.
func Steps() (step.Registry, error) {
	return step.NewRegistry(
		access.Roles{},
		bundlefile.Install{},
		containerd.Configure{},
		containerd.PinImages{},
		etcd.AddMember{},
		etcd.Healthy{},
		etcd.PromoteMember{},
		etcd.RemoveMember{},
		flannel.ConfigureNode{},
		flannel.Install{},
		kubeadm.AdminAccess{},
		kubeadm.AllowJoin{},
		kubeadm.Certificates{},
		kubeadm.Configure{},
		kubeadm.DNS{},
		kubeadm.FinalizeKubelet{},
		kubeadm.FinishJoin{},
		kubeadm.InstallKeys{},
		kubeadm.Join{},
		kubeadm.JoinToken{},
		kubeadm.Kubeconfigs{},
		kubeadm.Manifests{},
		kubeadm.MarkControlPlane{},
		kubeadm.Proxy{},
		kubeadm.ServeAPI{},
		kubeadm.StartKubelet{},
		kubeadm.UploadConfig{},
		kubelet.InstallUnit{},
		kubevip.Install{},
		node.Cordon{},
		node.Drain{},
		node.EndpointAnswers{},
		node.FreeVolumes{},
		node.Labels{},
		node.Ready{},
		node.Remove{},
		node.ServiceAnswers{},
		node.Uncordon{},
		node.Workloads{},
		precheck.Look{},
		precheck.Mark{},
		reset.Files{},
		reset.Kubernetes{},
		reset.Network{},
		reset.Restore{},
		system.Kernel{},
		system.SELinuxPermissive{},
		system.StopFirewall{},
		system.SwapOff{},
		system.TimeServers{},
	)
}
