package operation

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/plan"
)

// TestPolicy: what may run without a person is what the organisation lets, and never what is not known.
func TestPolicy(t *testing.T) {
	scale := []string{string(v1alpha1.VerbScale)}
	harmless := func(*world) *talking { return talk() }
	harmful := func(*world) *talking { return talk(lone("a", "w2")) }
	half := func(*world) *talking { c := talk(); c.etcd = errors.New("etcd is gone"); return c }
	unknown := func(*world) *talking { return nil }
	cases := map[string]struct {
		reason  string
		setting *v1alpha1.ApprovalSetting
		managed func(*world) *talking
		// ofSpec says that the spec of the Cluster asks, not a person who reads the plan first.
		ofSpec bool
		want   v1alpha1.OperationPhase
		// says ends which policy makes it wait; "" where none does.
		says string
	}{
		"a person, no setting":       {"a plan is there to be read", nil, harmless, false, v1alpha1.OperationPlanned, ""},
		"the spec, no setting":       {"an edit of the spec is a wish", nil, harmful, true, v1alpha1.OperationSucceeded, ""},
		"the spec, unknown":          {"nobody has asked for a look before", nil, unknown, true, v1alpha1.OperationSucceeded, ""},
		"required":                   {"a person must always agree", &v1alpha1.ApprovalSetting{Required: scale}, harmless, true, v1alpha1.OperationPlanned, "wants every plan to scale a cluster approved"},
		"another verb":               {"the setting speaks of others", &v1alpha1.ApprovalSetting{UnlessHarmless: []string{"upgrade"}}, harmless, false, v1alpha1.OperationPlanned, ""},
		"a person, harmless":         {"nobody is harmed", &v1alpha1.ApprovalSetting{UnlessHarmless: scale}, harmless, false, v1alpha1.OperationSucceeded, ""},
		"a person, harmful":          {"a pod would be lost", &v1alpha1.ApprovalSetting{UnlessHarmless: scale}, harmful, false, v1alpha1.OperationPlanned, "approved unless its impact is harmless, and it is not"},
		"a person, unknown":          {"unknown means ask", &v1alpha1.ApprovalSetting{UnlessHarmless: scale}, unknown, false, v1alpha1.OperationPlanned, "and it is not known"},
		"a person, etcd not known":   {"half known is unknown", &v1alpha1.ApprovalSetting{UnlessHarmless: scale}, half, false, v1alpha1.OperationPlanned, "and it is not known"},
		"the spec, harmless":         {"nobody is harmed", &v1alpha1.ApprovalSetting{UnlessHarmless: scale}, harmless, true, v1alpha1.OperationSucceeded, ""},
		"the spec, harmful":          {"a pod would be lost", &v1alpha1.ApprovalSetting{UnlessHarmless: scale}, harmful, true, v1alpha1.OperationPlanned, "approved unless its impact is harmless, and it is not"},
		"the spec, unknown, but ask": {"unknown means ask", &v1alpha1.ApprovalSetting{UnlessHarmless: scale}, unknown, true, v1alpha1.OperationPlanned, "and it is not known"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.made()
				if tc.setting != nil {
					w.create(&v1alpha1.Setting{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.SettingApproval}, Spec: v1alpha1.SettingSpec{Approval: tc.setting}})
				}
				if c := tc.managed(w); c != nil {
					w.managed = c
				}
				s := scalesTo(spec("c1", "w1"))
				if tc.ofSpec {
					s.Generation = 2
				}
				w.create(operationOf("dev", "op", s))
				w.settle()
				op := w.op("dev", "op")
				if op.Status.Phase != tc.want {
					t.Fatalf("%s: %s (%s %v), want %s", tc.reason, op.Status.Phase, op.Status.Message, op.Status.Failures, tc.want)
				}
				unasked := tc.setting != nil && tc.want == v1alpha1.OperationSucceeded
				if op.Status.Unasked != unasked {
					t.Errorf("%s: unasked %v, want %v", tc.reason, op.Status.Unasked, unasked)
				}
				if op.Status.Phase != v1alpha1.OperationPlanned {
					return
				}
				approve := "slipway operation approve op -p dev --plan " + op.Status.Plan.Hash
				if told := strings.Contains(op.Status.Message, "it waits: Setting approval ("); told != (tc.says != "") || told && !strings.HasSuffix(op.Status.Message, tc.says+". Read it, then: "+approve) {
					t.Errorf("%s: the message is %q, want %q and how to approve", tc.reason, op.Status.Message, tc.says)
				}
				w.edit("dev", "op", func(o *v1alpha1.Operation) { o.Spec.ApprovedPlan = op.Status.Plan.Hash })
				w.settle()
				w.phase("dev", "op", v1alpha1.OperationSucceeded)
			})
		})
	}
}

