package app

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

func inDev(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "dev", Name: name} }

func newCluster(name string, annotations map[string]string) *v1alpha1.Cluster {
	c := &v1alpha1.Cluster{ObjectMeta: inDev(name), Spec: v1alpha1.ClusterSpec{
		Kubernetes: v1alpha1.KubernetesSpec{Version: "v1.36.3"}, ControlPlane: v1alpha1.ControlPlaneSpec{Hosts: []string{"cp1"}},
	}}
	c.Annotations = annotations
	return c
}

func newOperation(name string, annotations map[string]string) *v1alpha1.Operation {
	o := &v1alpha1.Operation{ObjectMeta: inDev(name), Spec: v1alpha1.OperationSpec{Verb: v1alpha1.VerbDelete, Cluster: "demo"}}
	o.Annotations = annotations
	return o
}

// stamps gives who made and who approved an object, as stored.
func (w *accessWorld) stamps(t *testing.T, o client.Object) [2]string {
	t.Helper()
	if err := w.server.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
		t.Fatal(err)
	}
	a := o.GetAnnotations()
	return [2]string{a[v1alpha1.AnnotationRequestedBy], a[v1alpha1.AnnotationApprovedBy]}
}

// stamped is a request, and what the object says afterwards.
type stamped struct {
	reason, who string
	do          func(context.Context, client.Client) error
	want        [2]string
}

func (w *accessWorld) follow(t *testing.T, o client.Object, steps []stamped) {
	t.Helper()
	for _, s := range steps {
		if err := s.do(t.Context(), w.as(t, s.who)); err != nil {
			t.Fatalf("%s was refused: %v\n%s", s.who, err, s.reason)
		}
		if diff := cmp.Diff(s.want, w.stamps(t, o)); diff != "" {
			t.Errorf("requested and approved by (-want +got):\n%s%s", diff, s.reason)
		}
	}
}

func testRequests(t *testing.T, w *accessWorld) {
	forged := map[string]string{v1alpha1.AnnotationRequestedBy: sam, v1alpha1.AnnotationApprovedBy: sam, "note": "kept"}
	c := newCluster("forged", forged)
	by := [2]string{paul, ""}
	w.follow(t, c, []stamped{
		{reason: "what the request says of itself is not believed; a Cluster is never approved", who: paul, do: creating(c), want: by},
		{reason: "an update says nothing about who made it", who: sam, do: merge(c, `{"metadata":{"labels":{"a":"b"}}}`), want: by},
		{reason: "put back", who: paul, do: merge(c, `{"metadata":{"annotations":{"slipway.dev/requested-by":"sam"}}}`), want: by},
		{reason: "put back", who: paul, do: merge(c, `{"metadata":{"annotations":null}}`), want: by},
		{reason: "put back", who: sam, do: put(newCluster("forged", nil), func(c *v1alpha1.Cluster) { c.Annotations = nil }), want: by},
		{reason: "put back", who: paul, want: by, do: apply(`{apiVersion: slipway.dev/v1alpha1, kind: Cluster, metadata: {name: forged, namespace: dev, annotations: {slipway.dev/requested-by: sam}}}`)},
	})
	applied := newCluster("applied", nil)
	w.follow(t, applied, []stamped{{reason: "made by server-side apply", who: paul, want: by, do: apply(
		`{apiVersion: slipway.dev/v1alpha1, kind: Cluster, metadata: {name: applied, namespace: dev}, spec: {kubernetes: {version: v1.36.3}, controlPlane: {hosts: [cp1]}}}`)}})

	// The server makes objects for people, and says for whom.
	own := newCluster("own", map[string]string{v1alpha1.AnnotationRequestedBy: "oidc:alice@corp", v1alpha1.AnnotationCreatedBy: "demo-create-x"})
	w.create(t, own)
	if diff := cmp.Diff([2]string{"oidc:alice@corp", ""}, w.stamps(t, own)); diff != "" {
		t.Errorf("what the server says was changed (-want +got):\n%s", diff)
	}
	old := newCluster("old", nil)
	w.create(t, old)
	w.follow(t, old, []stamped{{reason: "made before there were stamps: nobody can claim it", who: paul, want: [2]string{},
		do: merge(old, `{"metadata":{"annotations":{"slipway.dev/requested-by":"sam"}}}`)}})
	dry := newCluster("dry", forged)
	if err := w.as(t, paul).Create(t.Context(), dry, client.DryRunAll); err != nil {
		t.Fatal(err)
	}
	if got := dry.Annotations[v1alpha1.AnnotationRequestedBy]; got != paul {
		t.Errorf("a dry run says the Cluster is requested by %q, want %s", got, paul)
	}
}

