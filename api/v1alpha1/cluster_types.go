package v1alpha1

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Cluster is one Kubernetes cluster on hosts of ours.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Namespaced
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.status.version`
// +kubebuilder:printcolumn:name="Nodes",type=string,JSONPath=`.status.nodes.summary`
// +kubebuilder:printcolumn:name="Endpoint",type=string,JSONPath=`.status.endpoint`
// +kubebuilder:printcolumn:name="Operation",type=string,JSONPath=`.status.operation`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="a cluster name has at most 40 lower-case letters, digits and '-', and starts with a letter"
type Cluster struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ClusterSpec   `json:"spec"`
	Status ClusterStatus `json:"status,omitempty"`
}

// ClusterSpec is the wanted cluster.
//
// +kubebuilder:validation:XValidation:rule="!has(self.workerPools) || self.workerPools.all(p, p.hosts.all(h, !(h in self.controlPlane.hosts)))",message="a host is either a control plane or a worker"
// +kubebuilder:validation:XValidation:rule="!has(self.workerPools) || self.workerPools.all(p, self.workerPools.exists_one(q, q.name == p.name))",message="worker pools need different names"
// +kubebuilder:validation:XValidation:rule="self.controlPlane.hosts.size() == 1 || (has(self.endpoint) && has(self.endpoint.host) && self.endpoint.host.size() > 0)",message="several control planes need endpoint.host: an address that survives the loss of any, by endpoint.provider KubeVIP or by a load balancer of yours"
// +kubebuilder:validation:XValidation:rule="!has(self.network) || !has(self.network.nodePortRange) || !has(self.endpoint) || !has(self.endpoint.port) || self.endpoint.port < int(self.network.nodePortRange.split('-')[0]) || self.endpoint.port > int(self.network.nodePortRange.split('-')[1])",message="endpoint.port is in network.nodePortRange"
type ClusterSpec struct {
	Kubernetes KubernetesSpec `json:"kubernetes"`
	// ControlPlane runs etcd and the API server.
	ControlPlane ControlPlaneSpec `json:"controlPlane"`
	// WorkerPools run workloads. None makes a single-node cluster whose control plane runs pods.
	// +kubebuilder:validation:MaxItems=32
	// +optional
	WorkerPools []WorkerPool `json:"workerPools,omitempty"`
	// +kubebuilder:default={}
	// +optional
	Endpoint EndpointSpec `json:"endpoint,omitempty"`
	// +kubebuilder:default={}
	// +optional
	Network NetworkSpec `json:"network,omitempty"`
	// +kubebuilder:default={}
	// +optional
	Runtime RuntimeSpec `json:"runtime,omitempty"`
	// +kubebuilder:default={}
	// +optional
	Components ComponentsSpec `json:"components,omitempty"`
	// HostSetup says what Slipway may change on a host beyond installing.
	// +kubebuilder:default={}
	// +optional
	HostSetup HostSetupSpec `json:"hostSetup,omitempty"`
	// Recycle puts the cluster into the recycle bin: it is stopped and keeps its hosts. Taken back in time it starts again;
	// else it is deleted (Setting retention says when).
	// +optional
	Recycle bool `json:"recycle,omitempty"`
}

// KubernetesSpec says which Kubernetes runs.
type KubernetesSpec struct {
	// Version is vX.Y.Z, the name of an enabled Bundle.
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^v[0-9]+\.[0-9]+\.[0-9]+$`
	Version string `json:"version"`
	// DNSDomain is the cluster's DNS domain.
	// +kubebuilder:default="cluster.local"
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the DNS domain of a cluster cannot change"
	// +optional
	DNSDomain string `json:"dnsDomain,omitempty"`
}

// ControlPlaneSpec lists the hosts of the control plane.
type ControlPlaneSpec struct {
	// Hosts names Host objects: one, three or five, since etcd needs a majority. Two or four are taken for a while, on the
	// way from one to three.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=7
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +listType=set
	Hosts []string `json:"hosts"`
}

