package operation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	fakehost "slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/operation"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/step"
)

func creates(cluster string) v1alpha1.OperationSpec {
	return v1alpha1.OperationSpec{Verb: v1alpha1.VerbCreate, Cluster: cluster}
}

func deletes(cluster string) v1alpha1.OperationSpec {
	return v1alpha1.OperationSpec{Verb: v1alpha1.VerbDelete, Cluster: cluster}
}

func wants(cluster string, s v1alpha1.ClusterSpec) v1alpha1.OperationSpec {
	return v1alpha1.OperationSpec{Verb: v1alpha1.VerbCreate, Cluster: cluster, Wanted: &s}
}

func approval(verbs ...string) *v1alpha1.Setting {
	return &v1alpha1.Setting{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.SettingApproval}, Spec: v1alpha1.SettingSpec{Approval: &v1alpha1.ApprovalSetting{Required: verbs}}}
}

func claimOf(host, namespace, cluster, uid string) *v1alpha1.HostClaim {
	return &v1alpha1.HostClaim{ObjectMeta: metav1.ObjectMeta{Name: host}, Spec: v1alpha1.HostClaimSpec{Namespace: namespace, Cluster: cluster, ClusterUID: uid}}
}

// reasonOf gives the reason of the first failure.
func reasonOf(op *v1alpha1.Operation) string {
	if len(op.Status.Failures) == 0 {
		return ""
	}
	return op.Status.Failures[0].Reason
}

func (w *world) ran(want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(append([]string{}, want...), w.engine.runs()); diff != "" {
		w.t.Errorf("runs of the engine (-want +got):\n%s", diff)
	}
}

// claims lists the claimed hosts.
func (w *world) claims() []string {
	w.t.Helper()
	var all v1alpha1.HostClaimList
	if err := w.client.List(w.t.Context(), &all); err != nil {
		w.t.Fatal(err)
	}
	names := []string{}
	for _, c := range all.Items {
		names = append(names, c.Name)
	}
	return names
}

func (w *world) claimed(want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(append([]string{}, want...), w.claims()); diff != "" {
		w.t.Errorf("claims (-want +got):\n%s", diff)
	}
}

