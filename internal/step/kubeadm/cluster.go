package kubeadm

import (
	"context"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

// UploadConfig stores kubeadm's and the kubelet's configuration in the cluster.
type UploadConfig struct {
	// Version is the Kubernetes version that the stored configuration must name.
	Version string `json:"version"`
	// Settings, where it is given, is what the rest of it must say.
	Settings *Settings `json:"settings,omitempty"`
}

// ID is stored in plans.
func (UploadConfig) ID() step.ID { return "kubeadm.upload-config/v1" }

// Needs tells what must be there.
func (UploadConfig) Needs() []step.Output { return []step.Output{step.API, step.KubeadmConfig} }

// Gives tells what later steps find.
func (UploadConfig) Gives() []step.Output { return []step.Output{step.StoredConfig} }

// Check reads what is stored, and the right of joining nodes to read it.
func (u UploadConfig) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	var drift step.Drift
	var config corev1.ConfigMap
	found, err := get(ctx, r.Cluster, "kube-system", "kubeadm-config", &config)
	if err != nil {
		return nil, err
	}
	if !found || !strings.Contains(config.Data["ClusterConfiguration"], "kubernetesVersion: "+u.Version+"\n") {
		drift.Want("ConfigMap kube-system/kubeadm-config", "not for "+u.Version, "for "+u.Version)
	} else if u.Settings != nil {
		if drift, err = u.Settings.stored(ctx, r.Cluster, config.Data["ClusterConfiguration"]); err != nil {
			return nil, err
		}
	}
	for name, o := range map[string]client.Object{
		"kubelet-config":               &corev1.ConfigMap{},
		"kubeadm:nodes-kubeadm-config": &rbacv1.RoleBinding{},
		"kubeadm:kubelet-config":       &rbacv1.RoleBinding{},
	} {
		if err := wantObject(ctx, &drift, r.Cluster, "kube-system", name, o); err != nil {
			return nil, err
		}
	}
	return drift, nil
}

// Apply lets kubeadm store it.
func (u UploadConfig) Apply(ctx context.Context, w step.Writer) error {
	return runPhase(ctx, w, "init", "upload-config", "all")
}

// AllowJoin makes the bootstrap token and what a joining node reads before it has a name.
type AllowJoin struct {
	// Token is the bootstrap token that the configuration names.
	Token step.SecretRef `json:"token"`
}

// ID is stored in plans.
func (AllowJoin) ID() step.ID { return "kubeadm.allow-join/v1" }

// Needs tells what must be there.
func (AllowJoin) Needs() []step.Output { return []step.Output{step.API, step.KubeadmConfig} }

// Gives tells what later steps find.
func (AllowJoin) Gives() []step.Output { return []step.Output{step.JoinInformation} }

// Check looks for the token, the public cluster information and the rights of joining nodes.
func (a AllowJoin) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	token, err := r.Secrets.Secret(ctx, a.Token)
	if err != nil {
		return nil, fmt.Errorf("cannot read the bootstrap token: %w", err)
	}
	id, _, _ := strings.Cut(string(token), ".")
	var drift step.Drift
	if err := wantObject(ctx, &drift, r.Cluster, "kube-system", "bootstrap-token-"+id, &corev1.Secret{}); err != nil {
		return nil, err
	}
	for _, name := range []string{"kubeadm:kubelet-bootstrap", "kubeadm:node-autoapprove-bootstrap", "kubeadm:node-autoapprove-certificate-rotation", "kubeadm:get-nodes"} {
		if err := wantObject(ctx, &drift, r.Cluster, "", name, &rbacv1.ClusterRoleBinding{}); err != nil {
			return nil, err
		}
	}
	if err := wantObject(ctx, &drift, r.Cluster, "kube-public", "kubeadm:bootstrap-signer-clusterinfo", &rbacv1.RoleBinding{}); err != nil {
		return nil, err
	}
	var info corev1.ConfigMap
	found, err := get(ctx, r.Cluster, "kube-public", "cluster-info", &info)
	if err != nil {
		return nil, err
	}
	if !found {
		drift.Want("ConfigMap kube-public/cluster-info", "", "present")
	}
	return drift, nil
}

// Apply lets kubeadm make it all.
func (a AllowJoin) Apply(ctx context.Context, w step.Writer) error {
	return runPhase(ctx, w, "init", "bootstrap-token")
}

// MarkControlPlane labels and taints the node as a control plane.
type MarkControlPlane struct {
	// Schedulable leaves the taint out.
	Schedulable bool `json:"schedulable,omitempty"`
}

// ID is stored in plans.
func (MarkControlPlane) ID() step.ID { return "kubeadm.mark-control-plane/v1" }

// Needs tells what must be there.
func (MarkControlPlane) Needs() []step.Output { return []step.Output{step.API, step.KubeadmConfig} }

const controlPlaneKey = "node-role.kubernetes.io/control-plane"

// Check reads the node, which must have registered.
func (m MarkControlPlane) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	var node corev1.Node
	found, err := get(ctx, r.Cluster, "", r.Target.Name, &node)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fault.NewWaiting("NodeNotRegistered", fmt.Errorf("cannot see node %s in the cluster yet", r.Target.Name))
	}
	var drift step.Drift
	if _, labelled := node.Labels[controlPlaneKey]; !labelled {
		drift.Want("label "+controlPlaneKey, "", "present")
	}
	tainted := false
	for _, t := range node.Spec.Taints {
		tainted = tainted || t.Key == controlPlaneKey
	}
	if !m.Schedulable && !tainted {
		drift.Want("taint "+controlPlaneKey, "", "NoSchedule")
	}
	return drift, nil
}

