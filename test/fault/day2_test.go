package fault

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/app"
	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/operation"
	"slipway.dev/slipway/internal/operation/operationtest"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/plan/backup"
	"slipway.dev/slipway/internal/plan/configure"
	"slipway.dev/slipway/internal/plan/drill"
	"slipway.dev/slipway/internal/plan/renew"
	"slipway.dev/slipway/internal/plan/restore"
	"slipway.dev/slipway/internal/plan/scale"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/plan/start"
	"slipway.dev/slipway/internal/plan/stop"
	"slipway.dev/slipway/internal/plan/upgrade"
	"slipway.dev/slipway/internal/step"
)

// verb is one operation on a cluster that runs.
type verb struct {
	reason string
	shape  shape
	// fresh says that there is no cluster yet: the verb makes it.
	fresh bool
	// before brings a cluster that was created to where the operation begins; nil leaves it.
	before func(*world)
	trial  func(*world) *operationtest.World
	// does names, by the ends of their names, calls that must each change something somewhere.
	does []string
	// share is how many trials stand for one that is made.
	share int
}

// backupName is that of the Backup that is taken and brought back.
const backupName = "demo-manual-1"

func takeBackup(w *world) *operationtest.World {
	return w.day2(v1alpha1.VerbBackup, backup.Plan, func(in *stages.Input) {
		in.Parameters.Backup = backupName
		in.Grants = append(in.Grants, v1alpha1.GrantSpec{Kind: v1alpha1.GrantBackupLocation, Name: v1alpha1.GrantEverything})
		in.Backup = &v1alpha1.Backup{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: backupName}, Spec: v1alpha1.BackupSpec{Cluster: "demo", Location: "disk"}}
	})
}

// taken leaves a cluster with a backup.
func taken(w *world) {
	w.succeed(takeBackup(w))
	w.input.Backup.Status = v1alpha1.BackupStatus{Phase: v1alpha1.BackupCompleted, File: &v1alpha1.BackupFile{KubernetesVersion: kubernetes, TakenAt: metav1.Now()}}
}

func drillBackup(w *world) *operationtest.World { return w.day2(v1alpha1.VerbDrill, drill.Plan, nil) }

func restoreBackup(w *world) *operationtest.World {
	return w.day2(v1alpha1.VerbRestore, restore.Plan, nil)
}

// outgrown leaves a cluster that was upgraded since its backup and then lost two of three control planes, and so its majority.
func outgrown(w *world) {
	taken(w)
	w.succeed(upgraded(newer)(w))
	w.lose("cp2")
	w.lose("cp3")
}

// rebuilt gives the trial of a restore from there: with other control planes, and back to the version of the backup.
func rebuilt(w *world) *operationtest.World {
	return w.day2(v1alpha1.VerbRestore, restore.Plan, func(in *stages.Input) {
		in.Spec.ControlPlane.Hosts, in.Parameters.Lost = []string{"cp1", "cp4", "cp5"}, []string{"cp2", "cp3"}
		in.Spec.Kubernetes.Version, in.Bundle = kubernetes, in.Bundles[kubernetes]
	})
}

// configured gives the trial of a change of all settings.
func configured(w *world) *operationtest.World {
	return w.day2(v1alpha1.VerbConfigure, configure.Plan, func(in *stages.Input) { settings(&in.Spec) })
}

// replaced gives the trial of another control plane in the place of one that is lost.
func replaced(w *world) *operationtest.World {
	w.input.Parameters.Lost = []string{"cp3"}
	return scaled([]string{"cp1", "cp2", "cp4"})(w)
}

// scaled gives a trial that brings the cluster to these hosts.
func scaled(controlPlanes []string, workers ...string) func(*world) *operationtest.World {
	return func(w *world) *operationtest.World {
		return w.day2(v1alpha1.VerbScale, scale.Plan, func(in *stages.Input) {
			in.Spec.ControlPlane.Hosts = controlPlanes
			pools := in.Spec.DeepCopy().WorkerPools
			in.Spec.WorkerPools = nil
			if len(workers) > 0 {
				pools[0].Hosts = workers
				in.Spec.WorkerPools = pools
			}
		})
	}
}

// upgraded gives the trial of an upgrade.
func upgraded(version string) func(*world) *operationtest.World {
	return func(w *world) *operationtest.World {
		return w.day2(v1alpha1.VerbUpgrade, upgrade.Plan, func(in *stages.Input) {
			in.Spec.Kubernetes.Version, in.Keep = version, &stages.Keep{Name: "demo-before-" + version, Location: "disk"}
			in.Bundles = map[string]*bundle.Manifest{kubernetes: in.Bundle, version: w.bundle(version)}
			in.Bundle = in.Bundles[version]
		})
	}
}

