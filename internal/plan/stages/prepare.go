package stages

import (
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/step"
	"slipway.dev/slipway/internal/step/bundlefile"
	"slipway.dev/slipway/internal/step/containerd"
	"slipway.dev/slipway/internal/step/kubeadm"
	"slipway.dev/slipway/internal/step/kubelet"
	"slipway.dev/slipway/internal/step/precheck"
	"slipway.dev/slipway/internal/step/system"
)

// Precheck looks at hosts that are to become nodes; nothing is changed.
func (b *Builder) Precheck(hosts []string) []Call {
	look := precheck.Look{
		Cluster: b.in.UID,
		CA:      b.in.PlatformCA,
		Ports:   []int{10250, 10256, 10249},
		Absent: []string{
			"/etc/kubernetes", "/var/lib/kubelet", "/etc/cni/net.d", b.in.Spec.Runtime.DataDir,
			"/etc/containerd", "/etc/crictl.yaml", b.in.Spec.Components.Etcd.DataDir,
		},
	}
	// What an administrator put there would be overwritten now and removed with the cluster.
	for _, paths := range []map[string]string{runtimePaths(), kubernetesPaths()} {
		look.Absent = append(look.Absent, slices.Sorted(maps.Values(paths))...)
	}
	if endpoint := b.in.Spec.Endpoint; endpoint.Provider == v1alpha1.EndpointKubeVIP && b.in.Applied == nil {
		look.Free = []string{Endpoint(b.in.Spec, b.in.Hosts)}
	}
	if host := b.in.Spec.Endpoint.Host; host != "" && !isIP(host) {
		look.Names = []string{host}
	}
	for _, name := range b.in.Spec.AllHosts() {
		// Those that run already are not asked about each other; everybody must reach the control plane.
		if !slices.Contains(hosts, name) && !slices.Contains(b.in.Spec.ControlPlane.Hosts, name) {
			continue
		}
		look.Peers = append(look.Peers, sshAddress(b.in.Hosts[name]))
	}
	// Control-plane ports are asked for on every host: a worker that already runs a control plane is no bare host.
	look.Ports = append(look.Ports, int(b.in.Spec.Endpoint.Port), 2379, 2380, 10257, 10259)
	return []Call{{"precheck", look}}
}

// Prepare turns a bare host into one where the kubelet can start. The names of the calls begin with prefix, since names are
// unique in a plan; etcd says how etcd starts on a control plane that is not alone.
func (b *Builder) Prepare(prefix string, controlPlane bool, etcd *kubeadm.EtcdStart) []Call {
	calls := []Call{{"mark", precheck.Mark{Cluster: b.in.UID, Paths: b.appearing()}}}
	setup := b.in.Spec.HostSetup
	if setup.DisableSwap {
		calls = append(calls, Call{"swap-off", system.SwapOff{}})
	}
	if setup.DisableFirewall {
		calls = append(calls, Call{"stop-firewall", system.StopFirewall{}})
	}
	if setup.PermissiveSELinux {
		calls = append(calls, Call{"selinux-permissive", system.SELinuxPermissive{}})
	}
	if len(b.in.TimeServers) > 0 {
		calls = append(calls, Call{"time-servers", system.TimeServers{Servers: b.in.TimeServers}})
	}
	if len(setup.HostRecords) > 0 {
		calls = append(calls, Call{"host-records", HostRecords(b.in.Spec)})
	}
	calls = append(calls,
		Call{"kernel", kernel()},
		Call{"runtime-files", b.files(step.RuntimeFiles, runtimePaths())},
		Call{"containerd", b.containerd()},
	)
	if len(b.in.Spec.Runtime.RegistryMirrors) > 0 {
		calls = append(calls, Call{"mirrors", b.Mirrors()})
	}
	calls = append(calls,
		Call{"images", b.images(controlPlane)},
		Call{"kubernetes-files", b.files(step.KubernetesFiles, kubernetesPaths())},
		Call{"kubelet-unit", kubelet.InstallUnit{}},
		Call{"kubeadm-config", b.Configure(etcd)},
	)
	return prefixed(prefix, calls)
}

