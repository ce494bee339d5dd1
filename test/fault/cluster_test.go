package fault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"slipway.dev/slipway/internal/fault"
)

// managed is the API of the cluster that the hosts make. It answers only while etcd and the API server run on the
// control plane, and forgets everything with etcd's data. Who holds a host's state may take mu, never the other way.
type managed struct {
	mu      sync.Mutex
	store   client.WithWatch
	serving bool
	// signed is when the cluster information may be signed; the controller manager takes a moment.
	since map[string]time.Time
}

func newManaged() *managed { return &managed{since: map[string]time.Time{}} }

// empty gives a store as a new etcd has it.
func empty() client.WithWatch {
	return fake.NewClientBuilder().WithScheme(scheme.Scheme).WithTypeConverters(managedfields.NewDeducedTypeConverter()).Build()
}

// lasts says for how long something has been so, without a break.
func (m *managed) lasts(what string, so bool) time.Duration {
	if !so {
		delete(m.since, what)
		return -1
	}
	if _, known := m.since[what]; !known {
		m.since[what] = time.Now()
	}
	return time.Since(m.since[what])
}

// errRefused is what a client meets when nothing listens.
var errRefused = errors.New("dial tcp 127.0.0.1:6443: connect: connection refused")

// api gives the store while the API server answers. The caller holds mu.
func (m *managed) api() (client.WithWatch, error) {
	if !m.serving || m.store == nil {
		return nil, fault.NewTransient("APIUnreachable", errRefused)
	}
	return m.store, nil
}

func (m *managed) ask(f func(client.WithWatch) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	store, err := m.api()
	if err != nil {
		return err
	}
	return f(store)
}

// Ready is step.ClusterReader's.
func (m *managed) Ready(context.Context, string) error {
	return m.ask(func(client.WithWatch) error { return nil })
}

// Get is step.ClusterReader's.
func (m *managed) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	return m.ask(func(c client.WithWatch) error { return c.Get(ctx, key, o, opts...) })
}

// List is step.ClusterReader's.
func (m *managed) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	return m.ask(func(c client.WithWatch) error { return c.List(ctx, list, opts...) })
}

// Apply is step.ClusterWriter's.
func (m *managed) Apply(ctx context.Context, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
	return m.ask(func(c client.WithWatch) error { return c.Apply(ctx, o, opts...) })
}

// Delete is step.ClusterWriter's.
func (m *managed) Delete(ctx context.Context, o client.Object, opts ...client.DeleteOption) error {
	return m.ask(func(c client.WithWatch) error { return client.IgnoreNotFound(c.Delete(ctx, o, opts...)) })
}

// put makes o exist as given.
func put(ctx context.Context, c client.Client, objects ...client.Object) error {
	for _, o := range objects {
		have := o.DeepCopyObject().(client.Object)
		err := c.Get(ctx, client.ObjectKeyFromObject(o), have)
		if err == nil {
			o.SetResourceVersion(have.GetResourceVersion())
			err = c.Update(ctx, o)
		} else if client.IgnoreNotFound(err) == nil {
			err = c.Create(ctx, o)
		}
		if err != nil {
			return fmt.Errorf("cannot put %T %s: %w", o, o.GetName(), err)
		}
	}
	return nil
}

// Times that the cluster takes for what it does by itself. They are far enough apart that what an operation sees
// first never depends on the jitter of its waits.
const (
	tick          = 250 * time.Millisecond
	apiStarts     = 5 * time.Second
	tokenSigned   = time.Second
	kubeletLogsIn = time.Second
	nodeReady     = 3 * time.Second
	podsAvailable = 6 * time.Second
	// settled is when nothing moves any more.
	settled = 20 * time.Second
)

