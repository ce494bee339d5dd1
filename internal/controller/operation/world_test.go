package operation

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/blob"
	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/operation"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/step"
)

// engine stands in for the real one: it writes what the real one writes, and ends at once unless told otherwise.
type engine struct {
	client client.Client

	mu       sync.Mutex
	ran      []string
	previews int
	// ends says how a run ends; nil means Succeeded.
	ends func(ctx context.Context, op *v1alpha1.Operation, p *plan.Plan, abort <-chan struct{}) (v1alpha1.OperationPhase, error)
}

func (e *engine) Run(ctx context.Context, op *v1alpha1.Operation, p *plan.Plan, abort <-chan struct{}) (operation.Outcome, error) {
	e.mu.Lock()
	e.ran = append(e.ran, op.Name)
	ends := e.ends
	e.mu.Unlock()
	var now v1alpha1.Operation
	if err := e.client.Get(ctx, client.ObjectKeyFromObject(op), &now); err != nil {
		return operation.Outcome{}, err
	}
	if now.Status.StartedAt == nil {
		now.Status.StartedAt = new(metav1.Now())
	}
	if err := e.client.Status().Update(ctx, &now); err != nil {
		return operation.Outcome{}, err
	}
	phase := v1alpha1.OperationSucceeded
	if ends != nil {
		var err error
		if phase, err = ends(ctx, op, p, abort); err != nil {
			return operation.Outcome{}, err
		}
	}
	if err := e.client.Get(ctx, client.ObjectKeyFromObject(op), &now); err != nil {
		return operation.Outcome{}, err
	}
	now.Status.Phase, now.Status.FinishedAt = phase, new(metav1.Now())
	return operation.Outcome{Phase: phase}, e.client.Status().Update(ctx, &now)
}

func (e *engine) Preview(_ context.Context, p *plan.Plan) (operation.Preview, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.previews++
	var out operation.Preview
	for _, t := range p.Hosts {
		out.Hosts = append(out.Hosts, operation.HostPreview{Host: t.Name})
	}
	return out, nil
}

// runs gives the names of the operations that the engine was given, in order.
func (e *engine) runs() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string{}, e.ran...)
}

// world is a platform with one reconciler. It must be used inside a synctest bubble.
type world struct {
	t      *testing.T
	client client.Client
	engine *engine
	plans  *blob.Directory
	stop   context.CancelFunc

	reconcile *Reconciler
	// managed is what clusters say of themselves; nil where none can be asked.
	managed step.ClusterReader
	// bundle is the problem of the bundle, "" when it can be used.
	bundle string
	// creating is called before an object is stored, and its error is the answer.
	creating func(client.Object) error
	uids     int
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	plans, err := blob.Dir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, plans: plans}
	w.client = clientfake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1alpha1.Operation{}, &v1alpha1.Cluster{}, &v1alpha1.HostRun{}, &v1alpha1.Host{}).
		WithIndex(&v1alpha1.Cluster{}, "metadata.name", func(o client.Object) []string { return []string{o.GetName()} }).
		WithInterceptorFuncs(interceptor.Funcs{Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if w.creating != nil {
				if err := w.creating(o); err != nil {
					return err
				}
			}
			w.uids++
			o.SetUID(types.UID(fmt.Sprintf("%05d", w.uids)))
			o.SetCreationTimestamp(metav1.Now())
			return c.Create(ctx, o, opts...)
		}}).Build()
	for _, o := range append(objects, machine("c1", "10.9.0.11"), machine("w1", "10.9.0.21"), machine("w2", "10.9.0.22")) {
		w.create(o)
	}
	for _, project := range []string{"dev", "ops"} {
		w.create(grantOf(project, v1alpha1.GrantHost, v1alpha1.GrantEverything))
		w.create(grantOf(project, v1alpha1.GrantBundle, v1alpha1.GrantEverything))
	}
	w.engine = &engine{client: w.client}
	w.restart()
	t.Cleanup(func() {
		w.stop()
		synctest.Wait()
		_ = plans.Close()
	})
	return w
}