// WorkerPool is a set of workers that are alike.
type WorkerPool struct {
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`
	// Hosts names Host objects.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=500
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +listType=set
	Hosts []string `json:"hosts"`
	// Labels are put on the nodes when they register.
	// +kubebuilder:validation:MaxProperties=32
	// +optional
	Labels map[string]string `json:"labels,omitempty"`
	// Taints are put on the nodes when they register.
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Taints []Taint `json:"taints,omitempty"`
}

// Taint keeps pods that do not tolerate it away from a node.
type Taint struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`
	Key string `json:"key"`
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?$`
	// +optional
	Value string `json:"value,omitempty"`
	// +kubebuilder:validation:Enum=NoSchedule;PreferNoSchedule;NoExecute
	Effect corev1.TaintEffect `json:"effect"`
}

// EndpointProvider says who makes the endpoint of a cluster reachable.
type EndpointProvider string

// The providers of an endpoint.
const (
	EndpointExternal EndpointProvider = "External"
	EndpointKubeVIP  EndpointProvider = "KubeVIP"
)

// EndpointSpec is how clients reach the API server.
//
// +kubebuilder:validation:XValidation:rule="!has(self.provider) || self.provider != 'KubeVIP' || (has(self.host) && isIP(self.host))",message="provider KubeVIP needs endpoint.host: a free IP in the network of the control planes"
type EndpointSpec struct {
	// Provider says who makes Host reach an API server that works: External (the default) is a load balancer, a DNS name or
	// the only control plane itself; KubeVIP moves the address Host among the control planes, whose network it must be in.
	// +kubebuilder:default=External
	// +kubebuilder:validation:Enum=External;KubeVIP
	// +optional
	Provider EndpointProvider `json:"provider,omitempty"`
	// Host is the IP or name of the API server. Default: the internal address of the only control plane.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^$|^[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?$`
	// +optional
	Host string `json:"host,omitempty"`
	// Port of the API server.
	// +kubebuilder:default=6443
	// +kubebuilder:validation:Minimum=1024
	// +kubebuilder:validation:Maximum=29999
	// +optional
	Port int32 `json:"port,omitempty"`
	// CertSANs are more IPs and names that the API server's certificate is valid for. A change makes that certificate anew on
	// one control plane after another; nothing restarts.
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:Pattern=`^(\*\.)?[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?$`
	// +listType=set
	// +optional
	CertSANs []string `json:"certSANs,omitempty"`
	// ExternalAddress is the IPv4 address by which clients outside reach the API server, where something in front translates
	// it: the API server's certificate is valid for it too. A change makes that certificate anew; nothing restarts.
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:XValidation:rule="size(self) == 0 || (isIP(self) && ip(self).family() == 4)",message="externalAddress must be an IPv4 address such as 198.51.100.7"
	// +optional
	ExternalAddress string `json:"externalAddress,omitempty"`
}

