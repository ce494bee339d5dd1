package flannel

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// Install applies flannel's manifest to the cluster.
type Install struct {
	// Image is flannel's full image name.
	Image string `json:"image"`
	// PodCIDR is the cluster's pod network.
	PodCIDR string `json:"podCIDR"`
	// Backend is vxlan, which "" means too, or host-gw.
	Backend string `json:"backend,omitempty"`
	// APIHost and APIPort are the cluster's endpoint.
	APIHost string `json:"apiHost"`
	APIPort string `json:"apiPort"`
}

// ID is stored in plans.
func (Install) ID() step.ID { return "flannel.install/v1" }

// Needs tells what must be there.
func (Install) Needs() []step.Output { return []step.Output{step.API} }

// Gives tells what later steps find.
func (Install) Gives() []step.Output { return []step.Output{step.Network} }

// digestAnnotation holds the digest of what was applied, so that Check need not compare defaulted fields.
const digestAnnotation = "slipway.dev/applied"

// Check compares the digest that each object carries.
func (i Install) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	wanted, err := i.wanted()
	if err != nil {
		return nil, err
	}
	var drift step.Drift
	for _, o := range wanted {
		have := &unstructured.Unstructured{}
		have.SetGroupVersionKind(o.GroupVersionKind())
		err := r.Cluster.Get(ctx, client.ObjectKeyFromObject(o), have)
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("cannot read %s %s: %w", o.GetKind(), o.GetName(), err)
		}
		drift.Want(o.GetKind()+" "+o.GetName(), have.GetAnnotations()[digestAnnotation], o.GetAnnotations()[digestAnnotation])
	}
	return drift, nil
}

// Apply applies every object on the server's side.
func (i Install) Apply(ctx context.Context, w step.Writer) error {
	wanted, err := i.wanted()
	if err != nil {
		return err
	}
	for _, o := range wanted {
		err := w.Cluster.Apply(ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner("slipway"), client.ForceOwnership)
		if err != nil {
			return fmt.Errorf("cannot apply %s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	return nil
}

func (i Install) wanted() ([]*unstructured.Unstructured, error) {
	typed, err := objects(i)
	if err != nil {
		return nil, err
	}
	var wanted []*unstructured.Unstructured
	for _, o := range typed {
		fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
		if err != nil {
			return nil, fmt.Errorf("cannot encode %T: %w", o, err)
		}
		delete(fields, "status")
		b, err := json.Marshal(fields)
		if err != nil {
			return nil, fmt.Errorf("cannot encode %T: %w", o, err)
		}
		sum := sha256.Sum256(b)
		u := &unstructured.Unstructured{Object: fields}
		u.SetAnnotations(map[string]string{digestAnnotation: "sha256:" + hex.EncodeToString(sum[:])})
		wanted = append(wanted, u)
	}
	return wanted, nil
}

// ConfigureNode writes the CNI configuration of one node, for the pod network that the cluster gave it.
type ConfigureNode struct {
	// Backend is vxlan, which "" means too, or host-gw.
	Backend string `json:"backend,omitempty"`
}

// vxlanOverhead is what VXLAN over IPv4 takes of each packet, in bytes.
const vxlanOverhead = 50

// hostGateway is the backend that routes between hosts of one layer-2 network, without a header of its own.
const hostGateway = "host-gw"

// ID is stored in plans.
func (ConfigureNode) ID() step.ID { return "flannel.configure-node/v1" }

// Needs tells what must be there.
func (ConfigureNode) Needs() []step.Output { return []step.Output{step.API} }

// ConfigPath is where the runtime looks for the configuration.
const ConfigPath = "/etc/cni/net.d/10-slipway.conflist"

// Check compares the file with the node's pod network.
func (c ConfigureNode) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	f, err := c.file(ctx, r)
	if err != nil {
		return nil, err
	}
	var drift step.Drift
	err = drift.WantFile(ctx, r, ConfigPath, f)
	return drift, err
}

// Apply writes the file. A running kubelet and runtime notice it by themselves.
func (c ConfigureNode) Apply(ctx context.Context, w step.Writer) error {
	f, err := c.file(ctx, w.Reading)
	if err != nil {
		return err
	}
	return w.WriteFile(ctx, ConfigPath, f)
}

func (c ConfigureNode) file(ctx context.Context, r step.Reader) (host.File, error) {
	var node corev1.Node
	err := r.Cluster.Get(ctx, client.ObjectKey{Name: r.Target.Name}, &node)
	if apierrors.IsNotFound(err) || (err == nil && node.Spec.PodCIDR == "") {
		return host.File{}, fault.NewWaiting("NodeNotRegistered", fmt.Errorf("cannot see the pod network of node %s yet", r.Target.Name))
	}
	if err != nil {
		return host.File{}, fmt.Errorf("cannot read node %s: %w", r.Target.Name, err)
	}
	bridge := map[string]any{
		"type": "bridge", "bridge": "cni0", "isGateway": true, "isDefaultGateway": true, "hairpinMode": true,
		"forceAddress": true, "ipMasq": false,
		"ipam": map[string]any{
			"type": "host-local", "ranges": [][]map[string]any{{{"subnet": node.Spec.PodCIDR}}},
		},
	}
	if r.Target.MTU > 0 {
		bridge["mtu"] = r.Target.MTU
		if c.Backend != hostGateway {
			bridge["mtu"] = r.Target.MTU - vxlanOverhead
		}
	}
	b, err := json.MarshalIndent(map[string]any{
		"cniVersion": "1.0.0", "name": "slipway",
		"plugins": []map[string]any{
			bridge,
			{"type": "portmap", "capabilities": map[string]any{"portMappings": true}},
		},
	}, "", "  ")
	if err != nil {
		return host.File{}, errors.Join(errors.New("cannot encode the CNI configuration"), err)
	}
	return host.File{Content: append(b, '\n')}, nil
}
