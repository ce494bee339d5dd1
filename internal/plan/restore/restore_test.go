package restore_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/plan/restore"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/plan/stages/stagestest"
)

// wanted gives the input of a cluster with some control planes, one worker and a backup that fits.
func wanted(controlPlanes ...string) stages.Input {
	in := stagestest.Wanted(1)
	in.Grants = append(in.Grants, v1alpha1.GrantSpec{Kind: v1alpha1.GrantBackupLocation, Name: "local"})
	for i, name := range controlPlanes {
		in.Hosts[name] = stagestest.Bare(name, "192.0.2."+string(rune('2'+i))+"0")
		in.Platform[name] = "192.0.2.1:8443"
	}
	in.Spec.ControlPlane.Hosts = controlPlanes
	for _, arch := range in.Bundle.Architectures {
		in.Bundle.Files = append(in.Bundle.Files, bundle.File{Name: "etcdutl", Architecture: arch, Digest: digest.FromString("etcdutl" + arch), Mode: 0o755})
	}
	in.Applied, in.Operation = in.Spec.DeepCopy(), "op-1"
	in.Parameters.Backup = "demo-manual-abc123"
	in.Backup = &v1alpha1.Backup{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: "demo-manual-abc123"}, Spec: v1alpha1.BackupSpec{Cluster: "demo", Location: "local"},
		Status: v1alpha1.BackupStatus{Phase: v1alpha1.BackupCompleted, File: &v1alpha1.BackupFile{KubernetesVersion: "v1.36.1",
			TakenAt: metav1.NewTime(time.Date(2026, 11, 21, 2, 30, 0, 0, time.UTC))}}}
	return in
}

// lose takes hosts out of the spec, as a person has confirmed.
func lose(in *stages.Input, names ...string) {
	in.Parameters.Lost = names
	in.Spec = *in.Spec.DeepCopy()
	in.Spec.ControlPlane.Hosts = slices.DeleteFunc(in.Spec.ControlPlane.Hosts, func(name string) bool { return slices.Contains(names, name) })
}

// replace puts a fresh machine in the place of a lost control plane.
func replace(in *stages.Input, old, name, address string) {
	in.Parameters.Lost = []string{old}
	in.Spec = *in.Spec.DeepCopy()
	in.Spec.ControlPlane.Hosts[slices.Index(in.Spec.ControlPlane.Hosts, old)] = name
	in.Hosts[name], in.Platform[name] = stagestest.Bare(name, address), "192.0.2.1:8443"
}

// older makes the backup one of before an upgrade, and goes back to its version.
func older(in *stages.Input) {
	in.Backup.Status.File.KubernetesVersion = "v1.35.4"
	in.Spec = *in.Spec.DeepCopy()
	in.Spec.Kubernetes.Version = "v1.35.4"
	in.Bundle.Name, in.Bundle.KubernetesVersion = "v1.35.4", "v1.35.4"
}

// onHost keeps the backup on the disk of cp1.
func onHost(in *stages.Input, path string) {
	in.Place = &stages.Place{Location: "local", HostDirectoryLocation: v1alpha1.HostDirectoryLocation{Hosts: []string{"cp1"}, Path: path}, Away: map[string]string{}}
}

// TestPlan_OwnDisk: a control plane is restored from a backup on its own disk, and the plan is that of any other backup.
func TestPlan_OwnDisk(t *testing.T) {
	in := wanted("cp1")
	onHost(&in, "/root/backup")
	p, err := restore.Plan(in)
	if err != nil {
		t.Fatal(err)
	}
	stagestest.Golden(t, "one", p)
}

func endpoint(in *stages.Input) {
	in.Spec.Endpoint.Host, in.Applied.Endpoint.Host = "192.0.2.200", "192.0.2.200"
}

func TestPlan(t *testing.T) {
	cases := map[string]struct {
		reason        string
		controlPlanes []string
		change        func(*stages.Input)
	}{
		"one":   {"the smallest cluster", []string{"cp1"}, func(*stages.Input) {}},
		"three": {"every control plane gets the same data and its own name", []string{"cp1", "cp2", "cp3"}, func(*stages.Input) {}},
		"lost":  {"a control plane that is gone is no member", []string{"cp1", "cp2", "cp3"}, func(in *stages.Input) { endpoint(in); stagestest.Away("cp1")(in); lose(in, "cp1") }},
		"replaced": {"a fresh machine in the place of a lost one", []string{"cp1", "cp2", "cp3"}, func(in *stages.Input) {
			endpoint(in)
			stagestest.Away("cp2")(in)
			replace(in, "cp2", "cp4", "192.0.2.50")
		}},
		"rebuilt":     {"the only control plane burned down, and the new machine has its address", []string{"cp1"}, func(in *stages.Input) { replace(in, "cp1", "cp4", "192.0.2.20") }},
		"older":       {"the snapshot before an upgrade is a way back", []string{"cp1", "cp2", "cp3"}, older},
		"worker-away": {"a worker that is away holds nothing up", []string{"cp1"}, stagestest.Away("w1")},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in := wanted(c.controlPlanes...)
			c.change(&in)
			p, err := restore.Plan(in)
			if err != nil {
				t.Fatalf("%s: %v", c.reason, err)
			}
			stagestest.Golden(t, name, p)
		})
	}
}

