package fault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	fakecluster "slipway.dev/slipway/internal/cluster/fake"
	"slipway.dev/slipway/internal/fault"
)

// managed is the API of the cluster that the hosts make. It answers only while etcd and the API server run on the
// control plane, and forgets everything with etcd's data. Who holds a host's state may take mu, never the other way.
type managed struct {
	// Etcd is the membership. Whoever holds mu or a host's state may use it.
	fakecluster.Etcd
	mu sync.Mutex
	// store is nil while etcd has no data; data is what the members' files hold of it, and holds says who has any.
	store     objects
	data      string
	holds     map[string]bool
	snapshots map[string]objects
	// serving says whose API server answers, versions which process of etcd each host had.
	serving  map[string]bool
	versions map[string]int
	// since says when what lasts has begun.
	since map[string]time.Time
	// image asks a host for the image of a static pod.
	image func(host, pod string) string
}

func newManaged() *managed {
	return &managed{since: map[string]time.Time{}, holds: map[string]bool{}, snapshots: map[string]objects{}, serving: map[string]bool{}, versions: map[string]int{}}
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
func (m *managed) api() (objects, error) {
	if m.store == nil || !slices.Contains(slices.Collect(maps.Values(m.serving)), true) {
		return nil, fault.NewTransient("APIUnreachable", errRefused)
	}
	return m.store, nil
}

func (m *managed) ask(f func(objects) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	store, err := m.api()
	if err != nil {
		return err
	}
	return f(store)
}

// Ready is step.ClusterReader's.
func (m *managed) Ready(_ context.Context, host string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if host != "" && !m.serving[host] {
		return fault.NewTransient("APIUnreachable", errRefused)
	}
	_, err := m.api()
	return err
}

// Ask is step.ClusterReader's: the version that an API server runs, and figures that say nothing.
func (m *managed) Ask(ctx context.Context, host, path string) ([]byte, error) {
	if err := m.Ready(ctx, host); err != nil {
		return nil, err
	}
	if path != "/version" {
		return nil, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	running := m.image(host, "kube-apiserver")
	return json.Marshal(map[string]string{"gitVersion": running[strings.LastIndex(running, ":")+1:]})
}

// EtcdSnapshot is step.EtcdReader's; what is restored from it is what the cluster holds now.
func (m *managed) EtcdSnapshot(ctx context.Context, host string) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	snapshot, err := m.Etcd.EtcdSnapshot(ctx, host)
	if err != nil {
		return nil, err
	}
	defer snapshot.Close()
	content, err := io.ReadAll(snapshot)
	m.snapshots[string(content)] = m.store.clone()
	return reading(string(content)), err
}

// Get is step.ClusterReader's.
func (m *managed) Get(_ context.Context, key client.ObjectKey, o client.Object, _ ...client.GetOption) error {
	return m.ask(func(store objects) error {
		gvk, err := apiutil.GVKForObject(o, scheme.Scheme)
		if err != nil {
			return err
		}
		have, ok := store[gvk.Kind+" "+key.String()]
		if !ok {
			return apierrors.NewNotFound(schema.GroupResource{Group: gvk.Group, Resource: gvk.Kind}, key.Name)
		}
		if u, ok := o.(*unstructured.Unstructured); ok {
			u.Object, err = runtime.DefaultUnstructuredConverter.ToUnstructured(have)
			return err
		}
		reflect.ValueOf(o).Elem().Set(reflect.ValueOf(have.DeepCopyObject()).Elem())
		return nil
	})
}

// List is step.ClusterReader's; it knows namespaces, and the field by which the pods of a node are found.
func (m *managed) List(_ context.Context, list client.ObjectList, opts ...client.ListOption) error {
	return m.ask(func(store objects) error {
		gvk, err := apiutil.GVKForObject(list, scheme.Scheme)
		if err != nil {
			return err
		}
		var o client.ListOptions
		o.ApplyOptions(opts)
		found := []runtime.Object{}
		for _, key := range slices.Sorted(maps.Keys(store)) {
			have := store[key]
			if !strings.HasPrefix(key, strings.TrimSuffix(gvk.Kind, "List")+" ") || (o.Namespace != "" && have.GetNamespace() != o.Namespace) {
				continue
			}
			if pod, ok := have.(*corev1.Pod); ok && o.FieldSelector != nil && !o.FieldSelector.Matches(fields.Set{"spec.nodeName": pod.Spec.NodeName}) {
				continue
			}
			found = append(found, have.DeepCopyObject())
		}
		return meta.SetList(list, found)
	})
}

// Apply is step.ClusterWriter's; every field of what is applied is owned by the one who applies it.
func (m *managed) Apply(_ context.Context, applied runtime.ApplyConfiguration, _ ...client.ApplyOption) error {
	return m.ask(func(store objects) error {
		b, err := json.Marshal(applied)
		if err != nil {
			return err
		}
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON(b); err != nil {
			return err
		}
		o, err := scheme.Scheme.New(u.GroupVersionKind())
		if err != nil {
			return err
		}
		if err := json.Unmarshal(b, o); err != nil {
			return err
		}
		return store.put(o.(client.Object))
	})
}

// Delete is step.ClusterWriter's.
func (m *managed) Delete(_ context.Context, o client.Object, _ ...client.DeleteOption) error {
	return m.ask(func(store objects) error {
		gvk, err := apiutil.GVKForObject(o, scheme.Scheme)
		delete(store, gvk.Kind+" "+client.ObjectKeyFromObject(o).String())
		return err
	})
}

// Patch is step.ClusterWriter's, for merge patches.
func (m *managed) Patch(_ context.Context, o client.Object, p client.Patch, _ ...client.PatchOption) error {
	return m.ask(func(store objects) error {
		gvk, err := apiutil.GVKForObject(o, scheme.Scheme)
		if err != nil {
			return err
		}
		have, ok := store[gvk.Kind+" "+client.ObjectKeyFromObject(o).String()]
		if !ok {
			return apierrors.NewNotFound(schema.GroupResource{Group: gvk.Group, Resource: gvk.Kind}, o.GetName())
		}
		b, err := p.Data(o)
		if err != nil {
			return err
		}
		var patch map[string]any
		if err := json.Unmarshal(b, &patch); err != nil {
			return err
		}
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(have)
		if err != nil {
			return err
		}
		merge(content, patch)
		changed, err := scheme.Scheme.New(gvk)
		if err != nil {
			return err
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(content, changed); err != nil {
			return err
		}
		return store.put(changed.(client.Object))
	})
}

// merge does what RFC 7386 says.
func merge(into, patch map[string]any) {
	for k, v := range patch {
		inner, object := v.(map[string]any)
		switch old, _ := into[k].(map[string]any); {
		case v == nil:
			delete(into, k)
		case object && old != nil:
			merge(old, inner)
		default:
			into[k] = v
		}
	}
}

// Evict is step.ClusterWriter's: a pod goes at once, unless a budget of its namespace that selects it allows none.
func (m *managed) Evict(_ context.Context, namespace, name string, _ *int64) error {
	return m.ask(func(store objects) error {
		pod := find[*corev1.Pod](store, namespace, name)
		if pod == nil {
			return nil
		}
		for _, o := range store {
			budget, ok := o.(*policyv1.PodDisruptionBudget)
			if !ok || budget.Namespace != namespace || budget.Status.DisruptionsAllowed > 0 {
				continue
			}
			selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
			if err != nil {
				return err
			}
			if selector.Matches(labels.Set(pod.Labels)) {
				refused := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", 0)
				refused.ErrStatus.Details.Causes = append(refused.ErrStatus.Details.Causes, metav1.StatusCause{Type: policyv1.DisruptionBudgetCause, Message: budget.Name})
				return refused
			}
		}
		delete(store, "Pod "+namespace+"/"+name)
		return nil
	})
}

// objects holds what a cluster holds, by kind, namespace and name.
type objects map[string]client.Object

// clone copies all of them.
func (s objects) clone() objects {
	copied := objects{}
	for key, o := range s {
		copied[key] = o.DeepCopyObject().(client.Object)
	}
	return copied
}

// put makes each object exist as given.
func (s objects) put(all ...client.Object) error {
	for _, o := range all {
		gvk, err := apiutil.GVKForObject(o, scheme.Scheme)
		if err != nil {
			return err
		}
		o.SetGeneration(1)
		o.SetResourceVersion("1") // Nobody else changes what the trials change.
		s[gvk.Kind+" "+client.ObjectKeyFromObject(o).String()] = o
	}
	return nil
}

// find gives the object itself, or nil.
func find[T client.Object](s objects, namespace, name string) T {
	var none T
	for _, o := range s {
		if found, ok := o.(T); ok && o.GetNamespace() == namespace && o.GetName() == name {
			return found
		}
	}
	return none
}

// Times that the cluster takes for what it does by itself. They are far enough apart that what an operation sees
// first never depends on the jitter of its waits.
const (
	tick          = 250 * time.Millisecond
	apiStarts     = 5 * time.Second
	kubeletLogsIn = time.Second
	nodeReady     = 3 * time.Second
	podsAvailable = 6 * time.Second
	// settled is when nothing moves any more.
	settled = 20 * time.Second
)

// controllers does what the controller manager and the scheduler do. The caller holds mu.
func (m *managed) controllers(nodes []*node) {
	store, err := m.api()
	if err != nil {
		return
	}
	// Pods, nodes and replicas are looked after by the controller manager that works.
	working := slices.ContainsFunc(nodes, func(n *node) bool { return m.serving[n.name] && n.processes["kube-controller-manager"].pid > 0 })
	if !working {
		return
	}
	lease := &coordinationv1.Lease{ObjectMeta: in("kube-system", "kube-controller-manager"), Spec: coordinationv1.LeaseSpec{RenewTime: new(metav1.NowMicro())}}
	if store.put(lease) != nil {
		return
	}
	for key, o := range store {
		if pod, ok := o.(*corev1.Pod); ok && find[*corev1.Node](store, "", pod.Spec.NodeName) == nil {
			delete(store, key)
		}
	}
	for i, n := range nodes {
		if object := find[*corev1.Node](store, "", n.name); object != nil && object.Spec.PodCIDR == "" {
			object.Spec.PodCIDR = fmt.Sprintf("172.25.%d.0/24", i)
		}
	}
	m.workloads(store, nodes)
}

// workloads counts the pods that run.
func (m *managed) workloads(store objects, nodes []*node) {
	registered := int32(0)
	for _, o := range store {
		if _, ok := o.(*corev1.Node); ok {
			registered++
		}
	}
	run := func(app, image string) (n int32) {
		for _, node := range nodes {
			p, known := node.processes[app]
			if known && p.image == image && time.Since(p.began) >= podsAvailable && find[*corev1.Node](store, "", node.name) != nil {
				n++
			}
		}
		return n
	}
	for _, o := range store {
		switch d := o.(type) {
		case *appsv1.DaemonSet:
			d.Status = appsv1.DaemonSetStatus{ObservedGeneration: d.Generation, DesiredNumberScheduled: registered, UpdatedNumberScheduled: registered,
				NumberAvailable: run(strings.TrimSuffix(d.Name, "-ds"), image(&d.Spec.Template))}
		case *appsv1.Deployment:
			d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, AvailableReplicas: min(1, run(d.Name, image(&d.Spec.Template))) * *d.Spec.Replicas}
		}
	}
}

// digest lists every object.
func (m *managed) digest() (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.store == nil {
		return "no cluster\n", nil
	}
	_, err := m.api()
	serves := err == nil
	lines := []string{fmt.Sprintf("serving %t %v", serves, m.serving)}
	members, err := m.EtcdMembers(context.Background())
	if err != nil {
		lines = append(lines, "etcd without a quorum")
	}
	for _, member := range members {
		lines = append(lines, fmt.Sprintf("etcd %s at %v, learner %t", member.Name, member.PeerURLs, member.Learner))
	}
	for _, key := range slices.Sorted(maps.Keys(m.store)) {
		o := m.store[key]
		if secret, ok := o.(*corev1.Secret); ok {
			timeless := secret.DeepCopy()
			delete(timeless.Data, "expiration")
			o = timeless
		}
		if _, ok := o.(*coordinationv1.Lease); ok {
			continue // It says when, and nothing else.
		}
		if node, ok := o.(*corev1.Node); ok {
			timeless := node.DeepCopy()
			for i := range timeless.Status.Conditions {
				timeless.Status.Conditions[i].LastHeartbeatTime = metav1.Time{}
			}
			o = timeless
		}
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
		if err != nil {
			return "", err
		}
		if !serves { // What was reported last is of no meaning.
			delete(content, "status")
		}
		b, err := json.Marshal(content)
		if err != nil {
			return "", err
		}
		lines = append(lines, fmt.Sprintf("%s %s", key, b))
	}
	return strings.Join(lines, "\n") + "\n", nil
}
