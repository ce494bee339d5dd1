package start_test

import (
	"testing"

	"slipway.dev/slipway/internal/plan/stages/stagestest"
	"slipway.dev/slipway/internal/plan/start"
)

func TestPlan(t *testing.T) {
	cases := map[string]struct {
		reason  string
		workers int
	}{
		"single":  {"the only host is all of the cluster", 0},
		"workers": {"control planes first: a kubelet without an API server only waits", 2},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in := stagestest.Wanted(c.workers)
			in.Applied, in.Bundle = in.Spec.DeepCopy(), nil
			p, err := start.Plan(in)
			if err != nil {
				t.Fatalf("%s: %v", c.reason, err)
			}
			stagestest.Golden(t, name, p)
		})
	}
}
