package operation

import (
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/plan"
)

// TestProgress_FinishedBefore: a run that goes on after a kill, or is tried again, does not say of what was finished before that
// it has only finished now.
func TestProgress_FinishedBefore(t *testing.T) {
	cases := map[string]struct {
		reason string
		// work is what the run that goes on does in the stage.
		work func(*progress)
		now  bool
	}{
		"nothing to do": {"it was finished when the earlier run said so", func(g *progress) { g.done("cp1", "a", 0) }, false},
		"something changed": {"what was done is done anew", func(g *progress) {
			g.done("cp1", "a", 0)
			g.undone("cp1", "a", 0)
			g.done("cp1", "a", 0)
		}, true},
		"a failure tried again": {"the earlier run had only given up", func(g *progress) {
			g.undone("cp1", "a", 0)
			g.done("cp1", "a", 0)
		}, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				before := metav1.NewTime(time.Now().Add(-time.Hour))
				op := &v1alpha1.Operation{Status: v1alpha1.OperationStatus{Stages: []v1alpha1.StageProgress{{Name: "one", StartedAt: &before, FinishedAt: &before}}}}
				g := newProgress(op, &plan.Plan{Stages: []plan.Stage{{Name: "one", Hosts: []string{"cp1"}, Calls: []plan.Call{{Name: "a"}}}}})
				if g.status.Stages[0].FinishedAt != nil {
					t.Error("a stage is finished before the run has looked at it")
				}
				c.work(g)
				g.finished(0)
				if at := g.status.Stages[0].FinishedAt; at == nil || at.Equal(&before) == c.now {
					t.Errorf("%s: finished at %s, now: want %v", c.reason, at, c.now)
				}
			})
		})
	}
}