// controllers does what the controller manager and the scheduler do. The caller holds mu.
func (m *managed) controllers(ctx context.Context, nodes []*node) error {
	store, err := m.api()
	if err != nil {
		return nil
	}
	for i, n := range nodes {
		var object corev1.Node
		if err := store.Get(ctx, client.ObjectKey{Name: n.name}, &object); err != nil || object.Spec.PodCIDR != "" {
			continue
		}
		object.Spec.PodCIDR = fmt.Sprintf("172.25.%d.0/24", i)
		if err := store.Update(ctx, &object); err != nil {
			return err
		}
	}
	if err := m.sign(ctx, store); err != nil {
		return err
	}
	return m.workloads(ctx, store, nodes)
}

// sign signs the cluster information for every bootstrap token.
func (m *managed) sign(ctx context.Context, store client.WithWatch) error {
	var info corev1.ConfigMap
	err := store.Get(ctx, client.ObjectKey{Namespace: "kube-public", Name: "cluster-info"}, &info)
	unsigned := err == nil && len(info.Data) == 1
	if m.lasts("unsigned", unsigned) < tokenSigned {
		return nil
	}
	var secrets corev1.SecretList
	if err := store.List(ctx, &secrets, client.InNamespace("kube-system")); err != nil {
		return err
	}
	for _, s := range secrets.Items {
		if id, ok := strings.CutPrefix(s.Name, "bootstrap-token-"); ok {
			info.Data["jws-kubeconfig-"+id] = "signed"
		}
	}
	return store.Update(ctx, &info)
}

// workloads counts the pods that run.
func (m *managed) workloads(ctx context.Context, store client.WithWatch, nodes []*node) error {
	var sets appsv1.DaemonSetList
	var deployments appsv1.DeploymentList
	if err := errors.Join(store.List(ctx, &sets), store.List(ctx, &deployments)); err != nil {
		return err
	}
	run := func(app string) (n int32) {
		for _, node := range nodes {
			if m.lasts(node.name+"/"+app, node.running[app]) >= podsAvailable {
				n++
			}
		}
		return n
	}
	for i := range sets.Items {
		d := &sets.Items[i]
		want := appsv1.DaemonSetStatus{ObservedGeneration: d.Generation, DesiredNumberScheduled: int32(len(nodes)),
			NumberAvailable: run(strings.TrimSuffix(d.Name, "-ds"))}
		if d.Status.NumberAvailable == want.NumberAvailable && d.Status.DesiredNumberScheduled == want.DesiredNumberScheduled {
			continue
		}
		d.Status = want
		if err := store.Update(ctx, d); err != nil {
			return err
		}
	}
	for i := range deployments.Items {
		d := &deployments.Items[i]
		if available := min(1, run(d.Name)) * *d.Spec.Replicas; d.Status.AvailableReplicas != available {
			d.Status.AvailableReplicas, d.Status.ObservedGeneration = available, d.Generation
			if err := store.Update(ctx, d); err != nil {
				return err
			}
		}
	}
	return nil
}

// digest lists every object, without what the store itself adds.
func (m *managed) digest(ctx context.Context) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.store == nil {
		return "no cluster\n", nil
	}
	var lines []string
	for _, list := range []client.ObjectList{&corev1.NodeList{}, &corev1.ConfigMapList{}, &corev1.SecretList{}, &corev1.ServiceList{},
		&corev1.NamespaceList{}, &corev1.ServiceAccountList{}, &appsv1.DeploymentList{}, &appsv1.DaemonSetList{},
		&rbacv1.RoleBindingList{}, &rbacv1.ClusterRoleBindingList{}, &rbacv1.ClusterRoleList{}} {
		if err := m.store.List(ctx, list); err != nil {
			return "", err
		}
		err := eachItem(list, func(o client.Object) error {
			o.SetResourceVersion("")
			o.SetManagedFields(nil)
			o.SetCreationTimestamp(metav1.Time{})
			b, err := json.Marshal(o)
			lines = append(lines, fmt.Sprintf("%T %s", o, b))
			return err
		})
		if err != nil {
			return "", err
		}
	}
	slices.Sort(lines)
	return fmt.Sprintf("serving %t\n%s\n", m.serving, strings.Join(lines, "\n")), nil
}