// NetworkSpec is the cluster network. Its CIDRs, CNI and backend cannot change after creation.
//
// +kubebuilder:validation:XValidation:rule="has(self.podCIDR) == has(oldSelf.podCIDR) && has(self.serviceCIDR) == has(oldSelf.serviceCIDR) && (!has(self.podCIDR) || self.podCIDR == oldSelf.podCIDR) && (!has(self.serviceCIDR) || self.serviceCIDR == oldSelf.serviceCIDR)",message="the CIDRs of a cluster cannot change"
// +kubebuilder:validation:XValidation:rule="!has(self.podCIDR) || !has(self.serviceCIDR) || !isCIDR(self.podCIDR) || !isCIDR(self.serviceCIDR) || !(cidr(self.podCIDR).containsCIDR(cidr(self.serviceCIDR)) || cidr(self.serviceCIDR).containsCIDR(cidr(self.podCIDR)))",message="podCIDR and serviceCIDR overlap"
type NetworkSpec struct {
	// PodCIDR is where pods get addresses. It must not overlap a network of any host.
	// +kubebuilder:default="172.25.0.0/16"
	// +kubebuilder:validation:MaxLength=18
	// +kubebuilder:validation:XValidation:rule="isCIDR(self) && cidr(self).ip().family() == 4 && cidr(self).prefixLength() >= 8 && cidr(self).prefixLength() <= 24 && cidr(self) == cidr(self).masked()",message="podCIDR must be an IPv4 network such as 172.25.0.0/16, with a prefix of 8 to 24 and no host bits"
	// +optional
	PodCIDR string `json:"podCIDR,omitempty"`
	// ServiceCIDR is where Services get addresses. It must not overlap a network of any host.
	// +kubebuilder:default="10.96.0.0/16"
	// +kubebuilder:validation:MaxLength=18
	// +kubebuilder:validation:XValidation:rule="isCIDR(self) && cidr(self).ip().family() == 4 && cidr(self).prefixLength() >= 12 && cidr(self).prefixLength() <= 28 && cidr(self) == cidr(self).masked()",message="serviceCIDR must be an IPv4 network such as 10.96.0.0/16, with a prefix of 12 to 28 and no host bits"
	// +optional
	ServiceCIDR string `json:"serviceCIDR,omitempty"`
	// CNI is the pod network.
	// +kubebuilder:default=flannel
	// +kubebuilder:validation:Enum=flannel
	// +optional
	CNI string `json:"cni,omitempty"`
	// FlannelBackend says how pods of different nodes reach each other: vxlan (the default) works on any network, host-gw is
	// faster and needs all hosts in one layer-2 network.
	// +kubebuilder:default=vxlan
	// +kubebuilder:validation:Enum=vxlan;host-gw
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the flannel backend of a cluster cannot change"
	// +optional
	FlannelBackend string `json:"flannelBackend,omitempty"`
	// KubeProxyMode is nftables or iptables. Default: nftables where every host has it, else iptables. A change restarts
	// kube-proxy, one node after another.
	// +kubebuilder:validation:Enum="";nftables;iptables
	// +optional
	KubeProxyMode string `json:"kubeProxyMode,omitempty"`
	// NodePortRange is where Services of type NodePort get their ports, FROM-TO, 11000 or above: Kubernetes' own default is
	// 30000-32767. A change restarts the API servers, one after another; ports that Services have stay.
	// +kubebuilder:default="30000-32767"
	// +kubebuilder:validation:MaxLength=11
	// +kubebuilder:validation:Pattern=`^[1-9][0-9]{4}-[1-9][0-9]{4}$`
	// +kubebuilder:validation:XValidation:rule="int(self.split('-')[0]) >= 11000 && int(self.split('-')[0]) <= int(self.split('-')[1]) && int(self.split('-')[1]) <= 65535",message="nodePortRange must be FROM-TO within 11000-65535, such as 30000-32767"
	// +optional
	NodePortRange string `json:"nodePortRange,omitempty"`
}

// RuntimeSpec is the container runtime.
type RuntimeSpec struct {
	// DataDir holds images and containers.
	// +kubebuilder:default="/var/lib/containerd"
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^(/[A-Za-z0-9][A-Za-z0-9._-]*){2,}$`
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the runtime's data directory cannot change"
	// +optional
	DataDir string `json:"dataDir,omitempty"`
	// RegistryMirrors say where images of a registry are looked for before the registry itself is asked, on every node. A
	// change restarts nothing.
	// +kubebuilder:validation:MaxItems=32
	// +listType=map
	// +listMapKey=registry
	// +optional
	RegistryMirrors []RegistryMirror `json:"registryMirrors,omitempty"`
}

// RegistryMirror names other places for the images of one registry.
type RegistryMirror struct {
	// Registry is HOST or HOST:PORT, as in the names of images; docker.io for names without one.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?$`
	Registry string `json:"registry"`
	// Endpoints are the URLs that are asked, in this order.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MaxLength=512
	// +kubebuilder:validation:items:Pattern=`^https?://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(/[A-Za-z0-9._-]+)*$`
	// +listType=set
	Endpoints []string `json:"endpoints"`
}

// ComponentsSpec tunes the components of Kubernetes.
type ComponentsSpec struct {
	// LogLevel is how much kube-apiserver, kube-controller-manager, kube-scheduler and kube-proxy log: a larger number is more,
	// and takes more space. A change restarts all four, one node after another.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10
	// +optional
	LogLevel int32 `json:"logLevel,omitempty"`
	// +kubebuilder:default={}
	// +optional
	APIServer APIServerSpec `json:"apiServer,omitempty"`
	// +kubebuilder:default={}
	// +optional
	Kubelet KubeletSpec `json:"kubelet,omitempty"`
	// +kubebuilder:default={}
	// +optional
	Etcd EtcdSpec `json:"etcd,omitempty"`
	// +kubebuilder:default={}
	// +optional
	Certificates CertificatesSpec `json:"certificates,omitempty"`
}

