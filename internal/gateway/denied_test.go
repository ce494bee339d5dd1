package gateway

import (
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/internal/audit"
)

type events struct {
	mu  sync.Mutex
	all []audit.Event
}

func (e *events) Record(event audit.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, event)
}

func (e *events) take() []audit.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	defer func() { e.all = nil }()
	return slices.Clone(e.all)
}

// TestDenied holds that who is sent away by the gateway itself leaves a line, and who is let through leaves none here:
// the API server, or the route, has its own.
func TestDenied(t *testing.T) {
	recorder := &events{}
	ok := func(w http.ResponseWriter, _ *http.Request) error { return WriteJSON(w, struct{}{}) }
	routes, err := NewRoutes(RouteDeps{Audit: recorder},
		Route{Method: "GET", Path: "/slipway/v1/me", Rule: Rule{Self: true}, Serve: ok},
		Route{Method: "POST", Path: "/slipway/v1/me/tokens", Rule: Rule{Self: true}, Verb: "create-token", Serve: ok})
	if err != nil {
		t.Fatal(err)
	}
	server := front(t, Config{Upstream: newUpstream(t, nil).config(), Routes: routes, Audit: recorder})
	refused := func(verb, object string) []audit.Event {
		return []audit.Event{{Verb: verb, Object: object, From: "127.0.0.1", Code: 401, Result: audit.Refused, Reason: "Unauthorized"}}
	}
	for name, tc := range map[string]struct {
		reason                string
		method, token, target string
		want                  []audit.Event
	}{
		"API":       {"nobody reads the API", "GET", "", "/api/v1/secrets?token=hunter2", refused("get", "/api/v1/secrets")},
		"BadToken":  {"a wrong token is nobody", "DELETE", "nope", "/apis/slipway.dev/v1alpha1/hosts/w1", refused("delete", "/apis/slipway.dev/v1alpha1/hosts/w1")},
		"Route":     {"a route that is not recorded when it reads", "GET", "", "/slipway/v1/me", refused("get", "/slipway/v1/me")},
		"Recorded":  {"one that is recorded has one line", "POST", "", "/slipway/v1/me/tokens", refused("create-token", "")},
		"NoRoute":   {"a path that is none", "GET", "", "/slipway/v1/nothing", refused("get", "/slipway/v1/nothing")},
		"Let in":    {"who is let in is recorded behind the gateway", "GET", "alice-token", "/api/v1/secrets", nil},
		"Read":      {"reading a route leaves no line", "GET", "alice-token", "/slipway/v1/me", nil},
		"Not found": {"not found is no refusal", "GET", "alice-token", "/slipway/v1/nothing", nil},
		"Livez":     {"probes leave no line", "GET", "", "/livez", nil},
	} {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), tc.method, server.URL+tc.target, nil)
			if err != nil {
				t.Fatal(err)
			}
			if tc.token != "" {
				request.Header.Set("Authorization", "Bearer "+tc.token)
			}
			response, err := server.Client().Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if diff := cmp.Diff(tc.want, recorder.take()); diff != "" {
				t.Errorf("%s: -want +got\n%s", tc.reason, diff)
			}
		})
	}
}