func TestLife(t *testing.T) {
	cases := map[string]struct {
		reason string
		play   func(t *testing.T, w *world)
	}{
		"create runs at once": {reason: "without Setting approval no verb waits", play: func(t *testing.T, w *world) {
			w.create(clusterOf("dev", "demo", spec("c1", "w1", "w2")))
			w.create(operationOf("dev", "op", creates("demo")))
			w.settle()
			op := w.phase("dev", "op", v1alpha1.OperationSucceeded)
			w.ran("op")
			w.claimed("c1", "w1", "w2")
			if op.Status.Plan == nil || plan.Digest(w.planOf(op)) != op.Status.Plan.Hash {
				t.Error("the stored plan is not the one that the status names")
			}
			if w.engine.previews > 0 {
				t.Error("a plan that nobody reads needs no look at every host")
			}
			if op.Labels[v1alpha1.LabelCluster] != "demo" || !slices.Contains(op.Finalizers, v1alpha1.Finalizer) {
				t.Errorf("labels %v, finalizers %v", op.Labels, op.Finalizers)
			}
		}},
		"approval is waited for": {reason: "the setting names the verb", play: func(t *testing.T, w *world) {
			w.create(approval("create"))
			w.create(clusterOf("dev", "demo", spec("c1")))
			w.create(operationOf("dev", "op", creates("demo")))
			w.settle()
			op := w.phase("dev", "op", v1alpha1.OperationPlanned)
			w.ran()
			w.claimed()
			if w.engine.previews != 1 {
				t.Errorf("%d previews, want one: people read it before they approve", w.engine.previews)
			}
			w.edit("dev", "op", func(op *v1alpha1.Operation) { op.Spec.ApprovedPlan = "sha256:another" })
			w.settle()
			w.phase("dev", "op", v1alpha1.OperationPlanned)
			w.ran()
			w.edit("dev", "op", func(o *v1alpha1.Operation) { o.Spec.ApprovedPlan = op.Status.Plan.Hash })
			w.settle()
			w.phase("dev", "op", v1alpha1.OperationSucceeded)
			w.ran("op")
		}},
		"facts that moved are planned again": {reason: "what runs is what was approved, or nothing", play: func(t *testing.T, w *world) {
			w.create(approval("create"))
			w.create(clusterOf("dev", "demo", spec("c1")))
			w.create(operationOf("dev", "op", creates("demo")))
			w.settle()
			first := w.op("dev", "op").Status.Plan.Hash
			h := read(w, client.ObjectKey{Name: "c1"}, &v1alpha1.Host{})
			h.Status.Facts.MemoryBytes = 8 << 30
			if err := w.client.Status().Update(t.Context(), h); err != nil {
				t.Fatal(err)
			}
			w.edit("dev", "op", func(op *v1alpha1.Operation) { op.Spec.ApprovedPlan = first })
			w.settle()
			op := w.phase("dev", "op", v1alpha1.OperationPlanned)
			w.ran()
			if op.Status.Plan.Hash == first || w.engine.previews != 2 {
				t.Errorf("hash %s after %d previews: the new plan must be offered", op.Status.Plan.Hash, w.engine.previews)
			}
		}},
		"a plan makes its cluster on approval only": {reason: "before that, nothing but the plan exists", play: func(t *testing.T, w *world) {
			w.create(operationOf("dev", "op", wants("demo", spec("c1", "w1"))))
			w.settle()
			op := w.phase("dev", "op", v1alpha1.OperationPlanned)
			if w.cluster("dev", "demo") != nil {
				t.Error("the cluster exists before its plan was approved")
			}
			w.edit("dev", "op", func(o *v1alpha1.Operation) { o.Spec.ApprovedPlan = op.Status.Plan.Hash })
			w.settle()
			w.phase("dev", "op", v1alpha1.OperationSucceeded)
			c := w.cluster("dev", "demo")
			if c == nil || c.Annotations[v1alpha1.AnnotationCreatedBy] != "op" {
				t.Errorf("cluster %v, want one that names its operation", c)
			}
		}},
		"an unapproved plan goes after a day": {reason: "with its keys, and with nothing left", play: func(t *testing.T, w *world) {
			w.create(operationOf("dev", "op", wants("demo", spec("c1"))))
			w.settle()
			if w.keys("demo") == nil {
				t.Fatal("keys are minted before the step that uses them")
			}
			<-time.After(unapprovedLife)
			w.settle()
			if w.op("dev", "op") != nil || w.keys("demo") != nil {
				t.Error("the operation or its keys are still there")
			}
			left, err := w.plans.List(t.Context(), "")
			if err != nil || len(left) > 0 {
				t.Errorf("%d blobs are left: %v", len(left), err)
			}
		}},
		"precheck refuses and retry plans again": {reason: "a person mends the host and goes on", play: func(t *testing.T, w *world) {
			w.bundle = "there is none"
			w.create(clusterOf("dev", "demo", spec("c1")))
			w.create(operationOf("dev", "op", creates("demo")))
			w.settle()
			op := w.phase("dev", "op", v1alpha1.OperationFailed)
			if reasonOf(op) != "PrecheckFailed" || op.Status.FinishedAt == nil || op.Status.Failures[0].Fix == "" {
				t.Errorf("status %+v, want the failure with its fix", op.Status)
			}
			w.edit("dev", "op", func(op *v1alpha1.Operation) { op.Spec.Attempt = 1 })
			w.settle()
			op = w.phase("dev", "op", v1alpha1.OperationFailed)
			if op.Status.Attempt != 1 {
				t.Errorf("attempt %d, want 1: a second refusal must end the second attempt", op.Status.Attempt)
			}
			w.bundle = ""
			w.edit("dev", "op", func(op *v1alpha1.Operation) { op.Spec.Attempt = 2 })
			w.settle()
			op = w.phase("dev", "op", v1alpha1.OperationSucceeded)
			if len(op.Status.Failures) > 0 || op.Status.Attempt != 2 {
				t.Errorf("status %+v, want no failure of an earlier attempt", op.Status)
			}
			w.ran("op")
		}},
		"abort before start": {reason: "nothing was changed, so nothing is to be undone", play: func(t *testing.T, w *world) {
			w.create(operationOf("dev", "op", wants("demo", spec("c1"))))
			w.settle()
			w.edit("dev", "op", func(op *v1alpha1.Operation) { op.Spec.Abort = true })
			w.settle()
			w.phase("dev", "op", v1alpha1.OperationAborted)
			w.ran()
			w.claimed()
			if w.cluster("dev", "demo") != nil {
				t.Error("an aborted plan made its cluster")
			}
		}},
		"abort while it runs": {reason: "the engine hears of it, and the next attempt runs the same plan", play: func(t *testing.T, w *world) {
			w.engine.ends = func(ctx context.Context, _ *v1alpha1.Operation, _ *plan.Plan, abort <-chan struct{}) (v1alpha1.OperationPhase, error) {
				select {
				case <-abort:
					return v1alpha1.OperationAborted, nil
				case <-ctx.Done():
					return "", ctx.Err()
				}
			}
			w.create(clusterOf("dev", "demo", spec("c1")))
			w.create(operationOf("dev", "op", creates("demo")))
			w.settle()
			w.phase("dev", "op", v1alpha1.OperationRunning)
			w.edit("dev", "op", func(op *v1alpha1.Operation) { op.Spec.Abort = true })
			w.settle()
			hash := w.phase("dev", "op", v1alpha1.OperationAborted).Status.Plan.Hash
			w.engine.ends = nil
			w.edit("dev", "op", func(op *v1alpha1.Operation) { op.Spec.Abort, op.Spec.Attempt = false, 1 })
			w.settle()
			if got := w.phase("dev", "op", v1alpha1.OperationSucceeded).Status.Plan.Hash; got != hash {
				t.Errorf("plan %s, want the one that began: %s", got, hash)
			}
			w.ran("op", "op")
		}},
		"a restart goes on": {reason: "what ran when the server ended runs again, with the same plan", play: func(t *testing.T, w *world) {
			w.engine.ends = func(ctx context.Context, _ *v1alpha1.Operation, _ *plan.Plan, _ <-chan struct{}) (v1alpha1.OperationPhase, error) {
				<-ctx.Done()
				return "", ctx.Err()
			}
			w.create(clusterOf("dev", "demo", spec("c1")))
			w.create(operationOf("dev", "op", creates("demo")))
			w.settle()
			w.restart()
			w.phase("dev", "op", v1alpha1.OperationRunning)
			w.engine.ends = nil
			w.settle()
			w.phase("dev", "op", v1alpha1.OperationSucceeded)
			w.ran("op", "op")
		}},
		"a changed plan is blocked": {reason: "what was approved is what runs", play: func(t *testing.T, w *world) {
			w.create(operationOf("dev", "op", creates("demo")))
			w.set("dev", "op", v1alpha1.OperationStatus{Phase: v1alpha1.OperationRunning, Plan: &v1alpha1.PlanReference{Hash: "sha256:approved"}})
			if err := w.plans.Put(t.Context(), operation.PlanName("dev", "op"), []byte("{}")); err != nil {
				t.Fatal(err)
			}
			w.settle()
			w.phase("dev", "op", v1alpha1.OperationBlocked)
			w.ran()
		}},
		"one at a time": {reason: "the second operation of a cluster waits for the first", play: func(t *testing.T, w *world) {
			release := make(chan struct{})
			w.engine.ends = func(ctx context.Context, _ *v1alpha1.Operation, _ *plan.Plan, abort <-chan struct{}) (v1alpha1.OperationPhase, error) {
				<-release
				return v1alpha1.OperationFailed, nil
			}
			w.create(clusterOf("dev", "demo", spec("c1")))
			w.create(operationOf("dev", "create", creates("demo")))
			w.settle()
			w.phase("dev", "create", v1alpha1.OperationRunning)
			if err := w.client.Delete(t.Context(), w.cluster("dev", "demo")); err != nil {
				t.Fatal(err)
			}
			w.create(operationOf("dev", "delete", deletes("demo")))
			w.settle()
			w.phase("dev", "delete", v1alpha1.OperationQueued)
			w.ran("create")
			close(release)
			synctest.Wait()
			w.engine.ends = nil
			if got := w.reconcile.waiting(t.Context(), w.client, w.phase("dev", "create", v1alpha1.OperationFailed)); len(got) != 1 || got[0].Name != "delete" {
				t.Errorf("%v wake up when the first has ended, want the second", got)
			}
			w.settle()
			w.phase("dev", "delete", v1alpha1.OperationSucceeded)
			w.claimed()
		}},
		"a lost API is no refusal": {reason: "what goes away by itself must not end an operation", play: func(t *testing.T, w *world) {
			w.create(approval("create"))
			w.create(clusterOf("dev", "demo", spec("c1")))
			w.create(operationOf("dev", "op", creates("demo")))
			w.settle()
			op := w.op("dev", "op")
			w.edit("dev", "op", func(o *v1alpha1.Operation) { o.Spec.ApprovedPlan = op.Status.Plan.Hash })
			if err := w.client.Delete(t.Context(), w.keys("demo")); err != nil {
				t.Fatal(err)
			}
			w.creating = func(client.Object) error { return apierrors.NewServiceUnavailable("the API is away") }
			if _, err := w.reconcile.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(op)}); err == nil {
				t.Error("no error: nobody would try again")
			}
			w.phase("dev", "op", v1alpha1.OperationPlanned)
			w.creating = nil
			w.settle()
			w.phase("dev", "op", v1alpha1.OperationSucceeded)
		}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				t.Log(tc.reason)
				tc.play(t, newWorld(t))
			})
		})
	}
}

