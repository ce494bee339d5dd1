package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BackupLocation is a place where backups are kept: a directory on the server or on hosts, or a bucket. Projects use it by a
// Grant.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Available",type=string,JSONPath=`.status.conditions[?(@.type=="Available")].status`
// +kubebuilder:printcolumn:name="Backups",type=integer,JSONPath=`.status.backups`
// +kubebuilder:printcolumn:name="Directory",type=string,JSONPath=`.spec.directory.path`
// +kubebuilder:printcolumn:name="Bucket",type=string,JSONPath=`.spec.s3.bucket`
// +kubebuilder:printcolumn:name="Endpoint",type=string,JSONPath=`.spec.s3.endpoint`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63",message="the name of a backup location has at most 63 characters"
type BackupLocation struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   BackupLocationSpec   `json:"spec"`
	Status BackupLocationStatus `json:"status,omitempty"`
}

// BackupLocationSpec says where backups go. What the backups in it depend on never changes.
//
// +kubebuilder:validation:XValidation:rule="[has(self.directory), has(self.s3), has(self.hostDirectory)].filter(is, is).size() == 1",message="a backup location is either spec.directory or spec.s3 or spec.hostDirectory"
// +kubebuilder:validation:XValidation:rule="has(self.directory) == has(oldSelf.directory) && has(self.s3) == has(oldSelf.s3)",message="the kind of a backup location cannot change; make another location"
type BackupLocationSpec struct {
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Description string `json:"description,omitempty"`
	// +optional
	Directory *DirectoryLocation `json:"directory,omitempty"`
	// +optional
	S3 *S3Location `json:"s3,omitempty"`
	// +optional
	HostDirectory *HostDirectoryLocation `json:"hostDirectory,omitempty"`
}

// HostDirectoryLocation is a directory on hosts that clusters hold. On the disk of one host it is for experiments with a
// single control plane: the backups are lost with the host. With mounted, all hosts have the same share there.
//
// +kubebuilder:validation:XValidation:rule="(has(self.mounted) && self.mounted) || self.hosts.size() == 1",message="a directory that is no mounted share is on one host: name one, or say mounted: true"
// +kubebuilder:validation:XValidation:rule="(has(self.mounted) && self.mounted) == (has(oldSelf.mounted) && oldSelf.mounted)",message="whether a backup location is a mounted share cannot change; make another location"
// +kubebuilder:validation:XValidation:rule="(has(self.mounted) && self.mounted) || self.hosts == oldSelf.hosts",message="the host of a backup location cannot change; make another location"
type HostDirectoryLocation struct {
	// Hosts name the Hosts that have the directory: one, or all control planes that mount the share. The first that can be
	// reached serves. Backups can be written and removed only while a cluster holds it.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	// +listType=set
	Hosts []string `json:"hosts"`
	// Path is absolute. A share must be mounted right there; else the directory, mode 700, is made when it is missing.
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^(/[A-Za-z0-9][A-Za-z0-9._-]*){2,}$`
	// +kubebuilder:validation:XValidation:rule="!self.matches('^/((bin|boot|dev|etc|lib|lib64|proc|run|sbin|sys|usr|var/run)/|(opt/cni|var/lib/(cni|containerd|etcd|kubelet|slipway)|var/log)(/|$))')",message="backups cannot be kept in a directory of the operating system, or in one that is cleared with the cluster"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the path of a backup location cannot change; make another location"
	Path string `json:"path"`
	// Mounted says that a share is mounted at Path on all the hosts, such as one of NFS. It is looked for each time, so that
	// a share that is away is never taken for an empty one.
	// +optional
	Mounted bool `json:"mounted,omitempty"`
}

// OnOneHost says that whatever is kept there is lost with one host.
func (l *HostDirectoryLocation) OnOneHost() bool { return l != nil && !l.Mounted }

// DirectoryLocation is a directory on the machine that the server runs on, such as the mount point of an NFS share.
type DirectoryLocation struct {
	// Path is absolute. The server makes the directory, mode 700, when it is missing; an NFS share must be mounted before.
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^(/[A-Za-z0-9][A-Za-z0-9._-]*){2,}$`
	// +kubebuilder:validation:XValidation:rule="!self.matches('^/(bin|boot|dev|etc|lib|lib64|proc|run|sbin|sys|usr)/')",message="backups cannot be kept in a directory of the operating system"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the path of a backup location cannot change; make another location"
	Path string `json:"path"`
}

