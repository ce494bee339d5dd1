// Package kubevip owns the static pod that moves the address of a cluster's API among its control planes.
// It must never serve Services of type LoadBalancer, nor use IPVS: it only answers ARP for one address.
package kubevip

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// ManifestPath is where the kubelet finds the static pod.
const ManifestPath = "/etc/kubernetes/manifests/kube-vip.yaml"

// adminConf is mounted into the pod. Its cluster-admin binding must exist before the pod can hold its lease, and that is
// made through the API server of one host, since nothing reaches the endpoint before.
const adminConf = "/etc/kubernetes/admin.conf"

// leaseName is that of the lease in kube-system by which control planes agree on who has the address: kube-vip's default.
const leaseName = "plndr-cp-lock"

// Seconds of the lease that says who has the address: how long it is good, how long its holder tries to renew it, and how
// often anybody tries. They are kube-vip's own defaults for control planes.
const leaseSeconds, renewSeconds, retrySeconds = 5, 3, 1

// announceMillis is how often the holder tells the network, by a gratuitous ARP, who has the address. Until the first time
// everybody sends to the holder of before. It is the shortest that kube-vip takes; its default is 3000.
const announceMillis = 500

// Install writes the static pod. The kubelet starts it without any API.
type Install struct {
	// Image is kube-vip's full image name.
	Image string `json:"image"`
	// Address is the IP that moves.
	Address string `json:"address"`
	// Port is that of the API servers.
	Port int32 `json:"port"`
}

// ID is stored in plans.
func (Install) ID() step.ID { return "kubevip.install/v1" }

// Needs tells what must be there.
func (Install) Needs() []step.Output { return []step.Output{step.ControlPlaneKeys} }

// Check compares the manifest.
func (i Install) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	f, err := i.file(r.Target)
	if err != nil {
		return nil, err
	}
	var drift step.Drift
	err = drift.WantFile(ctx, r, ManifestPath, f)
	return drift, err
}

// Apply writes the manifest.
func (i Install) Apply(ctx context.Context, w step.Writer) error {
	f, err := i.file(w.Target)
	if err != nil {
		return err
	}
	return w.WriteFile(ctx, ManifestPath, f)
}

func (i Install) file(t step.Target) (host.File, error) {
	address, err := netip.ParseAddr(i.Address)
	if err != nil {
		return host.File{}, fmt.Errorf("cannot read the endpoint's address: %w", err)
	}
	file := corev1.HostPathFile
	b, err := yaml.Marshal(&corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: "kube-vip", Namespace: metav1.NamespaceSystem, Labels: map[string]string{"app": "kube-vip"}},
		Spec: corev1.PodSpec{
			HostNetwork: true, PriorityClassName: "system-node-critical",
			Containers: []corev1.Container{{
				Name: "kube-vip", Image: i.Image, ImagePullPolicy: corev1.PullIfNotPresent, Args: []string{"manager"},
				Env: []corev1.EnvVar{
					{Name: "address", Value: address.String()},
					{Name: "port", Value: strconv.Itoa(int(i.Port))},
					{Name: "vip_interface", Value: t.NIC},
					{Name: "vip_subnet", Value: strconv.Itoa(address.BitLen())},
					{Name: "vip_arp", Value: "true"},
					{Name: "cp_enable", Value: "true"},
					{Name: "cp_namespace", Value: metav1.NamespaceSystem},
					{Name: "vip_leaderelection", Value: "true"},
					{Name: "vip_leasename", Value: leaseName},
					{Name: "vip_leaseduration", Value: strconv.Itoa(leaseSeconds)},
					{Name: "vip_renewdeadline", Value: strconv.Itoa(renewSeconds)},
					{Name: "vip_retryperiod", Value: strconv.Itoa(retrySeconds)},
					{Name: "vip_arpRate", Value: strconv.Itoa(announceMillis)},
					{Name: "vip_nodename", Value: t.Name},
					// By itself it would show its figures to the whole network.
					{Name: "prometheus_server", Value: "127.0.0.1:2112"},
				},
				SecurityContext: &corev1.SecurityContext{Capabilities: &corev1.Capabilities{
					Add: []corev1.Capability{"NET_ADMIN", "NET_RAW"}, Drop: []corev1.Capability{"ALL"},
				}},
				VolumeMounts: []corev1.VolumeMount{{Name: "kubeconfig", MountPath: adminConf, ReadOnly: true}},
			}},
			// kube-vip asks the API server named kubernetes, which must be its own host's: the endpoint is what it makes.
			HostAliases: []corev1.HostAlias{{IP: "127.0.0.1", Hostnames: []string{"kubernetes"}}},
			Volumes: []corev1.Volume{{Name: "kubeconfig", VolumeSource: corev1.VolumeSource{
				HostPath: &corev1.HostPathVolumeSource{Path: adminConf, Type: &file},
			}}},
		},
	})
	if err != nil {
		return host.File{}, fmt.Errorf("cannot encode kube-vip's manifest: %w", err)
	}
	return host.File{Content: b, Mode: 0o600}, nil
}
