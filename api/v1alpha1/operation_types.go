package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Operation is one change of one cluster: its plan, its progress and what came of it.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Namespaced,shortName=op
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Cluster",type=string,JSONPath=`.spec.cluster`
// +kubebuilder:printcolumn:name="Verb",type=string,JSONPath=`.spec.verb`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Steps",type=string,JSONPath=`.status.progress.summary`
// +kubebuilder:printcolumn:name="Stage",type=string,JSONPath=`.status.stage`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Operation struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   OperationSpec   `json:"spec"`
	Status OperationStatus `json:"status,omitempty"`
}

// Verb is what an operation does to a cluster.
//
// +kubebuilder:validation:Enum=create;delete;scale;upgrade;configure;renew;backup;restore;drill;stop;start;clean
type Verb string

// The verbs.
const (
	// VerbCreate makes a cluster, VerbDelete gives its hosts back.
	VerbCreate Verb = "create"
	VerbDelete Verb = "delete"
	// VerbScale brings hosts in and out, VerbUpgrade moves to another Kubernetes version, VerbConfigure changes settings.
	VerbScale     Verb = "scale"
	VerbUpgrade   Verb = "upgrade"
	VerbConfigure Verb = "configure"
	// VerbRenew renews every certificate.
	VerbRenew Verb = "renew"
	// VerbBackup takes a backup, VerbRestore brings one back, VerbDrill proves that one can be brought back.
	VerbBackup  Verb = "backup"
	VerbRestore Verb = "restore"
	VerbDrill   Verb = "drill"
	// VerbStop stops a cluster that is to be deleted, VerbStart starts it again.
	VerbStop  Verb = "stop"
	VerbStart Verb = "start"
	// VerbClean gives back hosts that were lost and answer again.
	VerbClean Verb = "clean"
)

// OperationSpec says what to do. After creation only approvedPlan, attempt and abort may change.
//
// +kubebuilder:validation:XValidation:rule="self.verb == oldSelf.verb && self.cluster == oldSelf.cluster && has(self.generation) == has(oldSelf.generation) && (!has(self.generation) || self.generation == oldSelf.generation) && has(self.parameters) == has(oldSelf.parameters) && (!has(self.parameters) || self.parameters == oldSelf.parameters) && has(self.wanted) == has(oldSelf.wanted) && (!has(self.wanted) || self.wanted == oldSelf.wanted) && (has(self.propose) && self.propose) == (has(oldSelf.propose) && oldSelf.propose)",message="only approvedPlan, attempt and abort of an operation can change"
type OperationSpec struct {
	Verb Verb `json:"verb"`
	// Cluster is the target, in the same project.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:Pattern=`^[a-z]([-a-z0-9]*[a-z0-9])?$`
	Cluster string `json:"cluster"`
	// Wanted is the spec to bring about. When a person asks, the Cluster gets it on approval, and is created then if it does
	// not exist yet; when the Cluster asks (generation), it is what the Cluster said.
	// +optional
	Wanted *ClusterSpec `json:"wanted,omitempty"`
	// Generation is that of the Cluster whose spec asks for this change; 0 when a person does.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Generation int64 `json:"generation,omitempty"`
	// Propose says that the plan is there to be read: it waits for approval whatever Setting approval says, and is gone after
	// a day without.
	// +optional
	Propose bool `json:"propose,omitempty"`
	// Parameters say more about verbs that no spec tells of.
	// +optional
	Parameters *OperationParameters `json:"parameters,omitempty"`
	// ApprovedPlan is status.plan.hash of the plan that a person agreed to.
	// +kubebuilder:validation:MaxLength=80
	// +optional
	ApprovedPlan string `json:"approvedPlan,omitempty"`
	// Attempt asks for another try of a failed or aborted operation when it is raised.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:XValidation:rule="self >= oldSelf",message="attempt only grows"
	// +optional
	Attempt int32 `json:"attempt,omitempty"`
	// Abort stops the operation after the steps in flight; raising attempt later goes on.
	// +optional
	Abort bool `json:"abort,omitempty"`
}

// OperationParameters say more about a verb. What a verb does not read must be left out.
type OperationParameters struct {
	// Backup names the Backup to take, bring back or prove, in the same project.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Backup string `json:"backup,omitempty"`
	// Force lets a drain delete pods that nothing would start again.
	// +optional
	Force bool `json:"force,omitempty"`
	// DrainSeconds is how long each drain may take; 0 means two hours.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=86400
	// +optional
	DrainSeconds int32 `json:"drainSeconds,omitempty"`
	// MaxUnavailable is how many workers an upgrade takes out of service at a time; 0 means one.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=500
	// +optional
	MaxUnavailable int32 `json:"maxUnavailable,omitempty"`
	// Lost names hosts that are gone for good, as a person confirms: nothing is asked of them.
	// +kubebuilder:validation:MaxItems=500
	// +kubebuilder:validation:items:MaxLength=63
	// +listType=set
	// +optional
	Lost []string `json:"lost,omitempty"`
}

// OperationPhase is where an operation is.
type OperationPhase string

