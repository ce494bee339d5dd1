package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cluster"
	"slipway.dev/slipway/internal/pki"
	"slipway.dev/slipway/internal/step/kubeadm"
)

const (
	createOperation = "demo-create-abcde"
	deleteOperation = "demo-delete-abcde"
)

// world is a platform with one cluster, demo in project dev. It must be used inside a synctest bubble.
type world struct {
	t         *testing.T
	client    client.Client
	reconcile *Reconciler
	// creates counts the operations that were made, writes the changes of a status.
	creates, writes int
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{t: t}
	w.client = clientfake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&v1alpha1.Operation{}, &v1alpha1.Cluster{}).
		WithInterceptorFuncs(interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
				w.creates++
				return c.Create(ctx, o, opts...)
			},
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
				w.writes++
				return c.SubResource(sub).Patch(ctx, o, p, opts...)
			},
		}).Build()
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(func() {
		stop()
		synctest.Wait()
	})
	access := cluster.NewAccess(nil, nil, func(context.Context, string, string) (cluster.Address, error) {
		return cluster.Address{}, errors.New("the network is away")
	})
	w.reconcile = New(ctx, Deps{Client: w.client, Access: access, Log: slog.New(slog.DiscardHandler)})
	return w
}

func demo(change func(*v1alpha1.Cluster)) *v1alpha1.Cluster {
	c := &v1alpha1.Cluster{
		ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: "demo", UID: types.UID("abcdefgh"), Generation: 1},
		Spec: v1alpha1.ClusterSpec{
			Kubernetes: v1alpha1.KubernetesSpec{Version: "v1.36.3"}, ControlPlane: v1alpha1.ControlPlaneSpec{Hosts: []string{"c1"}},
			Endpoint: v1alpha1.EndpointSpec{Port: 6443},
		},
	}
	if change != nil {
		change(c)
	}
	return c
}

func op(name string, verb v1alpha1.Verb, phase v1alpha1.OperationPhase) *v1alpha1.Operation {
	return &v1alpha1.Operation{
		ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: name}, Spec: v1alpha1.OperationSpec{Verb: verb, Cluster: "demo"},
		Status: v1alpha1.OperationStatus{Phase: phase, Message: "so it is"},
	}
}

func controlPlane() *v1alpha1.Host {
	return &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: "c1"}, Status: v1alpha1.HostStatus{InternalAddress: "10.9.0.11"}}
}

// keys is the Secret of cluster demo.
func keys(t *testing.T, project string) *corev1.Secret {
	t.Helper()
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: "cluster-demo", Labels: map[string]string{cluster.LabelProject: project}}, Data: map[string][]byte{}}
	for _, name := range []string{kubeadm.CACert, kubeadm.FrontProxyCert, kubeadm.EtcdCert} {
		ca, err := pki.NewCA(name, 10*365*24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		s.Data[name] = ca.CertPEM()
	}
	return s
}

// settle reconciles the cluster until it and its operations do not change any more.
func (w *world) settle() {
	w.t.Helper()
	for range 10 {
		before := w.picture()
		if _, err := w.reconcile.Reconcile(w.t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: "dev", Name: "demo"}}); err != nil {
			w.t.Fatal(err)
		}
		synctest.Wait()
		select {
		case <-w.reconcile.nodes.changed:
			continue
		default:
		}
		if w.picture() == before {
			return
		}
	}
	w.t.Fatal("the cluster never comes to rest")
}

