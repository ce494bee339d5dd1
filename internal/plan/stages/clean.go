package stages

import (
	"maps"
	"slices"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/step/bundlefile"
	"slipway.dev/slipway/internal/step/kubeadm"
	"slipway.dev/slipway/internal/step/reset"
)

// Clean gives hosts back as they were found. It needs nothing of the cluster to work.
func Clean(spec v1alpha1.ClusterSpec) []Call {
	network := reset.Network{PodCIDR: spec.Network.PodCIDR}
	if spec.Endpoint.Provider == v1alpha1.EndpointKubeVIP {
		network.Endpoint = spec.Endpoint.Host
	}
	return []Call{
		{"stop", reset.Kubernetes{}},
		{"network", network},
		{"files", reset.Files{Paths: paths(spec)}},
		{"restore", reset.Restore{}},
	}
}

// paths lists everything that creating a cluster, and running it, leaves on a host.
func paths(spec v1alpha1.ClusterSpec) []string {
	all := []string{
		"/etc/kubernetes", "/var/lib/kubelet", spec.Components.Etcd.DataDir,
		"/etc/cni", "/var/lib/cni", "/opt/cni", "/opt/containerd", "/usr/libexec/kubernetes", "/run/flannel", "/var/log/pods", "/var/log/containers", kubeadm.AuditLogDir,
		spec.Runtime.DataDir, "/run/containerd", "/etc/containerd", "/etc/crictl.yaml",
		"/etc/systemd/system/containerd.service", "/etc/systemd/system/kubelet.service", "/etc/systemd/system/kubelet.service.d",
		"/etc/modules-load.d/slipway.conf", "/etc/sysctl.d/90-slipway.conf",
		"/etc/systemd/timesyncd.conf.d/slipway.conf", "/etc/chrony.d/slipway.conf", "/etc/chrony/sources.d/slipway.sources",
	}
	for _, programs := range []map[string]string{runtimePaths(), kubernetesPaths()} {
		for _, path := range slices.Sorted(maps.Values(programs)) {
			all = append(all, path, path+bundlefile.Unfinished)
		}
	}
	return all
}
