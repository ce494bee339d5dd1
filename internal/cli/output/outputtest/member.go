package outputtest

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

// AsMember makes the person at the terminal a member of the projects and no more: nothing outside of their namespaces
// can be read, and no list goes over all of them.
func (b *Bench) AsMember(t *testing.T, projects ...string) {
	t.Helper()
	inside := map[string]bool{}
	var list v1alpha1.ProjectList
	for _, name := range projects {
		inside[name] = true
		p := v1alpha1.Project{}
		p.Name = name
		list.Items = append(list.Items, p)
	}
	b.Mux.HandleFunc("GET /slipway/v1/projects", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(list); err != nil {
			t.Error(err)
		}
	})
	refuse := func(namespace string) error {
		if inside[namespace] {
			return nil
		}
		return apierrors.NewForbidden(v1alpha1.GroupVersion().WithResource("things").GroupResource(), "", nil)
	}
	of := func(options []client.ListOption) string {
		var o client.ListOptions
		o.ApplyOptions(options)
		return o.Namespace
	}
	connect := b.Deps.Connect
	b.Deps.Connect = func(project string) (*output.Connection, error) {
		connection, err := connect(project)
		if err != nil {
			return nil, err
		}
		connection.Client = interceptor.NewClient(connection.Client, interceptor.Funcs{
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
				if err := refuse(key.Namespace); err != nil {
					return err
				}
				return c.Get(ctx, key, o, options...)
			},
			List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
				if err := refuse(of(options)); err != nil {
					return err
				}
				return c.List(ctx, list, options...)
			},
			Watch: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) (watch.Interface, error) {
				if err := refuse(of(options)); err != nil {
					return nil, err
				}
				return c.Watch(ctx, list, options...)
			},
		})
		return connection, nil
	}
}