// TestNames: the name of a cluster is unique in the platform, and what belongs to one is never another's.
func TestNames(t *testing.T) {
	cases := map[string]struct {
		reason string
		play   func(t *testing.T, w *world)
	}{
		"taken in another project": {reason: "the keys of both would be the same Secret", play: func(t *testing.T, w *world) {
			w.create(clusterOf("ops", "demo", spec("w1")))
			w.create(clusterOf("dev", "demo", spec("c1")))
			w.create(operationOf("dev", "op", creates("demo")))
			w.settle()
			if got := reasonOf(w.phase("dev", "op", v1alpha1.OperationFailed)); got != "NameTaken" {
				t.Errorf("reason %q", got)
			}
			if w.keys("demo") != nil {
				t.Error("keys were minted for a cluster that cannot be")
			}
		}},
		"planned in another project": {reason: "a plan that waits for approval holds its name", play: func(t *testing.T, w *world) {
			w.create(operationOf("ops", "first", wants("demo", spec("w1"))))
			w.settle()
			before := w.keys("demo")
			w.create(operationOf("dev", "second", wants("demo", spec("c1"))))
			w.settle()
			w.phase("ops", "first", v1alpha1.OperationPlanned)
			if got := reasonOf(w.phase("dev", "second", v1alpha1.OperationFailed)); got != "NameTaken" {
				t.Errorf("reason %q", got)
			}
			if err := w.client.Delete(t.Context(), w.op("dev", "second")); err != nil {
				t.Fatal(err)
			}
			w.settle()
			if diff := cmp.Diff(before, w.keys("demo")); diff != "" {
				t.Errorf("the keys of another project were touched:\n%s", diff)
			}
		}},
		"planned over one that exists": {reason: "forgetting the plan must not take the cluster's keys along", play: func(t *testing.T, w *world) {
			w.create(clusterOf("dev", "demo", spec("c1")))
			w.create(operationOf("dev", "op", creates("demo")))
			w.settle()
			before := w.keys("demo")
			w.create(operationOf("dev", "again", wants("demo", spec("w1"))))
			w.settle()
			if got := reasonOf(w.phase("dev", "again", v1alpha1.OperationFailed)); got != "NameTaken" {
				t.Errorf("reason %q", got)
			}
			if err := w.client.Delete(t.Context(), w.op("dev", "again")); err != nil {
				t.Fatal(err)
			}
			w.settle()
			if w.op("dev", "again") != nil {
				t.Fatal("the operation is not forgotten")
			}
			if diff := cmp.Diff(before, w.keys("demo")); diff != "" {
				t.Errorf("the keys of a living cluster were touched:\n%s", diff)
			}
		}},
		"no cluster": {reason: "an operation without a target says so", play: func(t *testing.T, w *world) {
			w.create(operationOf("dev", "op", creates("demo")))
			w.settle()
			if got := reasonOf(w.phase("dev", "op", v1alpha1.OperationFailed)); got != "NotFound" {
				t.Errorf("reason %q", got)
			}
		}},
		"keys are minted once": {reason: "a second CA would lock the cluster out", play: func(t *testing.T, w *world) {
			w.create(clusterOf("dev", "demo", spec("c1")))
			w.create(operationOf("dev", "op", creates("demo")))
			w.engine.ends = func(context.Context, *v1alpha1.Operation, *plan.Plan, <-chan struct{}) (v1alpha1.OperationPhase, error) {
				return v1alpha1.OperationFailed, nil
			}
			w.settle()
			before := w.keys("demo")
			if len(before.Data) != 10 || before.Labels[v1alpha1.LabelCluster] != "demo" || before.Type != v1alpha1.SecretTypeKeys {
				t.Errorf("%d keys, labels %v, type %s", len(before.Data), before.Labels, before.Type)
			}
			w.edit("dev", "op", func(op *v1alpha1.Operation) { op.Spec.Attempt = 1 })
			w.settle()
			w.create(operationOf("dev", "second", creates("demo")))
			w.settle()
			if diff := cmp.Diff(before, w.keys("demo")); diff != "" {
				t.Errorf("the keys changed:\n%s", diff)
			}
		}},
		"keys made by a race": {reason: "whoever stored them first has made them", play: func(t *testing.T, w *world) {
			w.create(clusterOf("dev", "demo", spec("c1")))
			w.create(operationOf("dev", "op", creates("demo")))
			w.creating = func(o client.Object) error {
				if o.GetName() == "cluster-demo" {
					return apierrors.NewAlreadyExists(v1alpha1.GroupVersion().WithResource("secrets").GroupResource(), o.GetName())
				}
				return nil
			}
			w.settle()
			w.phase("dev", "op", v1alpha1.OperationSucceeded)
		}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				t.Log(tc.reason)
				tc.play(t, newWorld(t))
			})
		})
	}
}

