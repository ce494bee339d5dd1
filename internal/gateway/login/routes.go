package login

import (
	"encoding/json"
	"io"
	"log/slog"
	"mime"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/internal/access"
	"slipway.dev/slipway/internal/auth"
	"slipway.dev/slipway/internal/gateway"
)

// maxBody is the largest body that these routes read.
const maxBody = 16 << 10

// Deps is what the routes work with.
type Deps struct {
	// Client acts as Slipway itself, past every cache.
	Client   client.Client
	Accounts *auth.Accounts
	Sessions *auth.Sessions
	Tokens   *auth.Tokens
	Setup    *auth.Setup
	// CA gives in PEM the certificates that clients must trust.
	CA func() []byte
	// Log receives why a login with the directory failed; nil means silence.
	Log *slog.Logger
}

type handler struct{ Deps }

// Routes gives the routes, those of the directory among them.
func Routes(d Deps) []gateway.Route {
	h := handler{d}
	open, self := gateway.Rule{Open: true}, gateway.Rule{Self: true}
	setPassword := gateway.Rule{RBAC: &access.Attributes{Verb: "create", Resource: "users", Subresource: "password"}}
	routes := []gateway.Route{
		{Method: "GET", Path: "/slipway/setup", Rule: open, Serve: h.setupPage},
		{Method: "GET", Path: "/slipway/login", Rule: open, Serve: h.loginPage},
		{Method: "GET", Path: "/slipway/login.js", Rule: open, Serve: asset("login.js", "text/javascript; charset=utf-8")},
		{Method: "GET", Path: "/slipway/login.css", Rule: open, Serve: asset("login.css", "text/css; charset=utf-8")},

		{Method: "GET", Path: "/slipway/ca.crt", Rule: open, Serve: h.authority},

		{Method: "POST", Path: "/slipway/v1/setup", Rule: open, Verb: "setup", Serve: h.setUp},
		{Method: "POST", Path: "/slipway/v1/login", Rule: open, Verb: "login", Serve: h.whenSetUp(h.login)},
		{Method: "POST", Path: "/slipway/v1/logout", Rule: self, Verb: "logout", Serve: h.logout},

		{Method: "GET", Path: "/slipway/v1/me", Rule: self, Serve: h.me},
		{Method: "POST", Path: "/slipway/v1/me/password", Rule: self, Verb: "change-password", Serve: h.changePassword},
		{Method: "GET", Path: "/slipway/v1/me/sessions", Rule: self, Serve: h.listSessions},
		{Method: "DELETE", Path: "/slipway/v1/me/sessions/{name}", Rule: self, Verb: "end-session", Serve: h.endSession},
		{Method: "GET", Path: "/slipway/v1/me/tokens", Rule: self, Serve: h.listTokens},
		{Method: "POST", Path: "/slipway/v1/me/tokens", Rule: self, Verb: "create-token", Serve: h.createToken},
		{Method: "DELETE", Path: "/slipway/v1/me/tokens/{name}", Rule: self, Verb: "revoke-token", Serve: h.revokeToken},

		{Method: "POST", Path: "/slipway/v1/users/{name}/password", Rule: setPassword, Verb: "set-password", Serve: h.setPassword},
	}
	for _, route := range OIDCRoutes(OIDCDeps{Client: d.Client, Sessions: d.Sessions, Tokens: d.Tokens, Log: d.Log}) {
		route.Serve = h.whenSetUp(route.Serve)
		routes = append(routes, route)
	}
	return routes
}

// authority gives what a client must trust. A client that does not know it yet compares its fingerprint first.
func (h handler) authority(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/x-pem-file")
	_, err := w.Write(h.CA())
	return err
}

// whenSetUp lets nobody log in before the first run is over.
func (h handler) whenSetUp(serve func(http.ResponseWriter, *http.Request) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		needed, err := h.Setup.Needed(r.Context())
		if err != nil {
			return err
		}
		if needed {
			return apierrors.NewServiceUnavailable("this server is not set up yet: open the link that it printed at its start")
		}
		return serve(w, r)
	}
}

// read decodes a body. It wants the type JSON, which a form of another page cannot send.
func read(w http.ResponseWriter, r *http.Request, into any) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return apierrors.NewBadRequest("send a JSON object, with Content-Type: application/json")
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	// The parser's message may quote a password.
	if err := decoder.Decode(into); err != nil {
		return apierrors.NewBadRequest("cannot read the body: it must be a JSON object with the fields of this route only")
	}
	if _, err := decoder.Token(); err != io.EOF {
		return apierrors.NewBadRequest("cannot read the body: it must be one JSON object")
	}
	return nil
}

// foreign refuses a request that a page of another server made a browser send.
func foreign(r *http.Request) error {
	if len(r.Header.Values("Origin")) > 0 && !auth.SameOrigin(r) {
		return apierrors.NewBadRequest("this request comes from a page of another server")
	}
	return nil
}

// nothing answers that what was asked for is done.
func nothing(w http.ResponseWriter) error {
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
	return nil
}
