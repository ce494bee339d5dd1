package backuplocation

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/backup"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
)

// TestLocation: it is tried, counted, and held for as long as a backup is in it.
func TestLocation(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	kept := &v1alpha1.Backup{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: "demo-manual-abc123"}, Spec: v1alpha1.BackupSpec{Cluster: "demo", Location: "local"},
		Status: v1alpha1.BackupStatus{File: &v1alpha1.BackupFile{Bytes: 7}}}
	c := clientfake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1alpha1.BackupLocation{}).WithIndex(&v1alpha1.Backup{}, indexLocation, location).
		WithObjects(kept, &v1alpha1.BackupLocation{ObjectMeta: metav1.ObjectMeta{Name: "local", Generation: 1}}).Build()
	tries, problem := 0, error(nil)
	r := New(Deps{Client: c, Stores: func(context.Context, string) (backup.Store, error) {
		tries++
		return backup.NewDirectory(t.TempDir() + "/backups"), problem
	}})
	look := func() *v1alpha1.BackupLocation {
		t.Helper()
		key := client.ObjectKey{Name: "local"}
		if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: key}); err != nil {
			t.Fatal(err)
		}
		var l v1alpha1.BackupLocation
		if err := c.Get(t.Context(), key, &l); client.IgnoreNotFound(err) != nil {
			t.Fatal(err)
		}
		return &l
	}
	look()
	l := look()
	if !meta.IsStatusConditionTrue(l.Status.Conditions, v1alpha1.BackupLocationAvailable) || l.Status.Backups != 1 || l.Status.Bytes != 7 || tries != 1 {
		t.Errorf("a good location is %+v after %d tries", l.Status, tries)
	}
	l.Spec.HostDirectory, l.Generation = &v1alpha1.HostDirectoryLocation{Hosts: []string{"cp1"}, Path: "/root/backup"}, 3
	if err := c.Update(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	problem = fault.NewTransient(host.ReasonBusy, errors.New("a command runs"))
	before := l.Status
	if l = look(); !cmp.Equal(before, l.Status) {
		t.Errorf("a host that is busy just now says of the location %+v", l.Status)
	}
	problem = nil
	l = look()
	if got := meta.FindStatusCondition(l.Status.Conditions, v1alpha1.BackupLocationAvailable); got.Status != metav1.ConditionTrue || !strings.Contains(got.Message, "lost with it: for experiments") {
		t.Errorf("a location on one host says %+v", got)
	}
	problem = fault.NewTerminal("NotMounted", "mount it", errors.New("the share is away"))
	l.Generation = 4
	if err := c.Update(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	l = look()
	if got := meta.FindStatusCondition(l.Status.Conditions, v1alpha1.BackupLocationAvailable); got.Reason != "NotMounted" || got.Message != "the share is away; mount it" {
		t.Errorf("a changed location that is away says %+v", got)
	}
	if err := c.Delete(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	if look().Name == "" {
		t.Error("a location went while a backup was in it")
	}
	if err := c.Delete(t.Context(), kept); err != nil {
		t.Fatal(err)
	}
	if look().Name != "" {
		t.Error("a deleted location stays when the last backup has gone")
	}
}
