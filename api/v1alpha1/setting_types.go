package v1alpha1

import (
	"slices"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Setting is one group of platform settings. Its name says which: platform, ntp, approval, precheck, login or retention.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name in ['platform', 'ntp', 'approval', 'precheck', 'login', 'retention']",message="the settings are named platform, ntp, approval, precheck, login and retention"
// +kubebuilder:validation:XValidation:rule="!has(self.spec.platform) || self.metadata.name == 'platform'",message="spec.platform belongs to the Setting named platform"
// +kubebuilder:validation:XValidation:rule="!has(self.spec.ntp) || self.metadata.name == 'ntp'",message="spec.ntp belongs to the Setting named ntp"
// +kubebuilder:validation:XValidation:rule="!has(self.spec.approval) || self.metadata.name == 'approval'",message="spec.approval belongs to the Setting named approval"
// +kubebuilder:validation:XValidation:rule="!has(self.spec.precheck) || self.metadata.name == 'precheck'",message="spec.precheck belongs to the Setting named precheck"
// +kubebuilder:validation:XValidation:rule="!has(self.spec.login) || self.metadata.name == 'login'",message="spec.login belongs to the Setting named login"
// +kubebuilder:validation:XValidation:rule="!has(self.spec.retention) || self.metadata.name == 'retention'",message="spec.retention belongs to the Setting named retention"
type Setting struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec SettingSpec `json:"spec"`
}

// The names of the settings.
const (
	SettingPlatform  = "platform"
	SettingNTP       = "ntp"
	SettingApproval  = "approval"
	SettingPrecheck  = "precheck"
	SettingLogin     = "login"
	SettingRetention = "retention"
)

