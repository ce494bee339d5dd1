package fault

import (
	"context"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	fakehost "slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/operation"
	"slipway.dev/slipway/internal/operation/operationtest"
)

// shapes are the worlds whose plans hold every step.
func shapes() map[string]shape {
	return map[string]shape{
		"three-nodes": {workers: 2}, "single-node": {}, "setup": {workers: 1, setup: true}, "iptables": {workers: 1, proxy: "iptables"},
		"settings": {workers: 1, settings: true},
	}
}

// trial is the shape whose every edge and every command is tried: it has all that plans can have.
func trial() shape { return shape{workers: 1, setup: true} }

// kept matches what a host keeps until it boots, by design: loaded modules with their parameters.
var kept = regexp.MustCompile(`(?m)^\S+ (module |sysctl net\.bridge\.).*\n`)

// found describes the hosts as they must be found again.
func (w *world) found() string { return kept.ReplaceAllString(w.hosts(), "") }

// clean wants the hosts as they were.
func (w *world) clean(before string) {
	w.t.Helper()
	w.settle(w.t.Context())
	if diff := cmp.Diff(strings.Split(before, "\n"), strings.Split(w.found(), "\n")); diff != "" {
		w.t.Errorf("the hosts are not as they were found:\n%s", diff)
	}
}

func TestDeleteGivesHostsBack(t *testing.T) {
	k := newKeys(t)
	for name, s := range shapes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, k, s)
				before := w.found()
				w.succeed(w.create())
				if text, err := w.digest(t.Context()); err != nil || !strings.Contains(text, "serving true") {
					t.Fatal(err, text)
				}
				w.succeed(w.delete())
				w.clean(before)
			})
		})
	}
}

// TestDeleteGivesHostsBackWithoutRuntime: kubeadm's reset cannot work, and what it does not do must still be done.
func TestDeleteGivesHostsBackWithoutRuntime(t *testing.T) {
	k := newKeys(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, k, trial())
		before := w.found()
		w.succeed(w.create())
		for _, n := range w.nodes {
			n.host.Do(func(s *fakehost.State) { s.Exec(fakehost.Call{Argv: []string{"systemctl", "stop", "containerd"}}) })
		}
		w.succeed(w.delete())
		w.clean(before)
	})
}

func TestCreateSurvivesKills(t *testing.T) {
	k := newKeys(t)
	operationtest.Crash(t, func(t *testing.T) *operationtest.World { return newWorld(t, k, trial()).create() }, few(4))
}

func TestCreateSurvivesCuts(t *testing.T) {
	k := newKeys(t)
	operationtest.Cut(t, func(t *testing.T) *operationtest.World { return newWorld(t, k, trial()).create() }, few(4))
}

// TestConfiguredIsAsCreated: a cluster whose settings were changed is the same as one that was created with them.
func TestConfiguredIsAsCreated(t *testing.T) {
	k := newKeys(t)
	// What tells which of two ways it came.
	apart := regexp.MustCompile(`(?m)^.*/var/lib/slipway/.*\n|"annotations":\{"slipway\.dev/change":"uid-op"\}|"generation":\d+`)
	state := map[bool]string{}
	for _, later := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, k, shape{workers: 1, settings: !later})
			w.succeed(w.create())
			if later {
				w.succeed(configured(w))
			}
			text, err := w.digest(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			state[later] = apart.ReplaceAllString(text, "")
		})
	}
	if diff := cmp.Diff(strings.Split(state[false], "\n"), strings.Split(state[true], "\n")); diff != "" {
		t.Errorf("changed (+) and created (-):\n%s", diff)
	}
}

func TestDeleteSurvivesKills(t *testing.T) {
	k := newKeys(t)
	operationtest.Crash(t, func(t *testing.T) *operationtest.World { return created(t, k).delete() }, few(2))
}

func TestDeleteSurvivesCuts(t *testing.T) {
	k := newKeys(t)
	operationtest.Cut(t, func(t *testing.T) *operationtest.World { return created(t, k).delete() }, few(2))
}

// created gives a world with a whole cluster.
func created(t *testing.T, k keys) *world {
	t.Helper()
	w := newWorld(t, k, trial())
	w.succeed(w.create())
	w.settle(t.Context())
	return w
}

var errKilled = errors.New("killed by the trial")

// TestDeleteAfterKilledCreate kills a create where each stage and each change of a host begins and ends.
func TestDeleteAfterKilledCreate(t *testing.T) {
	k := newKeys(t)
	edges, _ := operationtest.Edges(t, func(t *testing.T) *operationtest.World { return newWorld(t, k, trial()).create() })
	for i, edge := range edges {
		// A change that was made, or half of the changes of a step, is what delete finds.
		if edge.Point != operation.AfterWrite && edge.Point != operation.AfterVerify {
			continue
		}
		if i%few(2) != 0 {
			continue
		}
		t.Run(edge.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, k, trial())
				before := w.found()
				_, err := w.run(w.create(), func(_ context.Context, e operation.Edge) error {
					if e == edge {
						return errKilled
					}
					return nil
				})
				if !errors.Is(err, errKilled) {
					t.Fatalf("the run did not die at the edge: %v", err)
				}
				w.succeed(w.delete())
				w.clean(before)
			})
		})
	}
}

// few gives how many trials stand for one that is made, so that the tests end soon; FAULTS=all makes all of them.
func few(share int) int {
	if os.Getenv("FAULTS") == "all" {
		return operationtest.All
	}
	return share
}
