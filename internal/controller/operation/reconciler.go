// Package operation owns the life of an Operation: planned, approved, run, ended, forgotten.
// It must never touch a host itself: plans do, through the engine.
package operation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/audit"
	"slipway.dev/slipway/internal/blob"
	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/impact"
	"slipway.dev/slipway/internal/operation"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/step"
)

const (
	// unapprovedLife is how long a plan for a cluster that does not exist waits for approval.
	unapprovedLife = 24 * time.Hour
	// fresh is how long what was seen of a cluster is good enough to run a plan that nobody has approved.
	fresh = 5 * time.Minute
	// keepEnded and keepFor say how many ended operations a cluster keeps: whichever is more.
	keepEnded = 20
	keepFor   = 30 * 24 * time.Hour
)

// Engine runs frozen plans.
type Engine interface {
	Run(ctx context.Context, op *v1alpha1.Operation, p *plan.Plan, abort <-chan struct{}) (operation.Outcome, error)
	Preview(ctx context.Context, p *plan.Plan) (operation.Preview, error)
}

// Deps is what the reconciler works with.
type Deps struct {
	// Client reads from the server, not from a cache: an operation must never start on a stale read.
	Client client.Client
	Engine Engine
	// Bundle gives what the bundle of a version holds, or the problem in words.
	Bundle func(ctx context.Context, version string) (*bundle.Manifest, string, error)
	// Cluster gives what asks a cluster; nil leaves impacts unknown.
	Cluster func(namespace, name string) step.ClusterReader
	// Plans keeps plans and previews.
	Plans blob.Store
	// Audit records that an operation began or ended; nil records nothing.
	Audit audit.Recorder
	Log   *slog.Logger
	// Platform tells how hosts reach the server.
	Platform Platform
	// Systems are the operating systems that hosts may run.
	Systems []stages.System
}

// Platform says how hosts reach this server.
type Platform struct {
	// Address gives HOST:PORT for a host at the given address, when Setting platform names none.
	Address func(host string) (string, error)
	// Port is that of the server.
	Port int
	// CA is the server's certificate authority, PEM.
	CA string
	// MachineID is that of the server's own machine.
	MachineID string
}

// Reconciler plans operations, waits for approval and has the engine run them.
type Reconciler struct {
	Deps
	runs *runs
}

// New gives a reconciler whose runs end with ctx.
func New(ctx context.Context, deps Deps) *Reconciler {
	return &Reconciler{Deps: deps, runs: newRuns(ctx)}
}

// Reconcile moves one operation on.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var op v1alpha1.Operation
	if err := r.Client.Get(ctx, request.NamespacedName, &op); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if op.DeletionTimestamp != nil {
		return ctrl.Result{}, r.forget(ctx, &op)
	}
	if op.Spec.Abort {
		r.runs.abort(op.UID)
	}
	if r.runs.active(op.UID) {
		return ctrl.Result{}, nil
	}
	switch phase := op.Status.Phase; {
	case phase == "":
		return ctrl.Result{}, r.plan(ctx, &op)
	case phase == v1alpha1.OperationPlanned || phase == v1alpha1.OperationQueued:
		return r.approveAndStart(ctx, &op)
	case phase == v1alpha1.OperationRunning:
		return ctrl.Result{}, r.resume(ctx, &op)
	case op.Spec.Attempt > op.Status.Attempt && phase != v1alpha1.OperationSucceeded:
		return ctrl.Result{}, r.retry(ctx, &op)
	default:
		return ctrl.Result{}, r.finish(ctx, &op)
	}
}

// plan makes the plan and stores it. A plan that cannot be made ends the operation with the reasons.
func (r *Reconciler) plan(ctx context.Context, op *v1alpha1.Operation) error {
	if !slices.Contains(op.Finalizers, v1alpha1.Finalizer) {
		op.Finalizers = append(op.Finalizers, v1alpha1.Finalizer)
		if op.Labels == nil {
			op.Labels = map[string]string{}
		}
		op.Labels[v1alpha1.LabelCluster] = op.Spec.Cluster
		if err := r.Client.Update(ctx, op); err != nil {
			return ignoreConflict(err)
		}
	}
	p, from, err := r.makePlan(ctx, op)
	if err != nil {
		if fault.ClassOf(err) == fault.Transient {
			return err
		}
		return r.refuse(ctx, op, err)
	}
	hash, err := r.store(ctx, op, p)
	if err != nil {
		return err
	}
	return r.offer(ctx, op, p, from, hash, "planned: "+p.Summary)
}

