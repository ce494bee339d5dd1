package project

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

// AnnotationProjects is on namespace slipway-system when every namespace of the time before Projects has its Project.
const AnnotationProjects = "slipway.dev/projects"

// First makes the Projects that a server needs before it plans anything: the default one where there is none, and, in
// a store from the time before Projects, one for each namespace with clusters. Everything is lent to those it makes.
// It must run after the namespaces of the platform exist and before the controllers start. A Project is made after its
// Grants, so one that exists never gets Grants back that an administrator took away.
func First(ctx context.Context, c client.Client, log *slog.Logger) error {
	var system corev1.Namespace
	if err := c.Get(ctx, client.ObjectKey{Name: v1alpha1.SystemNamespace}, &system); err != nil {
		return fmt.Errorf("cannot read namespace %s: %w", v1alpha1.SystemNamespace, err)
	}
	var projects v1alpha1.ProjectList
	if err := c.List(ctx, &projects); err != nil {
		return fmt.Errorf("cannot list projects: %w", err)
	}
	missing, err := missing(ctx, c, projects.Items, system.Annotations[AnnotationProjects] == "")
	if err != nil {
		return err
	}
	for _, name := range missing {
		err := lendEverything(ctx, c, name)
		if err == nil {
			err = ensure(ctx, c, &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: name}})
		}
		switch {
		case apierrors.IsInvalid(err):
			// The server must start all the same.
			log.Warn("a namespace with clusters cannot be a project: nobody but system administrators can work in it", "namespace", name, "error", err)
		case err != nil:
			return fmt.Errorf("cannot make project %s: %w", name, err)
		}
	}
	if system.Annotations[AnnotationProjects] != "" {
		return nil
	}
	before := system.DeepCopy()
	metav1.SetMetaDataAnnotation(&system.ObjectMeta, AnnotationProjects, "made")
	if err := c.Patch(ctx, &system, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("cannot note that the projects are made: %w", err)
	}
	return nil
}

// missing names the Projects to make.
func missing(ctx context.Context, c client.Client, have []v1alpha1.Project, fromBefore bool) ([]string, error) {
	wanted := map[string]bool{v1alpha1.DefaultProject: fromBefore || len(have) == 0}
	if fromBefore {
		var clusters v1alpha1.ClusterList
		if err := c.List(ctx, &clusters); err != nil {
			return nil, fmt.Errorf("cannot list clusters: %w", err)
		}
		for _, c := range clusters.Items {
			wanted[c.Namespace] = true
		}
	}
	for _, p := range have {
		wanted[p.Name] = false
	}
	maps.DeleteFunc(wanted, func(_ string, is bool) bool { return !is })
	return slices.Sorted(maps.Keys(wanted)), nil
}

// lendEverything makes the two Grants of a project for which nothing is decided yet.
func lendEverything(ctx context.Context, c client.Client, project string) error {
	for name, kind := range map[string]v1alpha1.GrantKind{"hosts-all": v1alpha1.GrantHost, "bundles-all": v1alpha1.GrantBundle} {
		g := &v1alpha1.Grant{
			ObjectMeta: metav1.ObjectMeta{Namespace: project, Name: name},
			Spec:       v1alpha1.GrantSpec{Kind: kind, Name: v1alpha1.GrantEverything},
		}
		if err := ensure(ctx, c, g); err != nil {
			return fmt.Errorf("cannot lend every %s: %w", kind, err)
		}
	}
	return nil
}

// ensure makes an object, or leaves one that differs as it is. It is applied, since the API server lets whoever creates an
// object of a kind that is new wait for two seconds: a server would start that much later.
func ensure(ctx context.Context, c client.Client, o client.Object) error {
	gvk, err := c.GroupVersionKindFor(o)
	if err != nil {
		return err
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return err
	}
	u := &unstructured.Unstructured{Object: content}
	u.SetGroupVersionKind(gvk)
	err = c.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner("slipway"))
	if apierrors.IsConflict(err) {
		return nil
	}
	return err
}
