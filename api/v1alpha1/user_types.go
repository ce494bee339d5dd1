package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// User is one person who may log in. A local account's name is how the person logs in and how RBAC knows them.
// A person from the organisation's directory gets a User at the first login, named oidc-DIGEST.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Identity",type=string,JSONPath=`.status.identity`
// +kubebuilder:printcolumn:name="Display name",type=string,JSONPath=`.spec.displayName`
// +kubebuilder:printcolumn:name="Role",type=string,JSONPath=`.spec.platformRole`
// +kubebuilder:printcolumn:name="Disabled",type=boolean,JSONPath=`.spec.disabled`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="a user name has at most 40 lower-case letters, digits and '-', and starts with a letter"
// +kubebuilder:validation:XValidation:rule="has(self.spec.directory) == self.metadata.name.startsWith('oidc-')",message="names that begin with oidc- are for people from the directory, who get a User at their first login"
// +kubebuilder:validation:XValidation:rule="self.metadata.name != 'admin' || (has(self.spec.platformRole) && self.spec.platformRole == 'SystemAdministrator' && (!has(self.spec.disabled) || !self.spec.disabled))",message="admin is a system administrator and cannot be disabled"
type User struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   UserSpec   `json:"spec"`
	Status UserStatus `json:"status,omitempty"`
}

// AdminUser is the name of the first user. Only admin may change admin.
const AdminUser = "admin"

// PlatformRole is what a person may do in the whole platform, beside what projects give.
//
// +kubebuilder:validation:Enum="";SystemAdministrator;Auditor
type PlatformRole string

// The platform roles. Empty means: an ordinary user, who sees nothing before a project has them as a member.
const (
	// SystemAdministrator may do everything in every project, and manages people, projects, hosts, bundles and settings.
	SystemAdministrator PlatformRole = "SystemAdministrator"
	// Auditor may read everything and the audit log, and change nothing.
	Auditor PlatformRole = "Auditor"
)

// UserSpec says who the person is.
type UserSpec struct {
	// +kubebuilder:validation:MaxLength=128
	// +optional
	DisplayName string `json:"displayName,omitempty"`
	// +kubebuilder:validation:MaxLength=254
	// +kubebuilder:validation:Pattern=`^$|^[^@\s]+@[^@\s]+$`
	// +optional
	Email string `json:"email,omitempty"`
	// +optional
	PlatformRole PlatformRole `json:"platformRole,omitempty"`
	// Disabled ends every session and token at once, and refuses new ones.
	// +optional
	Disabled bool `json:"disabled,omitempty"`
	// Directory is set by the server when a person from the directory first logs in.
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the directory identity of a user cannot change"
	// +optional
	Directory *DirectoryIdentity `json:"directory,omitempty"`
}

// DirectoryIdentity is who the organisation's directory says a person is.
type DirectoryIdentity struct {
	// Issuer is the URL of the provider.
	// +kubebuilder:validation:MaxLength=512
	Issuer string `json:"issuer"`
	// Subject is the provider's own identifier of the person; it never changes hands.
	// +kubebuilder:validation:MaxLength=255
	Subject string `json:"subject"`
	// Username is the claim that names the person, without prefix.
	// +kubebuilder:validation:MaxLength=253
	Username string `json:"username"`
}

// DirectoryPrefix begins the name of every person and group from the directory, in RBAC and in project members.
const DirectoryPrefix = "oidc:"

// Identity is the name by which RBAC, members of projects and the audit log know the person.
func (u *User) Identity() string {
	if u.Spec.Directory != nil {
		return DirectoryPrefix + u.Spec.Directory.Username
	}
	return u.Name
}

// UserStatus is written by the server alone.
type UserStatus struct {
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Identity is the name by which RBAC and members of projects know the person.
	Identity string `json:"identity,omitempty"`
	// Conditions: Ready (can log in; else the reason: Disabled, NoPassword, PasswordMustChange).
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Projects lists the projects that name the person as a member, 50 at most.
	// +kubebuilder:validation:MaxItems=50
	Projects []string `json:"projects,omitempty"`
}

// UserReady is the condition that says whether a User can log in.
const UserReady = "Ready"

// UserList lists users.
//
// +kubebuilder:object:root=true
type UserList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []User `json:"items"`
}
