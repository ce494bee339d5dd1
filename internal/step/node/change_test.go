package node

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

// run checks, applies when something differs, and checks again.
func run(t *testing.T, c *cluster, s step.Step) {
	t.Helper()
	drift, err := s.Check(t.Context(), c.reader())
	if err == nil && !drift.Clean() {
		err = s.Apply(t.Context(), c.writer())
	}
	if err != nil {
		t.Fatalf("%s: %v", s.ID(), err)
	}
	if drift, err = s.Check(t.Context(), c.reader()); err != nil || !drift.Clean() {
		t.Fatalf("%s afterwards: %v %v", s.ID(), drift, err)
	}
}

func TestCordonThenUncordon(t *testing.T) {
	cases := map[string]struct {
		reason                string
		before, during, after bool
		// between is what somebody does while it is cordoned.
		between func(*corev1.Node)
	}{
		"ours":           {reason: "as it was before", during: true},
		"somebody's":     {reason: "who cordoned it before has a reason", before: true, during: true, after: true},
		"taken back":     {reason: "somebody uncordoned it meanwhile", during: true, between: func(n *corev1.Node) { n.Spec.Unschedulable = false }},
		"made new again": {reason: "the node registered anew, without our mark", during: true, between: func(n *corev1.Node) { n.Annotations, n.Spec.Unschedulable = nil, false }},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := newCluster(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "w1", Annotations: map[string]string{"mine": "x"}}, Spec: corev1.NodeSpec{Unschedulable: tc.before}})
			run(t, c, Cordon{Node: "w1"})
			n, err := read(t.Context(), c, "w1")
			if err != nil || n.Spec.Unschedulable != tc.during {
				t.Fatalf("%s: %v, cordoned %t", tc.reason, err, n.Spec.Unschedulable)
			}
			if tc.between != nil {
				tc.between(n)
				if err := c.Update(t.Context(), n); err != nil {
					t.Fatal(err)
				}
			}
			run(t, c, Uncordon{Node: "w1"})
			n, err = read(t.Context(), c, "w1")
			if _, marked := n.Annotations[CordonedAnnotation]; err != nil || n.Spec.Unschedulable != tc.after || marked {
				t.Errorf("%s: %v, cordoned %t, annotations %v", tc.reason, err, n.Spec.Unschedulable, n.Annotations)
			}
		})
	}
}

func TestLabels(t *testing.T) {
	batch := corev1.Taint{Key: "only", Value: "batch", Effect: corev1.TaintEffectNoSchedule}
	unreachable := corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute}
	cases := map[string]struct {
		reason string
		step   Labels
		labels map[string]string
		taints []corev1.Taint
	}{
		"nothing": {reason: "what is not named stays", labels: map[string]string{"a": "1", "b": "2"}, taints: []corev1.Taint{batch, unreachable}},
		"labels": {reason: "also those that no kubelet may set", step: Labels{Labels: map[string]string{"a": "3", "node-role.kubernetes.io/worker": ""}, RemoveLabels: []string{"b", "never"}},
			labels: map[string]string{"a": "3", "node-role.kubernetes.io/worker": ""}, taints: []corev1.Taint{batch, unreachable}},
		"new value": {reason: "one of a key and effect", step: Labels{Taints: []string{"only=web:NoSchedule"}}, labels: map[string]string{"a": "1", "b": "2"},
			taints: []corev1.Taint{{Key: "only", Value: "web", Effect: corev1.TaintEffectNoSchedule}, unreachable}},
		"another effect": {reason: "a taint of its own, without a value", step: Labels{Taints: []string{"only:NoExecute"}}, labels: map[string]string{"a": "1", "b": "2"},
			taints: []corev1.Taint{batch, unreachable, {Key: "only", Effect: corev1.TaintEffectNoExecute}}},
		"removed": {reason: "by key; another effect is another taint", step: Labels{RemoveTaints: []string{"only", corev1.TaintNodeUnreachable + ":NoSchedule"}},
			labels: map[string]string{"a": "1", "b": "2"}, taints: []corev1.Taint{unreachable}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := newCluster(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "w1", Labels: map[string]string{"a": "1", "b": "2"}}, Spec: corev1.NodeSpec{Taints: []corev1.Taint{batch, unreachable}}})
			tc.step.Node = "w1"
			run(t, c, tc.step)
			n, err := read(t.Context(), c, "w1")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.labels, n.Labels) + cmp.Diff(tc.taints, n.Spec.Taints); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// raced is a cluster where somebody changes the node between our reading and our change.
type raced struct{ *cluster }

func (r raced) Patch(ctx context.Context, o client.Object, p client.Patch, opts ...client.PatchOption) error {
	var n corev1.Node
	if err := r.Get(ctx, client.ObjectKeyFromObject(o), &n); err != nil {
		return err
	}
	n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: "theirs", Effect: corev1.TaintEffectNoSchedule})
	if err := r.Update(ctx, &n); err != nil {
		return err
	}
	return r.cluster.Patch(ctx, o, p, opts...)
}

// TestChangeOfOthersIsKept: the list of taints is replaced as a whole, so a change in between must not be lost.
func TestChangeOfOthersIsKept(t *testing.T) {
	c := newCluster(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "w1"}})
	w := c.writer()
	w.Cluster = raced{c}
	err := Labels{Node: "w1", Taints: []string{"ours:NoSchedule"}}.Apply(t.Context(), w)
	if fault.ClassOf(err) != fault.Transient {
		t.Errorf("got %v, want an error that is tried again", err)
	}
	n, err := read(t.Context(), c, "w1")
	if err != nil || len(n.Spec.Taints) != 1 || n.Spec.Taints[0].Key != "theirs" {
		t.Errorf("%v, taints %v", err, n.Spec.Taints)
	}
}