// restart ends the reconciler with all its runs, as the end of the server does, and makes a new one.
func (w *world) restart() {
	if w.stop != nil {
		w.stop()
		synctest.Wait()
	}
	ctx, stop := context.WithCancel(w.t.Context())
	w.stop = stop
	w.reconcile = New(ctx, Deps{
		Client: w.client, Engine: w.engine, Plans: w.plans, Log: slog.New(slog.DiscardHandler),
		Cluster: func(string, string) step.ClusterReader { return managedBy{w} },
		Bundle: func(context.Context, string) (*bundle.Manifest, string, error) {
			if w.bundle != "" {
				return nil, w.bundle, nil
			}
			return manifest(), "", nil
		},
		Platform: Platform{Address: func(string) (string, error) { return "10.9.0.1:8443", nil }, Port: 8443, CA: "a certificate", MachineID: "server"},
		Systems:  []stages.System{{ID: "debian", Versions: []string{"12"}, KernelMin: "3.10"}},
	})
}

func manifest() *bundle.Manifest {
	m := &bundle.Manifest{Name: "v1.36.3", KubernetesVersion: "v1.36.3", Architectures: []string{"amd64"}}
	for role, name := range map[string]string{
		bundle.RoleKubeAPIServer: "registry.k8s.io/kube-apiserver:v1.36.3", bundle.RoleKubeControllerManager: "registry.k8s.io/kube-controller-manager:v1.36.3",
		bundle.RoleKubeScheduler: "registry.k8s.io/kube-scheduler:v1.36.3", bundle.RoleKubeProxy: "registry.k8s.io/kube-proxy:v1.36.3",
		bundle.RoleEtcd: "registry.k8s.io/etcd:3.6.8-0", bundle.RoleCoreDNS: "registry.k8s.io/coredns/coredns:v1.14.2",
		bundle.RolePause: "registry.k8s.io/pause:3.10.2", bundle.RoleFlannel: "ghcr.io/flannel-io/flannel:v0.26.7",
	} {
		m.Images = append(m.Images, bundle.Image{Name: name, Role: role, NodeRole: bundle.NodeRoleAll, Architecture: "amd64"})
	}
	// The order of a map must not reach the plan.
	sortImages(m.Images)
	return m
}

func sortImages(images []bundle.Image) {
	for i := range images {
		for j := i; j > 0 && images[j].Name < images[j-1].Name; j-- {
			images[j], images[j-1] = images[j-1], images[j]
		}
	}
}

// machine is a Host on which a cluster can be made.
func machine(name, address string) *v1alpha1.Host {
	return &v1alpha1.Host{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.HostSpec{Address: address, Credential: "root"},
		Status: v1alpha1.HostStatus{
			InternalAddress: address,
			Conditions:      []metav1.Condition{{Type: v1alpha1.HostReachable, Status: metav1.ConditionTrue}},
			Facts: &v1alpha1.HostFacts{
				MachineID: name, OS: v1alpha1.HostOS{ID: "debian", Version: "12"}, Kernel: "6.1.0", Architecture: "amd64", CPUs: 2, MemoryBytes: 4 << 30,
				NICs: []v1alpha1.HostNIC{{Name: "eth0", MTU: 1500, Addresses: []string{address + "/24"}}}, CgroupVersion: 2,
				Capabilities: []string{"CAP_SYS_RESOURCE"}, KernelFeatures: []string{"overlay", "vxlan", "bridge", "nf_tables"}, TimeZone: "UTC",
			},
		},
	}
}

// spec is one control plane and the given workers.
func spec(controlPlane string, workers ...string) v1alpha1.ClusterSpec {
	s := v1alpha1.ClusterSpec{
		Kubernetes: v1alpha1.KubernetesSpec{Version: "v1.36.3", DNSDomain: "cluster.local"}, ControlPlane: v1alpha1.ControlPlaneSpec{Hosts: []string{controlPlane}},
		Endpoint: v1alpha1.EndpointSpec{Port: 6443}, Network: v1alpha1.NetworkSpec{PodCIDR: "172.25.0.0/16", ServiceCIDR: "10.96.0.0/16", CNI: "flannel"},
		Runtime: v1alpha1.RuntimeSpec{DataDir: "/var/lib/containerd"}, Components: v1alpha1.ComponentsSpec{Etcd: v1alpha1.EtcdSpec{DataDir: "/var/lib/etcd"}},
	}
	if len(workers) > 0 {
		s.WorkerPools = []v1alpha1.WorkerPool{{Name: "default", Hosts: workers}}
	}
	return s
}

func clusterOf(namespace, name string, s v1alpha1.ClusterSpec) *v1alpha1.Cluster {
	return &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Finalizers: []string{v1alpha1.Finalizer}}, Spec: s}
}

