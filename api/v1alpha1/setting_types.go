package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Setting is one group of platform settings. Its name says which: platform, ntp or approval.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name in ['platform', 'ntp', 'approval']",message="the settings are named platform, ntp and approval"
// +kubebuilder:validation:XValidation:rule="!has(self.spec.platform) || self.metadata.name == 'platform'",message="spec.platform belongs to the Setting named platform"
// +kubebuilder:validation:XValidation:rule="!has(self.spec.ntp) || self.metadata.name == 'ntp'",message="spec.ntp belongs to the Setting named ntp"
// +kubebuilder:validation:XValidation:rule="!has(self.spec.approval) || self.metadata.name == 'approval'",message="spec.approval belongs to the Setting named approval"
type Setting struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec SettingSpec `json:"spec"`
}

// The names of the settings.
const (
	SettingPlatform = "platform"
	SettingNTP      = "ntp"
	SettingApproval = "approval"
)

// SettingSpec holds exactly the part that the object's name says.
type SettingSpec struct {
	// +optional
	Platform *PlatformSetting `json:"platform,omitempty"`
	// +optional
	NTP *NTPSetting `json:"ntp,omitempty"`
	// +optional
	Approval *ApprovalSetting `json:"approval,omitempty"`
}

// PlatformSetting says where hosts reach this server.
type PlatformSetting struct {
	// Address is the IP or name by which every host reaches the server. An intranet IP is advised.
	// Empty means: the local address that routes to the host.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^$|^[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?$`
	// +optional
	Address string `json:"address,omitempty"`
}

// NTPSetting lists time servers. With none enabled, no host's time service is touched.
type NTPSetting struct {
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Servers []NTPServer `json:"servers,omitempty"`
}

// NTPServer is one time server.
type NTPServer struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?$`
	Address string `json:"address"`
	// Enabled lets hosts use it.
	// +kubebuilder:default=true
	// +optional
	Enabled *bool `json:"enabled,omitempty"`
}

// ApprovalSetting says which verbs wait for a person.
type ApprovalSetting struct {
	// Required lists the verbs whose plan must be approved before it runs. Deleting a cluster never waits.
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:Enum=create
	// +optional
	Required []string `json:"required,omitempty"`
}

// SettingList lists settings.
//
// +kubebuilder:object:root=true
type SettingList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Setting `json:"items"`
}
