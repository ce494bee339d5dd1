package kubeadm

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"slipway.dev/slipway/internal/step"
)

// defaultValidity is kubeadm's own: a year.
const defaultValidity = 365 * 24 * time.Hour

// storedCluster is what a cluster's settings change of the ClusterConfiguration that kubeadm stores.
type storedCluster struct {
	CertificateValidityPeriod metav1.Duration `json:"certificateValidityPeriod"`
	APIServer                 storedComponent `json:"apiServer"`
	ControllerManager         storedComponent `json:"controllerManager"`
	Scheduler                 storedComponent `json:"scheduler"`
}

type storedComponent struct {
	CertSANs     []string   `json:"certSANs,omitempty"`
	ExtraArgs    []argument `json:"extraArgs,omitempty"`
	ExtraVolumes []volume   `json:"extraVolumes,omitempty"`
}

// storedProxy is what they change of kube-proxy's configuration.
type storedProxy struct {
	Mode    string `json:"mode"`
	Logging struct {
		Verbosity int32 `json:"verbosity"`
	} `json:"logging"`
}

// storedKubelet is what they change of the kubelets'.
type storedKubelet struct {
	KubeReserved   map[string]string `json:"kubeReserved,omitempty"`
	SystemReserved map[string]string `json:"systemReserved,omitempty"`
}

// through gives what T reads of a document that is written as YAML.
func through[T any](document map[string]any) (T, error) {
	var read T
	b, err := yaml.Marshal(document)
	if err == nil {
		err = yaml.Unmarshal(b, &read)
	}
	if err != nil {
		return read, fmt.Errorf("cannot encode kubeadm's configuration: %w", err)
	}
	return read, nil
}

// stored compares what kubeadm has stored in the cluster: a ClusterConfiguration in document, and the kubelets' configuration.
func (s Settings) stored(ctx context.Context, c client.Reader, document string) (step.Drift, error) {
	var drift step.Drift
	want, err := through[storedCluster](clusterConfiguration(s, nil))
	if err != nil {
		return nil, err
	}
	if want.CertificateValidityPeriod.Duration == 0 {
		want.CertificateValidityPeriod.Duration = defaultValidity
	}
	var have storedCluster
	// What cannot be read has nothing of what is wanted.
	if yaml.Unmarshal([]byte(document), &have) != nil {
		have = storedCluster{}
	}
	if have.CertificateValidityPeriod.Duration == 0 {
		have.CertificateValidityPeriod.Duration = defaultValidity
	}
	for _, of := range []*storedCluster{&want, &have} {
		slices.Sort(of.APIServer.CertSANs)
	}
	if !equality.Semantic.DeepEqual(have, want) {
		drift.Want("ConfigMap kube-system/kubeadm-config", "other settings", "those of the cluster")
	}
	var config corev1.ConfigMap
	if _, err := get(ctx, c, "kube-system", "kubelet-config", &config); err != nil {
		return nil, err
	}
	wantKubelet, err := through[storedKubelet](kubeletConfiguration(s))
	if err != nil {
		return nil, err
	}
	var haveKubelet storedKubelet
	if yaml.Unmarshal([]byte(config.Data["kubelet"]), &haveKubelet) != nil {
		haveKubelet = storedKubelet{}
	}
	if !equality.Semantic.DeepEqual(haveKubelet, wantKubelet) {
		drift.Want("ConfigMap kube-system/kubelet-config", "other settings", "those of the cluster")
	}
	return drift, nil
}

// proxied compares the configuration that kube-proxy reads when it starts.
func (s Settings) proxied(ctx context.Context, c client.Reader) (step.Drift, error) {
	var drift step.Drift
	want, err := through[storedProxy](proxyConfiguration(s))
	if err != nil {
		return nil, err
	}
	var config corev1.ConfigMap
	if _, err := get(ctx, c, "kube-system", "kube-proxy", &config); err != nil {
		return nil, err
	}
	var have storedProxy
	if yaml.Unmarshal([]byte(config.Data["config.conf"]), &have) != nil {
		have = storedProxy{}
	}
	drift.Want("ConfigMap kube-system/kube-proxy mode", have.Mode, want.Mode)
	drift.Want("ConfigMap kube-system/kube-proxy verbosity", fmt.Sprint(have.Logging.Verbosity), fmt.Sprint(want.Logging.Verbosity))
	return drift, nil
}