func (w *world) picture() string {
	w.t.Helper()
	b, err := json.Marshal([]any{w.cluster(), w.op(createOperation), w.op(deleteOperation)})
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

func get[T client.Object](w *world, namespace, name string, o T) T {
	w.t.Helper()
	err := w.client.Get(w.t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, o)
	if apierrors.IsNotFound(err) {
		var none T
		return none
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return o
}

func (w *world) cluster() *v1alpha1.Cluster {
	w.t.Helper()
	return get(w, "dev", "demo", &v1alpha1.Cluster{})
}

func (w *world) op(name string) *v1alpha1.Operation {
	w.t.Helper()
	return get(w, "dev", name, &v1alpha1.Operation{})
}

// end writes the phase of an operation, as the other controller does.
func (w *world) end(name string, phase v1alpha1.OperationPhase) {
	w.t.Helper()
	o := w.op(name)
	o.Status.Phase = phase
	if err := w.client.Status().Update(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
}

func TestCreateOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := demo(nil)
		c.Annotations = map[string]string{v1alpha1.AnnotationRequestedBy: "paul"}
		w := newWorld(t, c)
		w.settle()
		w.settle()
		if who := w.op(createOperation).Annotations[v1alpha1.AnnotationRequestedBy]; who != "paul" {
			t.Errorf("the operation says %q asked for it, want paul, who made the cluster", who)
		}
		if w.creates != 1 {
			t.Errorf("%d operations were made, want one", w.creates)
		}
		want := v1alpha1.OperationSpec{Verb: v1alpha1.VerbCreate, Cluster: "demo"}
		if diff := cmp.Diff(want, w.op(createOperation).Spec); diff != "" {
			t.Errorf("operation (-want +got):\n%s", diff)
		}
		if c := w.cluster(); len(c.Finalizers) != 1 || c.Status.State != v1alpha1.ClusterPending || c.Status.Operation != createOperation {
			t.Errorf("finalizers %v, status %+v", c.Finalizers, c.Status)
		}
		writes := w.writes
		w.settle()
		if w.writes != writes {
			t.Error("a status that did not change was written")
		}
	})
}

func TestState(t *testing.T) {
	created := func(c *v1alpha1.Cluster) {
		meta.SetStatusCondition(&c.Status.Conditions, metav1.Condition{Type: v1alpha1.ClusterCreated, Status: metav1.ConditionTrue, Reason: "Succeeded"})
	}
	cases := map[string]struct {
		reason  string
		change  func(*v1alpha1.Cluster)
		op      *v1alpha1.Operation
		want    v1alpha1.ClusterState
		created string
		creates int
	}{
		"planned":       {reason: "nothing was changed yet", op: op(createOperation, v1alpha1.VerbCreate, v1alpha1.OperationPlanned), want: v1alpha1.ClusterPending, created: "Planned"},
		"queued":        {reason: "it waits for its turn", op: op(createOperation, v1alpha1.VerbCreate, v1alpha1.OperationQueued), want: v1alpha1.ClusterPending, created: "Queued"},
		"running":       {reason: "hosts are being changed", op: op(createOperation, v1alpha1.VerbCreate, v1alpha1.OperationRunning), want: v1alpha1.ClusterInitializing, created: "Running"},
		"failed":        {reason: "somebody has to look", op: op(createOperation, v1alpha1.VerbCreate, v1alpha1.OperationFailed), want: v1alpha1.ClusterFailed, created: "Failed"},
		"aborted":       {reason: "a person stopped it half-way", op: op(createOperation, v1alpha1.VerbCreate, v1alpha1.OperationAborted), want: v1alpha1.ClusterFailed, created: "Aborted"},
		"blocked":       {reason: "the plan cannot run", op: op(createOperation, v1alpha1.VerbCreate, v1alpha1.OperationBlocked), want: v1alpha1.ClusterFailed, created: "Blocked"},
		"succeeded":     {reason: "created, but its API server does not answer", op: op(createOperation, v1alpha1.VerbCreate, v1alpha1.OperationSucceeded), want: v1alpha1.ClusterDegraded, created: "Succeeded"},
		"partial":       {reason: "usable without the hosts that were left out", op: op(createOperation, v1alpha1.VerbCreate, v1alpha1.OperationPartial), want: v1alpha1.ClusterDegraded, created: "Partial"},
		"named in plan": {reason: "the operation that made the cluster is its create", change: func(c *v1alpha1.Cluster) { c.Annotations = map[string]string{v1alpha1.AnnotationCreatedBy: "plan"} }, op: op("plan", v1alpha1.VerbCreate, v1alpha1.OperationRunning), want: v1alpha1.ClusterInitializing, created: "Running"},
		"long ago":      {reason: "a forgotten operation is not made again", change: created, want: v1alpha1.ClusterDegraded, created: "Succeeded"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				objects := []client.Object{demo(tc.change), controlPlane(), keys(t, "dev")}
				if tc.op != nil {
					objects = append(objects, tc.op)
				}
				w := newWorld(t, objects...)
				w.settle()
				c := w.cluster()
				if c.Status.State != tc.want {
					t.Errorf("%s: state %q, want %q", tc.reason, c.Status.State, tc.want)
				}
				if got := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ClusterCreated); got == nil || got.Reason != tc.created {
					t.Errorf("%s: condition %v, want reason %s", tc.reason, got, tc.created)
				}
				if w.creates != 0 {
					t.Errorf("%s: %d operations were made", tc.reason, w.creates)
				}
			})
		})
	}
}

