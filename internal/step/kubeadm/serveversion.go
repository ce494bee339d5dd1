package kubeadm

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/version"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

// ServeVersion waits until a control plane runs a version, or a newer one unless Exact: its own API server says so, and the static pods
// of etcd, controller manager and scheduler are Ready with the images that belong to it.
type ServeVersion struct {
	// Version is the Kubernetes version, vX.Y.Z.
	Version string `json:"version"`
	// EtcdTag is the tag of etcd's image; "" leaves etcd out.
	EtcdTag string `json:"etcdTag,omitempty"`
	// Exact takes no newer version: an upgrade is taken back.
	Exact bool `json:"exact,omitempty"`
}

// ID is stored in plans.
func (ServeVersion) ID() step.ID { return "kubeadm.serve-version/v1" }

// Needs tells what must be there.
func (ServeVersion) Needs() []step.Output { return []step.Output{step.ControlPlaneManifests} }

// Gives tells what later steps find.
func (ServeVersion) Gives() []step.Output { return []step.Output{step.ServedAPI, step.API} }

// Check asks /readyz and /version of the host's API server, and reads its static pods.
func (s ServeVersion) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	// All of it goes away and comes back while it is replaced: no error of these looks says more than "not yet".
	if err := r.Cluster.Ready(ctx, r.Target.Name); err != nil {
		return nil, notServed("cannot reach the API server on %s: %w", r.Target.Name, err)
	}
	answer, err := r.Cluster.Ask(ctx, r.Target.Name, "/version")
	if err != nil {
		return nil, notServed("cannot ask the API server on %s for its version: %w", r.Target.Name, err)
	}
	var info struct{ GitVersion string }
	if err := json.Unmarshal(answer, &info); err != nil {
		return nil, notServed("cannot read the version of the API server on %s: %w", r.Target.Name, err)
	}
	if s.other(info.GitVersion, s.Version) {
		return nil, notServed("the API server on %s still is %s, not %s", r.Target.Name, info.GitVersion, s.Version)
	}
	pods := map[string]string{"kube-apiserver": s.Version, "kube-controller-manager": s.Version, "kube-scheduler": s.Version}
	if s.EtcdTag != "" {
		pods["etcd"] = s.EtcdTag
	}
	for _, name := range slices.Sorted(maps.Keys(pods)) {
		if err := s.staticPod(ctx, r, name+"-"+r.Target.Name, pods[name]); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// Apply has nothing to do: the kubelet starts what the manifests name.
func (ServeVersion) Apply(context.Context, step.Writer) error { return nil }

// other says that a version, or an image's tag, is not the one that is waited for.
func (s ServeVersion) other(have, wanted string) bool {
	return older(have, wanted) || s.Exact && older(wanted, have)
}

// staticPod says why a static pod does not run with its tag yet; nil when it does.
func (s ServeVersion) staticPod(ctx context.Context, r step.Reader, name, tag string) error {
	var pod corev1.Pod
	found, err := get(ctx, r.Cluster, "kube-system", name, &pod)
	switch {
	case err != nil:
		return notServed("%w", err)
	case !found:
		return notServed("cannot see static pod %s yet", name)
	}
	if have := imageTag(corev1.PodTemplateSpec{Spec: pod.Spec}); s.other(have, tag) {
		return notServed("static pod %s still is %s, not %s", name, have, tag)
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return nil
		}
	}
	return notServed("static pod %s is not Ready yet", name)
}

func notServed(format string, args ...any) error {
	return fault.NewWaiting("ControlPlaneStarting", fmt.Errorf(format, args...))
}

// older says that a version, or an image's tag, comes before another. What cannot be read is older.
func older(have, wanted string) bool {
	h, err := version.ParseGeneric(have)
	if err != nil {
		return true
	}
	w, err := version.ParseGeneric(wanted)
	if err != nil {
		return have != wanted
	}
	return h.LessThan(w)
}

// newer says that a version can be read and comes after another.
func newer(have, wanted string) bool {
	_, err := version.ParseGeneric(have)
	return err == nil && older(wanted, have)
}
