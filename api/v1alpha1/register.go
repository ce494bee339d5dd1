package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Group is the API group of every kind in this package.
const Group = "slipway.dev"

// SystemNamespace holds Slipway's own objects: credentials' Secrets and the keys of clusters.
const SystemNamespace = "slipway-system"

// Finalizer keeps an object until Slipway has undone what it did on hosts for it.
const Finalizer = "slipway.dev/cleanup"

// Labels and annotations that Slipway puts on objects.
const (
	// LabelCluster is on every Operation and on a cluster's Secret, and names the cluster.
	LabelCluster = "slipway.dev/cluster"
	// LabelClusterUID is on an Operation that a Cluster brought about, and tells it from one of an earlier cluster of that name.
	LabelClusterUID = "slipway.dev/cluster-uid"
	// AnnotationCreatedBy is on a Cluster that an approved plan made, and names that Operation.
	AnnotationCreatedBy = "slipway.dev/created-by"
	// AnnotationDeletedBy is on a Cluster that an approved plan deletes, and names that Operation.
	AnnotationDeletedBy = "slipway.dev/deleted-by"
	// AnnotationNeedsCleaning is on a HostClaim whose host could not be cleaned, and names the Operation to retry.
	AnnotationNeedsCleaning = "slipway.dev/needs-cleaning"
	// LabelProject is on the namespace and the role bindings of a Project, and names it.
	LabelProject = "slipway.dev/project"
	// AnnotationRequestedBy is on a Cluster and an Operation, and names who made it. An admission policy stamps it.
	AnnotationRequestedBy = "slipway.dev/requested-by"
	// AnnotationApprovedBy is on an Operation, and names who set spec.approvedPlan. An admission policy stamps it.
	AnnotationApprovedBy = "slipway.dev/approved-by"
)

// The types of the Secrets in slipway-system. People may create and delete the first, and none of the others.
const (
	// SecretTypeCredential holds what a Credential or a Setting refers to.
	SecretTypeCredential = "slipway.dev/credential"
	// SecretTypeKeys holds the keys of a managed cluster.
	SecretTypeKeys = "slipway.dev/cluster-keys"
	// SecretTypeBackupKey holds the key that encrypts every backup.
	SecretTypeBackupKey = "slipway.dev/backup-key"
	// SecretTypePassword holds the password hash of a local account.
	SecretTypePassword = "slipway.dev/password"
	// SecretTypeSession holds the digest of a browser session.
	SecretTypeSession = "slipway.dev/session"
	// SecretTypeToken holds the digest of a personal token.
	SecretTypeToken = "slipway.dev/token"
	// SecretTypeSetup holds the digest of a one-time set-up link.
	SecretTypeSetup = "slipway.dev/setup"
)

// GroupVersion is the group and version of every kind in this package.
func GroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: Group, Version: "v1alpha1"}
}

// AddToScheme makes scheme know every kind in this package.
func AddToScheme(scheme *runtime.Scheme) error {
	gv := GroupVersion()
	scheme.AddKnownTypes(gv,
		&Backup{}, &BackupList{},
		&BackupLocation{}, &BackupLocationList{},
		&BackupSchedule{}, &BackupScheduleList{},
		&Bundle{}, &BundleList{},
		&Cluster{}, &ClusterList{},
		&ClusterTemplate{}, &ClusterTemplateList{},
		&Credential{}, &CredentialList{},
		&Grant{}, &GrantList{},
		&Host{}, &HostList{},
		&HostClaim{}, &HostClaimList{},
		&HostRun{}, &HostRunList{},
		&Operation{}, &OperationList{},
		&Project{}, &ProjectList{},
		&Setting{}, &SettingList{},
		&User{}, &UserList{},
	)
	metav1.AddToGroupVersion(scheme, gv)
	return nil
}