func testApprovals(t *testing.T, w *accessWorld) {
	op := newOperation("approve", map[string]string{v1alpha1.AnnotationApprovedBy: sam})
	approve := func(plan string) func(context.Context, client.Client) error {
		return merge(op, `{"spec":{"approvedPlan":"`+plan+`"}}`)
	}
	w.follow(t, op, []stamped{
		{reason: "nothing is approved yet", who: paul, do: creating(op), want: [2]string{paul, ""}},
		{reason: "not without approving", who: paul, do: merge(op, `{"metadata":{"annotations":{"slipway.dev/approved-by":"sam"}}}`), want: [2]string{paul, ""}},
		{reason: "whoever sets the plan approves it", who: sam, do: approve("sha256:1"), want: [2]string{paul, sam}},
		{reason: "another approval of the same is none", who: paul, do: approve("sha256:1"), want: [2]string{paul, sam}},
		{reason: "other changes are no approval", who: paul, do: merge(op, `{"spec":{"abort":true}}`), want: [2]string{paul, sam}},
		{reason: "forged in the same request", who: paul, want: [2]string{paul, paul},
			do: merge(op, `{"metadata":{"annotations":{"slipway.dev/approved-by":"sam","slipway.dev/requested-by":"sam"}},"spec":{"approvedPlan":"sha256:2"}}`)},
		{reason: "cannot be washed off", who: paul, do: merge(op, `{"metadata":{"annotations":null}}`), want: [2]string{paul, paul}},
		{reason: "what was approved last stays said", who: sam, do: approve(""), want: [2]string{paul, paul}},
		{reason: "from a file, by server-side apply", who: sam, want: [2]string{paul, sam},
			do: apply(`{apiVersion: slipway.dev/v1alpha1, kind: Operation, metadata: {name: approve, namespace: dev, annotations: {slipway.dev/approved-by: paul}}, spec: {verb: delete, cluster: demo, approvedPlan: "sha256:3"}}`)},
	})
	born := newOperation("born-approved", nil)
	born.Spec.ApprovedPlan = "sha256:1"
	w.follow(t, born, []stamped{{reason: "approved when it was made", who: sam, do: creating(born), want: [2]string{sam, sam}}})
	w.try(t, map[string]attempt{
		"cluster administrator approves": {reason: "works in clusters, not on them", who: cleo, do: approve("sha256:4"), refused: rbacSays},
		"reader approves":                {reason: "changes nothing", who: rita, do: approve("sha256:4"), refused: rbacSays},
		"status":                         {reason: "the plan and its hash are the server's", who: paul, do: statusMerge(op, `{"status":{"plan":{"hash":"sha256:9"}}}`), refused: rbacSays},
		"status by sam":                  {reason: "the plan and its hash are the server's", who: sam, do: statusMerge(op, `{"status":{"phase":"Succeeded"}}`), refused: rbacSays},
	})
}

