// Package operationtest owns the trials that every plan must stand: the engine killed at every edge, and the
// connection cut at every command. It must never know a verb or a step; whoever calls it builds the world.
package operationtest

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/operation"
	"slipway.dev/slipway/internal/plan"
)

// World is everything one operation works on, fresh and independent of every other World.
type World struct {
	// Deps makes the engines; Edges is the trial's own.
	Deps operation.Deps
	// Operation is stored in Deps.Client; Plan is what it runs.
	Operation *v1alpha1.Operation
	Plan      *plan.Plan
	// Digest describes what is on the hosts and in managed clusters, without fence, times and random values.
	Digest func(ctx context.Context) (string, error)
}

// Build makes one more World. All of them behave alike. It runs inside a synctest bubble, as all of a trial does.
type Build func(t *testing.T) *World

// errKilled is what the hook answers at the edge of the trial.
var errKilled = errors.New("killed by the trial")

// Edges runs the operation once, uninterrupted, and gives every edge it passed, sorted, and the end state.
func Edges(t *testing.T, build Build) ([]operation.Edge, string) {
	t.Helper()
	var edges []operation.Edge
	var end string
	synctest.Test(t, func(t *testing.T) {
		w := build(t)
		var mu sync.Mutex
		_, err := w.run(t, func(_ context.Context, e operation.Edge) error {
			mu.Lock()
			defer mu.Unlock()
			edges = append(edges, e)
			return nil
		})
		if err != nil {
			t.Fatalf("cannot run the operation uninterrupted: %v", err)
		}
		end = w.state(t)
	})
	slices.SortFunc(edges, func(a, b operation.Edge) int { return strings.Compare(a.String(), b.String()) })
	return edges, end
}

// All tries every edge and every command.
const All = 1

// sampled says whether a trial is among those that are made when one of share is: always the same ones.
func sampled(trial string, share int) bool {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(trial)) // It never fails.
	return int(sum.Sum32()%uint32(share)) == 0
}

// Crash kills the engine at every edge that an uninterrupted run passes, or at one of share of them, lets a new engine go on,
// and wants the same end state each time. It gives the edges, so that the caller can prove that none is missing.
func Crash(t *testing.T, build Build, share int) []operation.Edge {
	t.Helper()
	edges, want := Edges(t, build)
	for _, edge := range edges {
		if !sampled(edge.String(), share) {
			continue
		}
		t.Run(edge.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := killed(t, build, edge)
				if _, err := w.run(t, nil); err != nil {
					t.Fatalf("cannot go on after the kill: %v", err)
				}
				if got := w.state(t); got != want {
					t.Errorf("end state after the kill:\n%s\nuninterrupted:\n%s", got, want)
				}
			})
		})
	}
	return edges
}

// killed gives a world whose run died at an edge. Which host waits for another differs from run to run, and with it who passes
// an edge of waiting: so a few worlds are tried.
func killed(t *testing.T, build Build, edge operation.Edge) *World {
	t.Helper()
	var err error
	for range 8 {
		w := build(t)
		if _, err = w.run(t, killAt(edge)); errors.Is(err, errKilled) {
			return w
		}
	}
	t.Fatalf("no run died at the edge: %v", err)
	return nil
}

// killAt dies at one edge, and at every later one as a dead process does.
func killAt(edge operation.Edge) func(context.Context, operation.Edge) error {
	return func(_ context.Context, e operation.Edge) error {
		if e == edge {
			return errKilled
		}
		return nil
	}
}

// run runs the operation as it is stored, with a new engine.
func (w *World) run(t *testing.T, edges func(context.Context, operation.Edge) error) (operation.Outcome, error) {
	t.Helper()
	deps := w.Deps
	deps.Edges = edges
	engine, err := operation.New(deps)
	if err != nil {
		t.Fatal(err)
	}
	var op v1alpha1.Operation
	if err := deps.Client.Get(t.Context(), client.ObjectKeyFromObject(w.Operation), &op); err != nil {
		t.Fatal(err)
	}
	return engine.Run(t.Context(), &op, w.Plan, nil)
}

// state describes hosts and journal, without what differs from run to run: times, epochs, attempts, texts.
func (w *World) state(t *testing.T) string {
	t.Helper()
	hosts, err := w.Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	journal, err := Journal(t.Context(), w.Deps.Client, w.Operation)
	if err != nil {
		t.Fatal(err)
	}
	return journal + hosts
}

// Journal describes what the platform's API holds of an operation, without times, epochs, attempts and texts.
func Journal(ctx context.Context, c client.Client, op *v1alpha1.Operation) (string, error) {
	var stored v1alpha1.Operation
	if err := c.Get(ctx, client.ObjectKeyFromObject(op), &stored); err != nil {
		return "", err
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%s %s\n", stored.Status.Phase, stored.Status.Progress.Summary)
	for _, s := range stored.Status.Stages {
		fmt.Fprintf(&out, "stage %s %d/%d\n", s.Name, s.Done, s.Steps)
	}
	for _, f := range stored.Status.Failures {
		fmt.Fprintf(&out, "failure %s %s %s\n", f.Host, f.Step, f.Reason)
	}
	var runs v1alpha1.HostRunList
	if err := c.List(ctx, &runs, client.InNamespace(op.Namespace)); err != nil {
		return "", err
	}
	slices.SortFunc(runs.Items, func(a, b v1alpha1.HostRun) int { return strings.Compare(a.Name, b.Name) })
	for _, r := range runs.Items {
		if r.Spec.Operation != op.Name {
			continue
		}
		for _, s := range r.Status.Steps {
			fmt.Fprintf(&out, "%s %s %s changed=%t\n", r.Spec.Host, s.Name, s.State, s.Changed)
		}
	}
	return out.String(), nil
}