// TestDescribe: what is fixed from creation on is written once.
func TestDescribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, demo(nil), controlPlane(), keys(t, "dev"), op(createOperation, v1alpha1.VerbCreate, v1alpha1.OperationSucceeded))
		w.settle()
		w.settle()
		s := w.cluster().Status
		if s.Endpoint != "https://10.9.0.11:6443" || s.Version != "v1.36.3" || len(s.Certificates) != 3 {
			t.Errorf("status %+v", s)
		}
		ready := meta.FindStatusCondition(s.Conditions, v1alpha1.ClusterReady)
		if ready.Reason != "APIUnreachable" || ready.Status != metav1.ConditionFalse {
			t.Errorf("condition %+v, want what the watch met", ready)
		}
	})
}

func TestDelete(t *testing.T) {
	deleted := func(c *v1alpha1.Cluster) {
		c.Finalizers = []string{v1alpha1.Finalizer}
		c.DeletionTimestamp = new(metav1.Now())
	}
	t.Run("from a running create to the end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, demo(deleted), controlPlane(), keys(t, "dev"), op(createOperation, v1alpha1.VerbCreate, v1alpha1.OperationRunning))
			w.settle()
			if !w.op(createOperation).Spec.Abort {
				t.Error("the create was not asked to stop")
			}
			want := v1alpha1.OperationSpec{Verb: v1alpha1.VerbDelete, Cluster: "demo"}
			if diff := cmp.Diff(want, w.op(deleteOperation).Spec); diff != "" {
				t.Errorf("operation (-want +got):\n%s", diff)
			}
			if c := w.cluster(); c.Status.State != v1alpha1.ClusterDeleting || c.Status.Operation != deleteOperation {
				t.Errorf("status %+v", c.Status)
			}
			w.end(deleteOperation, v1alpha1.OperationRunning)
			w.settle()
			if get(w, v1alpha1.SystemNamespace, "cluster-demo", &corev1.Secret{}) == nil {
				t.Error("the keys went before the hosts were clean")
			}
			w.end(deleteOperation, v1alpha1.OperationPartial)
			w.settle()
			if w.cluster() != nil {
				t.Error("the cluster is still there: deleting always ends")
			}
			if get(w, v1alpha1.SystemNamespace, "cluster-demo", &corev1.Secret{}) != nil {
				t.Error("the keys are still there")
			}
			if w.creates != 1 {
				t.Errorf("%d operations were made, want one", w.creates)
			}
		})
	})
	t.Run("a create that cannot run is left alone", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, demo(deleted), op(createOperation, v1alpha1.VerbCreate, v1alpha1.OperationBlocked))
			w.settle()
			if w.op(createOperation).Spec.Abort {
				t.Error("a blocked operation was aborted")
			}
		})
	})
	t.Run("by an approved plan", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, demo(func(c *v1alpha1.Cluster) {
				deleted(c)
				c.Annotations = map[string]string{v1alpha1.AnnotationDeletedBy: "plan"}
			}), op("plan", v1alpha1.VerbDelete, v1alpha1.OperationSucceeded))
			w.settle()
			if w.creates != 0 || w.cluster() != nil {
				t.Errorf("%d operations were made, cluster %v: the named operation does the work", w.creates, w.cluster())
			}
		})
	})
	t.Run("the keys of another project stay", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, demo(deleted), keys(t, "ops"), op(deleteOperation, v1alpha1.VerbDelete, v1alpha1.OperationSucceeded))
			w.settle()
			if w.cluster() != nil {
				t.Error("the cluster is still there")
			}
			if get(w, v1alpha1.SystemNamespace, "cluster-demo", &corev1.Secret{}) == nil {
				t.Error("a cluster whose name was taken took the keys of the one that has it")
			}
		})
	})
	t.Run("somebody else's finalizer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, demo(func(c *v1alpha1.Cluster) {
				deleted(c)
				c.Finalizers = []string{"example.com/other"}
			}))
			w.settle()
			if w.creates != 0 {
				t.Error("what we have let go of is none of our business")
			}
		})
	})
}