// offer shows a plan as Planned, with its impact. One that waits for approval comes with its preview too. Both may take their
// time, looking at the cluster and at every host, and then run beside the reconciler.
func (r *Reconciler) offer(ctx context.Context, op *v1alpha1.Operation, p *plan.Plan, from *v1alpha1.ClusterSpec, hash, message string) error {
	in, err := r.foreseen(ctx, op, p)
	if err != nil {
		return err
	}
	felt := in != nil && impact.Felt(p, in.Applied)
	var agreed agreement
	decide := func(ctx context.Context) error {
		var err error
		var said *v1alpha1.OperationImpact
		if in != nil {
			said = new(impact.Of(in.Input))
		}
		agreed, err = r.needsApproval(ctx, op, said)
		return err
	}
	planned := func(ctx context.Context, op *v1alpha1.Operation) error {
		return r.status(ctx, op, func(s *v1alpha1.OperationStatus) {
			s.Phase = v1alpha1.OperationPlanned
			s.Attempt = op.Spec.Attempt
			s.Plan, s.Planned = &v1alpha1.PlanReference{Hash: hash, Summary: p.Summary}, from
			s.Impact, s.Unasked = agreed.impact, agreed.unasked
			s.Message = message
			if agreed.needed && op.Spec.ApprovedPlan != hash {
				s.Message += agreed.waits(op, hash)
			}
			s.Failures, s.FinishedAt = nil, nil
			s.Progress = v1alpha1.Progress{Steps: int32(p.Steps()), Summary: fmt.Sprintf("0/%d", p.Steps())}
		})
	}
	waits := func() bool { return agreed.needed && op.Spec.ApprovedPlan != hash }
	if !felt {
		if err := decide(ctx); err != nil {
			return err
		}
		if !waits() {
			return planned(ctx, op)
		}
	}
	copied := op.DeepCopy()
	r.runs.start(copied, func(ctx context.Context, _ <-chan struct{}) {
		ctx = because(ctx, copied)
		var err error
		if felt {
			r.look(ctx, in)
			err = decide(ctx)
		}
		if err == nil && waits() {
			err = r.preview(ctx, copied, p)
		}
		if err == nil {
			err = planned(ctx, copied)
		}
		if err != nil && ctx.Err() == nil {
			r.Log.Error("cannot offer a plan", "operation", copied.Name, "error", err)
		}
	})
	return nil
}

// agreement is whether a plan of that impact waits for a person; unasked says that it does not because it is harmless, policy
// why it does.
type agreement struct {
	impact          *v1alpha1.OperationImpact
	needed, unasked bool
	policy          string
}

// waits says which policy makes a plan wait, and how it is approved, to be put behind another sentence; "" where none does.
func (a agreement) waits(op *v1alpha1.Operation, hash string) string {
	if a.policy == "" {
		return ""
	}
	return fmt.Sprintf("; it waits: %s. Read it, then: slipway operation approve %s -p %s --plan %s", a.policy, op.Name, op.Namespace, hash)
}

// refuse ends an operation that has no plan.
func (r *Reconciler) refuse(ctx context.Context, op *v1alpha1.Operation, cause error) error {
	now := metav1.Now()
	return r.status(ctx, op, func(s *v1alpha1.OperationStatus) {
		s.Phase, s.Attempt = v1alpha1.OperationFailed, op.Spec.Attempt
		s.FinishedAt = &now
		s.Message = "nothing was changed; mend what is named and retry"
		s.Failures = failures(cause)
	})
}

