// Package host owns the status of Host objects: it watches every machine over SSH and says what was found.
// It must never change anything on a machine, and no reconcile of it waits for one.
package host

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/host"
)

// Sessions gives the shared connection of each host and can drop it; ssh.Pool is one.
type Sessions interface {
	host.Sessions
	// Forget closes the connection of a host and forgets a refused login.
	Forget(name string)
}

// Deps is what the controller works with.
type Deps struct {
	// Client reads from the cache and writes to the API; the indexes of Setup must exist.
	Client client.Client
	// Live reads from the API itself; it decides whether a Host may go. Default: Client.
	Live client.Reader
	// Sessions is the pool of connections that is shared with the engine.
	Sessions Sessions
	// Scan reads the host key that a machine offers; ssh.Scan is one.
	Scan func(ctx context.Context, address string, port int) (key, fingerprint string, err error)
	// Lookup gives the addresses of a DNS name; net.DefaultResolver.LookupNetIP with "ip" is one.
	Lookup func(ctx context.Context, name string) ([]netip.Addr, error)
	// Redact takes secrets out of what a machine said; nil changes nothing.
	Redact func(string) string
	// Log takes changes of reachability.
	Log *slog.Logger
}

// Reconciler writes what the watchers found into the status of each Host.
type Reconciler struct {
	client   client.Client
	live     client.Reader
	watchers *watchers
	redact   func(string) string
	log      *slog.Logger
}

// New makes a reconciler whose watchers stand still until Setup's source, or a test, starts them.
func New(d Deps) *Reconciler {
	if d.Live == nil {
		d.Live = d.Client
	}
	if d.Redact == nil {
		d.Redact = func(text string) string { return text }
	}
	return &Reconciler{client: d.Client, live: d.Live, log: d.Log, redact: d.Redact, watchers: newWatchers(d)}
}

// settling is how long a Host stays without status while its machine is asked for the first time: most answer before,
// and each write of each of many Hosts is kept in memory by the API server for watchers that lag.
const settling = 5 * time.Second

// Reconcile keeps the watcher of one Host right and writes its status when that changed.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	h := &v1alpha1.Host{}
	err := r.client.Get(ctx, request.NamespacedName, h)
	if apierrors.IsNotFound(err) {
		r.watchers.release(request.Name)
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("cannot read Host %s: %w", request.Name, err)
	}
	gone, err := r.finalize(ctx, h)
	if gone || err != nil {
		return reconcile.Result{}, err
	}
	v, err := r.look(ctx, h)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("cannot look at host %s: %w", h.Name, err)
	}
	if wait := settling - time.Since(v.since); wait > 0 && v.unseen() {
		return reconcile.Result{RequeueAfter: wait}, nil
	}
	return reconcile.Result{}, r.write(ctx, h, v.status())
}

// finalize keeps the finalizer on a Host in use, and lets a deleted Host go once no cluster holds it.
func (r *Reconciler) finalize(ctx context.Context, h *v1alpha1.Host) (gone bool, err error) {
	before := h.DeepCopy()
	if h.DeletionTimestamp.IsZero() {
		if !controllerutil.AddFinalizer(h, v1alpha1.Finalizer) {
			return false, nil
		}
		return false, r.patchFinalizers(ctx, h, before)
	}
	// The cache may not know yet of a claim that was just made.
	claim, err := claimOf(ctx, r.live, h.Name)
	if claim != nil || err != nil {
		return false, err
	}
	r.watchers.release(h.Name)
	if !controllerutil.RemoveFinalizer(h, v1alpha1.Finalizer) {
		return true, nil
	}
	return true, client.IgnoreNotFound(r.patchFinalizers(ctx, h, before))
}

func (r *Reconciler) patchFinalizers(ctx context.Context, h, before *v1alpha1.Host) error {
	// The list of finalizers is replaced as a whole, so it must be the one that was read.
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.client.Patch(ctx, h, patch); err != nil {
		return fmt.Errorf("cannot set the finalizers of Host %s: %w", h.Name, err)
	}
	return nil
}

func claimOf(ctx context.Context, c client.Reader, name string) (*v1alpha1.HostClaim, error) {
	claim := &v1alpha1.HostClaim{}
	err := c.Get(ctx, client.ObjectKey{Name: name}, claim)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read HostClaim %s: %w", name, err)
	}
	return claim, nil
}

// look gathers everything the status is made of, and starts or stops the watcher.
func (r *Reconciler) look(ctx context.Context, h *v1alpha1.Host) (view, error) {
	v := view{host: h}
	var err error
	if v.claim, err = claimOf(ctx, r.client, h.Name); err != nil {
		return v, err
	}
	s, err := subjectOf(ctx, r.client, h)
	switch {
	case err == nil:
		v.finding, v.since = r.watchers.ensure(h.Name, s)
	case ctx.Err() != nil || isAPIError(err):
		return v, err
	default:
		v.refusal = err
		r.watchers.stop(h.Name)
	}
	if v.twins, err = r.twins(ctx, h, v.facts()); err != nil {
		return v, err
	}
	return v, nil
}

// twins names the other Hosts that have the same machine identity or the same way to reach them.
func (r *Reconciler) twins(ctx context.Context, h *v1alpha1.Host, facts *v1alpha1.HostFacts) ([]string, error) {
	names, err := r.named(ctx, client.MatchingFields{indexEndpoint: endpoint(h)}, h.Name)
	if err != nil || facts == nil || facts.MachineID == "" {
		return names, err
	}
	clones, err := r.named(ctx, client.MatchingFields{indexMachineID: facts.MachineID}, h.Name)
	names = append(names, clones...)
	slices.Sort(names)
	return slices.Compact(names), err
}

func (r *Reconciler) named(ctx context.Context, fields client.MatchingFields, except string) ([]string, error) {
	list := &v1alpha1.HostList{}
	if err := r.client.List(ctx, list, fields, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("cannot list Hosts: %w", err)
	}
	var names []string
	for i := range list.Items {
		if list.Items[i].Name != except {
			names = append(names, list.Items[i].Name)
		}
	}
	return names, nil
}

// write stores the status when it differs from what the object holds.
func (r *Reconciler) write(ctx context.Context, h *v1alpha1.Host, next v1alpha1.HostStatus) error {
	for i := range next.Conditions {
		next.Conditions[i].Message = r.redact(next.Conditions[i].Message)
	}
	if equality.Semantic.DeepEqual(h.Status, next) {
		return nil
	}
	old := meta.FindStatusCondition(h.Status.Conditions, v1alpha1.HostReachable)
	now := meta.FindStatusCondition(next.Conditions, v1alpha1.HostReachable)
	if old == nil || old.Status != now.Status || old.Reason != now.Reason {
		r.log.Info("host reachability changed", "host", h.Name, "reachable", now.Status, "reason", now.Reason, "message", now.Message)
	}
	before := h.DeepCopy()
	h.Status = next
	// Only this controller writes the status, so a spec that moves meanwhile is no conflict.
	if err := client.IgnoreNotFound(r.client.Status().Patch(ctx, h, client.MergeFrom(before))); err != nil {
		return fmt.Errorf("cannot write the status of Host %s: %w", h.Name, err)
	}
	return nil
}