// The phases. Succeeded is final; Partial, Failed and Aborted can be retried.
const (
	// OperationPlanned waits for approval.
	OperationPlanned OperationPhase = "Planned"
	// OperationQueued waits for another operation on the same cluster.
	OperationQueued OperationPhase = "Queued"
	// OperationRunning runs.
	OperationRunning OperationPhase = "Running"
	// OperationSucceeded did everything.
	OperationSucceeded OperationPhase = "Succeeded"
	// OperationPartial left some hosts out; the cluster is usable.
	OperationPartial OperationPhase = "Partial"
	// OperationFailed stopped on an error.
	OperationFailed OperationPhase = "Failed"
	// OperationAborted was stopped by a person.
	OperationAborted OperationPhase = "Aborted"
	// OperationBlocked cannot run: its plan cannot be made or decoded.
	OperationBlocked OperationPhase = "Blocked"
)

// OperationStatus is written by the server alone.
type OperationStatus struct {
	ObservedGeneration int64          `json:"observedGeneration,omitempty"`
	Phase              OperationPhase `json:"phase,omitempty"`
	// Attempt is the spec.attempt that the phase speaks of.
	Attempt int32 `json:"attempt,omitempty"`
	// Plan is the frozen plan.
	Plan *PlanReference `json:"plan,omitempty"`
	// Planned is the spec of the Cluster that the plan to create it was made from, where spec.wanted does not say.
	Planned *ClusterSpec `json:"planned,omitempty"`
	// Impact is what the plan does to a cluster that runs; nil for one that does not exist yet.
	Impact *OperationImpact `json:"impact,omitempty"`
	// Unasked says that the plan runs without approval, since Setting approval lets a harmless one of this verb.
	Unasked bool `json:"unasked,omitempty"`
	// Stage is the stage that runs, or ran last.
	Stage string `json:"stage,omitempty"`
	// Stages lists every stage in order.
	// +kubebuilder:validation:MaxItems=64
	Stages   []StageProgress `json:"stages,omitempty"`
	Progress Progress        `json:"progress,omitempty"`
	// Failures lists what went wrong, 20 at most.
	// +kubebuilder:validation:MaxItems=20
	Failures []Failure `json:"failures,omitempty"`
	// Message says what came of it and what to do next.
	Message    string       `json:"message,omitempty"`
	StartedAt  *metav1.Time `json:"startedAt,omitempty"`
	FinishedAt *metav1.Time `json:"finishedAt,omitempty"`
}

// Ended says that nothing runs or waits any more.
func (p OperationPhase) Ended() bool {
	switch p {
	case OperationSucceeded, OperationPartial, OperationFailed, OperationAborted:
		return true
	default:
		return false
	}
}

// PlanReference points to a stored plan.
type PlanReference struct {
	// Hash covers the plan and the facts it was made from.
	Hash string `json:"hash"`
	// Summary is one line for people.
	Summary string `json:"summary,omitempty"`
}

// StageProgress is one stage of the plan.
type StageProgress struct {
	Name       string       `json:"name"`
	Steps      int32        `json:"steps,omitempty"`
	Done       int32        `json:"done,omitempty"`
	StartedAt  *metav1.Time `json:"startedAt,omitempty"`
	FinishedAt *metav1.Time `json:"finishedAt,omitempty"`
}

// Progress counts steps over all hosts.
type Progress struct {
	Steps int32 `json:"steps,omitempty"`
	Done  int32 `json:"done,omitempty"`
	// Summary is DONE/STEPS.
	Summary string `json:"summary,omitempty"`
}

// Failure is one thing that went wrong.
type Failure struct {
	Host    string `json:"host,omitempty"`
	Step    string `json:"step,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message"`
	// Fix is what a person can do.
	Fix string `json:"fix,omitempty"`
}

// OperationList lists operations.
//
// +kubebuilder:object:root=true
type OperationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Operation `json:"items"`
}

// HostRun is the progress of one operation on one host. It is written by the server alone.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Namespaced
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Operation",type=string,JSONPath=`.spec.operation`
// +kubebuilder:printcolumn:name="Host",type=string,JSONPath=`.spec.host`
// +kubebuilder:printcolumn:name="Step",type=string,JSONPath=`.status.step`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
type HostRun struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   HostRunSpec   `json:"spec"`
	Status HostRunStatus `json:"status,omitempty"`
}

// HostRunSpec names operation and host.
type HostRunSpec struct {
	Operation string `json:"operation"`
	Host      string `json:"host"`
}

// StepState is where a step is on a host.
type StepState string

// The states of a step. A step without a record has not begun.
const (
	StepRunning StepState = "Running"
	StepDone    StepState = "Done"
	StepFailed  StepState = "Failed"
)

// HostRunStatus is the journal of one host.
type HostRunStatus struct {
	// Epoch is the fence epoch in force on the host.
	Epoch int64 `json:"epoch,omitempty"`
	// Step and State are those of the step that ran last.
	Step  string    `json:"step,omitempty"`
	State StepState `json:"state,omitempty"`
	// Steps holds one record for each step that began, in the order of the plan.
	// +kubebuilder:validation:MaxItems=128
	Steps []StepRecord `json:"steps,omitempty"`
}

// StepRecord is the last known state of one step.
type StepRecord struct {
	// Name is the step's name in the plan, unique there.
	Name  string    `json:"name"`
	State StepState `json:"state"`
	// Attempts counts runs of Apply.
	Attempts int32 `json:"attempts,omitempty"`
	// Changed says that Apply was needed.
	Changed    bool         `json:"changed,omitempty"`
	StartedAt  metav1.Time  `json:"startedAt"`
	FinishedAt *metav1.Time `json:"finishedAt,omitempty"`
}

// HostRunList lists host runs.
//
// +kubebuilder:object:root=true
type HostRunList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []HostRun `json:"items"`
}
