package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Host is one machine that Slipway reaches over SSH. Its name becomes the node name.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.spec.address`
// +kubebuilder:printcolumn:name="Reachable",type=string,JSONPath=`.status.conditions[?(@.type=="Reachable")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Reachable")].reason`
// +kubebuilder:printcolumn:name="Cluster",type=string,JSONPath=`.status.holder.cluster`
// +kubebuilder:printcolumn:name="CPUs",type=integer,JSONPath=`.status.facts.cpus`
// +kubebuilder:printcolumn:name="Memory",type=string,JSONPath=`.status.facts.memory`
// +kubebuilder:printcolumn:name="OS",type=string,JSONPath=`.status.facts.os.name`
// +kubebuilder:printcolumn:name="Arch",type=string,JSONPath=`.status.facts.architecture`,priority=1
// +kubebuilder:printcolumn:name="Kernel",type=string,JSONPath=`.status.facts.kernel`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="a host name becomes a node name: at most 63 lower-case letters, digits and '-'"
type Host struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   HostSpec   `json:"spec"`
	Status HostStatus `json:"status,omitempty"`
}

// HostSpec says how to reach a machine.
type HostSpec struct {
	// Address is the IP address or DNS name that SSH connects to. An intranet address is advised.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?$`
	Address string `json:"address"`
	// InternalAddress is the IP that the cluster and the kubelet use.
	// Default: the address of the NIC that owns Address, else that of the default route.
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="self == '' || isIP(self)",message="internalAddress must be an IP address"
	// +optional
	InternalAddress string `json:"internalAddress,omitempty"`
	// Port is the port of sshd.
	// +kubebuilder:default=22
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	Port int32 `json:"port,omitempty"`
	// Credential names the Credential that logs in.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Credential string `json:"credential"`
	// HostKey is the pinned public key of the machine, as in known_hosts: "ssh-ed25519 AAAA...".
	// Nothing logs in until it is set; status.offeredKey shows what the machine offers.
	// +kubebuilder:validation:MaxLength=4096
	// +kubebuilder:validation:Pattern=`^$|^[a-z0-9@.-]+ [A-Za-z0-9+/=]+$`
	// +optional
	HostKey string `json:"hostKey,omitempty"`
	// Region groups hosts; a cluster never spans two regions.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Region string `json:"region,omitempty"`
}

// HostStatus says what was found. Only Slipway writes it.
type HostStatus struct {
	// ObservedGeneration is the generation of the spec that the conditions speak of.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Conditions: Reachable (login works, facts are fresh), HostKeyPinned, Unique (no other Host is the same machine).
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// OfferedKey is the key that the machine showed when none, or another, was pinned.
	OfferedKey *OfferedKey `json:"offeredKey,omitempty"`
	// InternalAddress is the address in force.
	InternalAddress string `json:"internalAddress,omitempty"`
	// Facts is what the machine is.
	Facts *HostFacts `json:"facts,omitempty"`
	// Holder is the cluster that has claimed the host.
	Holder *HostHolder `json:"holder,omitempty"`
}

// OfferedKey is a host key somebody still has to confirm.
type OfferedKey struct {
	// Key can be copied to spec.hostKey.
	Key string `json:"key"`
	// Fingerprint is the SHA256 form that `ssh-keygen -l` prints on the machine itself.
	Fingerprint string `json:"fingerprint"`
}

// HostHolder names the cluster that holds a host.
type HostHolder struct {
	// Cluster is NAMESPACE/NAME.
	Cluster string `json:"cluster"`
}

// The condition types of a Host.
const (
	HostReachable     = "Reachable"
	HostHostKeyPinned = "HostKeyPinned"
	HostUnique        = "Unique"
)