// SettingSpec holds exactly the part that the object's name says.
type SettingSpec struct {
	// +optional
	Platform *PlatformSetting `json:"platform,omitempty"`
	// +optional
	NTP *NTPSetting `json:"ntp,omitempty"`
	// +optional
	Approval *ApprovalSetting `json:"approval,omitempty"`
	// +optional
	Precheck *PrecheckSetting `json:"precheck,omitempty"`
	// +optional
	Login *LoginSetting `json:"login,omitempty"`
	// +optional
	Retention *RetentionSetting `json:"retention,omitempty"`
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

// ApprovalSetting says which verbs wait for a person. A verb that is in neither list waits when a person proposes the change
// with an Operation, and does not when the spec of a Cluster asks for it. Deleting a cluster never waits.
//
// +kubebuilder:validation:XValidation:rule="!has(self.required) || !has(self.unlessHarmless) || self.required.all(v, !(v in self.unlessHarmless))",message="a verb is either in required or in unlessHarmless"
type ApprovalSetting struct {
	// Required lists the verbs whose plan must be approved before it runs.
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:Enum=create;scale;upgrade;configure;renew;backup;restore;drill;stop;start
	// +optional
	Required []string `json:"required,omitempty"`
	// UnlessHarmless lists the verbs whose plan must be approved unless its impact is harmless: no pod is lost, loses local
	// data, is the last of its kind or stops, no budget blocks, there is room, etcd keeps its majority and the API answers. An
	// impact that is not known is not harmless. A harmless plan runs at once, whoever asked for it.
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:Enum=scale;upgrade;configure;renew;backup;restore;drill;stop;start
	// +optional
	UnlessHarmless []string `json:"unlessHarmless,omitempty"`
}

// Asks says whether a plan for the operation, of that impact, waits for a person. Nil is a setting that nobody made.
func (s *ApprovalSetting) Asks(op *Operation, impact *OperationImpact) bool {
	verb := string(op.Spec.Verb)
	switch {
	case op.Spec.Propose:
		return true
	case s != nil && slices.Contains(s.Required, verb):
		return true
	case s != nil && slices.Contains(s.UnlessHarmless, verb):
		return !impact.Harmless()
	default:
		return op.Spec.Wanted != nil && op.Spec.Generation == 0 // A plan to read: nothing was asked for yet.
	}
}

// Policy says why the setting makes a plan for the operation, of that impact, wait; "" where it waits to be read only, or not
// at all.
func (s *ApprovalSetting) Policy(op *Operation, impact *OperationImpact) string {
	verb := string(op.Spec.Verb)
	switch {
	case s == nil || op.Spec.Propose:
		return ""
	case slices.Contains(s.Required, verb):
		return "Setting approval (required) wants every plan to " + verb + " a cluster approved"
	case !slices.Contains(s.UnlessHarmless, verb) || impact.Harmless():
		return ""
	case impact == nil || impact.Unknown != "":
		return "Setting approval (unlessHarmless) wants a plan to " + verb + " a cluster approved unless its impact is harmless, and it is not known"
	default:
		return "Setting approval (unlessHarmless) wants a plan to " + verb + " a cluster approved unless its impact is harmless, and it is not"
	}
}

// PrecheckSetting says what a host must have before anything is installed on it. What is not set keeps its default,
// the least with which kubeadm and a small cluster work; raise it to what your organisation asks of a node.
type PrecheckSetting struct {
	// ControlPlane is for hosts of the control plane: 2 CPUs and 1700Mi of memory by default.
	// +optional
	ControlPlane MachineMinimum `json:"controlPlane,omitempty"`
	// Worker is for hosts of worker pools: 2 CPUs and 1Gi of memory by default.
	// +optional
	Worker MachineMinimum `json:"worker,omitempty"`
	// FreeDisk is what must be free where images, etcd and kubelet keep their data: 5Gi by default.
	// +optional
	FreeDisk *resource.Quantity `json:"freeDisk,omitempty"`
	// MaxClockSkewMilliseconds is how far a host's clock may be from the server's: 10000 by default. Certificates
	// and tokens are valid from five minutes ago, so more than that never works.
	// +kubebuilder:validation:Minimum=100
	// +kubebuilder:validation:Maximum=300000
	// +optional
	MaxClockSkewMilliseconds *int32 `json:"maxClockSkewMilliseconds,omitempty"`
}

// MachineMinimum is the least size of a machine.
type MachineMinimum struct {
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4096
	// +optional
	CPUs *int32 `json:"cpus,omitempty"`
	// +optional
	Memory *resource.Quantity `json:"memory,omitempty"`
}

// LoginSetting says how people log in, and for how long.
type LoginSetting struct {
	// Password is what a new password of a local account must be like.
	// +optional
	Password PasswordPolicy `json:"password,omitempty"`
	// SessionIdleMinutes ends a browser session that was not used: 60 by default.
	// +kubebuilder:validation:Minimum=5
	// +kubebuilder:validation:Maximum=10080
	// +optional
	SessionIdleMinutes int32 `json:"sessionIdleMinutes,omitempty"`
	// SessionHours ends every browser session: 12 by default.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=720
	// +optional
	SessionHours int32 `json:"sessionHours,omitempty"`
	// TokenDays is the longest life of a personal token: 90 by default.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=366
	// +optional
	TokenDays int32 `json:"tokenDays,omitempty"`
	// OIDC lets people of the organisation's directory in. Without it only local accounts log in.
	// +optional
	OIDC *OIDCSetting `json:"oidc,omitempty"`
}

// PasswordPolicy is what a password must be like. Well-known passwords and the person's own name are always refused.
type PasswordPolicy struct {
	// MinLength in characters: 12 by default.
	// +kubebuilder:validation:Minimum=8
	// +kubebuilder:validation:Maximum=128
	// +optional
	MinLength int32 `json:"minLength,omitempty"`
	// MinClasses asks for characters of so many of: lower case, upper case, digits, others. 1 by default.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4
	// +optional
	MinClasses int32 `json:"minClasses,omitempty"`
}

// OIDCSetting is one OpenID Connect provider: authorization code flow with PKCE.
type OIDCSetting struct {
	// Issuer is the provider's URL, exactly as its discovery document says it.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^https://[^\s?#]+$`
	Issuer string `json:"issuer"`
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	ClientID string `json:"clientID"`
	// ClientSecretName names a Secret in slipway-system of type slipway.dev/credential, key clientSecret. Empty for a public client.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	ClientSecretName string `json:"clientSecretName,omitempty"`
	// CA is the PEM certificate authority of the provider; empty means those of the server's operating system.
	// +kubebuilder:validation:MaxLength=65536
	// +optional
	CA string `json:"ca,omitempty"`
	// UsernameClaim names the person: preferred_username by default.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	UsernameClaim string `json:"usernameClaim,omitempty"`
	// GroupsClaim lists the person's groups: groups by default.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	GroupsClaim string `json:"groupsClaim,omitempty"`
	// Scopes beside openid: profile, email and groups by default.
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=64
	// +optional
	Scopes []string `json:"scopes,omitempty"`
	// SystemAdministratorGroups of the directory (without prefix) are system administrators.
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=253
	// +optional
	SystemAdministratorGroups []string `json:"systemAdministratorGroups,omitempty"`
	// AuditorGroups of the directory (without prefix) are auditors.
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=253
	// +optional
	AuditorGroups []string `json:"auditorGroups,omitempty"`
}

// RetentionSetting says how long records are kept.
type RetentionSetting struct {
	// AuditDays is how long the audit log is kept: 180 by default.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=3660
	// +optional
	AuditDays int32 `json:"auditDays,omitempty"`
	// RecycleMinutes is how long a cluster stays in the recycle bin before it is deleted: 120 by default.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=525600
	// +optional
	RecycleMinutes int32 `json:"recycleMinutes,omitempty"`
}

// SettingList lists settings.
//
// +kubebuilder:object:root=true
type SettingList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Setting `json:"items"`
}