func testMarks(t *testing.T, w *accessWorld) {
	c, op := newCluster("marked", map[string]string{v1alpha1.AnnotationCreatedBy: "op"}), newOperation("marked", nil)
	c.Finalizers = []string{v1alpha1.Finalizer}
	op.Labels = map[string]string{v1alpha1.LabelCluster: "demo", v1alpha1.LabelClusterUID: "u1"}
	op.Finalizers = []string{v1alpha1.Finalizer}
	host := &v1alpha1.Host{ObjectMeta: called("m1"), Spec: v1alpha1.HostSpec{Address: "192.0.2.1", Credential: "c"}}
	w.create(t, c, op, host)
	labelled := func(name, key, value string) *v1alpha1.Operation {
		o := newOperation(name, nil)
		o.Labels = map[string]string{key: value}
		return o
	}
	finalized := newOperation("finalized", nil)
	finalized.Finalizers = []string{v1alpha1.Finalizer}
	const labels, annotations, finalizer = "labels that begin", "annotations that begin", "the finalizer"
	w.try(t, map[string]attempt{
		"01 created-by":       {reason: "the Cluster would take another's operation for its own", who: paul, do: creating(newCluster("m2", map[string]string{v1alpha1.AnnotationCreatedBy: "op"})), refused: annotations},
		"02 deleted-by":       {reason: "the hosts would not be cleaned", who: paul, do: merge(c, `{"metadata":{"annotations":{"slipway.dev/deleted-by":"done"}}}`), refused: annotations},
		"03 other operation":  {reason: "a change is forging too", who: sam, do: merge(c, `{"metadata":{"annotations":{"slipway.dev/created-by":"done"}}}`), refused: annotations},
		"04 wash off":         {reason: "the cluster would be made again", who: paul, do: merge(c, `{"metadata":{"annotations":{"slipway.dev/created-by":null}}}`), refused: annotations},
		"05 by admin":         {reason: "for everybody", who: admin, do: merge(c, `{"metadata":{"annotations":{"slipway.dev/created-by":null}}}`), refused: annotations},
		"06 cluster-uid":      {reason: "a plan of an earlier cluster would pass as this one's", who: paul, do: creating(labelled("m3", v1alpha1.LabelClusterUID, "u1")), refused: labels},
		"07 wrong cluster":    {reason: "two operations would run on one cluster", who: paul, do: creating(labelled("m4", v1alpha1.LabelCluster, "other")), refused: labels},
		"08 right cluster":    {reason: "as the CLI does", who: paul, do: creating(labelled("m5", v1alpha1.LabelCluster, "demo"))},
		"09 hide":             {reason: "two operations would run on one cluster", who: paul, do: merge(op, `{"metadata":{"labels":{"slipway.dev/cluster":null}}}`), refused: labels},
		"10 own label":        {reason: "what is not ours is not ours to forbid", who: paul, do: merge(op, `{"metadata":{"labels":{"team":"a"},"annotations":{"note":"b"}}}`)},
		"11 new mark":         {reason: "a mark of a later version", who: sam, do: merge(host, `{"metadata":{"annotations":{"slipway.dev/later":"x"}}}`), refused: annotations},
		"12 check":            {reason: "as host check does", who: sam, do: merge(host, `{"metadata":{"annotations":{"slipway.dev/check":"now"}}}`)},
		"13 check elsewhere":  {reason: "only where it means something", who: paul, do: merge(op, `{"metadata":{"annotations":{"slipway.dev/check":"now"}}}`), refused: annotations},
		"14 finalizer off":    {reason: "hosts would stay claimed", who: paul, do: merge(c, `{"metadata":{"finalizers":null}}`), refused: finalizer},
		"15 finalizer off":    {reason: "hosts would stay claimed", who: sam, do: merge(op, `{"metadata":{"finalizers":[]}}`), refused: finalizer},
		"16 finalizer on":     {reason: "the controller would take it for its own work", who: paul, do: creating(finalized), refused: finalizer},
		"17 finalizer, admin": {reason: "the last way out", who: admin, do: merge(op, `{"metadata":{"finalizers":null}}`)},
		"18 host label":       {reason: "as host add does", who: sam, do: creating(&v1alpha1.Credential{ObjectMeta: metav1.ObjectMeta{Name: "m1", Labels: map[string]string{"slipway.dev/host": "m1"}}, Spec: v1alpha1.CredentialSpec{User: "root", Type: v1alpha1.CredentialPassword, SecretName: "host-m1-x"}})},
		"20 host's finalizer": {reason: "a host would go while a cluster takes it", who: sam, do: merge(host, `{"metadata":{"finalizers":null}}`), refused: finalizer},
		"19 delete":           {reason: "deleting is asking for it to be undone", who: paul, do: removing(c, client.PropagationPolicy(metav1.DeletePropagationForeground))},
	})
}
