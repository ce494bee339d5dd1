package cluster

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
	"slipway.dev/slipway/internal/cli/output/outputtest"
)

func ofBackup(version string) *v1alpha1.Backup {
	return &v1alpha1.Backup{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "demo-nightly-abc123"}, Spec: v1alpha1.BackupSpec{Cluster: "demo", Location: "local"},
		Status: v1alpha1.BackupStatus{Phase: v1alpha1.BackupCompleted, File: &v1alpha1.BackupFile{KubernetesVersion: version, TakenAt: metav1.NewTime(outputtest.Now())}}}
}

func TestRestoring(t *testing.T) {
	cases := map[string]struct {
		reason    string
		restoring restoring
		// want is "control planes / workers / version", "" when the spec stays; lost and refused are what their names say.
		want, lost, refused string
	}{
		"plain":         {"nothing changes but the data", restoring{}, "", "", ""},
		"lost":          {"a control plane that is gone leaves", restoring{lost: []string{"cp2"}}, "cp1 cp3 / w1 b1 b2 / v1.36.3", "cp2", ""},
		"lost worker":   {"a pool without hosts goes", restoring{lost: []string{"w1"}}, "cp1 cp2 cp3 / b1 b2 / v1.36.3", "w1", ""},
		"replaced":      {"the new one has the place of the old", restoring{replace: []string{"cp1=cp4"}}, "cp4 cp2 cp3 / w1 b1 b2 / v1.36.3", "cp1", ""},
		"both":          {"to name it twice does no harm", restoring{lost: []string{"cp1"}, replace: []string{"cp1=cp4"}}, "cp4 cp2 cp3 / w1 b1 b2 / v1.36.3", "cp1", ""},
		"with version":  {"the version of the backup comes along", restoring{withVersion: true}, "cp1 cp2 cp3 / w1 b1 b2 / v1.35.4", "", ""},
		"unknown":       {"a misspelt host must not pass for lost", restoring{lost: []string{"cp9"}}, "", "", "does not have it"},
		"not a pair":    {"half of it would be guessed", restoring{replace: []string{"cp1"}}, "", "", "OLD=NEW"},
		"worker by new": {"only control planes hold data", restoring{replace: []string{"w1=w2"}}, "", "", "OLD is a control plane"},
		"none left":     {"there is nothing to restore on", restoring{lost: []string{"cp1", "cp2", "cp3"}}, "", "", "--replace OLD=NEW"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "demo"}, Spec: *shape(), Status: v1alpha1.ClusterStatus{Applied: shape()}}
			spec, parameters, err := tc.restoring.wanted(c, ofBackup("v1.35.4"))
			if tc.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tc.refused) {
					t.Errorf("%s: %v, want %q", tc.reason, err, tc.refused)
				}
				return
			}
			if err != nil {
				t.Fatalf("%s: %v", tc.reason, err)
			}
			got := ""
			if spec != nil {
				got = strings.Join(spec.ControlPlane.Hosts, " ") + " / " + strings.Join(spec.WorkerHosts(), " ") + " / " + spec.Kubernetes.Version
			}
			if diff := cmp.Diff([]string{tc.want, tc.lost}, []string{got, strings.Join(parameters.Lost, " ")}); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// TestRestore: the name of the cluster is asked for, and what was made is followed to its end.
func TestRestore(t *testing.T) {
	cases := map[string]struct {
		reason, typed string
		args          []string
		terminal      bool
		want          string
		code          output.ExitCode
	}{
		"confirmed":   {"its name is the consent", "demo\n", nil, true, "restore of cluster demo done", output.ExitOK},
		"mistyped":    {"another name is none", "dem\n", nil, true, "not confirmed", output.ExitRefused},
		"no terminal": {"a script says --yes", "", nil, false, "give --yes", output.ExitUsage},
		"yes":         {"and then is not asked", "", []string{"--yes"}, false, "restore of cluster demo done", output.ExitOK},
		"no wait":     {"the work goes on without the command", "", []string{"--yes", "--no-wait"}, false, "restores cluster demo", output.ExitOK},
		"no backup":   {"the wrong one would be worse than none", "", []string{"--backup", "missing", "--yes"}, false, "cannot find backup missing", output.ExitNotFound},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			hooks := outputtest.Hooks{Created: func(ctx context.Context, server client.Client, o client.Object) {
				op, ok := o.(*v1alpha1.Operation)
				if !ok || op.Spec.Verb != v1alpha1.VerbRestore || op.Spec.Parameters.Backup != "demo-nightly-abc123" {
					t.Errorf("made %+v", o)
					return
				}
				op.Status.Phase = v1alpha1.OperationSucceeded
				if err := server.Status().Update(ctx, op); err != nil {
					t.Error(err)
				}
			}}
			b := outputtest.New(t, hooks, &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "demo"}, Spec: *shape()}, ofBackup("v1.36.3"))
			b.Deps.Terminal = tc.terminal
			b.In.WriteString(tc.typed)
			code := b.Run(t.Context(), New(b.Deps), append([]string{"restore", "demo", "--backup", "demo-nightly-abc123"}, tc.args...)...)
			if out := b.Everything(); code != tc.code || !strings.Contains(out, tc.want) {
				t.Errorf("%s: exit code %d, want %d:\n%s", tc.reason, code, tc.code, out)
			}
		})
	}
}
