package fault

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/internal/app"
	fakehost "slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/operation"
	"slipway.dev/slipway/internal/operation/operationtest"
	"slipway.dev/slipway/internal/step"
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
	operationtest.Crash(t, func(t *testing.T) *operationtest.World { return newWorld(t, k, trial()).create() }, operationtest.All)
}

func TestCreateSurvivesCuts(t *testing.T) {
	k := newKeys(t)
	operationtest.Cut(t, func(t *testing.T) *operationtest.World { return newWorld(t, k, trial()).create() }, operationtest.All)
}

func TestConfigureSurvivesKills(t *testing.T) {
	k := newKeys(t)
	operationtest.Crash(t, func(t *testing.T) *operationtest.World { return created(t, k).configure() }, operationtest.All)
}

func TestConfigureSurvivesCuts(t *testing.T) {
	k := newKeys(t)
	operationtest.Cut(t, func(t *testing.T) *operationtest.World { return created(t, k).configure() }, operationtest.All)
}

// TestConfiguredIsAsCreated: a cluster whose settings were changed is the same as one that was created with them.
func TestConfiguredIsAsCreated(t *testing.T) {
	k := newKeys(t)
	// What tells which of two ways it came.
	apart := regexp.MustCompile(`(?m)^.*/var/lib/slipway/.*\n|"annotations":\{"slipway\.dev/change":"1"\}|"generation":\d+`)
	state := map[bool]string{}
	for _, later := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, k, shape{workers: 1, settings: !later})
			w.succeed(w.create())
			if later {
				w.succeed(w.configure())
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
	operationtest.Crash(t, func(t *testing.T) *operationtest.World { return created(t, k).delete() }, operationtest.All)
}

func TestDeleteSurvivesCuts(t *testing.T) {
	k := newKeys(t)
	operationtest.Cut(t, func(t *testing.T) *operationtest.World { return created(t, k).delete() }, operationtest.All)
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
	for _, edge := range edges {
		// A change that was made, or half of the changes of a step, is what delete finds.
		if edge.Point != operation.AfterWrite && edge.Point != operation.AfterVerify {
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

// TestEveryStepIsCovered fails when a step has no plan that is tried here.
func TestEveryStepIsCovered(t *testing.T) {
	elsewhere := cutAlone()
	registry, err := app.Steps()
	if err != nil {
		t.Fatal(err)
	}
	planned := map[step.ID]bool{}
	k := newKeys(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, k, trial())
		for _, trial := range []*operationtest.World{w.create(), w.configure(), w.delete()} {
			for _, s := range trial.Plan.Stages {
				for _, c := range s.Calls {
					planned[c.ID] = true
				}
			}
		}
	})
	for _, id := range registry.IDs() {
		_, alone := elsewhere[id]
		switch {
		case planned[id] && alone:
			t.Errorf("step %s is in a plan that the trials run: take it out of cutAlone", id)
		case !planned[id] && !alone:
			t.Errorf("step %s is in no plan that the trials run: give trial() what makes a plan hold it", id)
		}
	}
}

// cutAlone names the steps of verbs whose whole plans these trials do not run yet. Each of them is cut at every write by
// itself, by TestStepCut of internal/app.
func cutAlone() map[step.ID]string {
	return map[step.ID]string{
		"backup.drill/v1":               "backup and restore",
		"backup.take/v1":                "backup and restore",
		"containerd.unpin-images/v1":    "upgrade",
		"etcd.add-member/v1":            "scale",
		"etcd.move-leader/v1":           "upgrade",
		"etcd.promote-member/v1":        "scale",
		"etcd.remove-member/v1":         "scale",
		"etcd.snapshot/v1":              "upgrade",
		"kubeadm.admin-access/v1":       "create with an address that moves",
		"kubeadm.join-token/v1":         "scale",
		"kubeadm.renew-certificates/v1": "renew",
		"kubeadm.renew-kubelet/v1":      "renew",
		"kubeadm.serve-certificates/v1": "renew",
		"kubeadm.serve-version/v1":      "upgrade",
		"kubeadm.valid-certificates/v1": "upgrade",
		"kubelet.start/v1":              "stop and start",
		"kubelet.stop/v1":               "stop and start",
		"kubevip.hand-over/v1":          "upgrade",
		"kubevip.install/v1":            "create with an address that moves",
		"node.cordon/v1":                "scale",
		"node.drain/v1":                 "scale",
		"node.endpoint-answers/v1":      "create with an address that moves",
		"node.free-volumes/v1":          "scale",
		"node.kubelet-version/v1":       "upgrade",
		"node.labels/v1":                "scale",
		"node.remove/v1":                "scale",
		"node.uncordon/v1":              "upgrade",
		"precheck.removed-apis/v1":      "upgrade",
		"precheck.skew/v1":              "upgrade",
		"restore.data/v1":               "backup and restore",
		"restore.finish/v1":             "backup and restore",
		"restore.match-nodes/v1":        "backup and restore",
		"restore.prove/v1":              "backup and restore",
		"restore.restart-kubelet/v1":    "backup and restore",
		"restore.start/v1":              "backup and restore",
		"restore.stop/v1":               "backup and restore",
		"system.run-installed/v1":       "upgrade",
	}
}
