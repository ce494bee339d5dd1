package operation

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/plan"
)

// takeBack deletes the Grant of every host in dev, and lends the named ones only.
func (w *world) takeBack(hosts ...string) {
	w.t.Helper()
	if err := w.client.Delete(w.t.Context(), grantOf("dev", v1alpha1.GrantHost, v1alpha1.GrantEverything)); err != nil {
		w.t.Fatal(err)
	}
	for _, name := range hosts {
		w.create(grantOf("dev", v1alpha1.GrantHost, name))
	}
}

// TestGrants: a project uses what is lent to it, learns nothing of the rest, and keeps what its clusters hold.
func TestGrants(t *testing.T) {
	fails := func(context.Context, *v1alpha1.Operation, *plan.Plan, <-chan struct{}) (v1alpha1.OperationPhase, error) {
		return v1alpha1.OperationFailed, nil
	}
	cases := map[string]struct {
		reason string
		play   func(t *testing.T, w *world)
	}{
		"another project's host": {reason: "the answer is that about a host which does not exist, letter by letter", play: func(t *testing.T, w *world) {
			w.takeBack("c1")
			w.create(claimOf("w2", "ops", "secret", "uid-7"))
			w.reconcile.Platform.Address = func(host string) (string, error) {
				if host == "10.9.0.22" {
					return "", errors.New("no route to " + host)
				}
				return "10.9.0.1:8443", nil
			}
			answers := map[string]string{}
			for _, host := range []string{"w2", "w9"} {
				w.create(operationOf("dev", "op-"+host, wants("demo", spec("c1", host))))
				w.settle()
				op := w.phase("dev", "op-"+host, v1alpha1.OperationFailed)
				answers[host] = strings.ReplaceAll(op.Status.Failures[0].Reason+": "+op.Status.Failures[0].Message+op.Status.Failures[0].Fix, host, "HOST")
			}
			if answers["w2"] != answers["w9"] || !strings.Contains(answers["w9"], "host HOST: granted: found not lent to project dev") {
				t.Errorf("the answers tell which host exists:\n%s\n%s", answers["w2"], answers["w9"])
			}
			if w.engine.previews > 0 {
				t.Error("a host that is not lent was looked at")
			}
		}},
		"another project's bundle": {reason: "that a bundle is disabled is no business of who does not have it", play: func(t *testing.T, w *world) {
			w.bundle = "bundle v1.36.3 is disabled"
			if err := w.client.Delete(t.Context(), grantOf("dev", v1alpha1.GrantBundle, v1alpha1.GrantEverything)); err != nil {
				t.Fatal(err)
			}
			w.create(operationOf("dev", "op", wants("demo", spec("c1"))))
			w.settle()
			got := w.phase("dev", "op", v1alpha1.OperationFailed).Status.Failures[0].Message
			if strings.Contains(got, "disabled") || !strings.Contains(got, "not lent to project dev, or no bundle of that name") {
				t.Errorf("the refusal says %s", got)
			}
		}},
		"taken back before approval": {reason: "what was planned is checked again when it begins", play: func(t *testing.T, w *world) {
			w.create(operationOf("dev", "op", wants("demo", spec("c1", "w1"))))
			w.settle()
			hash := w.phase("dev", "op", v1alpha1.OperationPlanned).Status.Plan.Hash
			w.takeBack("c1")
			w.edit("dev", "op", func(o *v1alpha1.Operation) { o.Spec.ApprovedPlan = hash })
			w.settle()
			w.phase("dev", "op", v1alpha1.OperationFailed)
			w.ran()
			w.claimed()
		}},
		"lent otherwise before approval": {reason: "the plan is the same by whatever Grant", play: func(t *testing.T, w *world) {
			w.create(operationOf("dev", "op", wants("demo", spec("c1"))))
			w.settle()
			hash := w.phase("dev", "op", v1alpha1.OperationPlanned).Status.Plan.Hash
			w.takeBack("c1")
			w.edit("dev", "op", func(o *v1alpha1.Operation) { o.Spec.ApprovedPlan = hash })
			w.settle()
			w.phase("dev", "op", v1alpha1.OperationSucceeded)
		}},
		"taken back from a cluster": {reason: "a cluster keeps its hosts: a retry goes on, and delete always works", play: func(t *testing.T, w *world) {
			w.create(clusterOf("dev", "demo", spec("c1", "w1")))
			w.create(operationOf("dev", "op", creates("demo")))
			w.engine.ends = fails
			w.settle()
			w.phase("dev", "op", v1alpha1.OperationFailed)
			w.takeBack()
			w.engine.ends = nil
			w.edit("dev", "op", func(o *v1alpha1.Operation) { o.Spec.Attempt = 1 })
			w.settle()
			w.phase("dev", "op", v1alpha1.OperationSucceeded)
			if err := w.client.Delete(t.Context(), w.cluster("dev", "demo")); err != nil {
				t.Fatal(err)
			}
			w.create(operationOf("dev", "delete", deletes("demo")))
			w.settle()
			w.phase("dev", "delete", v1alpha1.OperationSucceeded)
			w.claimed()
		}},
		"an old plan is retried": {reason: "a released host that is not lent any more must not be taken by an old plan", play: func(t *testing.T, w *world) {
			w.create(operationOf("dev", "op", wants("demo", spec("c1", "w1"))))
			w.settle()
			w.engine.ends = fails
			w.edit("dev", "op", func(o *v1alpha1.Operation) { o.Spec.ApprovedPlan = o.Status.Plan.Hash })
			w.settle()
			w.phase("dev", "op", v1alpha1.OperationFailed)
			for _, name := range w.claims() {
				if err := w.client.Delete(t.Context(), claimOf(name, "", "", "")); err != nil {
					t.Fatal(err)
				}
			}
			c := w.cluster("dev", "demo")
			c.Finalizers = nil
			if err := w.client.Update(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if err := w.client.Delete(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			w.takeBack("c1")
			w.engine.ends = nil
			w.edit("dev", "op", func(o *v1alpha1.Operation) { o.Spec.Attempt = 1 })
			w.settle()
			if got := reasonOf(w.phase("dev", "op", v1alpha1.OperationFailed)); got != "NotLent" {
				t.Errorf("reason %q", got)
			}
			w.claimed()
			w.ran("op")
			if w.cluster("dev", "demo") != nil {
				t.Error("the cluster was made anew")
			}
		}},
		"a Grant in another project": {reason: "a Grant lends to the project it is in", play: func(t *testing.T, w *world) {
			w.takeBack("c1")
			var all v1alpha1.GrantList
			if err := w.client.List(t.Context(), &all, client.InNamespace("ops")); err != nil || len(all.Items) != 2 {
				t.Fatalf("%d grants, %v", len(all.Items), err)
			}
			w.create(operationOf("dev", "op", wants("demo", spec("c1", "w1"))))
			w.settle()
			w.phase("dev", "op", v1alpha1.OperationFailed)
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
