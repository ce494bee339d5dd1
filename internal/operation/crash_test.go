package operation_test

import (
	"slices"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"slipway.dev/slipway/internal/operation"
	"slipway.dev/slipway/internal/operation/operationtest"
	"slipway.dev/slipway/internal/step"
)

// journey is a plan with everything that plans have: a gate, stages that wait for others, needs, waits, random values.
func journey(t *testing.T) *world {
	t.Helper()
	return newWorld(t, planned(t, "cp1 w1",
		gate(on(t, "check", "cp1 w1", "", file{Path: "/etc/checked", Content: "ok"})),
		on(t, "files", "cp1 w1", "", token{}, derived{}),
		on(t, "init", "cp1", "files", file{Path: "/etc/init", Content: "i", Give: []step.Output{step.API}}, boot{}),
		on(t, "join", "w1", "init", command{Argv: []string{"join"}}),
		on(t, "finish", "cp1", "join", file{Path: "/etc/finished", Content: "f"}),
	), interceptor.Funcs{})
}

func TestCrash_EveryEdgeOfASuccess(t *testing.T) {
	edges := operationtest.Crash(t, func(t *testing.T) *operationtest.World { return journey(t).trial() }, operationtest.All)
	for _, point := range []operation.Point{operation.BeforeClaim, operation.AfterClaim, operation.BeforeRecord, operation.AfterRecord,
		operation.BeforeApply, operation.AfterApply, operation.BeforeWrite, operation.AfterWrite, operation.AfterVerify,
		operation.BeforeFinal, operation.AfterFinal} {
		if !slices.ContainsFunc(edges, func(e operation.Edge) bool { return e.Point == point }) {
			t.Errorf("no edge is a %s", point)
		}
	}
}

func TestCrash_EveryEdgeOfAPartialEnd(t *testing.T) {
	operationtest.Crash(t, func(t *testing.T) *operationtest.World {
		w := journey(t)
		w.fails("w1", "join", 1)
		return w.trial()
	}, operationtest.All)
}

func TestCut_EveryCall(t *testing.T) {
	operationtest.Cut(t, func(t *testing.T) *operationtest.World { return journey(t).trial() }, operationtest.All)
}
