package backup

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
	"slipway.dev/slipway/internal/cli/output/outputtest"
)

func taken(name string, change func(*v1alpha1.Backup)) *v1alpha1.Backup {
	at := metav1.NewTime(outputtest.Now().Add(-2 * time.Hour))
	b := &v1alpha1.Backup{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, CreationTimestamp: at}, Spec: v1alpha1.BackupSpec{Cluster: "demo", Location: "local"},
		Status: v1alpha1.BackupStatus{Phase: v1alpha1.BackupCompleted, File: &v1alpha1.BackupFile{KubernetesVersion: "v1.36.3", Bytes: 1234, TakenAt: at}}}
	change(b)
	return b
}

// ends lets every operation end at once; one of a Backup is made as the server does.
func ends(t *testing.T, phase v1alpha1.OperationPhase, made *[]client.Object) outputtest.Hooks {
	return outputtest.Hooks{Created: func(ctx context.Context, server client.Client, o client.Object) {
		*made = append(*made, o)
		op, ok := o.(*v1alpha1.Operation)
		if b, is := o.(*v1alpha1.Backup); is {
			op, ok = &v1alpha1.Operation{ObjectMeta: metav1.ObjectMeta{Namespace: b.Namespace, Name: b.Name}, Spec: v1alpha1.OperationSpec{Verb: v1alpha1.VerbBackup, Cluster: b.Spec.Cluster}}, true
			if err := server.Create(ctx, op); err != nil {
				t.Error(err)
			}
		}
		if !ok {
			return
		}
		op.Status.Phase = phase
		if phase != v1alpha1.OperationSucceeded {
			op.Status.Failures = []v1alpha1.Failure{{Message: "3 pods are missing", Fix: "take another"}}
		}
		if err := server.Status().Update(ctx, op); err != nil {
			t.Error(err)
		}
	}}
}

func TestCommands(t *testing.T) {
	proven := taken("demo-nightly-abc123", func(b *v1alpha1.Backup) {
		b.Status.Proven = &v1alpha1.BackupProof{At: metav1.NewTime(outputtest.Now().Add(-time.Hour)), Objects: 745}
		b.Status.Conditions = []metav1.Condition{{Type: v1alpha1.BackupProven, Status: metav1.ConditionTrue, Message: "745 objects of 32 resources were served"}}
	})
	cases := map[string]struct {
		reason string
		args   string
		phase  v1alpha1.OperationPhase
		code   output.ExitCode
		want   string
	}{
		"create":            {"it is followed to its end", "create demo --location local", v1alpha1.OperationSucceeded, output.ExitOK, "is kept in local, taken in"},
		"create, failed":    {"why it failed is said", "create demo --location local", v1alpha1.OperationFailed, output.ExitOperationFailed, "3 pods are missing"},
		"create where":      {"no location is guessed", "create demo", v1alpha1.OperationSucceeded, output.ExitUsage, "give --location"},
		"create, no wait":   {"the work goes on without the command", "create demo --location local --no-wait", v1alpha1.OperationSucceeded, output.ExitOK, "is being taken"},
		"drill":             {"what came back is said", "drill demo-nightly-abc123", v1alpha1.OperationSucceeded, output.ExitOK, "745 objects of 32 resources were served"},
		"drill, failed":     {"a backup that is no good is an error", "drill demo-nightly-abc123", v1alpha1.OperationFailed, output.ExitOperationFailed, "3 pods are missing"},
		"drill of nothing":  {"a misspelt name proves nothing", "drill demo-nightly-abc999", v1alpha1.OperationSucceeded, output.ExitNotFound, "cannot find backup"},
		"delete":            {"the file goes too", "delete demo-nightly-abc123", v1alpha1.OperationSucceeded, output.ExitOK, "is being deleted, its file too"},
		"location of what":  {"half a bucket is none", "location add offsite --endpoint https://s3.example.com", v1alpha1.OperationSucceeded, output.ExitUsage, "--bucket and --secret"},
		"location of both":  {"a directory and a bucket are two", "location add x --directory /var/backups --endpoint https://s3.example.com", v1alpha1.OperationSucceeded, output.ExitUsage, "give --directory, or"},
		"location of hosts": {"two disks are two places", "location add x --host cp1,cp2 --host-directory /root/backup", v1alpha1.OperationSucceeded, output.ExitUsage, "mount a share there and give --mounted"},
		"location on whom":  {"a directory is somewhere", "location add x --host-directory /root/backup", v1alpha1.OperationSucceeded, output.ExitUsage, "give --host and --host-directory"},
		"location of all":   {"a host and the server are two", "location add x --host cp1 --host-directory /root/backup --directory /srv/b", v1alpha1.OperationSucceeded, output.ExitUsage, "neither --directory nor a bucket"},
		"location help":     {"nobody learns it from the loss", "location add --help", v1alpha1.OperationSucceeded, output.ExitOK, "its backups are lost with the host"},
		"location in use":   {"backups would be lost", "location remove local", v1alpha1.OperationSucceeded, output.ExitRefused, "2 backups are kept in it"},
		"schedule when":     {"no time is guessed", "schedule add nightly demo --location local", v1alpha1.OperationSucceeded, output.ExitUsage, "--cron or --at"},
		"schedule twice":    {"to repeat or once", "schedule add nightly demo --location local --cron x --at y", v1alpha1.OperationSucceeded, output.ExitUsage, "not both"},
		"schedule nothing":  {"an edit that edits nothing is a mistake", "schedule edit nightly", v1alpha1.OperationSucceeded, output.ExitUsage, "--drill or --keep"},
		"schedule bad time": {"a time that is none", "schedule add nightly demo --location local --at tomorrow", v1alpha1.OperationSucceeded, output.ExitUsage, "write it like"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var made []client.Object
			b := outputtest.New(t, ends(t, tc.phase, &made), proven.DeepCopy(), taken("demo-manual-xyz789", func(*v1alpha1.Backup) {}),
				&v1alpha1.BackupLocation{ObjectMeta: metav1.ObjectMeta{Name: "local"}, Status: v1alpha1.BackupLocationStatus{Backups: 2}})
			code := b.Run(t.Context(), New(b.Deps), strings.Fields(tc.args)...)
			if out := b.Everything(); code != tc.code || !strings.Contains(out, tc.want) {
				t.Errorf("%s: exit code %d, want %d:\n%s", tc.reason, code, tc.code, out)
			}
			for _, o := range made {
				if op, ok := o.(*v1alpha1.Operation); ok && (op.Spec.Verb != v1alpha1.VerbDrill || op.Spec.Cluster != "demo" || op.Spec.Parameters.Backup != "demo-nightly-abc123") {
					t.Errorf("made %+v", op.Spec)
				}
			}
		})
	}
}