// TestClaims: the create of a HostClaim is the lock.
func TestClaims(t *testing.T) {
	t.Run("two creates on one host at once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, clusterOf("dev", "blue", spec("c1", "w2")), clusterOf("dev", "red", spec("w1", "w2")))
			w.create(operationOf("dev", "blue", creates("blue")))
			w.create(operationOf("dev", "red", creates("red")))
			// Both were planned before either has claimed a host, and red is overtaken on its last one.
			w.creating = func(o client.Object) error {
				claim, ok := o.(*v1alpha1.HostClaim)
				if !ok || claim.Spec.Cluster != "red" || claim.Name != "w2" {
					return nil
				}
				w.creating = nil
				return w.client.Create(t.Context(), claimOf("w2", "dev", "blue", string(w.op("dev", "blue").UID)))
			}
			for _, name := range []string{"red", "blue", "red", "blue"} {
				if _, err := w.reconcile.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "dev", Name: name}}); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
			w.settle()
			w.phase("dev", "blue", v1alpha1.OperationSucceeded)
			op := w.phase("dev", "red", v1alpha1.OperationFailed)
			if reasonOf(op) != "HostClaimed" || !strings.Contains(op.Status.Failures[0].Message, "dev/blue") {
				t.Errorf("failures %v, want the one that names the winner", op.Status.Failures)
			}
			w.claimed("c1", "w2")
			w.ran("blue")
		})
	})
	t.Run("a claim of its own", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, clusterOf("dev", "demo", spec("c1")))
			w.create(operationOf("dev", "op", creates("demo")))
			w.create(claimOf("c1", "dev", "demo", string(w.op("dev", "op").UID)))
			w.settle()
			w.phase("dev", "op", v1alpha1.OperationSucceeded)
		})
	})
}