func node(name string, ready corev1.ConditionStatus) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if ready != "" {
		n.Status.Conditions = []corev1.NodeCondition{
			{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionTrue},
			{Type: corev1.NodeReady, Status: ready, Reason: "KubeletNotReady", Message: "no network"},
		}
	}
	return n
}

func TestCountNodes(t *testing.T) {
	many := map[string]*corev1.Node{}
	for i := range 60 {
		many[fmt.Sprintf("n%02d", i)] = node(fmt.Sprintf("n%02d", i), corev1.ConditionFalse)
	}
	cases := map[string]struct {
		reason string
		nodes  map[string]*corev1.Node
		want   v1alpha1.ClusterNodes
		names  int
	}{
		"none": {reason: "a cluster that has just begun", nodes: nil, want: v1alpha1.ClusterNodes{Summary: "0/0"}},
		"mixed": {reason: "each problem is named, in order", nodes: map[string]*corev1.Node{"c": node("c", corev1.ConditionTrue), "b": node("b", corev1.ConditionUnknown), "a": node("a", "")},
			want: v1alpha1.ClusterNodes{Total: 3, Ready: 1, Summary: "1/3", NotReady: []v1alpha1.NodeProblem{
				{Name: "a", Reason: "NotSeenYet", Message: "the kubelet has not reported yet"}, {Name: "b", Reason: "KubeletNotReady", Message: "no network"}}}},
		"many": {reason: "a status stays small", nodes: many, want: v1alpha1.ClusterNodes{Total: 60, Summary: "0/60"}, names: maxNotReady},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := countNodes(tc.nodes)
			if tc.names > 0 {
				if len(got.NotReady) != tc.names {
					t.Errorf("%s: %d names, want %d", tc.reason, len(got.NotReady), tc.names)
				}
				got.NotReady = nil
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestReport(t *testing.T) {
	cases := map[string]struct {
		reason string
		report report
		status metav1.ConditionStatus
		want   string
	}{
		"unasked":   {reason: "nobody knows yet", report: report{}, status: metav1.ConditionUnknown, want: "NotSeenYet"},
		"away":      {reason: "what was known is not what is", report: report{known: true, problem: "no route"}, status: metav1.ConditionFalse, want: "APIUnreachable"},
		"not ready": {reason: "one node is missing", report: report{known: true, nodes: v1alpha1.ClusterNodes{Total: 2, Ready: 1}}, status: metav1.ConditionFalse, want: "NodesNotReady"},
		"ready":     {reason: "all is well", report: report{known: true, nodes: v1alpha1.ClusterNodes{Total: 2, Ready: 2}}, status: metav1.ConditionTrue, want: "NodesReady"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			status, reason, message := tc.report.ready()
			if status != tc.status || reason != tc.want || message == "" {
				t.Errorf("%s: %s %s %q, want %s %s", tc.reason, status, reason, message, tc.status, tc.want)
			}
		})
	}
}

// TestWatch: a report reaches the reconciler once for each change, and makes the cluster Active.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, demo(nil), controlPlane(), keys(t, "dev"), op(createOperation, v1alpha1.VerbCreate, v1alpha1.OperationSucceeded))
		w.settle()
		key := types.NamespacedName{Namespace: "dev", Name: "demo"}
		seen := report{known: true, nodes: countNodes(map[string]*corev1.Node{"c1": node("c1", corev1.ConditionTrue)})}
		for range 2 {
			go w.reconcile.nodes.set(t.Context(), key, func(r *report) { *r = seen })
			synctest.Wait()
		}
		if got := (<-w.reconcile.nodes.changed).Object; got.GetName() != "demo" || got.GetNamespace() != "dev" {
			t.Errorf("the event is about %v", got)
		}
		select {
		case <-w.reconcile.nodes.changed:
			t.Error("a report that says the same makes an event")
		default:
		}
		w.settle()
		s := w.cluster().Status
		if s.State != v1alpha1.ClusterActive || s.Nodes.Summary != "1/1" || !meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ClusterReady) {
			t.Errorf("status %+v", s)
		}
	})
}
