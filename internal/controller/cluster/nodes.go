package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cluster"
	"slipway.dev/slipway/internal/host"
)

// How much a status takes from a cluster, whose nodes may say anything: nodes that are named, and the bytes of a text.
const (
	maxNotReady = 50
	maxReason   = 128
	maxMessage  = 1024
)

// report is what is known of a cluster's nodes.
type report struct {
	// known is false until the API server has answered once.
	known bool
	nodes v1alpha1.ClusterNodes
	// problem says why the API server does not answer now.
	problem string
	// certificates are those that are served, as seen last.
	certificates []v1alpha1.ClusterCertificate
}

func (r report) ready() (metav1.ConditionStatus, string, string) {
	switch {
	case r.problem != "":
		return metav1.ConditionFalse, "APIUnreachable", r.problem
	case !r.known:
		return metav1.ConditionUnknown, "NotSeenYet", "the API server was not asked yet"
	case r.nodes.Ready < r.nodes.Total:
		return metav1.ConditionFalse, "NodesNotReady", fmt.Sprintf("%d of %d nodes are Ready", r.nodes.Ready, r.nodes.Total)
	default:
		return metav1.ConditionTrue, "NodesReady", fmt.Sprintf("all %d nodes are Ready", r.nodes.Total)
	}
}

// watchers keeps one watch of nodes for each cluster; what they see reaches the reconciler as events.
type watchers struct {
	ctx     context.Context
	access  *cluster.Access
	log     *slog.Logger
	redact  func(string) string
	changed chan event.GenericEvent

	mu      sync.Mutex
	running map[types.NamespacedName]*watcher
}

type watcher struct {
	stop   context.CancelFunc
	report report
}

func newWatchers(ctx context.Context, d Deps) *watchers {
	return &watchers{ctx: ctx, access: d.Access, log: d.Log, redact: d.Redact, changed: make(chan event.GenericEvent, 64), running: map[types.NamespacedName]*watcher{}}
}

func (w *watchers) report(key types.NamespacedName) report {
	w.mu.Lock()
	defer w.mu.Unlock()
	if running := w.running[key]; running != nil {
		return running.report
	}
	return report{}
}

func (w *watchers) stop(key types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if running := w.running[key]; running != nil {
		running.stop()
		delete(w.running, key)
	}
}

// watch begins to watch a cluster; a second call does nothing.
func (w *watchers) watch(key types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running[key] != nil {
		return
	}
	ctx, stop := context.WithCancel(w.ctx)
	w.running[key] = &watcher{stop: stop}
	go w.follow(ctx, key)
}

// follow keeps a watch alive until ctx ends, with growing pauses while the API server cannot be reached.
func (w *watchers) follow(ctx context.Context, key types.NamespacedName) {
	pause := wait.Backoff{Duration: time.Second, Factor: 2, Jitter: 0.3, Steps: 6, Cap: 30 * time.Second}
	next := pause
	back := make(chan []string, 1)
	go w.watchCertificates(ctx, key, back)
	for ctx.Err() == nil {
		begun := time.Now()
		err := w.once(ctx, key, back)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			w.set(ctx, key, func(r *report) { r.problem = host.Shorten(w.redact(err.Error()), maxMessage) })
		}
		if time.Since(begun) > time.Minute {
			next = pause
		}
		timer := time.NewTimer(next.Step())
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// once lists the nodes, tells back that the API server answers and follows their changes until the watch ends.
func (w *watchers) once(ctx context.Context, key types.NamespacedName, back chan<- []string) error {
	kube, err := w.access.Connection(key.Namespace, key.Name).Client(ctx)
	if err != nil {
		return err
	}
	var list corev1.NodeList
	if err := kube.List(ctx, &list); err != nil {
		return fmt.Errorf("cannot list nodes: %w", err)
	}
	nodes := map[string]*corev1.Node{}
	for i := range list.Items {
		nodes[list.Items[i].Name] = &list.Items[i]
	}
	count := func() {
		counted := countNodes(nodes)
		w.set(ctx, key, func(r *report) { r.known, r.nodes, r.problem = true, counted, "" })
	}
	count()
	select {
	case back <- kubeletAddresses(nodes):
	default: // It looks already.
	}
	changes, err := kube.Watch(ctx, &corev1.NodeList{}, &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.ResourceVersion}})
	if err != nil {
		return fmt.Errorf("cannot watch nodes: %w", err)
	}
	defer changes.Stop()
	for change := range changes.ResultChan() {
		node, ok := change.Object.(*corev1.Node)
		if !ok {
			return nil // The watch is too old; the next one starts from a fresh list.
		}
		if change.Type == "DELETED" {
			delete(nodes, node.Name)
		} else {
			nodes[node.Name] = node
		}
		count()
	}
	return nil
}

// set changes the report and tells the reconciler when it differs.
func (w *watchers) set(ctx context.Context, key types.NamespacedName, change func(*report)) {
	w.mu.Lock()
	running := w.running[key]
	if running == nil || ctx.Err() != nil {
		w.mu.Unlock()
		return
	}
	before := fmt.Sprint(running.report)
	change(&running.report)
	differs := fmt.Sprint(running.report) != before
	w.mu.Unlock()
	if !differs {
		return
	}
	c := &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	select {
	case w.changed <- event.GenericEvent{Object: c}:
	case <-ctx.Done():
	}
}

func countNodes(nodes map[string]*corev1.Node) v1alpha1.ClusterNodes {
	counted := v1alpha1.ClusterNodes{Total: int32(len(nodes))}
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		problem := nodeProblem(nodes[name])
		if problem == nil {
			counted.Ready++
		} else if len(counted.NotReady) < maxNotReady {
			counted.NotReady = append(counted.NotReady, *problem)
		}
	}
	counted.Summary = fmt.Sprintf("%d/%d", counted.Ready, counted.Total)
	return counted
}

// nodeProblem gives nil for a node that is Ready.
func nodeProblem(n *corev1.Node) *v1alpha1.NodeProblem {
	for _, c := range n.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		if c.Status == corev1.ConditionTrue {
			return nil
		}
		return &v1alpha1.NodeProblem{Name: n.Name, Reason: host.Clean(c.Reason, maxReason), Message: host.Shorten(c.Message, maxMessage)}
	}
	return &v1alpha1.NodeProblem{Name: n.Name, Reason: "NotSeenYet", Message: "the kubelet has not reported yet"}
}