func TestList(t *testing.T) {
	b := outputtest.New(t, outputtest.Hooks{},
		taken("demo-a", func(*v1alpha1.Backup) {}),
		taken("demo-b", func(b *v1alpha1.Backup) {
			b.Status.Proven = &v1alpha1.BackupProof{At: metav1.NewTime(outputtest.Now().Add(-time.Hour))}
		}),
		taken("demo-c", func(b *v1alpha1.Backup) {
			b.Status.Proven = &v1alpha1.BackupProof{At: metav1.NewTime(outputtest.Now().Add(-time.Hour))}
			b.Status.Conditions = []metav1.Condition{{Type: v1alpha1.BackupProven, Status: metav1.ConditionFalse, Message: "3 pods are missing"}}
		}),
		taken("demo-d", func(b *v1alpha1.Backup) {
			b.Status = v1alpha1.BackupStatus{Phase: v1alpha1.BackupFailed, Message: "no route to host"}
		}),
		taken("other-a", func(b *v1alpha1.Backup) { b.Spec.Cluster = "other" }))
	if code := b.Run(t.Context(), New(b.Deps), "list", "--cluster", "demo"); code != output.ExitOK {
		t.Fatal(b.Everything())
	}
	var got [][]string
	for line := range strings.Lines(b.Out.String()) {
		f := strings.Fields(line)
		got = append(got, []string{f[0], f[3], strings.Join(f[7:], " ")})
	}
	want := [][]string{
		{"NAME", "PHASE", "PROVEN MESSAGE"}, {"demo-a", "Completed", "never -"}, {"demo-b", "Completed", "60m ago -"}, {"demo-c", "Completed", "FAILED 3 pods are missing"},
		{"demo-d", "Failed", "never no route to host"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the list (-want +got):\n%s", diff)
	}
}

// TestLocationOnHost: one whose backups are lost with a host is said to be, when it is added and in the list.
func TestLocationOnHost(t *testing.T) {
	usable := outputtest.Hooks{Created: func(ctx context.Context, server client.Client, o client.Object) {
		l := o.(*v1alpha1.BackupLocation)
		l.Status.Conditions = []metav1.Condition{{Type: v1alpha1.BackupLocationAvailable, Status: metav1.ConditionTrue, Reason: "Usable"}}
		if err := server.Status().Update(ctx, l); err != nil {
			t.Error(err)
		}
	}}
	const warning = "backups in it are on host cp1 alone, and lost with that host: for experiments with a single control plane only"
	for args, want := range map[string]struct {
		spec v1alpha1.HostDirectoryLocation
		warn bool
		// row is KIND, PLACE and MESSAGE of the list.
		row string
	}{
		"--host cp1 --host-directory /root/backup": {v1alpha1.HostDirectoryLocation{Hosts: []string{"cp1"}, Path: "/root/backup"}, true,
			"HostDirectory cp1:/root/backup lost with the host"},
		"--host cp1,cp2 --host-directory /mnt/b --mounted": {v1alpha1.HostDirectoryLocation{Hosts: []string{"cp1", "cp2"}, Path: "/mnt/b", Mounted: true}, false,
			"HostMount cp1,cp2:/mnt/b -"},
	} {
		b := outputtest.New(t, usable)
		code := b.Run(t.Context(), New(b.Deps), append([]string{"location", "add", "near"}, strings.Fields(args)...)...)
		if code != output.ExitOK || strings.Contains(b.ErrOut.String(), warning) != want.warn {
			t.Errorf("%s: exit code %d, want the warning %t:\n%s", args, code, want.warn, b.Everything())
		}
		var l v1alpha1.BackupLocation
		if err := b.Client.Get(t.Context(), client.ObjectKey{Name: "near"}, &l); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&want.spec, l.Spec.HostDirectory); diff != "" {
			t.Errorf("%s (-want +got):\n%s", args, diff)
		}
		if code := b.Run(t.Context(), New(b.Deps), "location", "list"); code != output.ExitOK {
			t.Fatal(b.Everything())
		}
		lines := strings.Split(strings.TrimSpace(b.Out.String()), "\n")
		f := strings.Fields(lines[len(lines)-1])
		if got := strings.Join(append(f[1:3], f[7:]...), " "); got != want.row {
			t.Errorf("%s: the list says %q, want %q", args, got, want.row)
		}
	}
}

