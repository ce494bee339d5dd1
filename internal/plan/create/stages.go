package create

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"path"
	"slices"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/step"
	"slipway.dev/slipway/internal/step/access"
	"slipway.dev/slipway/internal/step/bundlefile"
	"slipway.dev/slipway/internal/step/containerd"
	"slipway.dev/slipway/internal/step/flannel"
	"slipway.dev/slipway/internal/step/kubeadm"
	"slipway.dev/slipway/internal/step/kubelet"
	"slipway.dev/slipway/internal/step/node"
	"slipway.dev/slipway/internal/step/precheck"
	"slipway.dev/slipway/internal/step/system"
)

// The names of the stages.
const (
	stagePrecheck     = "precheck"
	stagePrepareCP    = "prepare-control-plane"
	stagePrepare      = "prepare-workers"
	stageControlPlane = "control-plane"
	stageAddons       = "addons"
	stageAccess       = "access"
	stageJoin         = "join"
	stageReady        = "ready"
	stageAvailable    = "available"
)

type builder struct {
	in   Input
	plan *plan.Plan
	err  error
}

// stages is the table of contents of a new cluster. Workers are prepared while the control plane starts, and not before:
// everybody waits for the control plane, so the server's link is first its own.
func (b *builder) stages() {
	spec := b.in.Spec
	controlPlanes, workers := spec.ControlPlane.Hosts, spec.WorkerHosts()
	all := spec.AllHosts()
	b.stage(plan.Stage{Name: stagePrecheck, Title: "Check the hosts", Hosts: all, Gate: true}, b.precheck())
	b.stage(plan.Stage{Name: stagePrepareCP, Title: "Prepare the control plane", Hosts: controlPlanes, Needs: []string{stagePrecheck}}, b.prepare(true))
	b.stage(plan.Stage{Name: stagePrepare, Title: "Prepare the workers", Hosts: workers, Needs: []string{stagePrepareCP}}, b.prepare(false))
	b.stage(plan.Stage{Name: stageControlPlane, Title: "Start the control plane", Hosts: controlPlanes, Needs: []string{stagePrepareCP}}, b.controlPlane())
	b.stage(plan.Stage{Name: stageAddons, Title: "Install network, DNS and proxy", Hosts: controlPlanes[:1], Needs: []string{stageControlPlane}}, b.addons())
	// After the addons, on whose pods the workers wait.
	b.stage(plan.Stage{Name: stageAccess, Title: "Give people their rights", Hosts: controlPlanes[:1], Needs: []string{stageAddons}}, []call{{"cluster-access", access.Roles{}}})
	b.stage(plan.Stage{Name: stageJoin, Title: "Join the workers", Hosts: workers, Needs: []string{stageControlPlane, stagePrepare}}, []call{
		{"join", kubeadm.Join{}},
		{"finish-join", kubeadm.FinishJoin{}},
		{"worker-network", flannel.ConfigureNode{}},
	})
	readyNeeds := []string{stageAddons}
	if len(workers) > 0 {
		readyNeeds = append(readyNeeds, stageJoin)
	}
	b.stage(plan.Stage{Name: stageReady, Title: "Wait for the nodes", Hosts: all, Needs: readyNeeds}, []call{{"node-ready", node.Ready{}}})
	b.stage(plan.Stage{Name: stageAvailable, Title: "Wait for network and DNS", Hosts: controlPlanes[:1], Needs: []string{stageReady}}, []call{
		{"workloads", node.Workloads{
			Deployments: []string{"kube-system/coredns"},
			DaemonSets:  []string{"kube-system/kube-proxy", flannel.DaemonSet},
		}},
	})
}

type call struct {
	name string
	step step.Step
}

// stage adds a stage with its calls. A stage without hosts is left out.
func (b *builder) stage(s plan.Stage, calls []call) {
	if len(s.Hosts) == 0 {
		return
	}
	for _, c := range calls {
		frozen, err := plan.NewCall(c.name, c.step)
		if err != nil {
			b.err = err
			return
		}
		s.Calls = append(s.Calls, frozen)
	}
	b.plan.Stages = append(b.plan.Stages, s)
}

