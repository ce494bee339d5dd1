package node

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

// FreeVolumes lets go of the volumes that are still attached to a node that is gone or out of service, so that pods elsewhere
// get them. It comes after Remove, or after a Drain of a dead node.
type FreeVolumes struct {
	// Node names the node; "" is that of the host itself.
	Node string `json:"node,omitempty"`
}

// ID is stored in plans.
func (FreeVolumes) ID() step.ID { return "node.free-volumes/v1" }

// Check lists the attachments. It says Waiting while the storage's own driver may still detach them.
func (f FreeVolumes) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	stuck, err := f.look(ctx, r.Cluster, r.Target.Name)
	if err != nil {
		return nil, err
	}
	var drift step.Drift
	var waits []string
	for _, a := range stuck {
		if a.waits != "" {
			waits = append(waits, a.waits)
			continue
		}
		drift.Want("VolumeAttachment "+a.Name, a.have, "absent")
	}
	if drift.Clean() && len(waits) > 0 {
		return nil, &fault.Error{Class: fault.Waiting, Reason: "VolumesAttached", After: lookAgain, Err: fmt.Errorf("%s", some(waits, "; ")),
			Fix: "look at the storage driver's attacher: it must detach the volume; then retry"}
	}
	return drift, nil
}

// Apply deletes the attachments. Of one whose driver cannot find the node any more the finalizers go too: nothing else ever
// takes them away.
func (f FreeVolumes) Apply(ctx context.Context, w step.Writer) error {
	stuck, err := f.look(ctx, w.Cluster, w.Target.Name)
	if err != nil {
		return err
	}
	for _, a := range stuck {
		switch {
		case a.waits != "":
			continue
		case a.DeletionTimestamp == nil:
			err = w.Cluster.Delete(ctx, &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: a.Name}}, client.Preconditions{UID: &a.UID})
		default:
			before := a.VolumeAttachment.DeepCopy()
			a.Finalizers = nil
			err = client.IgnoreNotFound(w.Cluster.Patch(ctx, a.VolumeAttachment, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})))
		}
		if apierrors.IsConflict(err) {
			return fault.NewTransient("AttachmentChanged", fmt.Errorf("cannot free VolumeAttachment %s: somebody else changed it at the same time", a.Name))
		}
		if err != nil {
			return fmt.Errorf("cannot free VolumeAttachment %s: %w", a.Name, err)
		}
	}
	return nil
}

// attachment is one that is left.
type attachment struct {
	*storagev1.VolumeAttachment
	// have says what it is; waits, when not "", why it is not to be touched now.
	have, waits string
}

func (f FreeVolumes) look(ctx context.Context, c client.Reader, self string) ([]attachment, error) {
	name := cmp.Or(f.Node, self)
	n, err := read(ctx, c, name)
	if err != nil {
		return nil, err
	}
	var all storagev1.VolumeAttachmentList
	if err := c.List(ctx, &all); err != nil {
		return nil, fmt.Errorf("cannot list the volume attachments: %w", err)
	}
	var out []attachment
	for i := range all.Items {
		a := attachment{VolumeAttachment: &all.Items[i]}
		if a.Spec.NodeName != name {
			continue
		}
		a.have = fmt.Sprintf("%s attached to node %s", volume(a.VolumeAttachment), name)
		switch detach := detachError(a.VolumeAttachment); {
		case n != nil && !isOutOfService(n):
			a.waits = a.have + ", which is in service"
		case a.DeletionTimestamp == nil:
		case n == nil && strings.Contains(detach, fmt.Sprintf("%q not found", name)):
			a.have += ": " + detach
		case detach != "":
			a.waits = a.have + ": " + detach
		default:
			a.waits = a.have + ": its driver detaches it"
		}
		out = append(out, a)
	}
	return out, nil
}

func volume(a *storagev1.VolumeAttachment) string {
	if a.Spec.Source.PersistentVolumeName == nil {
		return "volume"
	}
	return "volume " + *a.Spec.Source.PersistentVolumeName
}

func detachError(a *storagev1.VolumeAttachment) string {
	if a.Status.DetachError == nil {
		return ""
	}
	return a.Status.DetachError.Message
}

// isOutOfService says that somebody told Kubernetes that the node is dead, whatever the taint's value.
func isOutOfService(n *corev1.Node) bool {
	for _, t := range n.Spec.Taints {
		if t.Key == corev1.TaintNodeOutOfService {
			return true
		}
	}
	return false
}
