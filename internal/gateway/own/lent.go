package own

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/gateway"
	"slipway.dev/slipway/internal/grant"
)

// lent is one thing that is lent to a project, as the project sees it.
type lent struct {
	Name string `json:"name"`
	// Usable says that a new cluster could use it; otherwise Reason and Message say why not.
	Usable  bool   `json:"usable"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	Summary string `json:"summary,omitempty"`
	// The fields of a host.
	*v1alpha1.GrantedHost `json:",inline"`
	// The fields of a bundle.
	KubernetesVersion string   `json:"kubernetesVersion,omitempty"`
	Architectures     []string `json:"architectures,omitempty"`
}

type answer struct {
	Items []lent `json:"items"`
}

func lentOf(name string, v grant.View) lent {
	l := lent{Name: name, Usable: v.Usable(), Summary: v.Summary, GrantedHost: v.Host}
	if !l.Usable {
		l.Reason, l.Message = v.Reason, v.Message
	}
	return l
}

func (d Deps) serveHosts(w http.ResponseWriter, r *http.Request) error {
	project := r.PathValue("project")
	var all v1alpha1.HostList
	names, err := d.expand(r.Context(), project, v1alpha1.GrantHost, &all)
	if err != nil {
		return err
	}
	hosts := map[string]*v1alpha1.Host{}
	for i := range all.Items {
		hosts[all.Items[i].Name] = &all.Items[i]
	}
	out := answer{Items: []lent{}}
	for _, name := range names(slices.Collect(maps.Keys(hosts))) {
		out.Items = append(out.Items, lentOf(name, grant.Host(hosts[name], project)))
	}
	return gateway.WriteJSON(w, out)
}

func (d Deps) serveBundles(w http.ResponseWriter, r *http.Request) error {
	var all v1alpha1.BundleList
	names, err := d.expand(r.Context(), r.PathValue("project"), v1alpha1.GrantBundle, &all)
	if err != nil {
		return err
	}
	bundles := map[string]*v1alpha1.Bundle{}
	for i := range all.Items {
		bundles[all.Items[i].Name] = &all.Items[i]
	}
	out := answer{Items: []lent{}}
	for _, name := range names(slices.Collect(maps.Keys(bundles))) {
		l := lentOf(name, grant.Bundle(bundles[name]))
		if b := bundles[name]; b != nil {
			l.KubernetesVersion, l.Architectures = b.Status.KubernetesVersion, b.Status.Architectures
		}
		out.Items = append(out.Items, l)
	}
	return gateway.WriteJSON(w, out)
}

// expand reads all objects of a kind into list, and gives which of their names are lent to the project, with those
// lent that do not exist, in order.
func (d Deps) expand(ctx context.Context, project string, kind v1alpha1.GrantKind, list client.ObjectList) (func(existing []string) []string, error) {
	var grants v1alpha1.GrantList
	if err := d.Client.List(ctx, &grants, client.InNamespace(project)); err != nil {
		return nil, fmt.Errorf("cannot list the grants of project %s: %w", project, err)
	}
	if err := d.Cache.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("cannot list what is lent to project %s: %w", project, err)
	}
	return func(existing []string) []string {
		var names []string
		for _, g := range grants.Items {
			switch {
			case g.DeletionTimestamp != nil || g.Spec.Kind != kind:
			case g.Spec.Name == v1alpha1.GrantEverything:
				names = append(names, existing...)
			default:
				names = append(names, g.Spec.Name)
			}
		}
		slices.Sort(names)
		return slices.Compact(names)
	}, nil
}