// TestUnknownStep: a plan that this version cannot decode is blocked and named, and nothing touches it again.
func TestUnknownStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, clusterOf("dev", "demo", spec("c1")))
		registry, err := step.NewRegistry()
		if err != nil {
			t.Fatal(err)
		}
		real, err := operation.New(operation.Deps{Client: w.client, Sessions: fakehost.Sessions{}, Steps: registry, Logs: w.plans, Owner: "test", Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		w.reconcile.Engine = real
		w.create(operationOf("dev", "op", creates("demo")))
		w.settle()
		op := w.phase("dev", "op", v1alpha1.OperationBlocked)
		if reasonOf(op) != "UnknownStep" || !strings.Contains(op.Status.Message, "precheck.look/v1") {
			t.Errorf("status %+v, want the step named", op.Status)
		}
	})
}

func TestDelete(t *testing.T) {
	// ended makes the engine end a delete, with every step done on the named hosts.
	ended := func(w *world, phase v1alpha1.OperationPhase, cleaned ...string) {
		w.engine.ends = func(ctx context.Context, op *v1alpha1.Operation, p *plan.Plan, _ <-chan struct{}) (v1alpha1.OperationPhase, error) {
			for _, host := range cleaned {
				run := &v1alpha1.HostRun{ObjectMeta: metav1.ObjectMeta{Namespace: op.Namespace, Name: operation.HostRunName(op.Name, host)}}
				for _, s := range p.Stages {
					for _, c := range s.Calls {
						run.Status.Steps = append(run.Status.Steps, v1alpha1.StepRecord{Name: c.Name, State: v1alpha1.StepDone})
					}
				}
				status := run.Status
				err := w.client.Create(ctx, run)
				if apierrors.IsAlreadyExists(err) {
					err = nil
				}
				if err != nil {
					return "", err
				}
				run.Status = status
				if err := w.client.Status().Update(ctx, run); err != nil {
					return "", err
				}
			}
			return phase, nil
		}
	}
	remove := func(t *testing.T, w *world) {
		t.Helper()
		if err := w.client.Delete(t.Context(), w.cluster("dev", "demo")); err != nil {
			t.Fatal(err)
		}
	}
	cases := map[string]struct {
		reason string
		play   func(t *testing.T, w *world)
	}{
		"releases every host": {reason: "success means every host is clean", play: func(t *testing.T, w *world) {
			remove(t, w)
			w.create(operationOf("dev", "op", deletes("demo")))
			w.settle()
			w.phase("dev", "op", v1alpha1.OperationSucceeded)
			w.claimed("w2")
		}},
		"keeps what it could not clean": {reason: "a host that nobody could reach is no free host", play: func(t *testing.T, w *world) {
			remove(t, w)
			ended(w, v1alpha1.OperationPartial, "c1")
			w.create(operationOf("dev", "op", deletes("demo")))
			w.settle()
			w.phase("dev", "op", v1alpha1.OperationPartial)
			w.claimed("w1", "w2")
			if got := w.claim("w1").Annotations[v1alpha1.AnnotationNeedsCleaning]; got != "op" {
				t.Errorf("the claim names operation %q to retry", got)
			}
			ended(w, v1alpha1.OperationSucceeded)
			w.edit("dev", "op", func(op *v1alpha1.Operation) { op.Spec.Attempt = 1 })
			w.settle()
			w.claimed("w2")
		}},
		"waits while the cluster is wanted": {reason: "an operation that came before the delete is a plan to read", play: func(t *testing.T, w *world) {
			w.create(operationOf("dev", "op", deletes("demo")))
			w.settle()
			op := w.phase("dev", "op", v1alpha1.OperationPlanned)
			w.ran()
			w.edit("dev", "op", func(o *v1alpha1.Operation) { o.Spec.ApprovedPlan = op.Status.Plan.Hash })
			w.settle()
			w.phase("dev", "op", v1alpha1.OperationSucceeded)
			c := w.cluster("dev", "demo")
			if c.DeletionTimestamp == nil || c.Annotations[v1alpha1.AnnotationDeletedBy] != "op" {
				t.Errorf("cluster %v, want it deleted by the operation", c.ObjectMeta)
			}
		}},
		"of no cluster": {reason: "there is nothing to delete", play: func(t *testing.T, w *world) {
			w.create(operationOf("dev", "op", deletes("nothing")))
			w.settle()
			if got := reasonOf(w.phase("dev", "op", v1alpha1.OperationFailed)); got != "NotFound" {
				t.Errorf("reason %q", got)
			}
			w.claimed("c1", "w1", "w2")
		}},
		"aborted before it began": {reason: "hosts that were not cleaned stay claimed, and are not marked", play: func(t *testing.T, w *world) {
			w.create(operationOf("dev", "op", deletes("demo")))
			w.settle()
			w.edit("dev", "op", func(op *v1alpha1.Operation) { op.Spec.Abort = true })
			w.settle()
			w.phase("dev", "op", v1alpha1.OperationAborted)
			w.claimed("c1", "w1", "w2")
			if got := w.claim("w1").Annotations; len(got) > 0 {
				t.Errorf("annotations %v", got)
			}
		}},
		"long ago": {reason: "a new cluster of the same name keeps its hosts when an old operation is looked at again", play: func(t *testing.T, w *world) {
			remove(t, w)
			w.create(operationOf("dev", "op", deletes("demo")))
			w.settle()
			w.claimed("w2")
			<-time.After(time.Hour)
			w.create(claimOf("c1", "dev", "demo", "a newer one"))
			w.restart()
			w.settle()
			w.claimed("c1", "w2")
		}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				t.Log(tc.reason)
				w := newWorld(t, clusterOf("dev", "demo", spec("c1", "w1")), claimOf("c1", "dev", "demo", "x"), claimOf("w1", "dev", "demo", "x"), claimOf("w2", "dev", "other", "y"))
				<-time.After(time.Minute)
				tc.play(t, w)
			})
		})
	}
}

