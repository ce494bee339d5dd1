package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/internal/access"
	"slipway.dev/slipway/internal/audit"
)

// ViaKey is the key of a person's extra values that says with what they came in, for the audit log.
const ViaKey = "slipway.dev/via"

// Route is one path that the port answers itself, with the rule that lets people in. There is no way to serve a
// path without a rule: NewRoutes refuses one that says nothing.
type Route struct {
	// Method and Path are a pattern of net/http; {project} and {name} are what the rule asks about.
	Method, Path string
	Rule         Rule
	// Verb names the route in the audit log; empty means that it is not recorded, which only reading may be.
	Verb string
	// Long says that an answer may go on without an end: it is cut when the person's rights end.
	Long bool
	// Serve answers. An error becomes a Status, as the API server gives it.
	Serve func(http.ResponseWriter, *http.Request) error
}

// Rule says who may use a route. Exactly one of its parts is set.
type Rule struct {
	// Open lets anyone in, before login: such a route proves who someone is by itself, and is limited in rate.
	Open bool
	// Self lets every person in who is logged in; such a route speaks of that person alone.
	Self bool
	// RBAC asks RBAC, about the namespace {project} and the name {name} of the path.
	RBAC *access.Attributes
}

// String gives the rule for the table of routes.
func (r Rule) String() string {
	switch {
	case r.Open:
		return "anyone"
	case r.Self:
		return "the person"
	default:
		resource := r.RBAC.Resource
		if r.RBAC.Subresource != "" {
			resource += "/" + r.RBAC.Subresource
		}
		return r.RBAC.Verb + " " + resource
	}
}

func (r Rule) valid() bool {
	parts := 0
	for _, set := range []bool{r.Open, r.Self, r.RBAC != nil} {
		if set {
			parts++
		}
	}
	return parts == 1
}

const notLoggedIn = "log in: this request has no valid credential"

// RouteDeps is what the routes' common part works with.
type RouteDeps struct {
	Access *access.Authorizer
	Audit  audit.Recorder
	// Log receives what goes wrong inside; nil means silence.
	Log *slog.Logger
}

// NewRoutes gives the handler of all routes. It fails when one has no rule, or when two say the same path.
func NewRoutes(deps RouteDeps, routes ...Route) (_ http.Handler, err error) {
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	mux := http.NewServeMux()
	defer func() {
		// ServeMux panics on a pattern that is wrong or taken.
		if p := recover(); p != nil {
			err = fmt.Errorf("cannot serve routes: %v", p)
		}
	}()
	for _, route := range routes {
		if !route.Rule.valid() || route.Method == "" || route.Serve == nil {
			return nil, fmt.Errorf("cannot serve %s %s: it needs a method, a handler and exactly one rule", route.Method, route.Path)
		}
		mux.Handle(route.Method+" "+route.Path, deps.handler(route))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if _, known := userOf(r.Context()); !known {
			refuse(w, metav1.StatusReasonUnauthorized, http.StatusUnauthorized, notLoggedIn)
			return
		}
		refuse(w, metav1.StatusReasonNotFound, http.StatusNotFound, "there is nothing at "+r.URL.Path)
	})
	return mux, nil
}

func (d RouteDeps) handler(route Route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := &recording{ResponseWriter: w}
		r = r.WithContext(withNotes(r.Context()))
		err := d.authorize(route, r)
		if err == nil {
			err = route.Serve(seen, r)
		}
		if err != nil && r.Context().Err() == nil {
			d.refuse(seen, r, err)
		}
		if route.Verb != "" {
			d.record(route, r, seen.code, err)
		}
	})
}

func (d RouteDeps) authorize(route Route, r *http.Request) error {
	if route.Rule.Open {
		return nil
	}
	who, known := userOf(r.Context())
	if !known {
		return apierrors.NewUnauthorized(notLoggedIn)
	}
	if route.Rule.Self {
		return nil
	}
	what := *route.Rule.RBAC
	what.Namespace, what.Name = r.PathValue("project"), r.PathValue("name")
	return d.Access.Authorize(r.Context(), who, what)
}

// refuse answers with a Status; what is not meant for people goes to the log only.
func (d RouteDeps) refuse(w *recording, r *http.Request, err error) {
	if w.code != 0 {
		d.Log.ErrorContext(r.Context(), "cannot finish an answer", "path", r.URL.Path, "err", err)
		return
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		d.Log.ErrorContext(r.Context(), "cannot answer", "path", r.URL.Path, "err", err)
		status = apierrors.NewInternalError(errors.New("the server's log says why"))
	}
	s := status.Status()
	if s.Code == http.StatusTooManyRequests && s.Details != nil && s.Details.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", fmt.Sprint(s.Details.RetryAfterSeconds))
	}
	refuse(w, s.Reason, s.Code, s.Message)
}

func (d RouteDeps) record(route Route, r *http.Request, code int, err error) {
	if code == 0 {
		code = http.StatusOK
	}
	event := audit.Event{Verb: route.Verb, From: ClientIP(r), Project: r.PathValue("project"), Object: objectOf(r), Code: code, Result: audit.ResultOf(code)}
	if who, known := userOf(r.Context()); known {
		event.Actor = who.GetName()
		if via := who.GetExtra()[ViaKey]; len(via) > 0 {
			event.Via = via[0]
		}
	}
	if err != nil && event.Result != audit.Allowed {
		event.Reason = string(apierrors.ReasonForError(err))
	}
	if noted := notesOf(r.Context()); noted != nil {
		noted.mu.Lock()
		defer noted.mu.Unlock()
		if noted.actor != "" {
			event.Actor = noted.actor
		}
		event.Detail = noted.detail
	}
	d.Audit.Record(event)
}

func objectOf(r *http.Request) string {
	project, name := r.PathValue("project"), r.PathValue("name")
	switch {
	case project != "" && name != "":
		return project + "/" + name
	default:
		return project + name
	}
}

// ClientIP gives the address a request came from, without port.
func ClientIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// WriteJSON answers 200 with an object, and no cache may keep it.
func WriteJSON(w http.ResponseWriter, object any) error {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(object)
}

// recording remembers the status of an answer.
type recording struct {
	http.ResponseWriter
	code int
}

// WriteHeader notes the status.
func (w *recording) WriteHeader(code int) {
	if w.code == 0 || w.code < http.StatusOK {
		w.code = code
	}
	w.ResponseWriter.WriteHeader(code)
}

// Write notes that an answer without a status is 200.
func (w *recording) Write(b []byte) (int, error) {
	if w.code == 0 {
		w.code = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *recording) Unwrap() http.ResponseWriter { return w.ResponseWriter }