// TestPlan_Order: the backup is proven before anything stops, and everything has stopped before any data is replaced.
func TestPlan_Order(t *testing.T) {
	p, err := restore.Plan(wanted("cp1", "cp2", "cp3"))
	if err != nil {
		t.Fatal(err)
	}
	needs := map[string][]string{}
	for _, s := range p.Stages {
		for _, n := range s.Needs {
			needs[s.Name] = append(append(needs[s.Name], n), needs[n]...)
		}
		if i := slices.IndexFunc(s.Calls, func(c plan.Call) bool { return c.ID == "restore.stop/v1" || c.ID == "restore.data/v1" }); i >= 0 && len(s.Hosts) != 3 {
			t.Errorf("stage %s is on %v, not on every control plane", s.Name, s.Hosts)
		}
	}
	for _, pair := range [][2]string{{"stop", "prove"}, {"data", "stop"}, {"start", "data"}, {"controllers", "start"}, {"kubelets", "controllers"}} {
		if !slices.Contains(needs[pair[0]], pair[1]) {
			t.Errorf("stage %s does not wait for %s", pair[0], pair[1])
		}
	}
	for _, s := range p.Stages[:4] {
		if !s.Gate {
			t.Errorf("stage %s fails without stopping the rest", s.Name)
		}
	}
}

func TestPlan_Refused(t *testing.T) {
	cases := map[string]struct {
		reason string
		change func(*stages.Input)
		want   string
	}{
		"missing":     {"there is nothing to bring back", func(in *stages.Input) { in.Backup = nil }, "there is no backup demo-manual-abc123"},
		"foreign":     {"the objects are of another cluster", func(in *stages.Input) { in.Backup.Spec.Cluster = "other" }, "is of cluster other"},
		"failed":      {"it has no file", func(in *stages.Input) { in.Backup.Status.Phase = v1alpha1.BackupFailed }, "is not completed"},
		"older":       {"its objects are of an API that no longer runs", func(in *stages.Input) { in.Backup.Status.File.KubernetesVersion = "v1.35.4" }, "was taken with Kubernetes v1.35.4 and the cluster runs v1.36.3"},
		"not lent":    {"the location is of another project", func(in *stages.Input) { in.Grants = in.Grants[:2] }, "is not lent to project dev"},
		"no bundle":   {"it holds the program that restores", func(in *stages.Input) { in.Bundle, in.BundleProblem = nil, "it is disabled" }, "it is disabled"},
		"other":       {"two changes at once", func(in *stages.Input) { in.Spec.Network.PodCIDR = "10.1.0.0/16" }, "would change in more than"},
		"third":       {"neither the version that runs nor that of the backup", func(in *stages.Input) { in.Spec.Kubernetes.Version = "v1.37.1" }, "it would run Kubernetes v1.37.1"},
		"older away":  {"a node with a newer kubelet would come back", func(in *stages.Input) { older(in); stagestest.Away("w1")(in) }, "host w1: reachable"},
		"lost stays":  {"a control plane that is gone is none", func(in *stages.Input) { in.Parameters.Lost = []string{"cp2"} }, "it is lost and stays in the spec"},
		"unconfirmed": {"it may run with the old data", func(in *stages.Input) { lose(in, "cp3"); in.Parameters.Lost = nil }, "it would be taken out while it may run"},
		"moved":       {"every kubelet would look for the API where nobody is", func(in *stages.Input) { replace(in, "cp1", "cp4", "192.0.2.50") }, "host cp4: endpoint"},
		"unreachable": {"it might answer with the old data", stagestest.Away("cp2"), "host cp2: reachable: found no route to host"},
		"lost with":   {"the disk that held the backup is gone", func(in *stages.Input) { lose(in, "cp1"); onHost(in, "/root/backup") }, "demo-manual-abc123: backup location local is a directory of cp1, said to be lost"},
		"cleared":     {"the restore would clear it", func(in *stages.Input) { onHost(in, "/var/lib/etcd/backup") }, "/var/lib/etcd there is cleared"},
		"all lost":    {"nothing is left to restore on", func(in *stages.Input) { in.Parameters.Lost = []string{"cp1", "cp2", "cp3"} }, "all its control planes are said to be lost"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in := wanted("cp1", "cp2", "cp3")
			c.change(&in)
			_, err := restore.Plan(in)
			if err == nil || !strings.Contains(err.Error(), c.want) || fault.ClassOf(err) != fault.Terminal || fault.FixOf(err) == "" {
				t.Errorf("%s: %v (fix %q), want %q", c.reason, err, fault.FixOf(err), c.want)
			}
		})
	}
}