// approveAndStart starts a planned operation when it may run, and drops one that nobody approved in time.
func (r *Reconciler) approveAndStart(ctx context.Context, op *v1alpha1.Operation) (ctrl.Result, error) {
	if op.Spec.Abort {
		now := metav1.Now()
		return ctrl.Result{}, r.status(ctx, op, func(s *v1alpha1.OperationStatus) {
			s.Phase, s.FinishedAt, s.Message = v1alpha1.OperationAborted, &now, "aborted before anything was changed"
		})
	}
	agreed, err := r.needsApproval(ctx, op, op.Status.Impact)
	if err != nil {
		return ctrl.Result{}, err
	}
	needed, unasked := agreed.needed, agreed.unasked
	if needed && op.Spec.ApprovedPlan != op.Status.Plan.Hash {
		if why := agreed.waits(op, op.Status.Plan.Hash); !strings.HasSuffix(op.Status.Message, why) {
			// Setting approval was changed while it waited for something else.
			return ctrl.Result{}, r.status(ctx, op, func(s *v1alpha1.OperationStatus) { s.Message = "planned: " + s.Plan.Summary + why })
		}
		if op.Spec.Wanted == nil && !op.Spec.Propose || op.Spec.Generation > 0 {
			return ctrl.Result{}, nil
		}
		left := time.Until(op.CreationTimestamp.Add(unapprovedLife))
		if left <= 0 {
			return ctrl.Result{}, client.IgnoreNotFound(r.Client.Delete(ctx, op))
		}
		return ctrl.Result{RequeueAfter: left}, nil
	}
	// What was observed may have moved since: the plan that runs is the one that was approved, or none.
	p, from, err := r.makePlan(ctx, op)
	if err != nil {
		if fault.ClassOf(err) == fault.Transient {
			return ctrl.Result{}, err
		}
		return ctrl.Result{}, r.refuse(ctx, op, err)
	}
	hash, err := r.store(ctx, op, p)
	if err != nil {
		return ctrl.Result{}, err
	}
	if hash != op.Status.Plan.Hash {
		return ctrl.Result{}, r.offer(ctx, op, p, from, hash, "the hosts have changed since the last plan: read this one")
	}
	if unasked && op.Spec.ApprovedPlan != hash && op.Status.Impact.LookedAt != nil && time.Since(op.Status.Impact.LookedAt.Time) > fresh {
		return ctrl.Result{}, r.offer(ctx, op, p, from, hash, "planned again after its wait: "+p.Summary)
	}
	if needed && op.Spec.Verb == v1alpha1.VerbDelete {
		if err := r.deleteCluster(ctx, op); err != nil {
			return ctrl.Result{}, err
		}
	}
	return ctrl.Result{}, r.start(ctx, op, p, from)
}

// cluster gives the target of an operation, nil when it does not exist.
func (r *Reconciler) cluster(ctx context.Context, op *v1alpha1.Operation) (*v1alpha1.Cluster, error) {
	var c v1alpha1.Cluster
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: op.Namespace, Name: op.Spec.Cluster}, &c)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.NewTransient("APIUnreachable", fmt.Errorf("cannot read cluster %s: %w", op.Spec.Cluster, err))
	}
	return &c, nil
}

// deleteCluster deletes the Cluster of an approved plan to delete it, and names the Operation that does the work.
func (r *Reconciler) deleteCluster(ctx context.Context, op *v1alpha1.Operation) error {
	c, err := r.cluster(ctx, op)
	if err != nil || c == nil {
		return err
	}
	before := c.DeepCopy()
	metav1.SetMetaDataAnnotation(&c.ObjectMeta, v1alpha1.AnnotationDeletedBy, op.Name)
	if err := r.Client.Patch(ctx, c, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("cannot mark cluster %s: %w", c.Name, err)
	}
	if err := r.Client.Delete(ctx, c); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot delete cluster %s: %w", c.Name, err)
	}
	return nil
}

