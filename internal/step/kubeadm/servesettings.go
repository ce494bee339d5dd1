package kubeadm

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// ServeSettings waits until a control plane runs with the flags that its manifests have, and serves a certificate with the
// names that it should have. A static pod of before is there, and Ready, for a while after its manifest has changed.
type ServeSettings struct {
	Components Components `json:"components,omitzero"`
	// Port is where the API server listens.
	Port int32 `json:"port"`
	// SANs must be named by the certificate that it serves, Unwanted must not be; both empty leave it alone.
	SANs     []string `json:"sans,omitempty"`
	Unwanted []string `json:"unwanted,omitempty"`
}

// ID is stored in plans.
func (ServeSettings) ID() step.ID { return "kubeadm.serve-settings/v1" }

// Needs tells what must be there.
func (ServeSettings) Needs() []step.Output { return []step.Output{step.ControlPlaneManifests} }

// Gives tells what later steps find.
func (ServeSettings) Gives() []step.Output { return []step.Output{step.ServedAPI, step.API} }

// Check asks /readyz of the host's API server, reads its static pods, and looks at the certificate that it serves.
func (s ServeSettings) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	// All of it goes away and comes back while it is replaced: no error of these looks says more than "not yet".
	if err := r.Cluster.Ready(ctx, r.Target.Name); err != nil {
		return nil, notServed("cannot reach the API server on %s: %w", r.Target.Name, err)
	}
	for _, name := range append(staticPods(), "etcd") {
		if err := s.pod(ctx, r, name); err != nil {
			return nil, err
		}
	}
	if len(s.SANs)+len(s.Unwanted) == 0 {
		return nil, nil
	}
	// It reads a certificate that was replaced within a minute.
	served, err := handshake(ctx, r, component{port: s.Port, serverName: "kubernetes"})
	if err != nil {
		return nil, notServed("cannot see which certificate the API server on %s serves: %w", r.Target.Name, err)
	}
	for _, san := range s.SANs {
		if !covers(served, san) {
			return nil, notServed("the API server on %s still serves a certificate without %s", r.Target.Name, san)
		}
	}
	for _, san := range s.Unwanted {
		if covers(served, san) {
			return nil, notServed("the API server on %s still serves a certificate with %s", r.Target.Name, san)
		}
	}
	return nil, nil
}

// pod says why a static pod does not run as its manifest says yet; nil when it does.
func (s ServeSettings) pod(ctx context.Context, r step.Reader, component string) error {
	manifest, err := host.ReadIfExists(ctx, r, manifests+"/"+component+".yaml")
	if err != nil {
		return fmt.Errorf("cannot read the manifest of %s: %w", component, err)
	}
	if component == "etcd" && manifest == nil {
		return nil
	}
	var pod corev1.Pod
	found, err := get(ctx, r.Cluster, "kube-system", component+"-"+r.Target.Name, &pod)
	switch {
	case err != nil:
		return notServed("%w", err)
	case !found || len(pod.Spec.Containers) == 0:
		return notServed("cannot see static pod %s-%s yet", component, r.Target.Name)
	}
	container := pod.Spec.Containers[0]
	if is, should := s.Components.differences(component, container.Command); component != "etcd" && is != should {
		return notServed("static pod %s still runs with %s, not %s", pod.Name, is, should)
	}
	// What was changed by hand and put back is not among our flags.
	if manifest != nil && !slices.Equal(flags(strings.Split(string(manifest), "\n")), flags(append(slices.Clone(container.Command), "image: "+container.Image))) {
		return notServed("static pod %s still runs with other flags than its manifest has", pod.Name)
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return nil
		}
	}
	return notServed("static pod %s is not Ready yet", pod.Name)
}

// flags gives the flags and the image that lines name, one a line, sorted.
func flags(lines []string) []string {
	var all []string
	for _, l := range lines {
		flag := strings.TrimPrefix(strings.TrimSpace(l), "- ")
		if strings.HasPrefix(flag, "--") || strings.HasPrefix(flag, "image: ") {
			all = append(all, flag)
		}
	}
	slices.Sort(all)
	return all
}

// Apply has nothing to do: the kubelet starts what the manifests name.
func (ServeSettings) Apply(context.Context, step.Writer) error { return nil }
