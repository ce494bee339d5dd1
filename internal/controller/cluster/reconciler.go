// Package cluster owns the status of a Cluster and turns its creation and deletion into operations.
// It must never change a host or a managed cluster: operations do.
package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cluster"
	"slipway.dev/slipway/internal/pki"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/step/kubeadm"
)

// Deps is what the reconciler works with.
type Deps struct {
	// Client reads from the server, not from a cache.
	Client client.Client
	Access *cluster.Access
	// Redact takes secrets out of what a cluster said; nil changes nothing.
	Redact func(string) string
	Log    *slog.Logger
}

// Reconciler watches what operations and nodes say of each cluster.
type Reconciler struct {
	Deps
	nodes *watchers
}

// New gives a reconciler whose watches end with ctx.
func New(ctx context.Context, deps Deps) *Reconciler {
	if deps.Redact == nil {
		deps.Redact = func(text string) string { return text }
	}
	return &Reconciler{Deps: deps, nodes: newWatchers(ctx, deps)}
}

// Reconcile brings one cluster's operations and status up to date.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var c v1alpha1.Cluster
	if err := r.Client.Get(ctx, request.NamespacedName, &c); err != nil {
		if apierrors.IsNotFound(err) {
			r.nodes.stop(request.NamespacedName)
			return ctrl.Result{}, nil
		}
		return ctrl.Result{}, err
	}
	if c.DeletionTimestamp != nil {
		return ctrl.Result{}, r.delete(ctx, &c)
	}
	if !slices.Contains(c.Finalizers, v1alpha1.Finalizer) {
		c.Finalizers = append(c.Finalizers, v1alpha1.Finalizer)
		if err := r.Client.Update(ctx, &c); err != nil {
			if apierrors.IsConflict(err) {
				return ctrl.Result{}, nil // A newer version is on its way to us.
			}
			return ctrl.Result{}, fmt.Errorf("cannot hold cluster %s: %w", c.Name, err)
		}
	}
	op, err := r.operation(ctx, &c, v1alpha1.VerbCreate)
	if err != nil {
		return ctrl.Result{}, err
	}
	if op == nil {
		if op, err = r.begin(ctx, &c, v1alpha1.VerbCreate); err != nil {
			return ctrl.Result{}, err
		}
	}
	if err := r.status(ctx, &c, op); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: due(&c)}, r.empty(ctx, &c)
}

// newOperation gives one that is not stored yet.
func newOperation(c *v1alpha1.Cluster, verb v1alpha1.Verb, name string) *v1alpha1.Operation {
	op := &v1alpha1.Operation{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: c.Namespace, Name: name, Labels: map[string]string{v1alpha1.LabelCluster: c.Name, v1alpha1.LabelClusterUID: string(c.UID)},
		},
		Spec: v1alpha1.OperationSpec{Verb: verb, Cluster: c.Name},
	}
	if who := c.Annotations[v1alpha1.AnnotationRequestedBy]; who != "" && verb != v1alpha1.VerbDelete {
		op.Annotations = map[string]string{v1alpha1.AnnotationRequestedBy: who}
	}
	return op
}

func (r *Reconciler) create(ctx context.Context, c *v1alpha1.Cluster, op *v1alpha1.Operation) (*v1alpha1.Operation, error) {
	if err := r.Client.Create(ctx, op); err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, fmt.Errorf("cannot begin to %s cluster %s: %w", op.Spec.Verb, c.Name, err)
	}
	return op, nil
}

// operation gives the operation that creates or deletes this cluster, nil when there is none yet.
func (r *Reconciler) operation(ctx context.Context, c *v1alpha1.Cluster, verb v1alpha1.Verb) (*v1alpha1.Operation, error) {
	name := operationName(c, verb)
	if made := c.Annotations[v1alpha1.AnnotationCreatedBy]; verb == v1alpha1.VerbCreate && made != "" {
		name = made
	}
	if deleted := c.Annotations[v1alpha1.AnnotationDeletedBy]; verb == v1alpha1.VerbDelete && deleted != "" {
		name = deleted
	}
	var op v1alpha1.Operation
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: name}, &op)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read operation %s: %w", name, err)
	}
	return &op, nil
}

// operationName is the same for every look at the same cluster, so that one is never made twice.
func operationName(c *v1alpha1.Cluster, verb v1alpha1.Verb) string {
	uid := string(c.UID)
	return fmt.Sprintf("%s-%s-%s", c.Name, verb, uid[:min(5, len(uid))])
}

