package own

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/access"
	"slipway.dev/slipway/internal/gateway"
)

// Lists answers `kubectl get projects` of a person who may not list all projects with those of their own. It says
// whether it has answered; every other request is for the API server.
func Lists(deps Deps) func(http.ResponseWriter, *http.Request) bool {
	path := "/apis/" + v1alpha1.GroupVersion().String() + "/projects"
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || r.URL.Path != path {
			return false
		}
		query := r.URL.Query()
		for _, key := range []string{"watch", "labelSelector", "fieldSelector", "continue"} {
			if query.Has(key) {
				return false // The API server refuses these with its own words.
			}
		}
		who, known := gateway.UserOf(r.Context())
		if !known {
			return false
		}
		all, err := deps.Access.Allowed(r.Context(), who, access.Attributes{Verb: "list", Resource: "projects"})
		if err != nil || all {
			return false
		}
		list, err := deps.projects(r.Context(), who)
		if err != nil {
			return false
		}
		var answer any = list
		if strings.Contains(r.Header.Get("Accept"), "as=Table") {
			if answer, err = table(list, time.Now()); err != nil {
				return false
			}
		}
		// The status is sent; a client that has gone meanwhile is its own business.
		_ = gateway.WriteJSON(w, answer)
		return true
	}
}

// table is what the API server would print of the list: the columns of the kind's definition.
func table(list *v1alpha1.ProjectList, now time.Time) (*metav1.Table, error) {
	t := &metav1.Table{
		TypeMeta: metav1.TypeMeta{APIVersion: metav1.SchemeGroupVersion.String(), Kind: "Table"}, ListMeta: list.ListMeta,
		ColumnDefinitions: []metav1.TableColumnDefinition{
			{Name: "Name", Type: "string", Format: "name"}, {Name: "Display name", Type: "string"},
			{Name: "Ready", Type: "string"}, {Name: "Clusters", Type: "integer"}, {Name: "Age", Type: "string"},
		},
		Rows: []metav1.TableRow{},
	}
	for _, p := range list.Items {
		ready := ""
		if c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ProjectReady); c != nil {
			ready = string(c.Status)
		}
		object, err := json.Marshal(&metav1.PartialObjectMetadata{
			TypeMeta: metav1.TypeMeta{APIVersion: metav1.SchemeGroupVersion.String(), Kind: "PartialObjectMetadata"}, ObjectMeta: p.ObjectMeta,
		})
		if err != nil {
			return nil, fmt.Errorf("cannot print project %s: %w", p.Name, err)
		}
		t.Rows = append(t.Rows, metav1.TableRow{
			Cells:  []any{p.Name, p.Spec.DisplayName, ready, p.Status.Clusters, duration.HumanDuration(now.Sub(p.CreationTimestamp.Time))},
			Object: runtime.RawExtension{Raw: object},
		})
	}
	return t, nil
}