// S3Location is a bucket of a store that speaks S3.
//
// +kubebuilder:validation:XValidation:rule="!self.endpoint.startsWith('http://') || (has(self.insecure) && self.insecure)",message="http:// needs insecure: true; whoever is on the way can then see what is read and when, and change it, which is noticed"
// +kubebuilder:validation:XValidation:rule="has(self.prefix) == has(oldSelf.prefix) && (!has(self.prefix) || self.prefix == oldSelf.prefix)",message="the prefix of a backup location cannot change; make another location"
type S3Location struct {
	// Endpoint is the URL of the store without a path, such as https://s3.example.com:9000.
	// +kubebuilder:validation:MaxLength=300
	// +kubebuilder:validation:Pattern=`^https?://[A-Za-z0-9.\[\]:-]+$`
	// +kubebuilder:validation:XValidation:rule="isURL(self)",message="endpoint must be a URL such as https://s3.example.com:9000"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the endpoint of a backup location cannot change; make another location"
	Endpoint string `json:"endpoint"`
	// Bucket is made when it is missing and the keys allow that.
	// +kubebuilder:validation:MinLength=3
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the bucket of a backup location cannot change; make another location"
	Bucket string `json:"bucket"`
	// Prefix stands before the name of every object, such as slipway/.
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^([A-Za-z0-9_-][A-Za-z0-9._-]*/)*$`
	// +optional
	Prefix string `json:"prefix,omitempty"`
	// Region as the store knows it.
	// +kubebuilder:default="us-east-1"
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9-]*$`
	// +optional
	Region string `json:"region,omitempty"`
	// AddressStyle says where the bucket stands in a URL: Path (endpoint/bucket, the default) or Virtual (bucket.endpoint),
	// which some public clouds ask for.
	// +kubebuilder:default=Path
	// +optional
	AddressStyle S3AddressStyle `json:"addressStyle,omitempty"`
	// SecretName names a Secret of type slipway.dev/credential in slipway-system: keys accessKey and secretKey.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	SecretName string `json:"secretName"`
	// CABundle is PEM certificates that the store's certificate must lead to. Default: what the server's machine trusts.
	// +kubebuilder:validation:MaxLength=65536
	// +optional
	CABundle string `json:"caBundle,omitempty"`
	// Insecure allows an http:// endpoint. Certificates of https:// are always verified.
	// +optional
	Insecure bool `json:"insecure,omitempty"`
}

// S3AddressStyle says where the bucket stands in a URL.
//
// +kubebuilder:validation:Enum=Path;Virtual
type S3AddressStyle string

// The address styles.
const (
	S3PathStyle    S3AddressStyle = "Path"
	S3VirtualStyle S3AddressStyle = "Virtual"
)

// The keys of the Secret that a S3Location names.
const (
	SecretKeyAccessKey = "accessKey"
	SecretKeySecretKey = "secretKey"
)

// BackupLocationStatus is written by the server alone.
type BackupLocationStatus struct {
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Conditions: Available (a probe was written, read, listed and removed; else what failed and what to do).
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Backups counts the Backups that are kept here, and Bytes is their size. The location cannot be deleted before they are.
	Backups int32 `json:"backups,omitempty"`
	Bytes   int64 `json:"bytes,omitempty"`
	// TestedAt is when the connection was tested last.
	TestedAt *metav1.Time `json:"testedAt,omitempty"`
}

// BackupLocationAvailable is the condition that says whether backups can be written and read.
const BackupLocationAvailable = "Available"

// BackupLocationList lists backup locations.
//
// +kubebuilder:object:root=true
type BackupLocationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []BackupLocation `json:"items"`
}