// APIServerSpec tunes the API servers.
type APIServerSpec struct {
	// +kubebuilder:default={}
	// +optional
	Audit AuditSpec `json:"audit,omitempty"`
}

// AuditSpec tunes the audit log of the API servers, which is /var/log/kubernetes/audit/audit.log on each control plane. A
// change restarts the API servers, one after another, where audit is on before or after it.
type AuditSpec struct {
	// Enabled turns the log on.
	// +optional
	Enabled bool `json:"enabled,omitempty"`
	// Policy is a Policy of audit.k8s.io/v1 in YAML. Default: who did what to which object, without contents, and without
	// the questions that components ask all the time.
	// +kubebuilder:validation:MaxLength=12288
	// +optional
	Policy string `json:"policy,omitempty"`
	// MaxAge is for how many days a file is kept; 0 means that age does not matter.
	// +kubebuilder:default=7
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=30
	// +optional
	MaxAge *int32 `json:"maxAge,omitempty"`
	// MaxSize is how large a file becomes before another is begun, in megabytes.
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=200
	// +optional
	MaxSize int32 `json:"maxSize,omitempty"`
	// MaxBackup is how many files are kept.
	// +kubebuilder:default=100
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	MaxBackup int32 `json:"maxBackup,omitempty"`
}

// KubeletSpec tunes the kubelets.
type KubeletSpec struct {
	// KubeReserved is kept from pods for the kubelet and the container runtime. A change restarts the kubelets, one control
	// plane after another and then the workers; pods run on.
	// +kubebuilder:default={}
	// +optional
	KubeReserved ReservedSpec `json:"kubeReserved,omitempty"`
	// SystemReserved is kept from pods for the operating system. A change restarts as one of KubeReserved does.
	// +kubebuilder:default={}
	// +optional
	SystemReserved ReservedSpec `json:"systemReserved,omitempty"`
}

// ReservedSpec is a share of each node.
type ReservedSpec struct {
	// +kubebuilder:default="100m"
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).compareTo(quantity('0')) >= 0 && quantity(string(self)).compareTo(quantity('64')) <= 0",message="cpu must be 0 to 64"
	// +optional
	CPU *resource.Quantity `json:"cpu,omitempty"`
	// +kubebuilder:default="128Mi"
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).compareTo(quantity('0')) >= 0 && quantity(string(self)).compareTo(quantity('256Gi')) <= 0",message="memory must be 0 to 256Gi"
	// +optional
	Memory *resource.Quantity `json:"memory,omitempty"`
}

// CertificatesSpec tunes the certificates of the control plane, those of its authorities not among them.
type CertificatesSpec struct {
	// Validity is how long each is good for from its creation or renewal on: 8760h, a year, by default.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^([0-9]+(h|m|s))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('2m') && duration(self) <= duration('43800h')",message="certificates are valid for 2m to 43800h, five years"
	// +optional
	Validity *metav1.Duration `json:"validity,omitempty"`
}

