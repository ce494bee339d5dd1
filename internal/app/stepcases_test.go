package app

import (
	"errors"
	"maps"
	"net/netip"
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/internal/host"
	fakehost "slipway.dev/slipway/internal/host/fake"
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

const (
	containerdConfig = "/etc/containerd/config.toml"
	hostsConfig      = "/etc/containerd/certs.d/_default/hosts.toml"
	containerdUnit   = "/etc/systemd/system/containerd.service"
	kubeletUnitPath  = "/etc/systemd/system/kubelet.service"
	kubeletDropIn    = kubeletUnitPath + ".d/10-kubeadm.conf"
)

func stepCases() map[string]stepCase {
	all := map[string]stepCase{}
	for _, cases := range []map[string]stepCase{systemCases(), runtimeCases(), precheckCases(), resetCases(), networkCases(), nodeCases(), kubeadmCases(), etcdCases(), restoreCases(), upgradeCases(), renewCases(), stopCases(), settingsCases()} {
		maps.Copy(all, cases)
	}
	return all
}

func systemCases() map[string]stepCase {
	const sysctlFile, modulesFile = "/etc/sysctl.d/90-slipway.conf", "/etc/modules-load.d/slipway.conf"
	const read = step.StateDir + "/time-servers"
	timesyncd, chrony, chronyd := "/etc/systemd/timesyncd.conf.d/slipway.conf", "/etc/chrony/sources.d/slipway.sources", "/etc/chrony.d/slipway.conf"
	servers := system.TimeServers{Servers: []string{"ntp1.example", "ntp2.example"}}
	return map[string]stepCase{
		"kernel": {reason: "live values and those of the next boot",
			step:  system.Kernel{Modules: []string{"overlay", "br_netfilter"}, Sysctls: map[string]string{"net.ipv4.ip_forward": "1", "net.bridge.bridge-nf-call-iptables": "1"}, Remember: []string{"vm.panic_on_oom"}},
			drift: []string{modulesFile, sysctlFile, "net.ipv4.ip_forward", "net.bridge.bridge-nf-call-iptables"},
			prepare: func(b *bench) {
				b.host.Do(func(s *fakehost.State) {
					s.Sysctls["net.bridge.bridge-nf-call-iptables"], s.Sysctls["vm.panic_on_oom"] = "0", "0"
				})
			},
			golden: []string{modulesFile, sysctlFile, step.BeforeSysctls}},
		"stop firewall": {reason: "only what is there and runs", step: system.StopFirewall{},
			prepare: func(b *bench) { b.unit("ufw.service", "/etc/ufw", true) }, drift: []string{"ufw.service", "ufw.service at boot"}},
		"no firewall": {reason: "nothing to stop", step: system.StopFirewall{}},
		"swap off": {reason: "now and after a reboot", step: system.SwapOff{}, drift: []string{"swap", "/etc/fstab"},
			prepare: func(b *bench) {
				b.write("/proc/swaps", "Filename Type Size Used Priority\n/dev/sdb1 partition 1048572 0 -2\n")
				b.write("/etc/fstab", "/dev/sda1 / ext4 defaults 0 1\n/dev/sdb1 none swap sw 0 0\n")
			}, golden: []string{"/etc/fstab"}},
		"selinux": {reason: "now and after a reboot; comments are left alone", step: system.SELinuxPermissive{}, drift: []string{"SELinux", "/etc/selinux/config"},
			prepare: func(b *bench) {
				b.write("/sys/fs/selinux/enforce", "1")
				b.write("/etc/selinux/config", "#SELINUX=enforcing\nSELINUX=enforcing\nSELINUXTYPE=targeted\n")
			}, golden: []string{"/etc/selinux/config"}},
		"selinux without a last line end": {reason: "a file that somebody edited", step: system.SELinuxPermissive{}, drift: []string{"/etc/selinux/config"},
			prepare: func(b *bench) { b.write("/etc/selinux/config", "SELINUX=enforcing") }, golden: []string{"/etc/selinux/config"}},
		"no selinux": {reason: "nothing to change", step: system.SELinuxPermissive{}},
		"timesyncd": {reason: "systemd's own service", step: servers, prepare: func(b *bench) { b.unit("systemd-timesyncd.service", timesyncd, true) },
			drift: []string{timesyncd, read}, golden: []string{timesyncd, "/run/loaded/systemd-timesyncd.service"}},
		"timesyncd disabled": {reason: "it must start at boot", step: servers, prepare: func(b *bench) { b.unit("systemd-timesyncd.service", timesyncd, false) },
			drift: []string{timesyncd, read, "systemd-timesyncd.service at boot"}},
		"chrony": {reason: "Debian's name, before timesyncd", step: servers, prepare: func(b *bench) {
			b.unit("chrony.service", chrony, true)
			b.unit("systemd-timesyncd.service", timesyncd, true)
		}, drift: []string{chrony, read}, golden: []string{chrony}},
		"chronyd": {reason: "Red Hat's name", step: servers, prepare: func(b *bench) { b.unit("chronyd.service", chronyd, true) }, drift: []string{chronyd, read}, golden: []string{chronyd}},
	}
}

func runtimeCases() map[string]stepCase {
	configure := containerd.Configure{DataDir: "/var/lib/containerd", PauseImage: "registry.k8s.io/pause:3.10.2", CA: "the authority\n", Token: step.SecretRef{Key: "registry-token"}}
	configured := []string{containerdConfig, "/etc/containerd/certs.d/slipway-ca.crt", hostsConfig, "/etc/crictl.yaml", containerdUnit, "containerd.service", "containerd.service at boot"}
	prepared := func(b *bench) {
		b.secrets["registry-token"] = "0123456789abcdef"
		b.loads("containerd.service", containerdConfig)
	}
	// Two images that share a layer.
	manifest := func(of string) string {
		return `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"digest":"` + digestOf(of) + `"},"layers":[{"digest":"` + digestOf("layer") + `"}]}`
	}
	pin := containerd.PinImages{Images: []containerd.Image{
		{Name: "registry.k8s.io/pause:3.10.2", Digest: digestOf(manifest("pause")), Architecture: "amd64"},
		{Name: "registry.k8s.io/etcd:3.6.8-0", Digest: digestOf(manifest("etcd")), Architecture: "amd64"},
		{Name: "registry.k8s.io/kube-proxy:v1.36.3", Digest: digestOf(manifest("proxy")), Architecture: "amd64"},
		{Name: "registry.k8s.io/etcd:3.6.8-0", Digest: digestOf("arm"), Architecture: "arm64"},
	}}
	install := bundlefile.Install{Output: step.KubernetesFiles, Files: []bundlefile.File{
		{Path: "/usr/local/bin/kubelet", Digest: digestOf("kubelet"), Mode: 0o755, Architecture: "amd64"},
		{Path: "/usr/local/bin/kubeadm", Digest: digestOf("kubeadm"), Mode: 0o755, Architecture: "amd64"},
		{Path: "/opt/cni/bin/bridge", Digest: digestOf("bridge"), Mode: 0o755, Architecture: "amd64"},
		{Path: "/usr/local/bin/kubelet", Digest: digestOf("arm"), Mode: 0o755, Architecture: "arm64"},
	}}
	return map[string]stepCase{
		"containerd cgroup v2": {reason: "systemd manages cgroups", step: configure, prepare: prepared, drift: configured,
			golden: []string{containerdConfig, hostsConfig, "/etc/crictl.yaml", containerdUnit, "/run/loaded/containerd.service"}},
		"containerd cgroup v1": {reason: "the cgroup driver is cgroupfs", step: configure, prepare: prepared, drift: configured,
			target: func(t *step.Target) { t.CgroupV1 = true }, golden: []string{containerdConfig}},
		"containerd restrict oom": {reason: "root may not lower a score there", step: configure, prepare: prepared, drift: configured,
			target: func(t *step.Target) { t.RestrictOOMScore = true }, golden: []string{containerdConfig}},
		"images": {reason: "those of the host's architecture, all pinned", step: pin, prepare: func(b *bench) {
			b.write("/usr/local/bin/ctr", "ctr")
			b.write("/run/containerd/containerd.sock", "")
			b.host.Do(func(s *fakehost.State) {
				s.Images["registry.k8s.io/pause:3.10.2"] = host.Image{Digest: digestOf(manifest("pause"))}
			})
			for _, content := range []string{manifest("etcd"), manifest("proxy"), "etcd", "proxy", "layer"} {
				b.blobs[digestOf(content)] = content
			}
		}, drift: []string{"image registry.k8s.io/pause:3.10.2 io.cri-containerd.pinned", "image registry.k8s.io/etcd:3.6.8-0", "image registry.k8s.io/kube-proxy:v1.36.3"}},
		"old images": {reason: "what the cluster does not name any more is let go, and what somebody else pinned is not", drift: []string{"image registry.k8s.io/pause:3.10 io.cri-containerd.pinned"},
			step: containerd.UnpinImages{Names: []string{"registry.k8s.io/pause:3.10", "registry.k8s.io/gone:1"}}, prepare: func(b *bench) {
				b.write("/usr/local/bin/ctr", "ctr")
				b.write("/run/containerd/containerd.sock", "")
				b.host.Do(func(s *fakehost.State) {
					for _, name := range []string{"registry.k8s.io/pause:3.10", "example.org/mine:1"} {
						s.Images[name] = host.Image{Digest: digestOf(name), Labels: map[string]string{"io.cri-containerd.pinned": "pinned"}}
					}
				})
			}},
		"programs": {reason: "one is old, the others are missing", step: install, prepare: func(b *bench) {
			for _, content := range []string{"kubelet", "kubeadm", "bridge"} {
				b.blobs[digestOf(content)] = content
			}
			b.write("/usr/local/bin/kubelet", "an older one")
		}, drift: []string{"/usr/local/bin/kubelet", "/usr/local/bin/kubeadm", "/opt/cni/bin/bridge"}, golden: []string{"/usr/local/bin/kubelet", "/opt/cni/bin/bridge"}},
		"kubelet unit": {reason: "kubeadm starts it later", step: kubelet.InstallUnit{}, drift: []string{kubeletUnitPath, kubeletDropIn, "kubelet.service at boot"},
			golden: []string{kubeletUnitPath, kubeletDropIn}},
	}
}

func precheckCases() map[string]stepCase {
	return map[string]stepCase{
		"mark": {reason: "what was there before is remembered first", step: precheck.Mark{Cluster: "abc", Paths: []string{"/etc", "/etc/pki"}}, drift: []string{step.MarkerPath},
			prepare: func(b *bench) { b.host.Do(func(s *fakehost.State) { s.NFTables = "table inet filter {\n}\n" }) },
			golden:  []string{step.MarkerPath, step.BeforeTables, step.BeforeAbsent}},
		"look": {reason: "a bare host has nothing to refuse", step: precheck.Look{Cluster: "abc", Ports: []int{6443}, Absent: []string{"/etc/kubernetes"}},
			prepare: func(b *bench) { b.host.SetReach(func(netip.AddrPort) bool { return true }) }},
	}
}

func resetCases() map[string]stepCase {
	return map[string]stepCase{
		"reset kubernetes": {reason: "units, containers and mounts go", step: reset.Kubernetes{},
			prepare: func(b *bench) {
				b.unit("containerd.service", containerdConfig, true)
				b.unit("kubelet.service", "/var/lib/kubelet/config.yaml", true)
				for _, path := range []string{"/usr/local/bin/kubeadm", "/run/containerd/containerd.sock", "/etc/kubernetes/admin.conf"} {
					b.write(path, "")
				}
				b.phase("reset --force --cri-socket unix:///run/containerd/containerd.sock", func(*fakehost.State) error { return errors.New("it is half gone") })
				b.host.Do(func(s *fakehost.State) {
					s.Containers = []host.Process{{PID: 7, Name: "containerd-shim-runc-v2"[:15]}, {PID: 8, Name: "etcd"}}
					s.Mounts = []host.Mount{{Path: "/var/lib/kubelet/pods/x", Type: "tmpfs", Source: "tmpfs", Root: "/"}, {Path: "/var/lib/kubelet/pods/x/y", Type: "tmpfs", Source: "tmpfs", Root: "/"}, {Path: "/srv", Type: "ext4", Source: "/dev/sdb", Root: "/"}}
				})
			},
			drift: []string{"containerd.service", "kubelet.service", "container processes", "mount /var/lib/kubelet/pods/x", "mount /var/lib/kubelet/pods/x/y"}},
		"reset a bare host": {reason: "nothing to stop is no error", step: reset.Kubernetes{}},
		"reset network": {reason: "links, chains and tables of Kubernetes, and no others", step: reset.Network{},
			prepare: func(b *bench) {
				b.write(step.BeforeTables, "inet firewall\n")
				b.host.Do(func(s *fakehost.State) {
					s.Links = []host.Link{{Name: "eth0"}, {Name: "cni0", Kind: "bridge"}, {Name: "flannel.1", Kind: "vxlan"}, {Name: "veth12ab34cd", Kind: "veth"}, {Name: "veth-mine", Kind: "veth"}, {Name: "cni1", Kind: "bridge"}}
					s.NFTables = "table inet firewall {\n}\ntable ip kube-proxy {\n}\ntable ip nat {\n}\n"
					s.IPTables = "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -j KUBE-SERVICES\n-A PREROUTING -p tcp -j DNAT --to-destination 10.9.0.5\nCOMMIT\n"
				})
			},
			drift: []string{"link cni0", "link flannel.1", "link veth12ab34cd", "firewall table ip kube-proxy", "firewall table ip nat", "iptables"}},
		"reset files": {reason: "what is gone already is fine", step: reset.Files{Paths: []string{"/etc/kubernetes", "/var/lib/kubelet", "/etc/crictl.yaml"}},
			prepare: func(b *bench) {
				b.write("/etc/kubernetes/pki/ca.crt", "")
				b.write("/etc/crictl.yaml", "")
			}, drift: []string{"/etc/kubernetes", "/etc/crictl.yaml"}},
		"restore": {reason: "parameters are put back, and the last trace goes", step: reset.Restore{},
			prepare: func(b *bench) {
				b.write(step.BeforeSysctls, "net.ipv4.ip_forward = 0\n")
				b.write(step.BeforeAbsent, "/etc/pki\n/etc/pki/tls\n/etc/mine\n/run/xtables.lock\n")
				b.write(step.MarkerPath, "abc\n")
				b.write("/etc/mine/file", "somebody uses it by now")
				b.write("/run/xtables.lock", "")
				b.run("mkdir", "/etc/pki/tls")
				b.host.Handle("rmdir", func(s *fakehost.State, c fakehost.Call) host.Result {
					if len(s.Tree(c.Argv[2])) > 1 {
						return host.Result{}
					}
					return done(s.Remove(c.Argv[2]))
				})
				b.host.Do(func(s *fakehost.State) { s.Sysctls["net.ipv4.ip_forward"] = "1" })
			}, drift: []string{step.BeforeDir, step.MarkerPath}},
	}
}

func withNode(pods string) func(*bench) {
	return func(b *bench) {
		b.create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "w1"}, Spec: corev1.NodeSpec{PodCIDR: pods}})
	}
}

