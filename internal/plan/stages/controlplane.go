package stages

import (
	"fmt"
	"net"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/step/flannel"
	"slipway.dev/slipway/internal/step/kubeadm"
	"slipway.dev/slipway/internal/step/kubevip"
	"slipway.dev/slipway/internal/step/node"
)

// EtcdMember names the etcd of a control plane as etcd's command line does.
func (in Input) EtcdMember(host string) string {
	return host + "=https://" + net.JoinHostPort(in.Hosts[host].Status.InternalAddress, "2380")
}

// EtcdMembers names those of several.
func (in Input) EtcdMembers(hosts []string) []string {
	var members []string
	for _, h := range hosts {
		members = append(members, in.EtcdMember(h))
	}
	return members
}

// Keys puts on a control plane what its components log in with.
func (b *Builder) Keys() []Call {
	return []Call{
		{"keys", kubeadm.InstallKeys{Secret: b.in.Secret}},
		{"certificates", kubeadm.Certificates{SANs: b.sans()}},
		{"kubeconfigs", kubeadm.Kubeconfigs{Server: "https://" + Endpoint(b.in.Spec, b.in.Hosts)}},
	}
}

// Manifests writes the static pods of a control plane.
func (b *Builder) Manifests(etcd *kubeadm.EtcdStart) []Call {
	manifests := b.manifests()
	manifests.Etcd = etcd
	return append([]Call{{"manifests", manifests}}, b.endpoint()...)
}

func (b *Builder) manifests() kubeadm.Manifests {
	spec := b.in.Spec
	return kubeadm.Manifests{Version: spec.Kubernetes.Version, EtcdTag: b.image(bundle.RoleEtcd).Tag(), EtcdDataDir: spec.Components.Etcd.DataDir}
}

// endpoint writes the static pod that moves the cluster's address, where one does.
func (b *Builder) endpoint() []Call {
	endpoint := b.in.Spec.Endpoint
	if endpoint.Provider != v1alpha1.EndpointKubeVIP {
		return nil
	}
	return []Call{{"endpoint", kubevip.Install{Image: b.image(bundle.RoleKubeVIP).Name, Address: endpoint.Host, Port: endpoint.Port}}}
}

// handOver makes another control plane take the cluster's address, where it moves and there is another one. The endpoint must
// come behind it.
func (b *Builder) handOver() []Call {
	if b.in.Spec.Endpoint.Provider != v1alpha1.EndpointKubeVIP || len(b.in.Spec.ControlPlane.Hosts) < 2 {
		return nil
	}
	return []Call{{"hand-over", kubevip.HandOver{}}}
}

// Shared is what the first control plane tells the whole cluster.
func (b *Builder) Shared() []Call {
	var calls []Call
	if len(b.in.Spec.ControlPlane.Hosts) > 1 || b.in.Spec.Endpoint.Provider == v1alpha1.EndpointKubeVIP {
		calls = append(calls,
			Call{"admin-access", kubeadm.AdminAccess{}},
			Call{"endpoint-answers", node.EndpointAnswers{Address: Endpoint(b.in.Spec, b.in.Hosts)}},
		)
	}
	return append(calls,
		Call{"upload-config", kubeadm.UploadConfig{Version: b.in.Spec.Kubernetes.Version}},
		Call{"allow-join", kubeadm.AllowJoin{Token: b.secret(kubeadm.Token)}},
	)
}

// Register makes a started control plane a node of the cluster like any other.
func (b *Builder) Register(prefix string) []Call {
	return prefixed(prefix, []Call{
		{"network", flannel.ConfigureNode{Backend: b.in.Spec.Network.FlannelBackend}},
		{"mark-control-plane", kubeadm.MarkControlPlane{Schedulable: b.schedulable()}},
		{"finalize-kubelet", kubeadm.FinalizeKubelet{}},
	})
}

// Addons installs network and proxy from the first control plane, which it registers on the way. What waits for the pod
// network of the node comes last.
func (b *Builder) Addons() []Call {
	spec := b.in.Spec
	host, port, err := net.SplitHostPort(Endpoint(spec, b.in.Hosts))
	if err != nil {
		b.err = fmt.Errorf("cannot read the endpoint: %w", err)
	}
	return []Call{
		{"network", flannel.Install{Image: b.image(bundle.RoleFlannel).Name, PodCIDR: spec.Network.PodCIDR, Backend: spec.Network.FlannelBackend, APIHost: host, APIPort: port}},
		{"proxy", kubeadm.Proxy{Version: spec.Kubernetes.Version}},
		{"mark-control-plane", kubeadm.MarkControlPlane{Schedulable: b.schedulable()}},
		{"finalize-kubelet", kubeadm.FinalizeKubelet{}},
		{"control-plane-network", flannel.ConfigureNode{Backend: spec.Network.FlannelBackend}},
	}
}

// Ready waits until a node is Ready and reaches Services.
func (b *Builder) Ready() []Call {
	return []Call{{"node-ready", node.Ready{}}, {"services-answer", node.ServiceAnswers{Address: b.apiService()}}}
}

// DNS installs DNS. It comes when Services answer on every node: a CoreDNS that starts before cannot reach the API, and
// tries again only after half a minute.
func (b *Builder) DNS() Call { return Call{"dns", kubeadm.DNS{Tag: b.image(bundle.RoleCoreDNS).Tag()}} }

// JoinToken lets hosts join a cluster that runs.
func (b *Builder) JoinToken() kubeadm.JoinToken {
	return kubeadm.JoinToken{Token: b.secret(kubeadm.Token)}
}

// Join makes prepared hosts workers.
func (b *Builder) Join() []Call {
	return []Call{
		{"join", kubeadm.Join{}},
		{"finish-join", kubeadm.FinishJoin{}},
		{"worker-network", flannel.ConfigureNode{Backend: b.in.Spec.Network.FlannelBackend}},
	}
}

// schedulable says that pods run on control planes, since there are no workers.
func (b *Builder) schedulable() bool { return len(b.in.Spec.WorkerHosts()) == 0 }

// Workloads are what every cluster must have running.
func Workloads() node.Workloads {
	return node.Workloads{
		Deployments: []string{"kube-system/coredns"},
		DaemonSets:  []string{"kube-system/kube-proxy", flannel.DaemonSet},
	}
}