// stopAt runs a trial's operation until an edge.
func (w *world) stopAt(trial *operationtest.World, at func(operation.Edge) bool) {
	w.t.Helper()
	_, err := w.run(trial, func(_ context.Context, e operation.Edge) error {
		if at(e) {
			return errKilled
		}
		return nil
	})
	if !errors.Is(err, errKilled) {
		w.t.Fatalf("operation %s did not stop half-way: %v", trial.Operation.Name, err)
	}
}

// halfUpgraded leaves a cluster whose upgrade was stopped when its worker was being moved.
func halfUpgraded(w *world) {
	w.stopAt(upgraded(patch)(w), func(e operation.Edge) bool {
		return e.Host == "w1" && e.Call == "workers-1/kubelet-runs" && e.Point == operation.AfterWrite
	})
	// Somebody lets pods onto the node again, so that the way back cordons it itself, first and when it goes on.
	w.cluster.mu.Lock()
	defer w.cluster.mu.Unlock()
	find[*corev1.Node](w.cluster.store, "", "w1").Spec.Unschedulable = false
}

// takenBack gives the trial of the way back from there.
func takenBack(w *world) *operationtest.World {
	w.input.Bundle = w.input.Bundles[kubernetes]
	return w.back("demo-upgrade", upgrade.Plan, *w.input.Applied.DeepCopy())
}

// back gives the trial of a change to a spec, from where an operation stopped half-way.
func (w *world) back(from string, planner func(stages.Input) (*plan.Plan, error), to v1alpha1.ClusterSpec) *operationtest.World {
	w.t.Helper()
	var runs v1alpha1.HostRunList
	if err := w.deps.Client.List(w.t.Context(), &runs, client.InNamespace("dev")); err != nil {
		w.t.Fatal(err)
	}
	in := &w.input
	in.Attempted, in.Spec, in.Changed, in.Operation = []v1alpha1.ClusterSpec{in.Spec}, to, map[string][]string{}, "uid-back"
	for _, run := range runs.Items {
		for _, s := range run.Status.Steps {
			if s.Changed && run.Spec.Operation == from {
				in.Changed[run.Spec.Host] = append(in.Changed[run.Spec.Host], s.Name)
			}
		}
	}
	p, err := planner(*in)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.trial("back", p)
}

// halfConfigured leaves a cluster whose settings were being changed when its second control plane was.
func halfConfigured(w *world) {
	w.stopAt(configured(w), func(e operation.Edge) bool {
		return e.Host == "cp2" && e.Call == "cp2/manifests" && e.Point == operation.AfterWrite
	})
}

// unconfigured gives the trial of the way back from there.
func unconfigured(w *world) *operationtest.World {
	return w.back("demo-configure", configure.Plan, *w.input.Applied.DeepCopy())
}

// reconfigured gives the trial of the way from there to other settings.
func reconfigured(w *world) *operationtest.World {
	to := w.input.Spec.DeepCopy()
	to.Endpoint.CertSANs, to.Components.LogLevel, to.Components.APIServer.Audit.Enabled = []string{"other.example.org"}, 2, false
	to.Runtime.RegistryMirrors[0].Registry = "quay.io"
	return w.back("demo-configure", configure.Plan, *to)
}

