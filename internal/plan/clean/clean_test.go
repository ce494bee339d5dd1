package clean_test

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/plan/clean"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/plan/stages/stagestest"
)

func wanted() stages.Input {
	in := stagestest.Wanted(1)
	in.Hosts["cp2"] = stagestest.Bare("cp2", "192.0.2.20")
	in.Uncleaned, in.Parameters.Lost = []string{"cp2"}, []string{"cp2"}
	return in
}

func TestPlan(t *testing.T) {
	p, err := clean.Plan(wanted())
	if err != nil {
		t.Fatal(err)
	}
	stagestest.Golden(t, "returned", p)
}

func TestPlan_Refused(t *testing.T) {
	cases := map[string]struct {
		reason string
		change func(*stages.Input)
		want   string
	}{
		"nobody":  {"there is nothing to do", func(in *stages.Input) { in.Parameters.Lost = nil }, "none is named"},
		"in use":  {"a node of the cluster would go", func(in *stages.Input) { in.Parameters.Lost = []string{"w1"} }, "the cluster has host w1"},
		"foreign": {"the host is of somebody else", func(in *stages.Input) { in.Uncleaned = nil }, "is none that the cluster has lost"},
		"away": {"nobody can do anything there", stagestest.Alter("cp2", func(h *v1alpha1.Host) {
			h.Status.Conditions = []metav1.Condition{{Type: v1alpha1.HostReachable, Status: metav1.ConditionFalse, Message: "no route to host"}}
		}), "no route to host"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in := wanted()
			c.change(&in)
			_, err := clean.Plan(in)
			if err == nil || !strings.Contains(err.Error(), c.want) || fault.ClassOf(err) != fault.Terminal {
				t.Errorf("%s: %v, want %q", c.reason, err, c.want)
			}
		})
	}
}
