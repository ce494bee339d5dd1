package drill_test

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/plan/drill"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/plan/stages/stagestest"
)

func wanted() stages.Input {
	in := stagestest.Wanted(1)
	in.Grants = append(in.Grants, v1alpha1.GrantSpec{Kind: v1alpha1.GrantBackupLocation, Name: "local"})
	in.Bundle.Files = append(in.Bundle.Files, bundle.File{Name: "etcdutl", Architecture: "amd64", Digest: digest.FromString("etcdutl"), Mode: 0o755})
	in.Operation, in.Parameters.Backup = "op-1", "demo-manual-abc123"
	in.Backup = &v1alpha1.Backup{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: "demo-manual-abc123"}, Spec: v1alpha1.BackupSpec{Cluster: "demo", Location: "local"},
		Status: v1alpha1.BackupStatus{Phase: v1alpha1.BackupCompleted, File: &v1alpha1.BackupFile{KubernetesVersion: "v1.36.3"}}}
	return in
}

func TestPlan(t *testing.T) {
	for name, change := range map[string]func(*stages.Input){"all-there": func(*stages.Input) {}, "control-plane-away": stagestest.Away("cp1")} {
		t.Run(name, func(t *testing.T) {
			in := wanted()
			change(&in)
			p, err := drill.Plan(in)
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
		"missing":   {"there is nothing to prove", func(in *stages.Input) { in.Backup = nil }, "there is no backup demo-manual-abc123"},
		"other":     {"the backup is of another cluster", func(in *stages.Input) { in.Backup.Spec.Cluster = "other" }, "is of cluster other"},
		"failed":    {"it has no file", func(in *stages.Input) { in.Backup.Status.Phase = v1alpha1.BackupFailed }, "is not completed"},
		"not lent":  {"the location is of another project", func(in *stages.Input) { in.Grants = in.Grants[:2] }, "is not lent to project dev"},
		"no bundle": {"it holds etcd and the API server", func(in *stages.Input) { in.Bundle, in.BundleProblem = nil, "it is disabled" }, "it is disabled"},
		"foreign":   {"the server's machine cannot run programs of another architecture", func(in *stages.Input) { in.ServerArchitecture = "riscv64" }, "has no etcd for the server's machine"},
		"all away":  {"an operation is recorded on a host that it holds", func(in *stages.Input) { stagestest.Away("cp1")(in); stagestest.Away("w1")(in) }, "no host of the cluster can be reached"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in := wanted()
			c.change(&in)
			_, err := drill.Plan(in)
			if err == nil || !strings.Contains(err.Error(), c.want) || fault.ClassOf(err) != fault.Terminal || fault.FixOf(err) == "" {
				t.Errorf("%s: %v (fix %q), want %q", c.reason, err, fault.FixOf(err), c.want)
			}
		})
	}
}