func networkCases() map[string]stepCase {
	return map[string]stepCase{
		"cni": {reason: "the pod network of the node, less VXLAN's overhead", step: flannel.ConfigureNode{}, prepare: withNode("172.25.3.0/24"),
			drift: []string{flannel.ConfigPath}, golden: []string{flannel.ConfigPath}},
		"cni without mtu": {reason: "the plugin finds it by itself", step: flannel.ConfigureNode{}, prepare: withNode("172.25.3.0/24"), target: func(t *step.Target) { t.MTU = 0 },
			drift: []string{flannel.ConfigPath}, golden: []string{flannel.ConfigPath}},
		"cni before registration": {reason: "the cluster gives the network", step: flannel.ConfigureNode{}, event: withNode("172.25.3.0/24"), drift: []string{flannel.ConfigPath}},
		"flannel": {reason: "every object, in order", step: flannel.Install{Image: "ghcr.io/flannel-io/flannel:v0.26.7", PodCIDR: "172.25.0.0/16", APIHost: "10.9.0.11", APIPort: "6443"},
			drift: []string{"Namespace kube-flannel", "ServiceAccount flannel", "ClusterRole flannel", "ClusterRoleBinding flannel", "ConfigMap kube-flannel-cfg", "DaemonSet kube-flannel-ds"}},
		"node ready": {reason: "the kubelet works by itself", step: node.Ready{}, event: func(b *bench) {
			b.create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "w1"}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}})
		}},
		"cluster access": {reason: "every object of both groups", step: access.Roles{},
			drift: []string{"ClusterRole slipway:viewer", "ClusterRoleBinding slipway:administrators", "ClusterRoleBinding slipway:viewers", "ClusterRoleBinding slipway:viewers:view"}},
		"cluster access was changed": {reason: "each object that somebody changed is put right, also where Kubernetes lets nobody change it", step: access.Roles{},
			prepare: func(b *bench) {
				secrets := rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get"}}
				admin := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"}
				viewers := rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: access.Viewers}
				b.create(
					&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "slipway:viewer"}, Rules: []rbacv1.PolicyRule{secrets}, AggregationRule: &rbacv1.AggregationRule{}},
					&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: access.Viewers}, RoleRef: admin, Subjects: []rbacv1.Subject{viewers}},
					&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: access.Administrators}, RoleRef: admin, Subjects: []rbacv1.Subject{viewers}},
				)
			},
			drift: []string{"ClusterRole slipway:viewer", "ClusterRoleBinding slipway:administrators", "ClusterRoleBinding slipway:viewers", "ClusterRoleBinding slipway:viewers:view"}},
		"serve api": {reason: "the kubelet starts what the manifests name", step: kubeadm.ServeAPI{}, prepare: func(b *bench) { b.cluster.ready = errors.New("connection refused") },
			event: func(b *bench) { b.cluster.ready = nil }},
		"service answers": {reason: "kube-proxy works by itself", step: node.ServiceAnswers{Address: "10.96.0.1:443"}, event: func(b *bench) {
			b.host.SetReach(func(a netip.AddrPort) bool { return a.String() == "10.96.0.1:443" })
		}},
		"endpoint answers": {reason: "kube-vip works by itself", step: node.EndpointAnswers{Address: "192.0.2.200:6443"}, event: func(b *bench) {
			b.host.SetReach(func(a netip.AddrPort) bool { return a.String() == "192.0.2.200:6443" })
		}},
		"kube-vip": {reason: "a static pod that the kubelet starts without any API", step: kubevip.Install{Image: "ghcr.io/kube-vip/kube-vip:v0.9.1", Address: "192.0.2.200", Port: 6443},
			drift: []string{kubevip.ManifestPath}, golden: []string{kubevip.ManifestPath}},
		"kube-vip hand over": {reason: "another control plane takes the address when the pod here has ended", step: kubevip.HandOver{},
			prepare: func(b *bench) { b.lease("w1") }, event: func(b *bench) { b.lease("cp2") }},
		"kube-vip elsewhere": {reason: "nothing to hand over", step: kubevip.HandOver{}, prepare: func(b *bench) { b.lease("cp2") }},
		"workloads":          {reason: "a cluster with nothing to wait for", step: node.Workloads{}},
	}
}