func (r *Reconciler) begin(ctx context.Context, c *v1alpha1.Cluster, verb v1alpha1.Verb) (*v1alpha1.Operation, error) {
	if verb == v1alpha1.VerbCreate && meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.ClusterCreated) {
		return nil, nil // Its operation was forgotten long ago.
	}
	return r.create(ctx, c, newOperation(c, verb, operationName(c, verb)))
}

// delete stops what runs, has the hosts cleaned, and lets the object go when that has ended, whatever came of it:
// hosts that could not be cleaned stay claimed and marked, and the operation can be retried.
func (r *Reconciler) delete(ctx context.Context, c *v1alpha1.Cluster) error {
	if !slices.Contains(c.Finalizers, v1alpha1.Finalizer) {
		return nil
	}
	create, err := r.operation(ctx, c, v1alpha1.VerbCreate)
	if err != nil {
		return err
	}
	if create != nil && !create.Status.Phase.Ended() && !create.Spec.Abort && create.Status.Phase != v1alpha1.OperationBlocked {
		before := create.DeepCopy()
		create.Spec.Abort = true
		if err := r.Client.Patch(ctx, create, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("cannot abort operation %s: %w", create.Name, err)
		}
	}
	op, err := r.operation(ctx, c, v1alpha1.VerbDelete)
	if err != nil {
		return err
	}
	if op == nil {
		if op, err = r.begin(ctx, c, v1alpha1.VerbDelete); err != nil {
			return err
		}
	}
	r.nodes.stop(client.ObjectKeyFromObject(c))
	if !op.Status.Phase.Ended() {
		return r.status(ctx, c, op)
	}
	return r.letGo(ctx, c)
}

func (r *Reconciler) letGo(ctx context.Context, c *v1alpha1.Cluster) error {
	if err := cluster.DropKeys(ctx, r.Client, c.Namespace, c.Name); err != nil {
		return err
	}
	r.Access.Forget(c.Namespace, c.Name)
	c.Finalizers = slices.DeleteFunc(c.Finalizers, func(f string) bool { return f == v1alpha1.Finalizer })
	if err := r.Client.Update(ctx, c); client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("cannot let cluster %s go: %w", c.Name, err)
	}
	return nil
}

// status writes what is known of the cluster when it differs from what is stored.
func (r *Reconciler) status(ctx context.Context, c *v1alpha1.Cluster, op *v1alpha1.Operation) error {
	before := c.DeepCopy()
	s := &c.Status
	s.ObservedGeneration = c.Generation
	created, create := r.created(c, op), op
	if c.DeletionTimestamp == nil {
		switching, err := r.recycle(ctx, c, created)
		if err != nil {
			return err
		}
		if switching != nil {
			op = switching
		}
	}
	if created && c.DeletionTimestamp == nil && s.RecycledAt == nil {
		change, half, err := r.change(ctx, c)
		if err != nil {
			return err
		}
		if change != nil {
			op = change
		} else if s.Operation != "" {
			op = nil // The one that ran last stays named.
		}
		upToDate(c, create, change, half)
	}
	if op != nil {
		s.Operation = op.Name
	}
	if created && c.DeletionTimestamp == nil {
		if err := r.describe(ctx, c); err != nil {
			return err
		}
		r.noteCertificates(c, time.Now())
	}
	switch {
	case inBin(c):
		r.nodes.stop(client.ObjectKeyFromObject(c))
		recycled(c)
	default:
		if created && c.DeletionTimestamp == nil {
			r.nodes.watch(client.ObjectKeyFromObject(c))
		}
		r.ready(c, created)
	}
	s.State = state(c, op, created)
	if equality.Semantic.DeepEqual(before.Status, c.Status) {
		return nil
	}
	if err := r.Client.Status().Patch(ctx, c, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot write the status of cluster %s: %w", c.Name, err)
	}
	return nil
}

// created notes what the create operation came to, and says whether the cluster exists.
func (r *Reconciler) created(c *v1alpha1.Cluster, op *v1alpha1.Operation) bool {
	if meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.ClusterCreated) {
		if c.Status.Applied == nil {
			c.Status.Applied = c.Spec.DeepCopy() // An older server made it: nothing could be edited then.
		}
		return true
	}
	if op == nil || op.Spec.Verb != v1alpha1.VerbCreate {
		return false
	}
	condition := metav1.Condition{Type: v1alpha1.ClusterCreated, Status: metav1.ConditionFalse, ObservedGeneration: c.Generation}
	switch op.Status.Phase {
	case v1alpha1.OperationSucceeded, v1alpha1.OperationPartial:
		condition.Status, condition.Reason = metav1.ConditionTrue, string(op.Status.Phase)
	case "":
		condition.Reason = "Planning"
	default:
		condition.Reason = string(op.Status.Phase)
	}
	condition.Message = op.Status.Message
	meta.SetStatusCondition(&c.Status.Conditions, condition)
	if condition.Status != metav1.ConditionTrue {
		return false
	}
	if c.Status.Applied = planned(op); c.Status.Applied == nil {
		c.Status.Applied = c.Spec.DeepCopy() // An older server planned it.
	}
	return true
}