func (b *builder) precheck() []call {
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
	if host := b.in.Spec.Endpoint.Host; host != "" && !isIP(host) {
		look.Names = []string{host}
	}
	for _, name := range b.in.Spec.AllHosts() {
		look.Peers = append(look.Peers, sshAddress(b.in.Hosts[name]))
	}
	// Control-plane ports are asked for on every host: a worker that already runs a control plane is no bare host.
	look.Ports = append(look.Ports, int(b.in.Spec.Endpoint.Port), 2379, 2380, 10257, 10259)
	return []call{{"precheck", look}}
}

// prepare names its calls by role, since names are unique in a plan.
func (b *builder) prepare(controlPlane bool) []call {
	role := "worker"
	if controlPlane {
		role = "control-plane"
	}
	calls := []call{{"mark", precheck.Mark{Cluster: b.in.UID, Paths: b.appearing()}}}
	setup := b.in.Spec.HostSetup
	if setup.DisableSwap {
		calls = append(calls, call{"swap-off", system.SwapOff{}})
	}
	if setup.DisableFirewall {
		calls = append(calls, call{"stop-firewall", system.StopFirewall{}})
	}
	if setup.PermissiveSELinux {
		calls = append(calls, call{"selinux-permissive", system.SELinuxPermissive{}})
	}
	if len(b.in.TimeServers) > 0 {
		calls = append(calls, call{"time-servers", system.TimeServers{Servers: b.in.TimeServers}})
	}
	calls = append(calls,
		call{"kernel", kernel()},
		call{"runtime-files", b.files(step.RuntimeFiles, runtimePaths())},
		call{"containerd", containerd.Configure{
			DataDir: b.in.Spec.Runtime.DataDir, PauseImage: b.image(bundle.RolePause).Name, CA: b.in.PlatformCA,
			Token: b.secret(kubeadm.RegistryToken),
		}},
		call{"images", b.images(controlPlane)},
		call{"kubernetes-files", b.files(step.KubernetesFiles, kubernetesPaths())},
		call{"kubelet-unit", kubelet.InstallUnit{}},
		call{"kubeadm-config", kubeadm.Configure{Settings: b.settings(), Token: b.secret(kubeadm.Token), CA: b.secret(kubeadm.CACert)}},
	)
	for i := range calls {
		calls[i].name = role + "/" + calls[i].name
	}
	return calls
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
func (b *builder) appearing() []string {
	paths := []string{
		"/etc/ca-certificates", "/etc/pki", "/etc/pki/ca-trust", "/etc/pki/tls", "/etc/pki/tls/certs", "/etc/ssl", "/etc/ssl/certs",
		"/usr/lib/modules", "/usr/libexec", "/usr/local/share/ca-certificates", "/usr/share/ca-certificates", "/opt", "/run/xtables.lock",
		"/etc/chrony", "/etc/chrony.d", "/etc/chrony/sources.d", "/etc/systemd/timesyncd.conf.d", "/run/netns",
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

func (b *builder) files(output step.Output, paths map[string]string) bundlefile.Install {
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

func (b *builder) images(controlPlane bool) containerd.PinImages {
	var pin containerd.PinImages
	for _, i := range b.in.Bundle.Images {
		if i.NodeRole == bundle.NodeRoleAll || controlPlane || i.Role == bundle.RoleCoreDNS {
			pin.Images = append(pin.Images, containerd.Image{Name: i.Name, Digest: i.Digest.String(), Architecture: i.Architecture})
		}
	}
	return pin
}

// image gives the image of a role; check has proven that each architecture has it, under one name.
func (b *builder) image(role string) bundle.Image {
	i := slices.IndexFunc(b.in.Bundle.Images, func(i bundle.Image) bool { return i.Role == role })
	if i < 0 {
		return bundle.Image{}
	}
	return b.in.Bundle.Images[i]
}

func (b *builder) secret(key string) step.SecretRef {
	return step.SecretRef{Name: b.in.Secret, Key: key}
}

func (b *builder) settings() kubeadm.Settings {
	spec := b.in.Spec
	s := kubeadm.Settings{
		Name: b.in.Name, Version: spec.Kubernetes.Version, Endpoint: Endpoint(spec, b.in.Hosts), Port: spec.Endpoint.Port,
		PodCIDR: spec.Network.PodCIDR, ServiceCIDR: spec.Network.ServiceCIDR, DNSDomain: spec.Kubernetes.DNSDomain,
		CertSANs: b.sans(), EtcdTag: b.image(bundle.RoleEtcd).Tag(), EtcdDataDir: spec.Components.Etcd.DataDir,
		DNSTag: b.image(bundle.RoleCoreDNS).Tag(), ProxyMode: proxyMode(b.in), Schedulable: len(spec.WorkerHosts()) == 0,
	}
	for _, name := range spec.AllHosts() {
		f := b.in.Hosts[name].Status.Facts
		s.CgroupV1 = s.CgroupV1 || f.CgroupVersion == 1
		s.KeepConntrack = s.KeepConntrack || inContainer(f)
	}
	return s
}

// sans are what the API server's certificate must name beyond what kubeadm adds itself.
func (b *builder) sans() []string {
	sans := slices.Clone(b.in.Spec.Endpoint.CertSANs)
	for _, name := range b.in.Spec.ControlPlane.Hosts {
		sans = append(sans, b.in.Hosts[name].Status.InternalAddress)
	}
	if host := b.in.Spec.Endpoint.Host; host != "" {
		sans = append(sans, host)
	}
	slices.Sort(sans)
	return slices.Compact(sans)
}

// apiService gives the address of the Service kubernetes, the first of the service network.
func (b *builder) apiService() string {
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
		if !slices.Contains(f.KernelFeatures, "nf_tables") {
			return "iptables"
		}
	}
	return "nftables"
}

func (b *builder) controlPlane() []call {
	spec := b.in.Spec
	etcd := b.image(bundle.RoleEtcd).Tag()
	return []call{
		{"keys", kubeadm.InstallKeys{Secret: b.in.Secret}},
		{"certificates", kubeadm.Certificates{SANs: b.sans()}},
		{"kubeconfigs", kubeadm.Kubeconfigs{Server: "https://" + Endpoint(spec, b.in.Hosts)}},
		{"manifests", kubeadm.Manifests{Version: spec.Kubernetes.Version, EtcdTag: etcd, EtcdDataDir: spec.Components.Etcd.DataDir}},
		{"start-kubelet", kubeadm.StartKubelet{}},
		{"serve-api", kubeadm.ServeAPI{}},
		{"upload-config", kubeadm.UploadConfig{Version: spec.Kubernetes.Version}},
		{"allow-join", kubeadm.AllowJoin{Token: b.secret(kubeadm.Token)}},
	}
}

func (b *builder) addons() []call {
	spec := b.in.Spec
	host, port, err := net.SplitHostPort(Endpoint(spec, b.in.Hosts))
	if err != nil {
		b.err = fmt.Errorf("cannot read the endpoint: %w", err)
	}
	return []call{
		{"control-plane-network", flannel.ConfigureNode{}},
		{"network", flannel.Install{Image: b.image(bundle.RoleFlannel).Name, PodCIDR: spec.Network.PodCIDR, APIHost: host, APIPort: port}},
		{"proxy", kubeadm.Proxy{Version: spec.Kubernetes.Version}},
		{"mark-control-plane", kubeadm.MarkControlPlane{Schedulable: len(spec.WorkerHosts()) == 0}},
		{"finalize-kubelet", kubeadm.FinalizeKubelet{}},
		{"services-answer", node.ServiceAnswers{Address: b.apiService()}},
		{"dns", kubeadm.DNS{Tag: b.image(bundle.RoleCoreDNS).Tag()}},
	}
}
