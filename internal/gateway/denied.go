package gateway

import (
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"slipway.dev/slipway/internal/audit"
)

// recordDenied writes a line about a request that was refused before anything recorded it: nobody is sent away without
// a trace. Other errors than a refusal are not recorded. The query of the path may hold a secret, and stays out.
func recordDenied(to audit.Recorder, r *http.Request, err error) {
	event := audit.Event{Verb: strings.ToLower(r.Method), Object: r.URL.Path, Project: r.PathValue("project"), From: ClientIP(r), Result: audit.Refused,
		Reason: string(apierrors.ReasonForError(err))}
	switch {
	case apierrors.IsUnauthorized(err):
		event.Code = http.StatusUnauthorized
	case apierrors.IsForbidden(err):
		event.Code = http.StatusForbidden
	default:
		return
	}
	person(&event, r)
	to.Record(event)
}

// person says in an event whose request it is.
func person(event *audit.Event, r *http.Request) {
	who, known := userOf(r.Context())
	if !known {
		return
	}
	event.Actor = who.GetName()
	if via := who.GetExtra()[ViaKey]; len(via) > 0 {
		event.Via = via[0]
	}
}

// objectOf gives what a route is about: RESOURCE[/SUBRESOURCE] [PROJECT/]NAME when its rule says the resource.
func objectOf(route Route, r *http.Request) string {
	project, name := r.PathValue("project"), r.PathValue("name")
	if project != "" && name != "" {
		project += "/"
	}
	object := project + name
	if rule := route.Rule.RBAC; rule != nil {
		resource := rule.Resource
		if rule.Subresource != "" {
			resource += "/" + rule.Subresource
		}
		object = strings.TrimSpace(resource + " " + object)
	}
	return object
}