// TestPrune: 20 ended operations of a cluster are kept, or those of 30 days, whichever is more.
func TestPrune(t *testing.T) {
	cases := map[string]struct {
		reason string
		age    time.Duration
		want   int
	}{
		"old":    {reason: "the oldest go", age: keepFor + time.Hour, want: keepEnded},
		"recent": {reason: "what is younger than 30 days stays", age: keepFor - 48*time.Hour, want: 25},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				for i := range 25 {
					name := fmt.Sprintf("op%02d", i)
					op := operationOf("dev", name, creates("demo"))
					op.Labels = map[string]string{v1alpha1.LabelCluster: "demo"} // As planning puts it there.
					w.create(op)
					at := metav1.NewTime(time.Now().Add(-tc.age - time.Duration(i)*time.Minute))
					w.set("dev", name, v1alpha1.OperationStatus{Phase: v1alpha1.OperationSucceeded, StartedAt: &at, FinishedAt: &at})
				}
				w.create(operationOf("dev", "other", creates("else")))
				w.set("dev", "other", v1alpha1.OperationStatus{Phase: v1alpha1.OperationSucceeded, FinishedAt: new(metav1.NewTime(time.Now().Add(-2 * keepFor)))})
				w.settle()
				if w.op("dev", "other") == nil {
					t.Error("the only operation of another cluster is gone")
				}
				if got := len(w.all()) - 1; got != tc.want {
					t.Errorf("%s: %d operations, want %d", tc.reason, got, tc.want)
				}
				if w.op("dev", "op00") == nil {
					t.Error("the newest is gone")
				}
			})
		})
	}
}

