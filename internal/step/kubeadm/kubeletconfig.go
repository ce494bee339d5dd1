package kubeadm

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// kubeletConfigPath is what the kubelet reads when it starts.
const kubeletConfigPath = "/var/lib/kubelet/config.yaml"

// KubeletConfig gives the kubelet of a node the configuration that the cluster stores. It does not restart the kubelet.
type KubeletConfig struct {
	// NoteRestart leaves a note on the host that the kubelet has to restart for it, which kubelet.RunConfigured does.
	NoteRestart bool `json:"noteRestart,omitempty"`
}

// ID is stored in plans.
func (KubeletConfig) ID() step.ID { return "kubeadm.kubelet-config/v1" }

// Needs tells what must be there.
func (KubeletConfig) Needs() []step.Output {
	return []step.Output{step.API, step.KubernetesFiles, step.StoredConfig}
}

// Gives tells what later steps find.
func (KubeletConfig) Gives() []step.Output { return []step.Output{step.KubeletConfig} }

// Check compares each setting that the cluster stores, and looks for those that it stores no more. Where the runtime listens is
// the node's own.
func (KubeletConfig) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	var stored corev1.ConfigMap
	found, err := get(ctx, r.Cluster, "kube-system", "kubelet-config", &stored)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fault.NewTerminal("NoKubeletConfig", "put ConfigMap kube-system/kubelet-config back, then retry",
			fmt.Errorf("cannot configure the kubelet: the cluster does not store its configuration"))
	}
	var want, have map[string]any
	if err := yaml.Unmarshal([]byte(stored.Data["kubelet"]), &want); err != nil {
		return nil, fmt.Errorf("cannot read ConfigMap kube-system/kubelet-config: %w", err)
	}
	file, err := host.ReadIfExists(ctx, r, kubeletConfigPath)
	if err != nil {
		return nil, err
	}
	// A file that cannot be read has nothing of what is wanted.
	if yaml.Unmarshal(file, &have) != nil {
		have = nil
	}
	var drift step.Drift
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if key != "containerRuntimeEndpoint" && !reflect.DeepEqual(want[key], have[key]) {
			drift.Want(kubeletConfigPath+" "+key, "other than in the cluster", "as in the cluster")
		}
	}
	// What kubeadm writes for the node alone is in no cluster; what a spec does not say any more has to go.
	for _, key := range []string{"kubeReserved", "systemReserved"} {
		if _, there := want[key]; !there && have[key] != nil {
			drift.Want(kubeletConfigPath+" "+key, "set", "not set, as in the cluster")
		}
	}
	return drift, nil
}

// Apply lets kubeadm fetch and write it.
func (c KubeletConfig) Apply(ctx context.Context, w step.Writer) error {
	// First the note: a cut behind it makes Check find what it finds now.
	if c.NoteRestart {
		if err := w.WriteFile(ctx, step.KubeletRestart, host.File{Content: []byte("its configuration was replaced\n"), Mode: 0o600}); err != nil {
			return fmt.Errorf("cannot note that the kubelet has to restart: %w", err)
		}
	}
	if _, err := w.Run(ctx, host.Command{Argv: []string{Program, "upgrade", "node", "phase", "kubelet-config"}}); err != nil {
		return fmt.Errorf("cannot run kubeadm's phase kubelet-config: %w", err)
	}
	return nil
}
