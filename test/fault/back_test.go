package fault

import (
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/internal/operation"
	"slipway.dev/slipway/internal/operation/operationtest"
)

// TestConfigureTakenBack kills a change of all settings at its edges and gives the cluster the spec of before: hosts and
// cluster are then as if nobody had ever changed anything.
func TestConfigureTakenBack(t *testing.T) {
	k := newKeys(t)
	shape := shape{workers: 1, controlPlanes: 3, vip: true}
	// What tells that a change began: its records, an audit log with its policy.
	traces := regexp.MustCompile(`(?m)^\S+ \S+ /(var/lib/slipway|etc/kubernetes/audit|var/log/kubernetes)\b.*\n|"annotations":\{"slipway\.dev/change":"uid-back"\},?|"generation":\d+`)
	begin := func(t *testing.T) *world {
		w := newWorld(t, k, shape)
		w.succeed(w.create())
		w.settle(t.Context())
		return w
	}
	state := func(w *world) []string { return strings.Split(traces.ReplaceAllString(w.end(), ""), "\n") }
	var before []string
	synctest.Test(t, func(t *testing.T) { before = state(begin(t)) })
	edges, _ := operationtest.Edges(t, func(t *testing.T) *operationtest.World { return configured(begin(t)) })
	for i, edge := range edges {
		if i%few(12) != 0 {
			continue
		}
		t.Run(edge.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := begin(t)
				w.stopAt(configured(w), func(e operation.Edge) bool { return e == edge })
				w.succeed(unconfigured(w))
				if diff := cmp.Diff(before, state(w)); diff != "" {
					t.Errorf("it is not as before (-before +now):\n%s", diff)
				}
			})
		})
	}
}
