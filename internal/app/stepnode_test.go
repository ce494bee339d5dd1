package app

import (
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/internal/step/node"
)

// withMember gives the cluster a node with one taint.
func withMember(name string, cordoned bool, annotations map[string]string) func(*bench) {
	return func(b *bench) {
		b.create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations, Labels: map[string]string{"pool": "old", "kept": "yes", "gone": "x"}},
			Spec: corev1.NodeSpec{Unschedulable: cordoned, Taints: []corev1.Taint{{Key: "only", Value: "batch", Effect: corev1.TaintEffectNoSchedule}}}})
	}
}

// podOn gives a pod of a replica set.
func podOn(nodeName, name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name,
		OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web", UID: "web", Controller: new(true)}}}, Spec: corev1.PodSpec{NodeName: nodeName}}
}

func nodeCases() map[string]stepCase {
	marked := map[string]string{node.CordonedAnnotation: "true"}
	attached := func(name, nodeName string) *storagev1.VolumeAttachment {
		return &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: storagev1.VolumeAttachmentSpec{NodeName: nodeName}}
	}
	return map[string]stepCase{
		"cordon":                        {reason: "no new pods", step: node.Cordon{}, prepare: withMember("w1", false, nil), drift: []string{"node w1"}},
		"cordon another node":           {reason: "the host of it may be dead", step: node.Cordon{Node: "w9"}, prepare: withMember("w9", false, nil), drift: []string{"node w9"}},
		"uncordon":                      {reason: "pods come again", step: node.Uncordon{}, prepare: withMember("w1", true, marked), drift: []string{"node w1"}},
		"uncordon what others cordoned": {reason: "it stays cordoned", step: node.Uncordon{}, prepare: withMember("w1", true, nil)},
		"drain": {reason: "pods of this node, and of no other", step: node.Drain{}, drift: []string{"pod shop/web-1", "pod shop/web-2"}, prepare: func(b *bench) {
			withMember("w1", true, marked)(b)
			b.create(podOn("w1", "web-1"), podOn("w1", "web-2"), podOn("w2", "web-3"))
		}},
		"remove node": {reason: "the host was given back", step: node.Remove{}, prepare: withMember("w1", true, marked), drift: []string{"node w1"}},
		"free volumes": {reason: "those of the node that is gone", step: node.FreeVolumes{}, drift: []string{"VolumeAttachment csi-1"},
			prepare: func(b *bench) { b.create(attached("csi-1", "w1"), attached("csi-2", "w2")) }},
		"node labels": {reason: "after the node was made", prepare: withMember("w1", false, nil),
			step: node.Labels{Labels: map[string]string{"pool": "new", "node-role.kubernetes.io/worker": ""}, RemoveLabels: []string{"gone", "never"},
				Taints: []string{"dedicated=gpu:NoExecute"}, RemoveTaints: []string{"only"}},
			drift: []string{"label pool", "label node-role.kubernetes.io/worker", "label gone", "taint only=batch:NoSchedule", "taint dedicated=gpu:NoExecute"}},
		"node labels before it registers": {reason: "its kubelet works by itself", step: node.Labels{Labels: map[string]string{"pool": "new"}},
			event: withMember("w1", false, nil), drift: []string{"label pool"}},
	}
}