// etcdCases run on w1, which is the host of every bench, as a control plane beside cp1 to cp3.
func etcdCases() map[string]stepCase {
	members := map[string]string{"cp1": "10.9.0.11", "cp2": "10.9.0.12", "cp3": "10.9.0.13"}
	started := func(b *bench) {
		b.cluster.Form(members)
		for name, address := range members {
			b.start(name, address)
		}
	}
	added := func(b *bench) {
		started(b)
		b.apply(etcd.AddMember{})
	}
	joined := func(b *bench) {
		added(b)
		b.start("w1", "10.9.0.21")
	}
	return map[string]stepCase{
		"etcd add": {reason: "a learner that an earlier try left goes first", step: etcd.AddMember{}, drift: []string{"etcd member https://10.9.0.21:2380"}, prepare: func(b *bench) {
			started(b)
			if _, err := b.cluster.AddEtcdLearner(b.t.Context(), "https://10.9.0.99:2380"); err != nil {
				b.t.Fatal(err)
			}
		}},
		"etcd promote":                {reason: "it has read everything", step: etcd.PromoteMember{}, drift: []string{"etcd member w1"}, prepare: joined},
		"etcd promote before a start": {reason: "the kubelet starts it", step: etcd.PromoteMember{}, prepare: added, drift: []string{"etcd member w1"}, event: func(b *bench) { b.start("w1", "10.9.0.21") }},
		"etcd remove": {reason: "a dead member", step: etcd.RemoveMember{Name: "cp3", Address: "10.9.0.13"}, drift: []string{"etcd member cp3"}, prepare: func(b *bench) {
			started(b)
			b.cluster.Stop("cp3")
		}},
		"etcd leader": {reason: "the member of the host leads", step: etcd.MoveLeader{}, drift: []string{"leader of etcd"}, prepare: func(b *bench) {
			joined(b)
			b.apply(etcd.PromoteMember{})
			b.lead("w1")
		}},
		"etcd healthy": {reason: "one that was down is back", step: etcd.Healthy{Members: 3}, event: func(b *bench) { b.start("cp2", "10.9.0.12") }, prepare: func(b *bench) {
			started(b)
			b.cluster.Stop("cp2")
		}},
	}
}

// lease says who has the cluster's address.
func (b *bench) lease(holder string) {
	b.t.Helper()
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "plndr-cp-lock"}, Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder}}
	if err := client.IgnoreNotFound(b.cluster.Delete(b.t.Context(), lease.DeepCopy())); err != nil {
		b.t.Fatal(err)
	}
	b.create(lease)
}

// lead makes a member of the cluster's etcd lead the others.
func (b *bench) lead(name string) {
	b.t.Helper()
	members, err := b.cluster.EtcdMembers(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	for _, m := range members {
		if m.Name == name {
			err = b.cluster.MoveEtcdLeader(b.t.Context(), m.ID)
		}
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// start runs a member of the cluster's etcd.
func (b *bench) start(name, address string) {
	b.t.Helper()
	if err := b.cluster.Start(name, address); err != nil {
		b.t.Fatal(err)
	}
}

// join gives the words of several phases, each of which may be asked for.
func join(phases ...string) string { return strings.Join(phases, "\n") }
