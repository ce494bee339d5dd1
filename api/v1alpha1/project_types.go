package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Project holds clusters, and says who may work with them. Its namespace has the same name.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Display name",type=string,JSONPath=`.spec.displayName`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Clusters",type=integer,JSONPath=`.status.clusters`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="a project name has at most 40 lower-case letters, digits and '-', and starts with a letter"
// +kubebuilder:validation:XValidation:rule="!(self.metadata.name in ['slipway-system', 'slipway']) && !self.metadata.name.startsWith('kube-')",message="that name belongs to the platform; choose another"
type Project struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +kubebuilder:default={}
	// +optional
	Spec   ProjectSpec   `json:"spec,omitempty"`
	Status ProjectStatus `json:"status,omitempty"`
}

// DefaultProject is made at the first start; every host and bundle is lent to it until an administrator changes that.
const DefaultProject = "default"

// ProjectSpec is the wanted project.
type ProjectSpec struct {
	// +kubebuilder:validation:MaxLength=128
	// +optional
	DisplayName string `json:"displayName,omitempty"`
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Description string `json:"description,omitempty"`
	// Members may work in the project. One person or group may be listed once for each role.
	// +kubebuilder:validation:MaxItems=200
	// +kubebuilder:validation:XValidation:rule="self.all(m, self.exists_one(n, n.kind == m.kind && n.name == m.name && n.role == m.role))",message="a member is listed twice with the same role"
	// +listType=atomic
	// +optional
	Members []ProjectMember `json:"members,omitempty"`
}

// ProjectRole is what a member may do in a project.
//
// +kubebuilder:validation:Enum=ProjectAdministrator;ClusterAdministrator;ReadOnly
type ProjectRole string

// The project roles.
const (
	// ProjectAdministrator makes, changes and deletes the project's clusters, and adds read-only members.
	ProjectAdministrator ProjectRole = "ProjectAdministrator"
	// ClusterAdministrator works inside the project's clusters and reads everything of the project; it cannot
	// make, change, upgrade or delete clusters.
	ClusterAdministrator ProjectRole = "ClusterAdministrator"
	// ReadOnly reads everything of the project, and changes nothing.
	ReadOnly ProjectRole = "ReadOnly"
)

// MemberKind says what a member's name names.
//
// +kubebuilder:validation:Enum=User;Group
type MemberKind string

// The kinds of members.
const (
	MemberUser  MemberKind = "User"
	MemberGroup MemberKind = "Group"
)

// ProjectMember gives one person or one group of the directory one role.
//
// +kubebuilder:validation:XValidation:rule="self.kind != 'Group' || self.name.startsWith('oidc:')",message="a group is one of the directory: oidc:NAME"
// +kubebuilder:validation:XValidation:rule="!self.name.startsWith('system:') && !self.name.startsWith('slipway:')",message="names that begin with system: or slipway: belong to the platform"
type ProjectMember struct {
	// +kubebuilder:default=User
	// +optional
	Kind MemberKind `json:"kind,omitempty"`
	// Name is the identity of a User (its name, or oidc:NAME for a person from the directory), or oidc:GROUP.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Name string      `json:"name"`
	Role ProjectRole `json:"role"`
}

// ProjectStatus is written by the server alone.
type ProjectStatus struct {
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Conditions: Ready (namespace and role bindings are as the spec says; while it is being deleted, what holds it).
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Clusters counts the clusters in the project.
	Clusters int32 `json:"clusters,omitempty"`
}

// ProjectReady is the condition that says that a project's members can work in it.
const ProjectReady = "Ready"

// ProjectList lists projects.
//
// +kubebuilder:object:root=true
type ProjectList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Project `json:"items"`
}

// Grant lends something of the platform to the project it is in. Only what is lent can be used there.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Namespaced
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Kind",type=string,JSONPath=`.spec.kind`
// +kubebuilder:printcolumn:name="Lends",type=string,JSONPath=`.spec.name`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Summary",type=string,JSONPath=`.status.summary`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Grant struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   GrantSpec   `json:"spec"`
	Status GrantStatus `json:"status,omitempty"`
}

// GrantKind is a kind that can be lent.
//
// +kubebuilder:validation:Enum=Host;Bundle;BackupLocation;ClusterTemplate
type GrantKind string

// The kinds that can be lent.
const (
	GrantHost            GrantKind = "Host"
	GrantBundle          GrantKind = "Bundle"
	GrantBackupLocation  GrantKind = "BackupLocation"
	GrantClusterTemplate GrantKind = "ClusterTemplate"
)

// GrantEverything as the name of a Grant lends every object of the kind, also those made later.
const GrantEverything = "*"

// GrantSpec says what is lent. It never changes: another loan is another Grant.
//
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="a grant cannot change; delete it and make another"
type GrantSpec struct {
	Kind GrantKind `json:"kind"`
	// Name of the object, or * for every object of the kind.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^(\*|[a-z0-9]([-.a-z0-9]*[a-z0-9])?)$`
	Name string `json:"name"`
}

// Lends says whether the grant lends the named object.
func (s *GrantSpec) Lends(kind GrantKind, name string) bool {
	return s.Kind == kind && (s.Name == GrantEverything || s.Name == name)
}

// GrantStatus copies what the project may know of the thing that is lent.
type GrantStatus struct {
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Conditions: Ready (the object exists and can be used; else the reason).
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Summary is one line about the object, for a list.
	Summary string `json:"summary,omitempty"`
	// Host is set for a grant of one host.
	// +optional
	Host *GrantedHost `json:"host,omitempty"`
}

// GrantedHost is what a project sees of a host that is lent to it.
type GrantedHost struct {
	Region          string `json:"region,omitempty"`
	InternalAddress string `json:"internalAddress,omitempty"`
	OS              string `json:"os,omitempty"`
	Architecture    string `json:"architecture,omitempty"`
	CPUs            int32  `json:"cpus,omitempty"`
	MemoryBytes     int64  `json:"memoryBytes,omitempty"`
	// Reachable says whether Slipway can log in.
	Reachable bool `json:"reachable,omitempty"`
	// InUse says that a cluster holds the host; Cluster names it when it is in this project.
	InUse   bool   `json:"inUse,omitempty"`
	Cluster string `json:"cluster,omitempty"`
}

// GrantReady is the condition that says that what is lent can be used.
const GrantReady = "Ready"

// GrantList lists grants.
//
// +kubebuilder:object:root=true
type GrantList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Grant `json:"items"`
}
