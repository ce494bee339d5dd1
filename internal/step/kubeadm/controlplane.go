package kubeadm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"slices"
	"strings"

	"k8s.io/client-go/tools/clientcmd"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// Kubeconfigs makes the kubeconfigs of a control plane's own components.
type Kubeconfigs struct {
	// Server is the URL that admin.conf and kubelet.conf name.
	Server string `json:"server"`
}

// ID is stored in plans.
func (Kubeconfigs) ID() step.ID { return "kubeadm.kubeconfigs/v1" }

// Needs tells what must be there.
func (Kubeconfigs) Needs() []step.Output {
	return []step.Output{step.KubernetesFiles, step.KubeadmConfig}
}

// Gives tells what later steps find.
func (Kubeconfigs) Gives() []step.Output { return []step.Output{step.ControlPlaneKeys} }

// Check reads each kubeconfig.
func (k Kubeconfigs) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	var drift step.Drift
	for _, name := range []string{"admin.conf", "super-admin.conf", "controller-manager.conf", "scheduler.conf", "kubelet.conf"} {
		path := Directory + "/" + name
		have, err := kubeconfigServer(ctx, r, path)
		if err != nil {
			return nil, err
		}
		switch {
		case name == "admin.conf", name == "kubelet.conf" && have != k.local(r.Target):
			drift.Want(path, have, k.Server)
		case have == "":
			drift.Want(path, "", "present")
		}
	}
	return drift, nil
}

// local is what kubeadm may put into kubelet.conf instead: the API server of the control plane itself, which is no newer
// than its kubelet during an upgrade.
func (k Kubeconfigs) local(t step.Target) string {
	endpoint, err := url.Parse(k.Server)
	if err != nil {
		return ""
	}
	return "https://" + net.JoinHostPort(t.Address, endpoint.Port())
}

// Apply removes what does not fit, since kubeadm refuses to overwrite it, and lets kubeadm make the rest.
func (k Kubeconfigs) Apply(ctx context.Context, w step.Writer) error {
	drift, err := k.Check(ctx, w.Reading)
	if err != nil {
		return err
	}
	for _, d := range drift {
		if err := w.Remove(ctx, d.What); err != nil {
			return fmt.Errorf("cannot remove %s: %w", d.What, err)
		}
	}
	return runPhase(ctx, w, "init", "kubeconfig", "all")
}

// kubeconfigServer gives the server a kubeconfig names, or "" when it is missing or cannot be read.
func kubeconfigServer(ctx context.Context, r host.Reader, path string) (string, error) {
	b, err := r.ReadFile(ctx, path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("cannot read %s: %w", path, err)
	}
	config, err := clientcmd.Load(b)
	if err != nil {
		return "", nil
	}
	for _, c := range config.Clusters {
		return c.Server, nil
	}
	return "", nil
}

// Manifests writes the static pods of etcd and the control plane.
type Manifests struct {
	// Version is the Kubernetes version whose images the manifests must name.
	Version string `json:"version"`
	// EtcdTag is the tag of etcd's image.
	EtcdTag string `json:"etcdTag"`
	// EtcdDataDir is where etcd keeps its data.
	EtcdDataDir string `json:"etcdDataDir"`
	// Etcd says which members etcd finds when it first starts; nil means itself alone.
	Etcd *EtcdStart `json:"etcd,omitempty"`
	// KeepNewer leaves alone what is of a newer version: an upgrade that is tried again must not go back on the way.
	KeepNewer bool `json:"keepNewer,omitempty"`
	// Only leaves the rest alone: OnlyEtcd or OnlyAPI; "" is all. An API server that stops while its etcd is away takes
	// half a minute.
	Only string `json:"only,omitempty"`
	// Components says which flags of ours the manifests must have, and that they have no other; nil leaves flags alone.
	Components *Components `json:"components,omitempty"`
}

// The parts of Manifests.
const (
	// OnlyEtcd is etcd.
	OnlyEtcd = "etcd"
	// OnlyAPI is the API server with the controller manager and the scheduler.
	OnlyAPI = "api"
)

// ID is stored in plans.
func (Manifests) ID() step.ID { return "kubeadm.manifests/v1" }

// Needs tells what must be there.
func (Manifests) Needs() []step.Output { return []step.Output{step.ControlPlaneKeys} }

// Gives tells what later steps find.
func (Manifests) Gives() []step.Output { return []step.Output{step.ControlPlaneManifests} }

