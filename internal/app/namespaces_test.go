package app

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

// TestNamespacesOfProjectsStay: not even the administrator of the server can delete the namespace of a project, which
// would leave its hosts held by clusters that are gone. With the Project it goes.
func TestNamespacesOfProjectsStay(t *testing.T) {
	i := install(t, ServerOptions{DataDir: t.TempDir(), Version: "1.0.0"})
	project := &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: "dev"}}
	loose := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "loose"}}
	for _, o := range []client.Object{project, loose} {
		if err := i.client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	namespace := func(name string) *corev1.Namespace {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	}
	i.eventually(t, "the project has its namespace", func(ctx context.Context) (bool, error) {
		n := namespace("dev")
		err := i.client.Get(ctx, client.ObjectKeyFromObject(n), n)
		return n.Labels[v1alpha1.LabelProject] == "dev", client.IgnoreNotFound(err)
	})
	for name, refused := range map[string]string{"dev": "delete the Project instead", v1alpha1.SystemNamespace: "holds the keys of every cluster"} {
		err := i.client.Delete(t.Context(), namespace(name))
		if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), refused) {
			t.Errorf("namespace %s: %v, want it refused with %q", name, err, refused)
		}
	}
	if err := i.client.Delete(t.Context(), loose); err != nil {
		t.Errorf("a namespace of nobody: %v", err)
	}
	if err := i.client.Delete(t.Context(), project); err != nil {
		t.Fatal(err)
	}
	i.eventually(t, "the namespace goes with the Project", func(ctx context.Context) (bool, error) {
		err := i.client.Get(ctx, client.ObjectKey{Name: "dev"}, namespace("dev"))
		return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
	})
	// What has lost its Project some other way, such as in a backup that was restored in part.
	orphan := namespace("orphan")
	orphan.Labels = map[string]string{v1alpha1.LabelProject: "orphan"}
	if err := i.client.Create(t.Context(), orphan); err != nil {
		t.Fatal(err)
	}
	if err := i.client.Delete(t.Context(), orphan.DeepCopy()); !apierrors.IsForbidden(err) {
		t.Errorf("a namespace that says it is a project's: %v", err)
	}
	orphan.Labels = nil
	if err := i.client.Update(t.Context(), orphan); err != nil {
		t.Fatal(err)
	}
	if err := i.client.Delete(t.Context(), orphan); err != nil {
		t.Errorf("a namespace whose label the administrator took off: %v", err)
	}
}