// TestSchedule: an edit changes what it names and nothing else.
func TestSchedule(t *testing.T) {
	b := outputtest.New(t, outputtest.Hooks{})
	steps := []struct {
		args []string
		want v1alpha1.BackupScheduleSpec
	}{
		{[]string{"add", "nightly", "demo", "--location", "local", "--cron", "30 2 * * *", "--time-zone", "Asia/Shanghai", "--drill", "0 4 * * 0", "--keep", "3"},
			v1alpha1.BackupScheduleSpec{Cluster: "demo", Location: "local", Cron: "30 2 * * *", TimeZone: "Asia/Shanghai", Drill: "0 4 * * 0", Keep: 3}},
		{[]string{"edit", "nightly", "--keep", "5"},
			v1alpha1.BackupScheduleSpec{Cluster: "demo", Location: "local", Cron: "30 2 * * *", TimeZone: "Asia/Shanghai", Drill: "0 4 * * 0", Keep: 5}},
		{[]string{"edit", "nightly", "--drill", "never"},
			v1alpha1.BackupScheduleSpec{Cluster: "demo", Location: "local", Cron: "30 2 * * *", TimeZone: "Asia/Shanghai", Keep: 5}},
		{[]string{"disable", "nightly"},
			v1alpha1.BackupScheduleSpec{Cluster: "demo", Location: "local", Cron: "30 2 * * *", TimeZone: "Asia/Shanghai", Keep: 5, Enabled: new(bool)}},
	}
	for _, s := range steps {
		if code := b.Run(t.Context(), New(b.Deps), append([]string{"schedule"}, s.args...)...); code != output.ExitOK {
			t.Fatalf("%v: %s", s.args, b.Everything())
		}
		var got v1alpha1.BackupSchedule
		if err := b.Client.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: "nightly"}, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s.want, got.Spec); diff != "" {
			t.Errorf("%v (-want +got):\n%s", s.args, diff)
		}
	}
}
