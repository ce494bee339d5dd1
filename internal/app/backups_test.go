package app

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	fakehost "slipway.dev/slipway/internal/host/fake"
)

// TestHostDirectories: the store of a location on a host changes the host with the right of the cluster that holds it, and not
// without.
func TestHostDirectories(t *testing.T) {
	cases := map[string]struct {
		reason  string
		objects []client.Object
		// put and remove are the reasons of what they give, "" for success.
		put, remove string
		missing     bool
	}{
		"held":    {"the cluster's epoch is the right to change it", []client.Object{aHost("cp1"), aClaim("cp1", 4)}, "", "", false},
		"free":    {"no cluster holds it, and nothing is changed on it", []client.Object{aHost("cp1")}, "HostFree", "HostFree", false},
		"new":     {"its cluster is not there yet", []client.Object{aHost("cp1"), aClaim("cp1", 0)}, "HostFree", "HostFree", false},
		"removed": {"what it kept is lost with it, and its backups can be deleted", nil, "HostGone", "", true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			scheme := runtime.NewScheme()
			if err := v1alpha1.AddToScheme(scheme); err != nil {
				t.Fatal(err)
			}
			location := &v1alpha1.BackupLocation{ObjectMeta: metav1.ObjectMeta{Name: "near"},
				Spec: v1alpha1.BackupLocationSpec{HostDirectory: &v1alpha1.HostDirectoryLocation{Hosts: []string{"cp1"}, Path: "/root/backup"}}}
			h := fakehost.New("cp1", v1alpha1.HostFacts{})
			h.Do(func(s *fakehost.State) {
				if err := s.WriteFile("/root/backup/demo-manual-old1", []byte("x"), 0o600); err != nil {
					t.Fatal(err)
				}
			})
			store, err := stores(fake.NewClientBuilder().WithScheme(scheme).WithObjects(append(c.objects, location)...).Build(), fakehost.Sessions{"cp1": h}, "home")(t.Context(), "near")
			if err != nil {
				t.Fatal(err)
			}
			reason := func(err error) string {
				if err == nil {
					return ""
				}
				return fault.ReasonOf(err)
			}
			if _, err := store.Put(t.Context(), "demo-manual-new1", strings.NewReader("x")); reason(err) != c.put {
				t.Errorf("%s: put gives %v", c.reason, err)
			}
			r, err := store.Get(t.Context(), "demo-manual-old1")
			if errors.Is(err, fs.ErrNotExist) != c.missing {
				t.Errorf("%s: get gives %v", c.reason, err)
			}
			if err == nil {
				err = r.Close()
			}
			if err := store.Remove(t.Context(), "demo-manual-old1"); reason(err) != c.remove {
				t.Errorf("%s: remove gives %v", c.reason, err)
			}
			if wrote := h.Writes() > 0; wrote != (name == "held") {
				t.Errorf("%s: the host was written to: %t", c.reason, wrote)
			}
		})
	}
}

func aHost(name string) *v1alpha1.Host {
	return &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

func aClaim(name string, epoch int64) *v1alpha1.HostClaim {
	return &v1alpha1.HostClaim{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.HostClaimSpec{Namespace: "dev", Cluster: "demo", Epoch: epoch}}
}
