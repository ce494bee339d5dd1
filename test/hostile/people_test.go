package hostile

import (
	"regexp"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
)

// request is what people write: one object of each kind that has a say in what reaches a host.
type request struct {
	Cluster    v1alpha1.Cluster
	Host       v1alpha1.Host
	Credential v1alpha1.Credential
	Platform   v1alpha1.Setting
	NTP        v1alpha1.Setting
	Operation  v1alpha1.Operation
	Location   v1alpha1.BackupLocation
	Backup     v1alpha1.Backup
}

func goodRequest() *request {
	return &request{
		Cluster: v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "demo"}, Spec: goodSpec()},
		Host: v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: "w1"}, Spec: v1alpha1.HostSpec{
			Address: "192.0.2.11", InternalAddress: "192.0.2.11", Port: 22, Credential: "login", HostKey: "ssh-ed25519 AAAA", Region: "north"}},
		Credential: v1alpha1.Credential{ObjectMeta: metav1.ObjectMeta{Name: "login"},
			Spec: v1alpha1.CredentialSpec{User: "admin", Type: v1alpha1.CredentialPassword, SecretName: "login"}},
		Platform: v1alpha1.Setting{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.SettingPlatform},
			Spec: v1alpha1.SettingSpec{Platform: &v1alpha1.PlatformSetting{Address: "marker-p.example.com"}}},
		NTP: v1alpha1.Setting{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.SettingNTP},
			Spec: v1alpha1.SettingSpec{NTP: &v1alpha1.NTPSetting{Servers: []v1alpha1.NTPServer{{Address: "marker-n.example.net"}, {Address: "192.0.2.123"}}}}},
		Operation: v1alpha1.Operation{ObjectMeta: metav1.ObjectMeta{Name: "demo-create"},
			Spec: v1alpha1.OperationSpec{Verb: v1alpha1.VerbCreate, Cluster: "demo", ApprovedPlan: "sha256:0"}},
		Location: v1alpha1.BackupLocation{ObjectMeta: metav1.ObjectMeta{Name: "near"},
			Spec: v1alpha1.BackupLocationSpec{HostDirectory: &v1alpha1.HostDirectoryLocation{Hosts: []string{"cp1"}, Path: "/srv/marker-b/backups"}}},
		Backup: v1alpha1.Backup{ObjectMeta: metav1.ObjectMeta{Name: "demo-manual-abc123"}, Spec: v1alpha1.BackupSpec{Cluster: "demo", Location: "near"}},
	}
}

func goodSpec() v1alpha1.ClusterSpec {
	return v1alpha1.ClusterSpec{
		Kubernetes:   v1alpha1.KubernetesSpec{Version: "v1.36.3", DNSDomain: "marker-d.example"},
		ControlPlane: v1alpha1.ControlPlaneSpec{Hosts: []string{"cp1"}},
		WorkerPools: []v1alpha1.WorkerPool{{Name: "general", Hosts: []string{"w1", "w2"}, Labels: map[string]string{"marker-k.example/zone": "marker-v", "pool": "any"},
			Taints: []v1alpha1.Taint{{Key: "marker-t.example/only", Value: "marker-w", Effect: "NoSchedule"}, {Key: "other", Effect: "NoExecute"}}}},
		Endpoint: v1alpha1.EndpointSpec{Host: "marker-e.example.org", Port: 6443, CertSANs: []string{"marker-s.example.org", "198.51.100.7"}, ExternalAddress: "198.51.100.99"},
		Network:  v1alpha1.NetworkSpec{PodCIDR: "172.27.0.0/16", ServiceCIDR: "10.97.0.0/16", CNI: "flannel", KubeProxyMode: "nftables", NodePortRange: "31007-32007"},
		Runtime: v1alpha1.RuntimeSpec{DataDir: "/srv/marker-r/containerd",
			RegistryMirrors: []v1alpha1.RegistryMirror{{Registry: "marker-h.example:5000", Endpoints: []string{"https://marker-i.example/hub", "http://192.0.2.77"}}}},
		Components: v1alpha1.ComponentsSpec{Etcd: v1alpha1.EtcdSpec{DataDir: "/srv/marker-c/etcd"}, APIServer: v1alpha1.APIServerSpec{Audit: v1alpha1.AuditSpec{Enabled: true, Policy: goodPolicy}},
			Kubelet: v1alpha1.KubeletSpec{KubeReserved: defaultShare(), SystemReserved: defaultShare()}},
		HostSetup: v1alpha1.HostSetupSpec{HostRecords: []v1alpha1.HostRecord{{Address: "192.0.2.88", Names: []string{"marker-j.example", "other"}}}},
	}
}

// defaultShare is what the API puts where nothing is said.
func defaultShare() v1alpha1.ReservedSpec {
	return v1alpha1.ReservedSpec{CPU: new(resource.MustParse("100m")), Memory: new(resource.MustParse("128Mi"))}
}