// Check reads which images, data directory and flags of ours the manifests name.
func (m Manifests) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	var drift step.Drift
	etcd := []string{":" + m.EtcdTag, "--data-dir=" + m.EtcdDataDir}
	for _, a := range m.Etcd.arguments() {
		etcd = append(etcd, "--"+a["name"]+"="+a["value"])
	}
	written, err := readWritten(ctx, r)
	if err != nil {
		return nil, err
	}
	for name, wants := range map[string][]string{
		"etcd":            etcd,
		apiServer:         {":" + m.Version},
		controllerManager: {":" + m.Version},
		scheduler:         {":" + m.Version},
	} {
		if m.Only != "" && (m.Only == OnlyEtcd) != (name == "etcd") {
			continue
		}
		path := manifests + "/" + name + ".yaml"
		b, err := r.ReadFile(ctx, path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cannot read %s: %w", path, err)
		}
		if m.KeepNewer && newer(manifestTag(b), strings.TrimPrefix(wants[0], ":")) {
			continue
		}
		for _, want := range wants {
			if !strings.Contains(string(b), want+"\n") {
				drift.Want(path, "without "+want, "with "+want)
			}
		}
		if m.Components != nil && name != "etcd" {
			is, should := m.Components.differences(name, strings.Split(string(b), "\n"))
			drift.Want(path, is, should)
		}
		if written[name] != "" && written[name] != digest(b) {
			drift.Want(path, "other content", "what kubeadm wrote")
		}
	}
	return drift, nil
}

// Apply lets kubeadm write them, and notes what it wrote.
func (m Manifests) Apply(ctx context.Context, w step.Writer) error {
	names := slices.DeleteFunc(append(staticPods(), "etcd"), func(name string) bool { return m.Only != "" && (m.Only == OnlyEtcd) != (name == "etcd") })
	// First that nothing is noted: a cut before the end makes Check find a difference.
	if err := noteWritten(ctx, w, nil, names...); err != nil {
		return err
	}
	config := ConfigPath
	if m.Etcd != nil {
		config = EtcdConfigPath
	}
	if m.Only != OnlyAPI {
		if err := runPhaseWith(ctx, w, config, "init", "etcd", "local"); err != nil {
			return err
		}
	}
	if m.Only != OnlyEtcd {
		if err := runPhase(ctx, w, "init", "control-plane", "all"); err != nil {
			return err
		}
	}
	return noteWritten(ctx, w, manifestDigest, names...)
}

// manifestTag gives the tag of the image that a manifest names, or "".
func manifestTag(manifest []byte) string {
	for line := range strings.Lines(string(manifest)) {
		if image, found := strings.CutPrefix(strings.TrimSpace(line), "image: "); found {
			return image[strings.LastIndex(image, ":")+1:]
		}
	}
	return ""
}

// StartKubelet writes the kubelet's configuration on a control plane and starts it.
type StartKubelet struct{}

// ID is stored in plans.
func (StartKubelet) ID() step.ID { return "kubeadm.start-kubelet/v1" }

// Needs tells what must be there. The manifests come first: a kubelet that starts before them waits 20 s longer.
func (StartKubelet) Needs() []step.Output {
	return []step.Output{step.Runtime, step.ControlPlaneManifests}
}

// Check looks for the kubelet's configuration and its running unit.
func (StartKubelet) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	return kubeletDrift(ctx, r)
}

// Apply lets kubeadm configure and start it.
func (StartKubelet) Apply(ctx context.Context, w step.Writer) error {
	return runPhase(ctx, w, "init", "kubelet-start")
}

func kubeletDrift(ctx context.Context, r step.Reader) (step.Drift, error) {
	var drift step.Drift
	info, err := r.Stat(ctx, "/var/lib/kubelet/config.yaml", "/var/lib/kubelet/kubeadm-flags.env")
	if err != nil {
		return nil, fmt.Errorf("cannot look for the kubelet's configuration: %w", err)
	}
	for _, i := range info {
		if !i.Exists {
			drift.Want(i.Path, "", "present")
		}
	}
	units, err := host.QueryUnits(ctx, r, "kubelet.service")
	if err != nil {
		return nil, err
	}
	drift.Want("kubelet.service", units[0].ActiveState, "active")
	return drift, nil
}

// ServeAPI waits until the API server of the host answers.
type ServeAPI struct{}

// ID is stored in plans.
func (ServeAPI) ID() step.ID { return "kubeadm.serve-api/v1" }

// Gives tells what later steps find.
func (ServeAPI) Gives() []step.Output { return []step.Output{step.ServedAPI, step.API} }

// Needs tells what must be there.
func (ServeAPI) Needs() []step.Output { return []step.Output{step.ControlPlaneManifests} }

// Check asks /readyz.
func (ServeAPI) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	if err := r.Cluster.Ready(ctx, r.Target.Name); err != nil {
		return nil, fault.NewWaiting("APIServerStarting", fmt.Errorf("cannot reach the API server on %s: %w", r.Target.Name, err))
	}
	return nil, nil
}

// Apply has nothing to do: the kubelet starts what the manifests name.
func (ServeAPI) Apply(context.Context, step.Writer) error { return nil }
