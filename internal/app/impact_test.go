package app

import (
	"context"
	"encoding/json"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	fakehost "slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/impact"
	"slipway.dev/slipway/internal/plan"
)

// TestEveryStepDeclaresItsImpact fails for a step of which nobody has said how it is felt on a node that runs.
func TestEveryStepDeclaresItsImpact(t *testing.T) {
	registry, err := Steps()
	if err != nil {
		t.Fatal(err)
	}
	declared := impact.Declared()
	slices.Sort(declared)
	if diff := cmp.Diff(registry.IDs(), declared); diff != "" {
		t.Errorf("steps that exist and steps in internal/impact/declarations.go differ (-exist +declared):\n%s", diff)
	}
}

// TestDeclarationsAreTrue watches each step at work on a host in memory: who restarts or stops a component, or changes the
// manifest of one, has to have said so.
func TestDeclarationsAreTrue(t *testing.T) {
	seen := 0
	for name, tc := range stepCases() {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, tc)
			var felt []string
			b.host.Observe(func(e fakehost.Event) {
				if component := touched(e); component != "" && !slices.Contains(felt, component) {
					felt = append(felt, component)
				}
			})
			if tc.event != nil {
				tc.event(b)
			}
			before := manifestsOf(b)
			// Some fail: what they have done until then counts.
			_ = tc.step.Apply(context.WithoutCancel(t.Context()), b.writer())
			for name, content := range manifestsOf(b) {
				if before[name] != content {
					felt = append(felt, strings.TrimSuffix(path.Base(name), ".yaml"))
				}
			}
			parameters, err := json.Marshal(tc.step)
			if err != nil {
				t.Fatal(err)
			}
			effects, err := impact.Effects(plan.Call{ID: tc.step.ID(), Parameters: parameters})
			if err != nil {
				t.Fatal(err)
			}
			seen += len(felt)
			for _, component := range felt {
				said := slices.ContainsFunc(effects, func(e impact.Effect) bool {
					return e.Kind == impact.Leaves || slices.Contains(e.Components, component)
				})
				if !said {
					t.Errorf("step %s restarts or stops %s, and internal/impact/declarations.go does not say so", tc.step.ID(), component)
				}
			}
		})
	}
	if seen == 0 {
		t.Error("no step of any case restarts anything: this test sees nothing")
	}
}

// touched gives the unit that a write on a host restarts or stops, "" for none.
func touched(e fakehost.Event) string {
	argv := e.Argv
	if len(argv) > 2 && path.Base(argv[0]) == "systemctl" && slices.Contains([]string{"restart", "stop", "try-restart"}, argv[1]) {
		// Other units are the machine's own, such as its time service.
		if unit := strings.TrimSuffix(argv[len(argv)-1], ".service"); unit == impact.Kubelet || unit == impact.Containerd {
			return unit
		}
	}
	return ""
}

// manifestsOf gives the static pods of the host.
func manifestsOf(b *bench) map[string]string {
	b.t.Helper()
	found := map[string]string{}
	b.host.Do(func(s *fakehost.State) {
		for _, f := range s.Tree("/etc/kubernetes/manifests") {
			content, err := s.ReadFile(f.Path)
			if err == nil {
				found[f.Path] = string(content)
			}
		}
	})
	return found
}