// verbs are those of day 2, each on a cluster that has what its plan can have.
func verbs() map[string]verb {
	one := []string{"cp1"}
	return map[string]verb{
		"create-with-address": {reason: "three control planes start side by side", shape: shape{controlPlanes: 3, vip: true}, fresh: true, trial: (*world).create, share: 48},
		"stop":                {reason: "nothing is lost", shape: shape{workers: 1}, trial: func(w *world) *operationtest.World { return w.day2(v1alpha1.VerbStop, stop.Plan, nil) }, share: 8},
		"start": {reason: "all of it runs again", shape: shape{workers: 1}, before: func(w *world) { w.succeed(w.day2(v1alpha1.VerbStop, stop.Plan, nil)) },
			trial: func(w *world) *operationtest.World { return w.day2(v1alpha1.VerbStart, start.Plan, nil) }, share: 8},
		"configure": {reason: "every setting is used by what it is for", shape: shape{workers: 1}, trial: configured, share: 16},
		"configure-three": {reason: "API servers restart one after another", shape: shape{controlPlanes: 3, vip: true}, trial: configured, share: 48,
			does: []string{"/host-records", "/mirrors", "/certificates", "/manifests", " restart-proxy", "/kubelet-restart"}},
		"configure-back":    {reason: "what was changed is as before", shape: shape{controlPlanes: 3, vip: true}, before: halfConfigured, trial: unconfigured, share: 48},
		"configure-instead": {reason: "nothing of the settings that nobody wants any more is left", shape: shape{controlPlanes: 3, vip: true}, before: halfConfigured, trial: reconfigured, share: 48},
		"backup":            {reason: "no host is changed", shape: shape{}, trial: takeBackup, share: 1},
		"drill":             {reason: "no host is changed", shape: shape{}, before: taken, trial: drillBackup, share: 1},
		"restore":           {reason: "no etcd with old data meets one with new data", shape: shape{workers: 1}, before: taken, trial: restoreBackup, share: 16},
		"restore-rebuilt": {reason: "new control planes and old ones come to one cluster of the old version", shape: shape{workers: 1, controlPlanes: 3, vip: true, spare: []string{"cp4", "cp5"}},
			before: outgrown, trial: rebuilt, share: 96},
		"renew": {reason: "what is served is what was renewed", shape: shape{workers: 1}, before: func(w *world) { w.later(time.Hour) },
			trial: func(w *world) *operationtest.World { return w.day2(v1alpha1.VerbRenew, renew.Plan, nil) }, share: 16},
		"scale-workers": {reason: "one comes and one goes", shape: shape{workers: 1, spare: []string{"w2"}}, trial: scaled(one, "w2"), share: 16},
		"scale-control-planes-in": {reason: "etcd keeps its majority", shape: shape{workers: 1, vip: true, spare: []string{"cp2"}},
			trial: scaled([]string{"cp1", "cp2"}, "w1"), share: 24},
		"scale-control-planes-out": {reason: "etcd keeps its majority", shape: shape{controlPlanes: 3, vip: true}, trial: scaled(one), share: 16},
		"scale-first-worker":       {reason: "control planes stop running pods", shape: shape{workers: 1}, trial: scaled(one), share: 12},
		"scale-replace-lost": {reason: "the lost member leaves before another one comes", shape: shape{controlPlanes: 3, vip: true, spare: []string{"cp4"}},
			before: func(w *world) { w.lose("cp3") }, trial: replaced, share: 48},
		"upgrade":       {reason: "always a legal skew", shape: shape{workers: 1}, trial: upgraded(newer), share: 24},
		"upgrade-three": {reason: "address and lead of etcd are handed over before each restart", shape: shape{controlPlanes: 3, vip: true}, trial: upgraded(newer), share: 96, does: []string{"/hand-over", "/etcd-leader", " old-images"}},
		"upgrade-back":  {reason: "what was changed is as before", shape: shape{workers: 1}, before: halfUpgraded, trial: takenBack, share: 24},
	}
}

// later lets time pass until so long after the beginning, and certificates that are made from then on begin then.
func (w *world) later(d time.Duration) {
	w.made = w.made.Add(d)
	timer := time.NewTimer(time.Until(w.made))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.t.Context().Done():
	}
}

// begin gives the trial of a verb on its cluster.
func (v verb) begin(t *testing.T, k keys) *operationtest.World {
	t.Helper()
	w := newWorld(t, k, v.shape)
	if v.fresh {
		return v.trial(w)
	}
	w.succeed(w.create())
	w.settle(t.Context())
	if v.before != nil {
		v.before(w)
		w.settle(t.Context())
	}
	return v.trial(w)
}

// TestVerbs runs each verb once, undisturbed: the trials below compare with what it ends in.
func TestVerbs(t *testing.T) {
	k := newKeys(t)
	for name, v := range verbs() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				trial := v.begin(t, k)
				w := &world{t: t, deps: trial.Deps}
				w.succeed(trial)
				journal, err := operationtest.Journal(t.Context(), trial.Deps.Client, trial.Operation)
				if err != nil {
					t.Fatal(err)
				}
				for _, call := range v.does {
					if !strings.Contains(journal, call+" Done changed=true\n") {
						t.Errorf("%s: no call %s changed anything:\n%s", v.reason, call, journal)
					}
				}
			})
		})
	}
}

func TestVerbsSurviveKills(t *testing.T) {
	k := newKeys(t)
	for name, v := range verbs() {
		t.Run(name, func(t *testing.T) {
			operationtest.Crash(t, func(t *testing.T) *operationtest.World { return v.begin(t, k) }, few(v.share))
		})
	}
}

func TestVerbsSurviveCuts(t *testing.T) {
	k := newKeys(t)
	for name, v := range verbs() {
		t.Run(name, func(t *testing.T) {
			operationtest.Cut(t, func(t *testing.T) *operationtest.World { return v.begin(t, k) }, few(v.share))
		})
	}
}

// TestEveryStepIsCovered fails when a step has no plan that is tried here.
func TestEveryStepIsCovered(t *testing.T) {
	registry, err := app.Steps()
	if err != nil {
		t.Fatal(err)
	}
	planned := map[step.ID]bool{}
	note := func(trial *operationtest.World) {
		for _, s := range trial.Plan.Stages {
			for _, c := range s.Calls {
				planned[c.ID] = true
			}
		}
	}
	k := newKeys(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, k, trial())
		note(w.create())
		note(w.delete())
	})
	all := verbs()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		synctest.Test(t, func(t *testing.T) { note(all[name].begin(t, k)) })
	}
	for _, id := range registry.IDs() {
		if !planned[id] {
			t.Errorf("step %s is in no plan that the trials run: give a verb what makes its plan hold it", id)
		}
	}
}