// TestObserve: what the settings say reaches the plan.
func TestObserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, clusterOf("dev", "demo", spec("c1")),
			&v1alpha1.Setting{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.SettingPlatform}, Spec: v1alpha1.SettingSpec{Platform: &v1alpha1.PlatformSetting{Address: "slipway.example"}}},
			&v1alpha1.Setting{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.SettingNTP}, Spec: v1alpha1.SettingSpec{NTP: &v1alpha1.NTPSetting{
				Servers: []v1alpha1.NTPServer{{Address: "ntp1.example"}, {Address: "off.example", Enabled: new(bool)}}}}})
		w.create(operationOf("dev", "op", creates("demo")))
		w.settle()
		text := string(w.planOf(w.phase("dev", "op", v1alpha1.OperationSucceeded)))
		for _, want := range []string{"slipway.example:8443", "ntp1.example"} {
			if !strings.Contains(text, want) {
				t.Errorf("the plan does not name %s", want)
			}
		}
		if strings.Contains(text, "off.example") {
			t.Error("a disabled time server is in the plan")
		}
		w.reconcile.Platform.Address = func(string) (string, error) { return "", errors.New("no route") }
		if err := w.client.Delete(t.Context(), read(w, client.ObjectKey{Name: v1alpha1.SettingPlatform}, &v1alpha1.Setting{})); err != nil {
			t.Fatal(err)
		}
		w.create(clusterOf("dev", "lost", spec("w1")))
		w.create(operationOf("dev", "lost", creates("lost")))
		w.settle()
		if got := reasonOf(w.phase("dev", "lost", v1alpha1.OperationFailed)); got != "PlatformAddressUnknown" {
			t.Errorf("reason %q, want the one that tells what to set", got)
		}
	})
}
