package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Credential says how to log in to hosts. The secret values are in a Secret of slipway-system
// that people may create and delete but never read.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=cred
// +kubebuilder:printcolumn:name="User",type=string,JSONPath=`.spec.user`
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.spec.type`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Credential struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec CredentialSpec `json:"spec"`
}

// CredentialType is how a login proves itself.
//
// +kubebuilder:validation:Enum=Password;PrivateKey
type CredentialType string

// The credential types.
const (
	CredentialPassword   CredentialType = "Password"
	CredentialPrivateKey CredentialType = "PrivateKey"
)

// CredentialSpec says who logs in and where the secret is.
type CredentialSpec struct {
	// User is the login name. Any other than root uses sudo.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^[a-z_][a-z0-9_.-]*\$?$`
	User string `json:"user"`
	// Type says which key of the Secret logs in: password, or privateKey (with passphrase when it has one).
	Type CredentialType `json:"type"`
	// SecretName names the Secret in slipway-system: keys password, privateKey, passphrase, sudoPassword.
	// sudoPassword is needed only when sudo asks and the password differs from the login's.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	SecretName string `json:"secretName"`
}

// The keys of a credential's Secret.
const (
	SecretKeyPassword     = "password"
	SecretKeyPrivateKey   = "privateKey"
	SecretKeyPassphrase   = "passphrase"
	SecretKeySudoPassword = "sudoPassword"
)

// CredentialList lists credentials.
//
// +kubebuilder:object:root=true
type CredentialList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Credential `json:"items"`
}