// EtcdSpec tunes etcd.
type EtcdSpec struct {
	// DataDir holds the cluster's data.
	// +kubebuilder:default="/var/lib/etcd"
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^(/[A-Za-z0-9][A-Za-z0-9._-]*){2,}$`
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="etcd's data directory cannot change"
	// +optional
	DataDir string `json:"dataDir,omitempty"`
}

// HostSetupSpec says what may be changed on hosts. What is not allowed is only reported.
type HostSetupSpec struct {
	// DisableFirewall stops and disables firewalld or ufw.
	// +optional
	DisableFirewall bool `json:"disableFirewall,omitempty"`
	// PermissiveSELinux makes SELinux permissive, now and after a reboot.
	// +optional
	PermissiveSELinux bool `json:"permissiveSELinux,omitempty"`
	// DisableSwap turns swap off, now and after a reboot.
	// +optional
	DisableSwap bool `json:"disableSwap,omitempty"`
	// HostRecords are lines for /etc/hosts of every node. A change restarts nothing.
	// +kubebuilder:validation:MaxItems=64
	// +listType=map
	// +listMapKey=address
	// +optional
	HostRecords []HostRecord `json:"hostRecords,omitempty"`
}

// HostRecord gives an address names, as a line of /etc/hosts does.
type HostRecord struct {
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="isIP(self)",message="address must be an IP such as 192.168.2.2"
	Address string `json:"address"`
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	// +listType=set
	Names []string `json:"names"`
}

// ClusterState is the state of a cluster in one word.
type ClusterState string

// The states of a cluster.
const (
	ClusterPending      ClusterState = "Pending"
	ClusterInitializing ClusterState = "Initializing"
	ClusterActive       ClusterState = "Active"
	ClusterDegraded     ClusterState = "Degraded"
	ClusterUpdating     ClusterState = "Updating"
	ClusterFailed       ClusterState = "Failed"
	ClusterDeleting     ClusterState = "Deleting"
	// ClusterRecycled is stopped, in the recycle bin.
	ClusterRecycled ClusterState = "Recycled"
)

// ClusterStatus is what was found. Only Slipway writes it.
type ClusterStatus struct {
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Conditions: Created (the create operation has succeeded), Ready (API answers, every node is Ready), UpToDate (the
	// cluster is as its spec wants it).
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	State      ClusterState       `json:"state,omitempty"`
	// Version is the Kubernetes version that runs.
	Version string `json:"version,omitempty"`
	// Endpoint is the URL of the API server.
	Endpoint string `json:"endpoint,omitempty"`
	// Operation is the one that runs, or ran last.
	Operation string `json:"operation,omitempty"`
	// Applied is the spec that the last operation brought about; where spec differs, a change is planned, runs or has failed.
	Applied *ClusterSpec `json:"applied,omitempty"`
	Nodes   ClusterNodes `json:"nodes,omitempty"`
	// RecycledAt is when the cluster went into the recycle bin, and DeletedAfter when it is deleted if it stays there.
	RecycledAt   *metav1.Time `json:"recycledAt,omitempty"`
	DeletedAfter *metav1.Time `json:"deletedAfter,omitempty"`
	// Certificates lists when the certificate authorities end, and those that the control planes and kubelets serve.
	// +kubebuilder:validation:MaxItems=32
	Certificates []ClusterCertificate `json:"certificates,omitempty"`
}

// ClusterNodes counts nodes.
type ClusterNodes struct {
	Total int32 `json:"total,omitempty"`
	Ready int32 `json:"ready,omitempty"`
	// Summary is READY/TOTAL.
	Summary string `json:"summary,omitempty"`
	// NotReady names nodes that are not Ready, 50 at most.
	// +kubebuilder:validation:MaxItems=50
	NotReady []NodeProblem `json:"notReady,omitempty"`
}

// NodeProblem says why a node is not Ready.
type NodeProblem struct {
	Name    string `json:"name"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// ClusterCertificate is one certificate of a cluster.
type ClusterCertificate struct {
	Name      string      `json:"name"`
	ExpiresAt metav1.Time `json:"expiresAt"`
}

// The condition types of a Cluster.
const (
	ClusterCreated = "Created"
	ClusterReady   = "Ready"
	// ClusterUpToDate says that the cluster is as its spec wants it, or which operation is on the way there.
	ClusterUpToDate = "UpToDate"
	// ClusterCertificatesValid says that no certificate ends within 90 days, or which does.
	ClusterCertificatesValid = "CertificatesValid"
)

// AllHosts gives every host of the cluster, control planes first, then workers by pool.
func (s *ClusterSpec) AllHosts() []string {
	return slices.Concat(s.ControlPlane.Hosts, s.WorkerHosts())
}

// WorkerHosts gives the hosts of every pool, in the order of the pools.
func (s *ClusterSpec) WorkerHosts() []string {
	var hosts []string
	for _, p := range s.WorkerPools {
		hosts = append(hosts, p.Hosts...)
	}
	return hosts
}

// ClusterList lists clusters.
//
// +kubebuilder:object:root=true
type ClusterList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Cluster `json:"items"`
}
