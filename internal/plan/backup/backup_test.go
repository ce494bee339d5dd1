package backup_test

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/plan/backup"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/plan/stages/stagestest"
)

func wanted() stages.Input {
	in := stagestest.Wanted(1)
	in.Grants = append(in.Grants, v1alpha1.GrantSpec{Kind: v1alpha1.GrantBackupLocation, Name: "local"})
	in.Hosts["cp2"] = stagestest.Bare("cp2", "192.0.2.20")
	in.Spec.ControlPlane.Hosts = []string{"cp1", "cp2"}
	in.Parameters.Backup = "demo-manual-abc123"
	in.Backup = &v1alpha1.Backup{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: "demo-manual-abc123"}, Spec: v1alpha1.BackupSpec{Cluster: "demo", Location: "local"}}
	return in
}

// onHost keeps backups on a host's own disk.
func onHost(in *stages.Input) {
	in.Place = &stages.Place{Location: "local", HostDirectoryLocation: v1alpha1.HostDirectoryLocation{Hosts: []string{"cp1"}, Path: "/root/backup"}, Away: map[string]string{}}
}

func TestPlan(t *testing.T) {
	for name, change := range map[string]func(*stages.Input){"first": func(*stages.Input) {}, "first-away": stagestest.Away("cp1"), "on-host": onHost} {
		t.Run(name, func(t *testing.T) {
			in := wanted()
			change(&in)
			p, err := backup.Plan(in)
			if err != nil {
				t.Fatal(err)
			}
			stagestest.Golden(t, name, p)
		})
	}
}

func TestPlan_Refused(t *testing.T) {
	cases := map[string]struct {
		reason string
		change func(*stages.Input)
		want   string
	}{
		"missing":    {"it was deleted meanwhile", func(in *stages.Input) { in.Backup = nil }, "there is no backup"},
		"other":      {"the name is of another cluster's", func(in *stages.Input) { in.Backup.Spec.Cluster = "other" }, "is of cluster other"},
		"not lent":   {"the location is of another project", func(in *stages.Input) { in.Grants = in.Grants[:2] }, "is not lent to project dev"},
		"all away":   {"no etcd can be asked", func(in *stages.Input) { stagestest.Away("cp1")(in); stagestest.Away("cp2")(in) }, "no control plane can be reached: no route to host"},
		"place away": {"nothing could be written", func(in *stages.Input) { onHost(in); in.Place.Away["cp1"] = "no route to host" }, "none of which can be reached: cp1: no route to host"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in := wanted()
			c.change(&in)
			_, err := backup.Plan(in)
			if err == nil || !strings.Contains(err.Error(), c.want) || fault.ClassOf(err) != fault.Terminal || fault.FixOf(err) == "" {
				t.Errorf("%s: %v, want %q", c.reason, err, c.want)
			}
		})
	}
}
