package renew_test

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/plan/renew"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/plan/stages/stagestest"
)

func input(workers, controlPlanes int) stages.Input {
	in := stagestest.Wanted(workers)
	for i := 2; i <= controlPlanes; i++ {
		name := "cp" + string(rune('0'+i))
		in.Spec.ControlPlane.Hosts = append(in.Spec.ControlPlane.Hosts, name)
		in.Hosts[name] = stagestest.Bare(name, "192.0.2.10"+string(rune('0'+i)))
	}
	in.Applied, in.Since = in.Spec.DeepCopy(), time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	in.Bundle = nil // Certificates are renewed when the bundle is long gone.
	return in
}

func TestPlan(t *testing.T) {
	cases := map[string]struct {
		reason string
		input  func() stages.Input
	}{
		"single": {"there is nobody to wait for", func() stages.Input { return input(0, 1) }},
		"three":  {"files everywhere first, then one control plane after another, then the workers", func() stages.Input { return input(2, 3) }},
		"minutes": {"certificates of minutes are not asked to last a year", func() stages.Input {
			in := input(0, 1)
			in.Spec.Components.Certificates.Validity = &metav1.Duration{Duration: 4 * time.Minute}
			return in
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p, err := renew.Plan(c.input())
			if err != nil {
				t.Fatalf("%s: %v", c.reason, err)
			}
			stagestest.Golden(t, name, p)
		})
	}
}

// TestPlanKnowsWhatIsNew: what was valid before the operation was asked for is not new, however long kubeadm makes it.
func TestPlanKnowsWhatIsNew(t *testing.T) {
	cases := map[string]struct {
		reason   string
		validity time.Duration
		want     string
	}{
		"a year":  {"less the most that a clock may be behind", 0, "2027-11-21T11:55:00Z"},
		"minutes": {"a tenth of the life at most", 4 * time.Minute, "2026-11-21T12:03:36Z"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in := input(0, 1)
			if c.validity > 0 {
				in.Spec.Components.Certificates.Validity = &metav1.Duration{Duration: c.validity}
			}
			p, err := renew.Plan(in)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(p.Stages[0].Calls[0].Parameters); !strings.Contains(got, c.want) {
				t.Errorf("%s: %s, want %s", c.reason, got, c.want)
			}
		})
	}
}

func TestPlanRefuses(t *testing.T) {
	away := stagestest.Alter("cp2", func(h *v1alpha1.Host) {
		h.Status.Conditions = []metav1.Condition{{Type: v1alpha1.HostReachable, Status: metav1.ConditionFalse, Message: "no route to host"}}
	})
	in := input(1, 3)
	away(&in)
	_, err := renew.Plan(in)
	if err == nil || !strings.Contains(err.Error(), "host cp2: reachable: found no route to host") {
		t.Errorf("a control plane that keeps old certificates is told: %v", err)
	}
	in = input(1, 3)
	stagestest.Alter("w1", func(h *v1alpha1.Host) { h.Status.Conditions = nil })(&in)
	if _, err := renew.Plan(in); err != nil {
		t.Errorf("a worker that is away keeps nobody from renewing: %v", err)
	}
}
