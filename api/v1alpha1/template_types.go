package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ClusterTemplate is a saved shape for new clusters: everything a Cluster says but which hosts. Projects use it by a Grant.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:printcolumn:name="Kubernetes",type=string,JSONPath=`.spec.kubernetes.version`
// +kubebuilder:printcolumn:name="Control planes",type=integer,JSONPath=`.spec.controlPlane.count`
// +kubebuilder:printcolumn:name="Description",type=string,JSONPath=`.spec.description`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63",message="the name of a cluster template has at most 63 characters"
type ClusterTemplate struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec ClusterTemplateSpec `json:"spec"`
}

// ClusterTemplateSpec is a ClusterSpec with counts where that has hosts. What a cluster cannot change, its template cannot
// either: save another template.
//
// +kubebuilder:validation:XValidation:rule="!has(self.workerPools) || self.workerPools.all(p, self.workerPools.exists_one(q, q.name == p.name))",message="worker pools need different names"
type ClusterTemplateSpec struct {
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Description string `json:"description,omitempty"`

	Kubernetes KubernetesSpec `json:"kubernetes"`
	// ControlPlane says how many hosts the control plane has.
	ControlPlane TemplateControlPlane `json:"controlPlane"`
	// WorkerPools are the pools of a new cluster. None makes a single-node cluster whose control plane runs pods.
	// +kubebuilder:validation:MaxItems=32
	// +optional
	WorkerPools []TemplateWorkerPool `json:"workerPools,omitempty"`
	// Endpoint says how clients reach the API server, but not at which address.
	// +kubebuilder:default={}
	// +optional
	Endpoint TemplateEndpoint `json:"endpoint,omitempty"`
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
}

// TemplateControlPlane is a control plane of so many hosts.
type TemplateControlPlane struct {
	// Count is 1, 3 or 5.
	// +kubebuilder:default=1
	// +kubebuilder:validation:Enum=1;3;5
	// +optional
	Count int32 `json:"count,omitempty"`
}

// TemplateWorkerPool is a set of workers that are alike.
type TemplateWorkerPool struct {
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`
	// Count of workers.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=500
	Count int32 `json:"count"`
	// Labels are put on the nodes when they register.
	// +kubebuilder:validation:MaxProperties=32
	// +optional
	Labels map[string]string `json:"labels,omitempty"`
	// Taints are put on the nodes when they register.
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Taints []Taint `json:"taints,omitempty"`
}

// TemplateEndpoint is an EndpointSpec without what belongs to one cluster: its address and names.
type TemplateEndpoint struct {
	// Provider says who makes the address of the API server reach one that works: External or KubeVIP.
	// +kubebuilder:default=External
	// +kubebuilder:validation:Enum=External;KubeVIP
	// +optional
	Provider EndpointProvider `json:"provider,omitempty"`
	// Port of the API server.
	// +kubebuilder:default=6443
	// +kubebuilder:validation:Minimum=1024
	// +kubebuilder:validation:Maximum=29999
	// +optional
	Port int32 `json:"port,omitempty"`
}

// ClusterTemplateList lists cluster templates.
//
// +kubebuilder:object:root=true
type ClusterTemplateList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []ClusterTemplate `json:"items"`
}