func operationOf(namespace, name string, s v1alpha1.OperationSpec) *v1alpha1.Operation {
	return &v1alpha1.Operation{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: s}
}

func grantOf(project string, kind v1alpha1.GrantKind, name string) *v1alpha1.Grant {
	object := string(kind) + "-" + name
	if name == v1alpha1.GrantEverything {
		object = string(kind) + "s-all"
	}
	return &v1alpha1.Grant{ObjectMeta: metav1.ObjectMeta{Namespace: project, Name: strings.ToLower(object)}, Spec: v1alpha1.GrantSpec{Kind: kind, Name: name}}
}

func (w *world) create(o client.Object) {
	w.t.Helper()
	if err := w.client.Create(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
}

// op reads an operation, nil when it does not exist.
func (w *world) op(namespace, name string) *v1alpha1.Operation {
	w.t.Helper()
	return read(w, client.ObjectKey{Namespace: namespace, Name: name}, &v1alpha1.Operation{})
}

func (w *world) cluster(namespace, name string) *v1alpha1.Cluster {
	w.t.Helper()
	return read(w, client.ObjectKey{Namespace: namespace, Name: name}, &v1alpha1.Cluster{})
}

func (w *world) keys(cluster string) *corev1.Secret {
	w.t.Helper()
	return read(w, client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: "cluster-" + cluster}, &corev1.Secret{})
}

func (w *world) claim(host string) *v1alpha1.HostClaim {
	w.t.Helper()
	return read(w, client.ObjectKey{Name: host}, &v1alpha1.HostClaim{})
}

// read fills o and gives it, or nil when there is none of that name.
func read[T client.Object](w *world, key client.ObjectKey, o T) T {
	w.t.Helper()
	err := w.client.Get(w.t.Context(), key, o)
	if apierrors.IsNotFound(err) {
		var none T
		return none
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return o
}

// edit changes an operation as a person does.
func (w *world) edit(namespace, name string, change func(*v1alpha1.Operation)) {
	w.t.Helper()
	op := w.op(namespace, name)
	change(op)
	if err := w.client.Update(w.t.Context(), op); err != nil {
		w.t.Fatal(err)
	}
}

// set writes the status of an operation.
func (w *world) set(namespace, name string, s v1alpha1.OperationStatus) {
	w.t.Helper()
	op := w.op(namespace, name)
	op.Status = s
	if err := w.client.Status().Update(w.t.Context(), op); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) all() []v1alpha1.Operation {
	w.t.Helper()
	var all v1alpha1.OperationList
	if err := w.client.List(w.t.Context(), &all); err != nil {
		w.t.Fatal(err)
	}
	return all.Items
}

// picture is what can be seen of the operations.
func (w *world) picture() string {
	w.t.Helper()
	var out []any
	for _, op := range w.all() {
		out = append(out, op.Name, op.Spec, op.Status, op.DeletionTimestamp, op.Finalizers)
	}
	b, err := json.Marshal(out)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

// settle reconciles every operation, a second apart, until nothing changes any more.
func (w *world) settle() {
	w.t.Helper()
	before := w.picture()
	for range 12 {
		for _, op := range w.all() {
			if _, err := w.reconcile.Reconcile(w.t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(&op)}); err != nil {
				w.t.Fatalf("operation %s: %v", op.Name, err)
			}
			synctest.Wait()
		}
		w.wake()
		now := w.picture()
		if now == before {
			return
		}
		before = now
		<-time.After(time.Second)
	}
	w.t.Fatalf("the operations never come to rest:\n%s", before)
}

// wake takes the events of ended runs, which the controller would turn into reconciles.
func (w *world) wake() {
	for {
		select {
		case <-w.reconcile.runs.ended:
		default:
			return
		}
	}
}

// phase fails the test unless the operation is in the phase.
func (w *world) phase(namespace, name string, want v1alpha1.OperationPhase) *v1alpha1.Operation {
	w.t.Helper()
	op := w.op(namespace, name)
	if op == nil {
		w.t.Fatalf("operation %s is gone, want it %s", name, want)
	}
	if op.Status.Phase != want {
		w.t.Fatalf("operation %s is %q (%s, %v), want %q", name, op.Status.Phase, op.Status.Message, op.Status.Failures, want)
	}
	return op
}

func (w *world) planOf(op *v1alpha1.Operation) []byte {
	w.t.Helper()
	f, err := w.plans.Open(w.t.Context(), operation.PlanName(op.Namespace, op.Name))
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}