// Backup is one backup of one cluster: an etcd snapshot, the keys and the spec, in one encrypted file that has the
// Backup's name. To create one takes it, to delete one deletes the file.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Namespaced
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Cluster",type=string,JSONPath=`.spec.cluster`
// +kubebuilder:printcolumn:name="Location",type=string,JSONPath=`.spec.location`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Kubernetes",type=string,JSONPath=`.status.file.kubernetesVersion`
// +kubebuilder:printcolumn:name="Bytes",type=integer,JSONPath=`.status.file.bytes`
// +kubebuilder:printcolumn:name="Proven",type=date,JSONPath=`.status.proven.at`
// +kubebuilder:printcolumn:name="Schedule",type=string,JSONPath=`.spec.schedule`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 128 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="a backup name has at most 128 lower-case letters, digits and '-'"
// +kubebuilder:validation:XValidation:rule="self.metadata.name.startsWith(self.spec.cluster + '-')",message="the name of a backup begins with the name of its cluster and '-'"
type Backup struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   BackupSpec   `json:"spec"`
	Status BackupStatus `json:"status,omitempty"`
}

// BackupSpec says what is backed up and where it is kept. Only the description can change.
//
// +kubebuilder:validation:XValidation:rule="self.cluster == oldSelf.cluster && self.location == oldSelf.location && has(self.schedule) == has(oldSelf.schedule) && (!has(self.schedule) || self.schedule == oldSelf.schedule)",message="only the description of a backup can change"
type BackupSpec struct {
	// Cluster in the same project.
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:Pattern=`^[a-z]([-a-z0-9]*[a-z0-9])?$`
	Cluster string `json:"cluster"`
	// Location names a BackupLocation that is lent to the project.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$`
	Location string `json:"location"`
	// Schedule names the BackupSchedule that made it; empty when a person did.
	// +kubebuilder:validation:MaxLength=40
	// +optional
	Schedule string `json:"schedule,omitempty"`
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Description string `json:"description,omitempty"`
}

// BackupPhase is where a backup is.
type BackupPhase string

// The phases of a backup. A Failed one has no file.
const (
	BackupPending   BackupPhase = "Pending"
	BackupRunning   BackupPhase = "Running"
	BackupCompleted BackupPhase = "Completed"
	BackupFailed    BackupPhase = "Failed"
)

// BackupStatus is written by the server alone.
type BackupStatus struct {
	ObservedGeneration int64       `json:"observedGeneration,omitempty"`
	Phase              BackupPhase `json:"phase,omitempty"`
	// Conditions: Proven (the last drill restored it; else why it could not).
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Operation takes the backup, or took it.
	Operation string `json:"operation,omitempty"`
	// File is what is kept, once it has been written and read back.
	File *BackupFile `json:"file,omitempty"`
	// Proven is the last drill that succeeded.
	Proven *BackupProof `json:"proven,omitempty"`
	// Message says what came of it and what to do.
	Message string `json:"message,omitempty"`
}

// BackupFile is what the manifest of a backup says, and how its file is known.
type BackupFile struct {
	// Digest is sha256:HEX of the whole file. A file with another one is not this backup.
	Digest string `json:"digest"`
	Bytes  int64  `json:"bytes"`
	// ClusterUID tells the cluster from an earlier or later one of the same name.
	ClusterUID        string `json:"clusterUID,omitempty"`
	KubernetesVersion string `json:"kubernetesVersion,omitempty"`
	EtcdVersion       string `json:"etcdVersion,omitempty"`
	// Revision of etcd that the snapshot holds, and how many keys; 0 means not known.
	Revision int64 `json:"revision,omitempty"`
	Keys     int64 `json:"keys,omitempty"`
	// Objects is how many objects of all kinds it holds; 0 means not known.
	Objects int64 `json:"objects,omitempty"`
	// TakenAt is when the snapshot began, and Took how long it was until the file was proven.
	TakenAt metav1.Time     `json:"takenAt"`
	Took    metav1.Duration `json:"took,omitempty"`
}

// BackupProof is one successful drill.
type BackupProof struct {
	At   metav1.Time     `json:"at"`
	Took metav1.Duration `json:"took,omitempty"`
	// Objects is how many objects the restored API served.
	Objects int64 `json:"objects,omitempty"`
	// Version is that of the Slipway that did it.
	Version string `json:"version,omitempty"`
	// Operation is the UID of the one that did it.
	Operation string `json:"operation,omitempty"`
}

// BackupProven is the condition that says whether a backup could be restored when it was last tried.
const BackupProven = "Proven"

// BackupList lists backups.
//
// +kubebuilder:object:root=true
type BackupList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Backup `json:"items"`
}
