package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BackupSchedule takes backups of one cluster, again and again or once.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Namespaced
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Cluster",type=string,JSONPath=`.spec.cluster`
// +kubebuilder:printcolumn:name="Location",type=string,JSONPath=`.spec.location`
// +kubebuilder:printcolumn:name="Cron",type=string,JSONPath=`.spec.cron`
// +kubebuilder:printcolumn:name="At",type=string,JSONPath=`.spec.at`,priority=1
// +kubebuilder:printcolumn:name="Enabled",type=boolean,JSONPath=`.spec.enabled`
// +kubebuilder:printcolumn:name="Keep",type=integer,JSONPath=`.spec.keep`
// +kubebuilder:printcolumn:name="Last",type=date,JSONPath=`.status.last.at`
// +kubebuilder:printcolumn:name="Next",type=string,JSONPath=`.status.next`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="a schedule name has at most 40 lower-case letters, digits and '-'"
// +kubebuilder:validation:XValidation:rule="self.metadata.name != 'manual'",message="manual is in the names of backups that people make; choose another name"
type BackupSchedule struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   BackupScheduleSpec   `json:"spec"`
	Status BackupScheduleStatus `json:"status,omitempty"`
}

// BackupScheduleSpec says what is backed up, where to, and when. A changed time counts from the next run on.
//
// +kubebuilder:validation:XValidation:rule="(has(self.cron) && self.cron.size() > 0) != has(self.at)",message="a schedule has either cron, to repeat, or at, to run once"
// +kubebuilder:validation:XValidation:rule="self.cluster == oldSelf.cluster",message="the cluster of a schedule cannot change; make another schedule"
type BackupScheduleSpec struct {
	// Cluster in the same project.
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:Pattern=`^[a-z]([-a-z0-9]*[a-z0-9])?$`
	Cluster string `json:"cluster"`
	// Location names a BackupLocation that is lent to the project.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$`
	Location string `json:"location"`
	// Cron is minute, hour, day of month, month and day of week (0 is Sunday), such as "30 2 * * *": every night at 2:30.
	// +kubebuilder:validation:MaxLength=100
	// +kubebuilder:validation:Pattern=`^$|^[0-9*/,-]+( [0-9*/,-]+){4}$`
	// +optional
	Cron string `json:"cron,omitempty"`
	// TimeZone of cron and drill, as the IANA database names it, such as Asia/Shanghai.
	// +kubebuilder:default=UTC
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9][A-Za-z0-9_+-]*)*$`
	// +optional
	TimeZone string `json:"timeZone,omitempty"`
	// At is the time of the only run.
	// +optional
	At *metav1.Time `json:"at,omitempty"`
	// Enabled lets it run. A run that was due while it was disabled is not made up for.
	// +kubebuilder:default=true
	// +optional
	Enabled *bool `json:"enabled,omitempty"`
	// Keep is how many completed backups of this schedule are kept; when there are more, the oldest go.
	// +kubebuilder:default=7
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	// +optional
	Keep int32 `json:"keep,omitempty"`
	// Drill is when the newest backup is proven by restoring it aside, as in cron; empty means never.
	// +kubebuilder:validation:MaxLength=100
	// +kubebuilder:validation:Pattern=`^$|^[0-9*/,-]+( [0-9*/,-]+){4}$`
	// +optional
	Drill string `json:"drill,omitempty"`
}

// BackupScheduleStatus is written by the server alone.
type BackupScheduleStatus struct {
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Conditions: Ready (it will run; else why not: disabled, done, or a time that cannot be read).
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Last is the run that began last, Next when the next one begins.
	Last *ScheduledRun `json:"last,omitempty"`
	Next *metav1.Time  `json:"next,omitempty"`
	// LastDrill is the drill that began last, NextDrill when the next one begins.
	LastDrill *ScheduledRun `json:"lastDrill,omitempty"`
	NextDrill *metav1.Time  `json:"nextDrill,omitempty"`
	// Backups counts the completed backups of this schedule that are kept.
	Backups int32 `json:"backups,omitempty"`
}

// ScheduledRun is one run of a schedule.
type ScheduledRun struct {
	At metav1.Time `json:"at"`
	// Backup that was taken or proven.
	Backup string `json:"backup,omitempty"`
}

// BackupScheduleReady is the condition that says whether a schedule will run.
const BackupScheduleReady = "Ready"

// BackupScheduleList lists backup schedules.
//
// +kubebuilder:object:root=true
type BackupScheduleList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []BackupSchedule `json:"items"`
}