// prefixed puts a word in front of each name.
func prefixed(prefix string, calls []Call) []Call {
	for i := range calls {
		calls[i].Name = prefix + "/" + calls[i].Name
	}
	return calls
}

func (b *Builder) containerd() containerd.Configure {
	return containerd.Configure{
		DataDir: b.in.Spec.Runtime.DataDir, PauseImage: b.image(bundle.RolePause).Name, CA: b.in.PlatformCA,
		Token: b.secret(kubeadm.RegistryToken),
	}
}

// Configure writes kubeadm's configuration; etcd says how etcd starts on a control plane that is not alone.
func (b *Builder) Configure(etcd *kubeadm.EtcdStart) kubeadm.Configure {
	return kubeadm.Configure{Settings: b.settings(), Token: b.secret(kubeadm.Token), CA: b.secret(kubeadm.CACert), Etcd: etcd}
}

func kernel() system.Kernel {
	return system.Kernel{
		Modules: []string{"overlay", "br_netfilter"},
		Sysctls: map[string]string{
			"net.ipv4.ip_forward":                 "1",
			"net.bridge.bridge-nf-call-iptables":  "1",
			"net.bridge.bridge-nf-call-ip6tables": "1",
		},
		// The kubelet, kube-proxy and flannel set these while they run.
		Remember: []string{
			"kernel.keys.root_maxbytes", "kernel.keys.root_maxkeys", "kernel.panic", "kernel.panic_on_oops",
			"net.ipv4.conf.all.route_localnet", "net.ipv6.conf.all.forwarding",
			"net.netfilter.nf_conntrack_max", "net.netfilter.nf_conntrack_tcp_timeout_close_wait",
			"net.netfilter.nf_conntrack_tcp_timeout_established", "vm.overcommit_memory", "vm.panic_on_oom",
		},
	}
}

// appearing lists what kubeadm's manifests, kube-proxy, flannel and our own files make on a host that lacks it.
func (b *Builder) appearing() []string {
	paths := []string{
		"/etc/ca-certificates", "/etc/pki", "/etc/pki/ca-trust", "/etc/pki/tls", "/etc/pki/tls/certs", "/etc/ssl", "/etc/ssl/certs",
		"/usr/lib/modules", "/usr/libexec", "/usr/local/share/ca-certificates", "/usr/share/ca-certificates", "/opt", "/run/xtables.lock",
		"/var/log/kubernetes", "/etc/chrony", "/etc/chrony.d", "/etc/chrony/sources.d", "/etc/systemd/timesyncd.conf.d", "/run/netns",
	}
	for _, dir := range []string{b.in.Spec.Runtime.DataDir, b.in.Spec.Components.Etcd.DataDir} {
		if parent := path.Dir(dir); parent != "/var/lib" && !slices.Contains(paths, parent) {
			paths = append(paths, parent)
		}
	}
	return paths
}

// runtimePaths says where each program of the runtime goes.
func runtimePaths() map[string]string {
	paths := map[string]string{}
	for _, name := range []string{"containerd", "containerd-shim-runc-v2", "ctr", "runc", "crictl"} {
		paths[name] = "/usr/local/bin/" + name
	}
	for _, name := range []string{"bridge", "host-local", "loopback", "portmap"} {
		paths[name] = "/opt/cni/bin/" + name
	}
	return paths
}

func kubernetesPaths() map[string]string {
	return map[string]string{
		"kubeadm": "/usr/local/bin/kubeadm", "kubelet": "/usr/local/bin/kubelet", "kubectl": "/usr/local/bin/kubectl",
	}
}

func (b *Builder) files(output step.Output, paths map[string]string) bundlefile.Install {
	install := bundlefile.Install{Output: output}
	for _, f := range b.in.Bundle.Files {
		if path, wanted := paths[f.Name]; wanted {
			install.Files = append(install.Files, bundlefile.File{
				Path: path, Digest: f.Digest.String(), Mode: int64(f.Mode), Architecture: f.Architecture,
			})
		}
	}
	return install
}

// Programs puts further programs of the bundle on hosts, each at its path.
func (b *Builder) Programs(output step.Output, paths map[string]string) bundlefile.Install {
	return b.files(output, paths)
}

