// Package flannel owns the steps that give a cluster its pod network: flannel with its VXLAN backend.
// It must never touch the network of a host itself: flannel's pods and the CNI plugins do.
package flannel

import (
	"cmp"
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Namespace is where flannel runs; DaemonSet is its name there.
const (
	Namespace = "kube-flannel"
	DaemonSet = Namespace + "/kube-flannel-ds"
)

// objects renders everything flannel needs in the cluster, in the order in which it is applied.
func objects(i Install) ([]client.Object, error) {
	network, err := json.Marshal(map[string]any{
		"Network": i.PodCIDR, "EnableNFTables": false, "Backend": map[string]any{"Type": cmp.Or(i.Backend, "vxlan")},
	})
	if err != nil {
		return nil, fmt.Errorf("cannot encode flannel's network: %w", err)
	}
	name := metav1.ObjectMeta{Name: "flannel"}
	inNamespace := metav1.ObjectMeta{Name: "flannel", Namespace: Namespace}
	return []client.Object{
		&corev1.Namespace{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
			ObjectMeta: metav1.ObjectMeta{Name: Namespace, Labels: map[string]string{
				"pod-security.kubernetes.io/enforce": "privileged",
			}},
		},
		&corev1.ServiceAccount{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}, ObjectMeta: inNamespace},
		&rbacv1.ClusterRole{
			TypeMeta:   metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRole"},
			ObjectMeta: name,
			Rules: []rbacv1.PolicyRule{
				{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get"}},
				{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"get", "list", "watch"}},
				{APIGroups: []string{""}, Resources: []string{"nodes/status"}, Verbs: []string{"patch"}},
			},
		},
		&rbacv1.ClusterRoleBinding{
			TypeMeta:   metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRoleBinding"},
			ObjectMeta: name,
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "flannel"},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: "flannel", Namespace: Namespace}},
		},
		&corev1.ConfigMap{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
			ObjectMeta: metav1.ObjectMeta{Name: "kube-flannel-cfg", Namespace: Namespace},
			Data:       map[string]string{"net-conf.json": string(network)},
		},
		daemonSet(i),
	}, nil
}

func daemonSet(i Install) *appsv1.DaemonSet {
	labels := map[string]string{"app": "flannel"}
	privileged, rootUser := false, int64(0)
	fileOrCreate, directory := corev1.HostPathFileOrCreate, corev1.HostPathDirectoryOrCreate
	return &appsv1.DaemonSet{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "DaemonSet"},
		ObjectMeta: metav1.ObjectMeta{Name: "kube-flannel-ds", Namespace: Namespace, Labels: labels},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					HostNetwork:        true,
					PriorityClassName:  "system-node-critical",
					ServiceAccountName: "flannel",
					NodeSelector:       map[string]string{"kubernetes.io/os": "linux"},
					Tolerations: []corev1.Toleration{
						{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
						{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute},
					},
					Containers: []corev1.Container{{
						Name: "kube-flannel", Image: i.Image, ImagePullPolicy: corev1.PullIfNotPresent,
						Command: []string{"/opt/bin/flanneld"},
						Args:    []string{"--ip-masq", "--kube-subnet-mgr"},
						Env: []corev1.EnvVar{
							fieldVariable("POD_NAME", "metadata.name"),
							fieldVariable("POD_NAMESPACE", "metadata.namespace"),
							// Not through the Service: that would wait for kube-proxy, crash and back off.
							{Name: "KUBERNETES_SERVICE_HOST", Value: i.APIHost},
							{Name: "KUBERNETES_SERVICE_PORT", Value: i.APIPort},
						},
						SecurityContext: &corev1.SecurityContext{
							Privileged: &privileged, RunAsUser: &rootUser,
							Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN", "NET_RAW"}},
						},
						VolumeMounts: []corev1.VolumeMount{
							{Name: "run", MountPath: "/run/flannel"},
							{Name: "configuration", MountPath: "/etc/kube-flannel/"},
							{Name: "xtables-lock", MountPath: "/run/xtables.lock"},
						},
					}},
					Volumes: []corev1.Volume{
						hostPath("run", "/run/flannel", &directory),
						hostPath("xtables-lock", "/run/xtables.lock", &fileOrCreate),
						{Name: "configuration", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
							LocalObjectReference: corev1.LocalObjectReference{Name: "kube-flannel-cfg"},
						}}},
					},
				},
			},
		},
	}
}

func fieldVariable(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}}}
}

func hostPath(name, path string, t *corev1.HostPathType) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path, Type: t}}}
}
