package operation

import (
	"strings"
	"testing"
	"testing/synctest"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

// TestBackupOnHosts: the plan of a backup knows of a directory of hosts who has it and who is away, and says when it is lost
// with one of them.
func TestBackupOnHosts(t *testing.T) {
	directory := func(mounted bool, hosts ...string) v1alpha1.BackupLocationSpec {
		return v1alpha1.BackupLocationSpec{HostDirectory: &v1alpha1.HostDirectoryLocation{Hosts: hosts, Path: "/root/backup", Mounted: mounted}}
	}
	cases := map[string]struct {
		reason   string
		location v1alpha1.BackupLocationSpec
		away     string
		phase    v1alpha1.OperationPhase
		want     string
	}{
		"its disk":         {"people read what it means", directory(false, "c1"), "", v1alpha1.OperationSucceeded, "as demo-manual-a1, on host c1 alone: lost with it"},
		"of another host":  {"it need not be one of the cluster", directory(false, "w2"), "", v1alpha1.OperationSucceeded, "on host w2 alone"},
		"a share":          {"it outlives the hosts", directory(true, "c1", "w1"), "", v1alpha1.OperationSucceeded, "to near as demo-manual-a1"},
		"the server":       {"no host is asked", v1alpha1.BackupLocationSpec{Directory: &v1alpha1.DirectoryLocation{Path: "/srv/b"}}, "c1", v1alpha1.OperationFailed, "no control plane can be reached"},
		"away":             {"it could not be written", directory(false, "w2"), "w2", v1alpha1.OperationFailed, "none of which can be reached: w2: no route to host"},
		"share, one away":  {"another has it mounted", directory(true, "w2", "c1"), "w2", v1alpha1.OperationSucceeded, "to near as demo-manual-a1"},
		"nobody":           {"the name is of no host", directory(false, "x9"), "", v1alpha1.OperationFailed, "x9: there is no host of that name"},
		"in etcd's folder": {"a restore would clear it", v1alpha1.BackupLocationSpec{HostDirectory: &v1alpha1.HostDirectoryLocation{Hosts: []string{"c1"}, Path: "/var/lib/etcd"}}, "", v1alpha1.OperationFailed, "is cleared with the cluster"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, grantOf("dev", v1alpha1.GrantBackupLocation, "near"),
					&v1alpha1.BackupLocation{ObjectMeta: metav1.ObjectMeta{Name: "near"}, Spec: c.location},
					&v1alpha1.Backup{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: "demo-manual-a1"}, Spec: v1alpha1.BackupSpec{Cluster: "demo", Location: "near"}})
				w.made()
				if c.away != "" {
					h := read(w, client.ObjectKey{Name: c.away}, &v1alpha1.Host{})
					h.Status.Conditions[0].Status, h.Status.Conditions[0].Message = metav1.ConditionFalse, "no route to host"
					if err := w.client.Status().Update(t.Context(), h); err != nil {
						t.Fatal(err)
					}
				}
				w.create(operationOf("dev", "demo-manual-a1", v1alpha1.OperationSpec{Verb: v1alpha1.VerbBackup, Cluster: "demo", Parameters: &v1alpha1.OperationParameters{Backup: "demo-manual-a1"}}))
				w.settle()
				op := w.phase("dev", "demo-manual-a1", c.phase)
				said := op.Status.Message
				if op.Status.Plan != nil {
					said += op.Status.Plan.Summary
				}
				for _, f := range op.Status.Failures {
					said += f.Message
				}
				if !strings.Contains(said, c.want) {
					t.Errorf("%s: it says %q, want %q", c.reason, said, c.want)
				}
			})
		})
	}
}