// needsApproval says whether a plan of that impact waits for a person, and whether it does not because it is harmless.
func (r *Reconciler) needsApproval(ctx context.Context, op *v1alpha1.Operation, said *v1alpha1.OperationImpact) (agreement, error) {
	a := agreement{impact: said}
	if op.Spec.Verb == v1alpha1.VerbDelete {
		// Deleting the Cluster is the approval; an Operation that came first is a plan to read.
		c, err := r.cluster(ctx, op)
		a.needed = err == nil && c != nil && c.DeletionTimestamp == nil
		return a, err
	}
	setting, err := r.setting(ctx, v1alpha1.SettingApproval)
	if err != nil {
		return a, err
	}
	a.needed, a.policy = setting.Approval.Asks(op, said), setting.Approval.Policy(op, said)
	a.unasked = !a.needed && setting.Approval != nil && slices.Contains(setting.Approval.UnlessHarmless, string(op.Spec.Verb))
	return a, nil
}

// start claims the hosts and hands the plan to the engine. What it was made from is nil for a plan that was stored: that is
// noted already.
func (r *Reconciler) start(ctx context.Context, op *v1alpha1.Operation, p *plan.Plan, from *v1alpha1.ClusterSpec) error {
	other, err := r.runningOther(ctx, op)
	if err != nil {
		return err
	}
	if other != "" {
		return r.status(ctx, op, func(s *v1alpha1.OperationStatus) {
			s.Phase, s.Message = v1alpha1.OperationQueued, "waits for operation "+other
		})
	}
	if op.Spec.Verb != v1alpha1.VerbDelete {
		if err := r.prepare(ctx, op, p); err != nil {
			if fault.ClassOf(err) == fault.Transient {
				return err
			}
			return r.refuse(ctx, op, err)
		}
	}
	if err := r.status(ctx, op, func(s *v1alpha1.OperationStatus) {
		s.Phase, s.Attempt = v1alpha1.OperationRunning, op.Spec.Attempt
		if from != nil {
			s.Planned = from
		}
	}); err != nil {
		return err
	}
	return r.run(op, p)
}

// resume goes on with an operation that ran when the server stopped.
func (r *Reconciler) resume(ctx context.Context, op *v1alpha1.Operation) error {
	p, err := r.stored(ctx, op)
	if err != nil {
		return r.status(ctx, op, func(s *v1alpha1.OperationStatus) {
			s.Phase, s.Message = v1alpha1.OperationBlocked, err.Error()
		})
	}
	return r.run(op, p)
}

// retry tries an ended operation again: the same plan when there is one that began, else a new one.
func (r *Reconciler) retry(ctx context.Context, op *v1alpha1.Operation) error {
	if op.Status.StartedAt == nil || op.Status.Plan == nil {
		// Stored first: what an earlier attempt left must be gone, and this attempt counted even if it is refused again.
		return r.status(ctx, op, func(s *v1alpha1.OperationStatus) { *s = v1alpha1.OperationStatus{Attempt: op.Spec.Attempt} })
	}
	p, err := r.stored(ctx, op)
	if err != nil {
		return r.status(ctx, op, func(s *v1alpha1.OperationStatus) {
			s.Phase, s.Attempt, s.Message = v1alpha1.OperationBlocked, op.Spec.Attempt, err.Error()
		})
	}
	return r.start(ctx, op, p, nil)
}

func (r *Reconciler) run(op *v1alpha1.Operation, p *plan.Plan) error {
	copied := op.DeepCopy()
	r.runs.start(copied, func(ctx context.Context, abort <-chan struct{}) {
		outcome, err := r.Engine.Run(because(ctx, copied), copied, p, abort)
		if err != nil && ctx.Err() == nil {
			r.Log.Error("operation stopped without an outcome", "operation", copied.Name, "error", err)
		}
		if err == nil {
			r.record(copied, outcome.Phase, outcome.Failures)
		}
	})
	return nil
}

// runningOther names another operation on the same cluster that runs, or waits in front of this one.
func (r *Reconciler) runningOther(ctx context.Context, op *v1alpha1.Operation) (string, error) {
	var all v1alpha1.OperationList
	if err := r.Client.List(ctx, &all, client.InNamespace(op.Namespace), client.MatchingLabels{v1alpha1.LabelCluster: op.Spec.Cluster}); err != nil {
		return "", fmt.Errorf("cannot list operations: %w", err)
	}
	for _, o := range all.Items {
		if o.UID != op.UID && o.Spec.Cluster == op.Spec.Cluster && o.Status.Phase == v1alpha1.OperationRunning {
			return o.Name, nil
		}
	}
	return "", nil
}

