// Package own owns what the port answers to people about what is theirs: the projects they are in, and what is lent to
// a project. It must never answer with more than RBAC lets the person read, and changes nothing.
package own

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"k8s.io/apiserver/pkg/authentication/user"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/access"
	"slipway.dev/slipway/internal/auth"
	"slipway.dev/slipway/internal/gateway"
)

// Deps is what the routes work with.
type Deps struct {
	// Client reads from the API itself, as Slipway does: what was taken from a person is gone at once.
	Client client.Reader
	// Cache may be a moment behind; Hosts and Bundles are read from it, which are many.
	Cache  client.Reader
	Access *access.Authorizer
}

// asksAtOnce bounds how many questions to RBAC one request has open.
const asksAtOnce = 8

// Routes gives the routes of a person's projects and of what is lent to a project.
func Routes(deps Deps) []gateway.Route {
	grants := gateway.Rule{RBAC: &access.Attributes{Verb: "list", Resource: "grants"}}
	return []gateway.Route{
		{Method: "GET", Path: "/slipway/v1/projects", Rule: gateway.Rule{Self: true}, Serve: deps.serveProjects},
		{Method: "GET", Path: "/slipway/v1/projects/{project}/hosts", Rule: grants, Serve: deps.serveHosts},
		{Method: "GET", Path: "/slipway/v1/projects/{project}/bundles", Rule: grants, Serve: deps.serveBundles},
	}
}

func (d Deps) serveProjects(w http.ResponseWriter, r *http.Request) error {
	who, known := gateway.UserOf(r.Context())
	if !known {
		return fmt.Errorf("cannot list the projects of nobody") // The rule lets nobody in.
	}
	projects, err := d.projects(r.Context(), who)
	if err != nil {
		return err
	}
	return gateway.WriteJSON(w, projects)
}

// projects gives the projects that a person may get.
func (d Deps) projects(ctx context.Context, who user.Info) (*v1alpha1.ProjectList, error) {
	var all v1alpha1.ProjectList
	if err := d.Client.List(ctx, &all); err != nil {
		return nil, fmt.Errorf("cannot list projects: %w", err)
	}
	all.SetGroupVersionKind(v1alpha1.GroupVersion().WithKind("ProjectList"))
	scope := auth.ScopeOf(who)
	all.Items = slices.DeleteFunc(all.Items, func(p v1alpha1.Project) bool {
		return scope.Cluster != "" || len(scope.Projects) > 0 && !slices.Contains(scope.Projects, p.Name)
	})
	may, err := d.Access.Allowed(ctx, who, access.Attributes{Verb: "list", Resource: "projects"})
	if err == nil && !may {
		err = d.keepOwn(ctx, who, &all)
	}
	if err != nil {
		return nil, err
	}
	for i := range all.Items {
		all.Items[i].SetGroupVersionKind(v1alpha1.GroupVersion().WithKind("Project"))
		all.Items[i].SetManagedFields(nil)
	}
	slices.SortFunc(all.Items, func(a, b v1alpha1.Project) int { return strings.Compare(a.Name, b.Name) })
	return &all, nil
}

// keepOwn asks RBAC about each project, a few at a time.
func (d Deps) keepOwn(ctx context.Context, who user.Info, all *v1alpha1.ProjectList) error {
	var wait sync.WaitGroup
	slots := make(chan struct{}, asksAtOnce)
	mine, errs := make([]bool, len(all.Items)), make([]error, len(all.Items))
	for i := range all.Items {
		slots <- struct{}{}
		wait.Go(func() {
			mine[i], errs[i] = d.Access.Allowed(ctx, who, access.Attributes{Verb: "get", Resource: "projects", Name: all.Items[i].Name})
			<-slots
		})
	}
	wait.Wait()
	kept := []v1alpha1.Project{}
	for i, p := range all.Items {
		if errs[i] != nil {
			return errs[i]
		}
		if mine[i] {
			kept = append(kept, p)
		}
	}
	all.Items = kept
	return nil
}