// Apply lets kubeadm mark it.
func (m MarkControlPlane) Apply(ctx context.Context, w step.Writer) error {
	return runPhase(ctx, w, "init", "mark-control-plane")
}

// FinalizeKubelet lets the control plane's kubelet use the certificate that it renews by itself.
type FinalizeKubelet struct{}

// ID is stored in plans.
func (FinalizeKubelet) ID() step.ID { return "kubeadm.finalize-kubelet/v1" }

// Needs tells what must be there.
func (FinalizeKubelet) Needs() []step.Output { return []step.Output{step.API, step.KubeadmConfig} }

const rotatingCertificate = "/var/lib/kubelet/pki/kubelet-client-current.pem"

// Check reads the kubelet's kubeconfig.
func (FinalizeKubelet) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	b, err := r.ReadFile(ctx, Directory+"/kubelet.conf")
	if err != nil {
		return nil, fmt.Errorf("cannot read the kubelet's kubeconfig: %w", err)
	}
	var drift step.Drift
	if !strings.Contains(string(b), rotatingCertificate) {
		drift.Want(Directory+"/kubelet.conf", "a fixed certificate", rotatingCertificate)
	}
	return drift, nil
}

// Apply lets kubeadm change it. It needs the certificate that the kubelet fetched when it registered.
func (FinalizeKubelet) Apply(ctx context.Context, w step.Writer) error {
	info, err := w.Stat(ctx, rotatingCertificate)
	if err != nil {
		return fmt.Errorf("cannot look for the kubelet's certificate: %w", err)
	}
	if !info[0].Exists {
		return fault.NewWaiting("KubeletCertificatePending", fmt.Errorf("cannot see %s yet", rotatingCertificate))
	}
	return runPhase(ctx, w, "init", "kubelet-finalize", "all")
}

// Proxy installs kube-proxy.
type Proxy struct {
	// Version is the image's tag.
	Version string `json:"version"`
	// Settings, where it is given, is what its configuration must say.
	Settings *Settings `json:"settings,omitempty"`
}

// ID is stored in plans.
func (Proxy) ID() step.ID { return "kubeadm.proxy/v1" }

// Needs tells what must be there.
func (Proxy) Needs() []step.Output { return []step.Output{step.API, step.KubeadmConfig} }

// Check reads which image it runs.
func (p Proxy) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	var drift step.Drift
	var proxy appsv1.DaemonSet
	if _, err := get(ctx, r.Cluster, "kube-system", "kube-proxy", &proxy); err != nil {
		return nil, err
	}
	drift.Want("DaemonSet kube-system/kube-proxy", imageTag(proxy.Spec.Template), p.Version)
	if p.Settings == nil || !drift.Clean() {
		return drift, nil
	}
	return p.Settings.proxied(ctx, r.Cluster)
}

// Apply lets kubeadm install it.
func (Proxy) Apply(ctx context.Context, w step.Writer) error {
	return runPhase(ctx, w, "init", "addon", "kube-proxy")
}

// DNS installs CoreDNS. It comes after kube-proxy runs: a CoreDNS that starts before waits half a minute for
// connections to the API that nothing answers.
type DNS struct {
	// Tag is the image's tag.
	Tag string `json:"tag"`
}

// ID is stored in plans.
func (DNS) ID() step.ID { return "kubeadm.dns/v1" }

// Needs tells what must be there.
func (DNS) Needs() []step.Output { return []step.Output{step.API, step.KubeadmConfig} }

// Check reads which image it runs.
func (d DNS) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	var drift step.Drift
	var dns appsv1.Deployment
	if _, err := get(ctx, r.Cluster, "kube-system", "coredns", &dns); err != nil {
		return nil, err
	}
	drift.Want("Deployment kube-system/coredns", imageTag(dns.Spec.Template), d.Tag)
	if err := wantObject(ctx, &drift, r.Cluster, "kube-system", "kube-dns", &corev1.Service{}); err != nil {
		return nil, err
	}
	return drift, nil
}

// Apply lets kubeadm install it.
func (DNS) Apply(ctx context.Context, w step.Writer) error {
	return runPhase(ctx, w, "init", "addon", "coredns")
}

func imageTag(t corev1.PodTemplateSpec) string {
	if len(t.Spec.Containers) == 0 {
		return ""
	}
	image := t.Spec.Containers[0].Image
	return image[strings.LastIndex(image, ":")+1:]
}

// get fills o and says whether it exists.
func get(ctx context.Context, c client.Reader, namespace, name string, o client.Object) (bool, error) {
	err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, o)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot read %s from the cluster: %w", name, err)
	}
	return true, nil
}

func wantObject(ctx context.Context, d *step.Drift, c client.Reader, namespace, name string, o client.Object) error {
	found, err := get(ctx, c, namespace, name, o)
	if err != nil {
		return err
	}
	if !found {
		d.Want(fmt.Sprintf("%T %s", o, strings.TrimPrefix(namespace+"/"+name, "/")), "", "present")
	}
	return nil
}