// TestPolicyLooksAgain: a harmless plan that had to wait for another operation is looked at anew before it runs unasked.
func TestPolicyLooksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.made()
		w.create(&v1alpha1.Setting{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.SettingApproval},
			Spec: v1alpha1.SettingSpec{Approval: &v1alpha1.ApprovalSetting{UnlessHarmless: []string{"scale"}}}})
		other := operationOf("dev", "other", v1alpha1.OperationSpec{Verb: v1alpha1.VerbRenew, Cluster: "demo"})
		other.Labels = map[string]string{v1alpha1.LabelCluster: "demo"}
		w.create(other)
		release := make(chan struct{})
		w.engine.ends = holdUntil(release)
		w.managed = talk()
		w.settle()
		w.phase("dev", "other", v1alpha1.OperationRunning)
		w.create(operationOf("dev", "op", scalesTo(spec("c1", "w1"))))
		w.settle()
		w.phase("dev", "op", v1alpha1.OperationQueued)
		w.managed = talk(lone("a", "w2"))
		<-time.After(fresh + time.Minute)
		close(release)
		w.settle()
		op := w.phase("dev", "op", v1alpha1.OperationPlanned)
		if op.Status.Unasked || op.Status.Impact.Lost.Count != 1 {
			t.Errorf("what was harmless an hour ago runs on: %+v", op.Status)
		}
	})
}

// TestPropose: a plan that is there to be read waits whatever the policy says, has an impact, and is gone after a day.
func TestPropose(t *testing.T) {
	for name, setting := range map[string]*v1alpha1.ApprovalSetting{"no policy": nil, "harmless runs": {UnlessHarmless: []string{"stop", "renew"}}} {
		for _, verb := range []v1alpha1.Verb{v1alpha1.VerbStop, v1alpha1.VerbRenew} {
			t.Run(name+" "+string(verb), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					w.made()
					w.managed = talk()
					if setting != nil {
						w.create(&v1alpha1.Setting{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.SettingApproval}, Spec: v1alpha1.SettingSpec{Approval: setting}})
					}
					w.create(operationOf("dev", "op", v1alpha1.OperationSpec{Verb: verb, Cluster: "demo", Propose: true}))
					w.settle()
					op := w.phase("dev", "op", v1alpha1.OperationPlanned)
					if op.Status.Impact == nil || op.Status.Unasked || strings.Contains(op.Status.Message, "it waits") {
						t.Errorf("it is %+v", op.Status)
					}
					if ran := w.engine.runs(); len(ran) != 0 {
						t.Errorf("%v ran", ran)
					}
					<-time.After(unapprovedLife)
					w.settle()
					w.settle() // The first look deletes it, the second forgets it.
					if op := w.op("dev", "op"); op != nil {
						t.Errorf("after a day it is %+v", op.Status)
					}
				})
			})
		}
	}
}

// holdUntil lets every run end when the channel is closed.
func holdUntil(release <-chan struct{}) func(context.Context, *v1alpha1.Operation, *plan.Plan, <-chan struct{}) (v1alpha1.OperationPhase, error) {
	return func(ctx context.Context, _ *v1alpha1.Operation, _ *plan.Plan, _ <-chan struct{}) (v1alpha1.OperationPhase, error) {
		select {
		case <-release:
			return v1alpha1.OperationSucceeded, nil
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}