func TestRemove_Finalizers(t *testing.T) {
	c := newCluster(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "w1", Finalizers: []string{"example.org/cloud"}}})
	if err := (Remove{Node: "w1"}).Apply(t.Context(), c.writer()); err != nil {
		t.Fatal(err)
	}
	_, err := Remove{Node: "w1"}.Check(t.Context(), c.reader())
	if got, want := said(err), "Waiting NodeBeingDeleted: node w1 is kept by its finalizers example.org/cloud"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFreeVolumes(t *testing.T) {
	attached := func(deleted bool, detach string) *storagev1.VolumeAttachment {
		a := &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: "csi-1", Finalizers: []string{"external-attacher/example-org"}},
			Spec: storagev1.VolumeAttachmentSpec{NodeName: "w1", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: new("pv-1")}}}
		if deleted {
			a.DeletionTimestamp = new(metav1.Unix(1, 0))
		}
		if detach != "" {
			a.Status.DetachError = &storagev1.VolumeError{Message: detach}
		}
		return a
	}
	outOf := withReady(corev1.ConditionUnknown)
	put(outOf, outOfService)
	const still = "Waiting VolumesAttached: volume pv-1 attached to node w1"
	cases := map[string]struct {
		reason string
		node   *corev1.Node
		have   *storagev1.VolumeAttachment
		check  string
		drift  string
		gone   bool
	}{
		"in service":           {reason: "its kubelet may still use the volume", node: withReady(corev1.ConditionTrue), have: attached(false, ""), check: still + ", which is in service"},
		"silent":               {reason: "nobody said that it is dead", node: withReady(corev1.ConditionUnknown), have: attached(false, ""), check: still + ", which is in service"},
		"node gone":            {reason: "asked to go; its driver detaches it", have: attached(false, ""), drift: "volume pv-1 attached to node w1"},
		"out of service":       {reason: "the same", node: outOf, have: attached(false, ""), drift: "volume pv-1 attached to node w1"},
		"being detached":       {reason: "the driver has its time", have: attached(true, ""), check: still + ": its driver detaches it"},
		"storage fails":        {reason: "it may still be attached there: not ours to say", have: attached(true, "the array is busy"), check: still + ": the array is busy"},
		"stuck":                {reason: "the driver can never find the node", have: attached(true, `node "w1" not found`), drift: `volume pv-1 attached to node w1: node "w1" not found`, gone: true},
		"stuck on another":     {reason: "another node's name begins like ours", have: attached(true, `node "w10" not found`), check: still + `: node "w10" not found`},
		"stuck, node is there": {reason: "the driver will find it again", node: outOf, have: attached(true, `node "w1" not found`), check: still + `: node "w1" not found`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			objects := []client.Object{tc.have, &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: "csi-2"}, Spec: storagev1.VolumeAttachmentSpec{NodeName: "w2"}}}
			if tc.node != nil {
				objects = append(objects, tc.node)
			}
			c := newCluster(objects...)
			f := FreeVolumes{Node: "w1"}
			drift, err := f.Check(t.Context(), c.reader())
			if got := said(err); got != tc.check {
				t.Errorf("%s: Check says %q, want %q", tc.reason, got, tc.check)
			}
			var want step.Drift
			if tc.drift != "" {
				want.Want("VolumeAttachment csi-1", tc.drift, "absent")
			}
			if diff := cmp.Diff(want, drift); diff != "" {
				t.Errorf("%s: drift (-want +got):\n%s", tc.reason, diff)
			}
			if err := f.Apply(t.Context(), c.writer()); err != nil {
				t.Fatalf("%s: %v", tc.reason, err)
			}
			var a storagev1.VolumeAttachment
			err = c.Get(t.Context(), client.ObjectKey{Name: "csi-1"}, &a)
			if apierrors.IsNotFound(err) != tc.gone || (!tc.gone && err == nil && (a.DeletionTimestamp != nil) != (tc.drift != "" || tc.have.DeletionTimestamp != nil)) {
				t.Errorf("%s: %v, deleted at %v", tc.reason, err, a.DeletionTimestamp)
			}
			if err := c.Get(t.Context(), client.ObjectKey{Name: "csi-2"}, &a); err != nil {
				t.Errorf("%s: the attachment of another node: %v", tc.reason, err)
			}
		})
	}
}

func TestAbsentNode(t *testing.T) {
	for _, s := range []step.Step{Cordon{Node: "w1"}, Uncordon{Node: "w1"}, Drain{Node: "w1"}, Remove{Node: "w1"}, FreeVolumes{Node: "w1"}} {
		c := newCluster()
		run(t, c, s)
		if err := s.Apply(t.Context(), c.writer()); err != nil {
			t.Errorf("%s: %v", s.ID(), err)
		}
		if n, err := read(t.Context(), c, "w1"); n != nil || err != nil {
			t.Errorf("%s made a node: %v %v", s.ID(), n, err)
		}
	}
	_, err := Labels{Node: "w1", Labels: map[string]string{"a": "b"}}.Check(t.Context(), newCluster().reader())
	if fault.ReasonOf(err) != "NodeNotRegistered" {
		t.Errorf("got %v", err)
	}
}