// HostFacts is what one look at a machine found.
type HostFacts struct {
	// Hostname is the machine's own name for itself.
	Hostname string `json:"hostname,omitempty"`
	// MachineID is /etc/machine-id; two hosts with the same one are one machine or an unclean clone.
	MachineID string `json:"machineID,omitempty"`
	// OS is what /etc/os-release says.
	OS HostOS `json:"os,omitempty"`
	// Kernel is the release, as uname -r prints it.
	Kernel string `json:"kernel,omitempty"`
	// Architecture is in Go's words: amd64, arm64.
	Architecture string `json:"architecture,omitempty"`
	// CPUs is the number of processors a process may use.
	CPUs int32 `json:"cpus,omitempty"`
	// MemoryBytes is the smaller of MemTotal and the cgroup limit.
	MemoryBytes int64 `json:"memoryBytes,omitempty"`
	// Memory is MemoryBytes for people, such as 3.9Gi.
	Memory string `json:"memory,omitempty"`
	// Disks lists physical disks.
	// +kubebuilder:validation:MaxItems=64
	Disks []HostDisk `json:"disks,omitempty"`
	// NICs lists physical network cards and those that carry an address.
	// +kubebuilder:validation:MaxItems=64
	NICs []HostNIC `json:"nics,omitempty"`
	// DefaultRouteNIC carries the default route.
	DefaultRouteNIC string `json:"defaultRouteNIC,omitempty"`
	// FreeBytes is the room on the file systems of /, /var/lib, /usr and /etc, by path.
	FreeBytes map[string]int64 `json:"freeBytes,omitempty"`
	// CgroupVersion is 1 or 2.
	CgroupVersion int32 `json:"cgroupVersion,omitempty"`
	// Capabilities lists kernel capabilities that root has there, such as CAP_SYS_RESOURCE.
	Capabilities []string `json:"capabilities,omitempty"`
	// Tools lists which programs that Slipway asks for are there.
	Tools []string `json:"tools,omitempty"`
	// KernelFeatures lists what the kernel can do: overlay, vxlan, bridge, nf_tables, ip_tables, br_netfilter.
	KernelFeatures []string `json:"kernelFeatures,omitempty"`
	// TimeZone is a name of the tz database, or an abbreviation when the machine has no name for it.
	TimeZone string `json:"timeZone,omitempty"`
	// ClockSkewMillis is the host's clock minus ours; half the round trip is taken off.
	ClockSkewMillis int64 `json:"clockSkewMillis,omitempty"`
	// Swap says that some swap is on.
	Swap bool `json:"swap,omitempty"`
	// Firewall is the active firewall service: firewalld, ufw or empty.
	Firewall string `json:"firewall,omitempty"`
	// SELinux is Enforcing, Permissive or Disabled.
	SELinux string `json:"selinux,omitempty"`
	// ResolverOptions says that /etc/resolv.conf has an active options line.
	ResolverOptions bool `json:"resolverOptions,omitempty"`
	// Virtualization is what systemd-detect-virt says, such as kvm, systemd-nspawn or none.
	Virtualization string `json:"virtualization,omitempty"`
}

// HostOS names an operating system.
type HostOS struct {
	// ID is the os-release ID, such as debian, openEuler, kylin.
	ID string `json:"id,omitempty"`
	// Version is VERSION_ID.
	Version string `json:"version,omitempty"`
	// Name is PRETTY_NAME.
	Name string `json:"name,omitempty"`
}

// HostDisk is one physical disk.
type HostDisk struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
	// Rotational is true for a spinning disk.
	Rotational bool `json:"rotational,omitempty"`
}

// HostNIC is one network card.
type HostNIC struct {
	Name string `json:"name"`
	MAC  string `json:"mac,omitempty"`
	MTU  int32  `json:"mtu,omitempty"`
	// Addresses are in CIDR form.
	// +kubebuilder:validation:MaxItems=32
	Addresses []string `json:"addresses,omitempty"`
}

// HostList lists hosts.
//
// +kubebuilder:object:root=true
type HostList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Host `json:"items"`
}

// HostClaim is the lock on a host: it is named like the host, and its create decides which cluster holds it.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:printcolumn:name="Project",type=string,JSONPath=`.spec.namespace`
// +kubebuilder:printcolumn:name="Cluster",type=string,JSONPath=`.spec.cluster`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type HostClaim struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec HostClaimSpec `json:"spec"`
}

// HostClaimSpec names the holder. It is written by the server alone.
type HostClaimSpec struct {
	Namespace string `json:"namespace"`
	Cluster   string `json:"cluster"`
	// ClusterUID tells a cluster from an earlier one of the same name.
	ClusterUID string `json:"clusterUID,omitempty"`
	// Epoch is the highest fence epoch that was used on the host for this claim.
	Epoch int64 `json:"epoch,omitempty"`
}

// HostClaimList lists claims.
//
// +kubebuilder:object:root=true
type HostClaimList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []HostClaim `json:"items"`
}