func (b *Builder) images(controlPlane bool) containerd.PinImages {
	var pin containerd.PinImages
	for _, i := range b.in.Bundle.Images {
		if i.Role == bundle.RoleKubeVIP && b.in.Spec.Endpoint.Provider != v1alpha1.EndpointKubeVIP {
			continue
		}
		if i.NodeRole == bundle.NodeRoleAll || controlPlane || i.Role == bundle.RoleCoreDNS {
			pin.Images = append(pin.Images, containerd.Image{Name: i.Name, Digest: i.Digest.String(), Architecture: i.Architecture})
		}
	}
	return pin
}

// image gives the image of a role; check has proven that each architecture has it, under one name.
func (b *Builder) image(role string) bundle.Image {
	i := slices.IndexFunc(b.in.Bundle.Images, func(i bundle.Image) bool { return i.Role == role })
	if i < 0 {
		return bundle.Image{}
	}
	return b.in.Bundle.Images[i]
}

func (b *Builder) secret(key string) step.SecretRef {
	return step.SecretRef{Name: b.in.Secret, Key: key}
}

func (b *Builder) settings() kubeadm.Settings {
	spec := b.in.Spec
	s := kubeadm.Settings{
		Name: b.in.Name, Version: spec.Kubernetes.Version, Endpoint: Endpoint(spec, b.in.Hosts), Port: spec.Endpoint.Port,
		PodCIDR: spec.Network.PodCIDR, ServiceCIDR: spec.Network.ServiceCIDR, DNSDomain: spec.Kubernetes.DNSDomain,
		CertSANs: b.sans(), EtcdTag: b.image(bundle.RoleEtcd).Tag(), EtcdDataDir: spec.Components.Etcd.DataDir,
		DNSTag: b.image(bundle.RoleCoreDNS).Tag(), ProxyMode: proxyMode(b.in), Schedulable: len(spec.WorkerHosts()) == 0,
	}
	s.CertificateValidity = spec.Components.Certificates.Validity
	s.Components = components(spec)
	s.KubeReserved, s.SystemReserved = reserved(spec.Components.Kubelet.KubeReserved), reserved(spec.Components.Kubelet.SystemReserved)
	for _, name := range spec.AllHosts() {
		f := b.in.Hosts[name].Status.Facts
		if f == nil {
			continue // One that joined long ago and is away now.
		}
		s.CgroupV1 = s.CgroupV1 || f.CgroupVersion == 1
		s.KeepConntrack = s.KeepConntrack || inContainer(f)
	}
	return s
}

// sans are what the API server's certificate must name beyond what kubeadm adds itself, such as the name and the address of
// the control plane.
func (b *Builder) sans() []string {
	sans := slices.Clone(b.in.Spec.Endpoint.CertSANs)
	if host := b.in.Spec.Endpoint.Host; host != "" {
		sans = append(sans, host)
	}
	if external := b.in.Spec.Endpoint.ExternalAddress; external != "" {
		sans = append(sans, external)
	}
	slices.Sort(sans)
	return slices.Compact(sans)
}

// apiService gives the address of the Service kubernetes, the first of the service network.
func (b *Builder) apiService() string {
	services, err := netip.ParsePrefix(b.in.Spec.Network.ServiceCIDR)
	if err != nil {
		b.err = fmt.Errorf("cannot read the service network: %w", err)
	}
	return netip.AddrPortFrom(services.Masked().Addr().Next(), 443).String()
}

// inContainer tells whether the kernel's conntrack limits belong to somebody else.
func inContainer(f *v1alpha1.HostFacts) bool {
	return slices.Contains([]string{"systemd-nspawn", "lxc", "lxc-libvirt", "docker", "podman"}, f.Virtualization)
}

func proxyMode(in Input) string {
	if in.Spec.Network.KubeProxyMode != "" {
		return in.Spec.Network.KubeProxyMode
	}
	for _, name := range in.Spec.AllHosts() {
		f := in.Hosts[name].Status.Facts
		if f != nil && !slices.Contains(f.KernelFeatures, "nf_tables") {
			return "iptables"
		}
	}
	return "nftables"
}
