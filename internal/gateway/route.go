package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"

	"slipway.dev/slipway/internal/access"
	"slipway.dev/slipway/internal/audit"
)

// ViaKey is the key of a person's extra values that says with what they came in, for the audit log.
const ViaKey = audit.ViaKey

// Route is one path that the port answers itself, with the rule that lets people in. There is no way to serve a
// path without a rule: NewRoutes refuses one that says nothing.
type Route struct {
	// Method and Path are a pattern of net/http; {project} and {name} are what the rule asks about.
	Method, Path string
	Rule         Rule
	// Verb names the route in the audit log; empty means that it is not recorded, which only reading may be.
	Verb string
	// Reads says of a request that it only reads, and so is not recorded. Nil means: none of them.
	Reads func(*http.Request) bool
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
	// Long ends what goes on without a right to it; nil ends nothing.
	Long *Long
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
			recordDenied(deps.Audit, r, apierrors.NewUnauthorized(notLoggedIn))
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
		var err error
		recorded := route.Verb != "" && (route.Reads == nil || !route.Reads(r))
		if recorded {
			record := sync.OnceFunc(func() { d.record(route, r, seen.code, err) })
			// What goes on after an upgrade may do so for hours.
			seen.upgraded = record
			// Deferred, since a proxy panics to break off an answer.
			defer record()
		}
		if who, known := userOf(r.Context()); known && route.Long {
			held, done := d.Long.hold(r, who, func(ctx context.Context, who user.Info) (bool, error) { return d.allowed(ctx, route, r, who) })
			defer done()
			r = held
		}
		if route.Rule.Open {
			r.Body = http.MaxBytesReader(w, r.Body, openBody)
		}
		if err = d.authorize(route, r); err == nil {
			err = route.Serve(seen, r)
		}
		switch {
		case errors.Is(context.Cause(r.Context()), cut{}):
			err = apierrors.NewUnauthorized(cut{}.Error())
			if seen.code != 0 {
				// An answer that just ended would look whole.
				panic(http.ErrAbortHandler)
			}
			d.refuse(seen, r, err)
		case err != nil && r.Context().Err() == nil:
			if !recorded {
				recordDenied(d.Audit, r, err)
			}
			d.refuse(seen, r, err)
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
	return d.allow(r.Context(), route, r, who)
}

func (d RouteDeps) allow(ctx context.Context, route Route, r *http.Request, who user.Info) error {
	if route.Rule.RBAC == nil {
		return nil
	}
	what := *route.Rule.RBAC
	what.Namespace, what.Name = r.PathValue("project"), r.PathValue("name")
	return d.Access.Authorize(ctx, who, what)
}

// allowed is allow for those who ask yes or no.
func (d RouteDeps) allowed(ctx context.Context, route Route, r *http.Request, who user.Info) (bool, error) {
	err := d.allow(ctx, route, r, who)
	if apierrors.IsForbidden(err) {
		return false, nil
	}
	return err == nil, err
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
	result := audit.ResultOf(code)
	switch {
	case code == 0 && err == nil:
		code = http.StatusOK
	case code == 0:
		result = audit.Failed // The client left before there was an answer.
	}
	event := audit.Event{Verb: route.Verb, From: ClientIP(r), Project: r.PathValue("project"), Object: objectOf(route, r), Code: code, Result: result}
	person(&event, r)
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
	// upgraded is called when the connection is handed over; nil calls nothing.
	upgraded func()
}

// Hijack hands over the connection, as http.ResponseController asks.
func (w *recording) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffer, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.code = http.StatusSwitchingProtocols
		if w.upgraded != nil {
			w.upgraded()
		}
	}
	return conn, buffer, err
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