const goodPolicy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: Metadata\n"

// said is one string that people can write.
type said struct {
	// kind and path name it in the API.
	kind, path string
	// good is a value that is accepted, and found nowhere else in what is made of the request.
	good string
	set  func(r *request, v string)
	// object gives the one that carries it.
	object func(r *request) any
	// harmless is what an accepted value looks like, said once more than the API does; nil when the API accepts any
	// text, because rendered says where it goes, or nothing comes of it on a host.
	harmless *regexp.Regexp
	// rendered says that the value, once accepted, is followed through the plan to every host.
	rendered bool
	// reason says why an accepted value can do no harm where harmless is nil.
	reason string
}

// people lists every string of the API that can reach a host, or decide what does.
func people() []said {
	cluster := func(r *request) any { return &r.Cluster }
	host := func(r *request) any { return &r.Host }
	credential := func(r *request) any { return &r.Credential }
	platform := func(r *request) any { return &r.Platform }
	ntp := func(r *request) any { return &r.NTP }
	operation := func(r *request) any { return &r.Operation }
	location := func(r *request) any { return &r.Location }
	backup := func(r *request) any { return &r.Backup }
	name := regexp.MustCompile(`\A[a-z0-9]([-a-z0-9]*[a-z0-9])?\z`)
	word := regexp.MustCompile(`\A[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?\z`)
	address := regexp.MustCompile(`\A[A-Za-z0-9*]([A-Za-z0-9.:-]*[A-Za-z0-9])?\z`)
	path := regexp.MustCompile(`\A(/[A-Za-z0-9][A-Za-z0-9._-]*){2,}\z`)
	network := regexp.MustCompile(`\A[0-9.]+/[0-9]{1,2}\z`)
	spec := func(f func(s *v1alpha1.ClusterSpec, v string)) func(*request, string) {
		return func(r *request, v string) { f(&r.Cluster.Spec, v) }
	}
	pool := func(f func(p *v1alpha1.WorkerPool, v string)) func(*request, string) {
		return func(r *request, v string) { f(&r.Cluster.Spec.WorkerPools[0], v) }
	}
	return []said{
		{kind: "Cluster", path: ".metadata.name", good: "demo", set: func(r *request, v string) { r.Cluster.Name = v }, object: cluster, harmless: name},
		{kind: "Cluster", path: ".spec.kubernetes.version", good: "v1.36.3", set: spec(func(s *v1alpha1.ClusterSpec, v string) { s.Kubernetes.Version = v }), object: cluster, harmless: regexp.MustCompile(`\Av[0-9.]+\z`)},
		{kind: "Cluster", path: ".spec.kubernetes.dnsDomain", good: "marker-d.example", set: spec(func(s *v1alpha1.ClusterSpec, v string) { s.Kubernetes.DNSDomain = v }), object: cluster, harmless: address, rendered: true},
		{kind: "Cluster", path: ".spec.controlPlane.hosts[]", good: "cp1", set: spec(func(s *v1alpha1.ClusterSpec, v string) { s.ControlPlane.Hosts[0] = v }), object: cluster, harmless: name},
		{kind: "Cluster", path: ".spec.workerPools[].name", good: "general", set: pool(func(p *v1alpha1.WorkerPool, v string) { p.Name = v }), object: cluster, harmless: name, rendered: true},
		{kind: "Cluster", path: ".spec.workerPools[].hosts[]", good: "w1", set: pool(func(p *v1alpha1.WorkerPool, v string) { p.Hosts[0] = v }), object: cluster, harmless: name},
		{kind: "Cluster", path: ".spec.workerPools[].labels{key}", good: "marker-k.example/zone", set: pool(func(p *v1alpha1.WorkerPool, v string) {
			delete(p.Labels, "marker-k.example/zone")
			p.Labels[v] = "marker-v"
		}), object: cluster, rendered: true, reason: "the plan refuses what is no label"},
		{kind: "Cluster", path: ".spec.workerPools[].labels{}", good: "marker-v", set: pool(func(p *v1alpha1.WorkerPool, v string) { p.Labels["marker-k.example/zone"] = v }),
			object: cluster, rendered: true, reason: "the plan refuses what is no label"},
		{kind: "Cluster", path: ".spec.workerPools[].taints[].key", good: "marker-t.example/only", set: pool(func(p *v1alpha1.WorkerPool, v string) { p.Taints[0].Key = v }), object: cluster, harmless: word, rendered: true},
		{kind: "Cluster", path: ".spec.workerPools[].taints[].value", good: "marker-w", set: pool(func(p *v1alpha1.WorkerPool, v string) { p.Taints[0].Value = v }), object: cluster,
			harmless: regexp.MustCompile(`\A([A-Za-z0-9._-]*)\z`), rendered: true},
		{kind: "Cluster", path: ".spec.workerPools[].taints[].effect", good: "NoSchedule", set: pool(func(p *v1alpha1.WorkerPool, v string) { p.Taints[0].Effect = effect(v) }), object: cluster,
			harmless: regexp.MustCompile(`\A(NoSchedule|PreferNoSchedule|NoExecute)\z`)},
		{kind: "Cluster", path: ".spec.endpoint.host", good: "marker-e.example.org", set: spec(func(s *v1alpha1.ClusterSpec, v string) { s.Endpoint.Host = v }), object: cluster,
			harmless: regexp.MustCompile(`\A([A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?)?\z`), rendered: true},
		{kind: "Cluster", path: ".spec.endpoint.certSANs[]", good: "marker-s.example.org", set: spec(func(s *v1alpha1.ClusterSpec, v string) { s.Endpoint.CertSANs[0] = v }), object: cluster, harmless: address, rendered: true},
		{kind: "Cluster", path: ".spec.endpoint.externalAddress", good: "198.51.100.99", set: spec(func(s *v1alpha1.ClusterSpec, v string) { s.Endpoint.ExternalAddress = v }), object: cluster,
			harmless: regexp.MustCompile(`\A[0-9.]*\z`), rendered: true},
		{kind: "Cluster", path: ".spec.network.nodePortRange", good: "31007-32007", set: spec(func(s *v1alpha1.ClusterSpec, v string) { s.Network.NodePortRange = v }), object: cluster,
			harmless: regexp.MustCompile(`\A[0-9]{5}-[0-9]{5}\z`)},
		{kind: "Cluster", path: ".spec.runtime.registryMirrors[].registry", good: "marker-h.example:5000", set: spec(func(s *v1alpha1.ClusterSpec, v string) { s.Runtime.RegistryMirrors[0].Registry = v }), object: cluster,
			harmless: regexp.MustCompile(`\A[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?\z`), rendered: true},
		{kind: "Cluster", path: ".spec.runtime.registryMirrors[].endpoints[]", good: "https://marker-i.example/hub", set: spec(func(s *v1alpha1.ClusterSpec, v string) { s.Runtime.RegistryMirrors[0].Endpoints[0] = v }), object: cluster,
			harmless: regexp.MustCompile(`\Ahttps?://[A-Za-z0-9.:/_-]+\z`), rendered: true},
		{kind: "Cluster", path: ".spec.components.apiServer.audit.policy", good: goodPolicy, set: spec(func(s *v1alpha1.ClusterSpec, v string) { s.Components.APIServer.Audit.Policy = v }), object: cluster,
			reason: "the plan refuses what is no audit policy; it is the whole content of a file of its own"},
		{kind: "Cluster", path: ".spec.hostSetup.hostRecords[].address", good: "192.0.2.88", set: spec(func(s *v1alpha1.ClusterSpec, v string) { s.HostSetup.HostRecords[0].Address = v }), object: cluster,
			harmless: regexp.MustCompile(`\A[0-9A-Fa-f.:]+\z`), rendered: true},
		{kind: "Cluster", path: ".spec.hostSetup.hostRecords[].names[]", good: "marker-j.example", set: spec(func(s *v1alpha1.ClusterSpec, v string) { s.HostSetup.HostRecords[0].Names[0] = v }), object: cluster,
			harmless: regexp.MustCompile(`\A[a-z0-9.-]+\z`), rendered: true},
		{kind: "Cluster", path: ".spec.network.podCIDR", good: "172.27.0.0/16", set: spec(func(s *v1alpha1.ClusterSpec, v string) { s.Network.PodCIDR = v }), object: cluster, harmless: network, rendered: true},
		{kind: "Cluster", path: ".spec.network.serviceCIDR", good: "10.97.0.0/16", set: spec(func(s *v1alpha1.ClusterSpec, v string) { s.Network.ServiceCIDR = v }), object: cluster, harmless: network},
		{kind: "Cluster", path: ".spec.network.cni", good: "flannel", set: spec(func(s *v1alpha1.ClusterSpec, v string) { s.Network.CNI = v }), object: cluster, harmless: regexp.MustCompile(`\Aflannel\z`)},
		{kind: "Cluster", path: ".spec.network.flannelBackend", good: "vxlan", set: spec(func(s *v1alpha1.ClusterSpec, v string) { s.Network.FlannelBackend = v }), object: cluster, harmless: regexp.MustCompile(`\A(vxlan|host-gw|)\z`)},
		{kind: "Cluster", path: ".spec.endpoint.provider", good: "External", set: spec(func(s *v1alpha1.ClusterSpec, v string) { s.Endpoint.Provider = v1alpha1.EndpointProvider(v) }), object: cluster,
			harmless: regexp.MustCompile(`\A(External|KubeVIP|)\z`)},
		{kind: "Cluster", path: ".spec.network.kubeProxyMode", good: "nftables", set: spec(func(s *v1alpha1.ClusterSpec, v string) { s.Network.KubeProxyMode = v }), object: cluster, harmless: regexp.MustCompile(`\A(nftables|iptables|)\z`)},
		{kind: "Cluster", path: ".spec.runtime.dataDir", good: "/srv/marker-r/containerd", set: spec(func(s *v1alpha1.ClusterSpec, v string) { s.Runtime.DataDir = v }), object: cluster, harmless: path, rendered: true},
		{kind: "Cluster", path: ".spec.components.etcd.dataDir", good: "/srv/marker-c/etcd", set: spec(func(s *v1alpha1.ClusterSpec, v string) { s.Components.Etcd.DataDir = v }), object: cluster, harmless: path, rendered: true},
		{kind: "Host", path: ".metadata.name", good: "w1", set: func(r *request, v string) { r.Host.Name = v }, object: host, harmless: name},
		{kind: "Host", path: ".spec.address", good: "192.0.2.11", set: func(r *request, v string) { r.Host.Spec.Address = v }, object: host, harmless: address},
		{kind: "Host", path: ".spec.internalAddress", good: "192.0.2.11", set: func(r *request, v string) { r.Host.Spec.InternalAddress = v }, object: host, harmless: regexp.MustCompile(`\A[0-9A-Fa-f.:]*\z`)},
		{kind: "Host", path: ".spec.credential", good: "login", set: func(r *request, v string) { r.Host.Spec.Credential = v }, object: host, reason: "it is looked up by name, and nothing else comes of it"},
		{kind: "Host", path: ".spec.hostKey", good: "ssh-ed25519 AAAA", set: func(r *request, v string) { r.Host.Spec.HostKey = v }, object: host, harmless: regexp.MustCompile(`\A([a-z0-9@.-]+ [A-Za-z0-9+/=]+)?\z`)},
		{kind: "Host", path: ".spec.region", good: "north", set: func(r *request, v string) { r.Host.Spec.Region = v }, object: host, reason: "it is only compared"},
		{kind: "Credential", path: ".spec.user", good: "admin", set: func(r *request, v string) { r.Credential.Spec.User = v }, object: credential, harmless: regexp.MustCompile(`\A[a-z_][a-z0-9_.-]*\$?\z`)},
		{kind: "Credential", path: ".spec.type", good: "Password", set: func(r *request, v string) { r.Credential.Spec.Type = v1alpha1.CredentialType(v) }, object: credential, harmless: regexp.MustCompile(`\A(Password|PrivateKey)\z`)},
		{kind: "Credential", path: ".spec.secretName", good: "login", set: func(r *request, v string) { r.Credential.Spec.SecretName = v }, object: credential, reason: "it is looked up by name, and nothing else comes of it"},
		{kind: "Setting", path: ".spec.platform.address", good: "marker-p.example.com", set: func(r *request, v string) { r.Platform.Spec.Platform.Address = v }, object: platform,
			harmless: regexp.MustCompile(`\A([A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?)?\z`), rendered: true},
		{kind: "Setting", path: ".spec.ntp.servers[].address", good: "marker-n.example.net", set: func(r *request, v string) { r.NTP.Spec.NTP.Servers[0].Address = v }, object: ntp, harmless: address, rendered: true},
		{kind: "BackupLocation", path: ".spec.hostDirectory.path", good: "/srv/marker-b/backups", set: func(r *request, v string) { r.Location.Spec.HostDirectory.Path = v }, object: location, harmless: path},
		{kind: "BackupLocation", path: ".spec.hostDirectory.hosts[]", good: "cp1", set: func(r *request, v string) { r.Location.Spec.HostDirectory.Hosts[0] = v }, object: location,
			reason: "it is looked up by name, and nothing else comes of it"},
		{kind: "Backup", path: ".metadata.name", good: "demo-manual-abc123", set: func(r *request, v string) { r.Backup.Name = v }, object: backup, harmless: name},
		{kind: "Operation", path: ".spec.verb", good: "create", set: func(r *request, v string) { r.Operation.Spec.Verb = v1alpha1.Verb(v) }, object: operation, harmless: regexp.MustCompile(`\A[a-z]+\z`)},
		{kind: "Operation", path: ".spec.cluster", good: "demo", set: func(r *request, v string) { r.Operation.Spec.Cluster = v }, object: operation, harmless: name},
		{kind: "Operation", path: ".spec.approvedPlan", good: "sha256:0", set: func(r *request, v string) { r.Operation.Spec.ApprovedPlan = v }, object: operation, reason: "it is only compared"},
	}
}