// planned gives what the plan was made from, not what the spec has become since: an edit of the meantime is a change that
// follows. It is nil when an older server planned it.
func planned(op *v1alpha1.Operation) *v1alpha1.ClusterSpec {
	if op.Spec.Wanted != nil {
		return op.Spec.Wanted.DeepCopy()
	}
	return op.Status.Planned.DeepCopy()
}

// describe fills what is fixed from creation on.
func (r *Reconciler) describe(ctx context.Context, c *v1alpha1.Cluster) error {
	if c.Status.Endpoint != "" {
		return nil
	}
	hosts := map[string]v1alpha1.Host{}
	for _, name := range c.Status.Applied.ControlPlane.Hosts {
		var h v1alpha1.Host
		if err := r.Client.Get(ctx, client.ObjectKey{Name: name}, &h); err != nil {
			return fmt.Errorf("cannot read host %s: %w", name, err)
		}
		hosts[name] = h
	}
	c.Status.Endpoint = "https://" + stages.Endpoint(*c.Status.Applied, hosts)
	c.Status.Version = c.Status.Applied.Kubernetes.Version
	var keys corev1.Secret
	if err := r.Client.Get(ctx, client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: cluster.KeysName(c.Name)}, &keys); err != nil {
		return fmt.Errorf("cannot read the keys of cluster %s: %w", c.Name, err)
	}
	for _, name := range []string{kubeadm.CACert, kubeadm.FrontProxyCert, kubeadm.EtcdCert} {
		certificate, err := pki.ParseCertificate(keys.Data[name])
		if err != nil {
			return fmt.Errorf("cannot read %s of cluster %s: %w", name, c.Name, err)
		}
		c.Status.Certificates = append(c.Status.Certificates, v1alpha1.ClusterCertificate{Name: name, ExpiresAt: metav1.NewTime(certificate.NotAfter)})
	}
	return nil
}

// ready says what the nodes report.
func (r *Reconciler) ready(c *v1alpha1.Cluster, created bool) {
	condition := metav1.Condition{Type: v1alpha1.ClusterReady, Status: metav1.ConditionFalse, ObservedGeneration: c.Generation,
		Reason: "NotCreated", Message: "the cluster is not created yet"}
	if created {
		report := r.nodes.report(client.ObjectKeyFromObject(c))
		condition.Status, condition.Reason, condition.Message = report.ready()
		if report.known {
			c.Status.Nodes = report.nodes
		}
		if wanted := int32(len(c.Status.Applied.AllHosts())); condition.Status == metav1.ConditionTrue && report.nodes.Total < wanted {
			condition.Status, condition.Reason = metav1.ConditionFalse, "NodesMissing"
			condition.Message = fmt.Sprintf("%d of %d hosts have joined; see operation %s", report.nodes.Total, wanted, c.Status.Operation)
		}
	}
	meta.SetStatusCondition(&c.Status.Conditions, condition)
}

func state(c *v1alpha1.Cluster, op *v1alpha1.Operation, created bool) v1alpha1.ClusterState {
	switch {
	case c.DeletionTimestamp != nil:
		return v1alpha1.ClusterDeleting
	case created && op != nil && underWay(op) && op.Spec.Verb != v1alpha1.VerbCreate:
		return v1alpha1.ClusterUpdating
	case inBin(c):
		return v1alpha1.ClusterRecycled
	case created && meta.IsStatusConditionFalse(c.Status.Conditions, v1alpha1.ClusterReady):
		return v1alpha1.ClusterDegraded
	case created:
		return v1alpha1.ClusterActive
	case op == nil || op.Status.Phase == "" || op.Status.Phase == v1alpha1.OperationPlanned || op.Status.Phase == v1alpha1.OperationQueued:
		return v1alpha1.ClusterPending
	case op.Status.Phase == v1alpha1.OperationRunning:
		return v1alpha1.ClusterInitializing
	default:
		return v1alpha1.ClusterFailed
	}
}
