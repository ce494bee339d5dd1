package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Bundle is a verified set of images and node files for one Kubernetes version. Its name is the version.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Enabled",type=boolean,JSONPath=`.spec.enabled`
// +kubebuilder:printcolumn:name="Verified",type=string,JSONPath=`.status.conditions[?(@.type=="Verified")].status`
// +kubebuilder:printcolumn:name="Kubernetes",type=string,JSONPath=`.status.kubernetesVersion`
// +kubebuilder:printcolumn:name="Arch",type=string,JSONPath=`.status.architectures[*]`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Bundle struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   BundleSpec   `json:"spec,omitempty"`
	Status BundleStatus `json:"status,omitempty"`
}

// BundleSpec is what people decide about a bundle.
type BundleSpec struct {
	// Enabled lets new clusters use the bundle; running clusters keep it either way.
	// +kubebuilder:default=true
	Enabled *bool `json:"enabled,omitempty"`
}

// BundleStatus is what the store holds.
type BundleStatus struct {
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Conditions: Verified (every blob was read back and matches its digest).
	// +listType=map
	// +listMapKey=type
	Conditions        []metav1.Condition `json:"conditions,omitempty"`
	KubernetesVersion string             `json:"kubernetesVersion,omitempty"`
	// Digest is that of the bundle's index; it changes when anything in it changes.
	Digest        string   `json:"digest,omitempty"`
	Architectures []string `json:"architectures,omitempty"`
	// Components maps a component to its version.
	Components map[string]string `json:"components,omitempty"`
	// Images lists the image names.
	Images []string `json:"images,omitempty"`
	// Bytes is the size of all blobs.
	Bytes int64 `json:"bytes,omitempty"`
}

// BundleVerified is the condition type that says whether a bundle may be used.
const BundleVerified = "Verified"

// BundleList lists bundles.
//
// +kubebuilder:object:root=true
type BundleList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Bundle `json:"items"`
}