// finish does what is left after the end: hosts are released, old operations forgotten, waiting ones woken.
func (r *Reconciler) finish(ctx context.Context, op *v1alpha1.Operation) error {
	if !op.Status.Phase.Ended() {
		return nil
	}
	if slices.Contains([]v1alpha1.Verb{v1alpha1.VerbDelete, v1alpha1.VerbScale, v1alpha1.VerbRestore, v1alpha1.VerbClean}, op.Spec.Verb) {
		if err := r.release(ctx, op); err != nil {
			return err
		}
	}
	if err := r.returned(ctx, op); err != nil {
		return err
	}
	return r.prune(ctx, op)
}

// forget removes what an operation left in the blob store, and the keys of a cluster that never came to be.
func (r *Reconciler) forget(ctx context.Context, op *v1alpha1.Operation) error {
	if !slices.Contains(op.Finalizers, v1alpha1.Finalizer) {
		return nil
	}
	if r.runs.active(op.UID) {
		r.runs.abort(op.UID)
		return nil // The end of the run comes back here.
	}
	if err := r.Plans.Remove(ctx, operation.LogFolder(op.Namespace, op.Name)); err != nil {
		return fmt.Errorf("cannot remove the logs of operation %s: %w", op.Name, err)
	}
	if op.Spec.Wanted != nil && op.Status.StartedAt == nil {
		if err := r.dropKeys(ctx, op); err != nil {
			return err
		}
	}
	op.Finalizers = slices.DeleteFunc(op.Finalizers, func(f string) bool { return f == v1alpha1.Finalizer })
	return client.IgnoreNotFound(r.Client.Update(ctx, op))
}

// prune forgets the oldest ended operations of the cluster.
func (r *Reconciler) prune(ctx context.Context, op *v1alpha1.Operation) error {
	var all v1alpha1.OperationList
	if err := r.Client.List(ctx, &all, client.InNamespace(op.Namespace), client.MatchingLabels{v1alpha1.LabelCluster: op.Spec.Cluster}); err != nil {
		return fmt.Errorf("cannot list operations: %w", err)
	}
	ended := slices.DeleteFunc(all.Items, func(o v1alpha1.Operation) bool {
		return o.Spec.Cluster != op.Spec.Cluster || !o.Status.Phase.Ended() || o.Status.FinishedAt == nil
	})
	slices.SortFunc(ended, func(a, b v1alpha1.Operation) int { return b.Status.FinishedAt.Compare(a.Status.FinishedAt.Time) })
	for i := keepEnded; i < len(ended); i++ {
		if time.Since(ended[i].Status.FinishedAt.Time) < keepFor {
			continue
		}
		if err := r.Client.Delete(ctx, &ended[i]); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("cannot remove operation %s: %w", ended[i].Name, err)
		}
	}
	return nil
}

// status changes the status and stores it when it differs.
func (r *Reconciler) status(ctx context.Context, op *v1alpha1.Operation, change func(*v1alpha1.OperationStatus)) error {
	before := op.DeepCopy()
	change(&op.Status)
	op.Status.ObservedGeneration = op.Generation
	if equality.Semantic.DeepEqual(before.Status, op.Status) {
		return nil
	}
	if err := r.Client.Status().Patch(ctx, op, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("cannot write the status of operation %s: %w", op.Name, err)
	}
	if op.Status.Phase != before.Status.Phase {
		r.record(op, op.Status.Phase, op.Status.Failures)
	}
	return nil
}

// maxRefusal bounds how much a status says of why a plan cannot be made, in bytes: every rule that every host breaks.
const maxRefusal = 64 << 10

// failures turns joined errors into one failure each. Hosts have a say in the text.
func failures(err error) []v1alpha1.Failure {
	return []v1alpha1.Failure{{Reason: fault.ReasonOf(err), Message: host.Shorten(err.Error(), maxRefusal), Fix: fault.FixOf(err)}}
}

func ignoreConflict(err error) error {
	if apierrors.IsConflict(err) {
		return nil // A newer version is on its way to us.
	}
	return err
}

var errNoCluster = errors.New("there is no such cluster")
