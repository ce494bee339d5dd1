package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"

	"slipway.dev/slipway/internal/audit"
	"slipway.dev/slipway/internal/auth"
)

const (
	// maxBody is the largest body of a request that is not an upgrade.
	maxBody = 8 << 20
	// bodyTime is how long a client may take to send its body.
	bodyTime = 2 * time.Minute
)

// Authenticator says who a request is from. It gives false when the request's credentials are not of its kind
// or not valid, and an error only when it could not find out.
type Authenticator interface {
	Authenticate(*http.Request) (user.Info, bool, error)
}

// Config says what stands behind the port.
type Config struct {
	// Upstream is how to reach the loopback API server, with a credential that may impersonate anyone.
	Upstream *rest.Config
	// Authenticators are asked in turn; the first that knows the request wins.
	Authenticators []Authenticator
	// Checks are what /readyz asks, by name; all must give nil for the server to be ready.
	Checks map[string]func(context.Context) error
	// Routes serves /slipway/: what the API cannot carry as objects. Each route has its rule; see NewRoutes.
	Routes http.Handler
	// Long ends what goes on without a right to it; nil ends nothing. It must be that of the routes.
	Long *Long
	// Lists answers a list of the API for a person who may see a part of it only, and says whether it did; nil never does.
	Lists func(http.ResponseWriter, *http.Request) bool
	// Registry serves /v2/ when set. It does its own authorization: the gateway asks no one.
	Registry http.Handler
	// Audit records whom the gateway sends away; nil records nothing.
	Audit audit.Recorder
	// Logger receives what goes wrong behind the port. Nil means silence.
	Logger *slog.Logger
}

// gateway is the handler of the port.
type gateway struct {
	Config
	proxy  http.Handler
	ready  *readiness
	limits *limits
}

// NewHandler gives the handler of the port. Every path but /livez, /readyz and /v2/ needs a user. It fails
// when the upstream's configuration cannot be used.
func NewHandler(config Config) (http.Handler, error) {
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Audit == nil {
		config.Audit = audit.Discard{}
	}
	proxy, err := newProxy(config.Upstream, config.Logger)
	if err != nil {
		return nil, err
	}
	return &gateway{Config: config, proxy: proxy, ready: newReadiness(config.Checks, config.Logger), limits: newLimits()}, nil
}

// ServeHTTP routes by exact path: cleaning a path first could move a request from one rule to another.
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secureHeader(w.Header(), r.URL.Path)
	w = withUnsent(newImpatient(w, writeTime), r)
	if r.Method == http.MethodConnect || !strings.HasPrefix(r.URL.Path, "/") {
		refuse(w, metav1.StatusReasonBadRequest, http.StatusBadRequest, "the request has no path")
		return
	}
	if !IsUpgrade(r) {
		g.limitBody(w, r, maxBody, bodyTime)
	}
	for _, o := range openPaths() {
		if (r.URL.Path == o.path || o.below && strings.HasPrefix(r.URL.Path, o.path+"/")) && (o.path != registryPath || g.Registry != nil) {
			o.serve(g, w, r)
			return
		}
	}
	g.serveUser(w, r)
}

const registryPath = "/v2"

// openPath is a path that is answered before anyone is asked who they are.
type openPath struct {
	path string
	// below says that all paths below belong to it.
	below bool
	serve func(*gateway, http.ResponseWriter, *http.Request)
}

func openPaths() []openPath {
	return []openPath{
		{path: "/livez", serve: func(_ *gateway, w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok\n") }},
		{path: "/readyz", serve: func(g *gateway, w http.ResponseWriter, r *http.Request) { g.ready.ServeHTTP(w, r) }},
		{path: registryPath, below: true, serve: func(g *gateway, w http.ResponseWriter, r *http.Request) { g.limits.registry(g.Registry, w, r) }},
	}
}

// OpenPaths names every path that the port answers before anyone is asked who they are; one that ends with a slash
// stands for all below it. The registry, /v2 and below, asks for tokens of its own.
func OpenPaths() []string {
	var paths []string
	for _, o := range openPaths() {
		paths = append(paths, o.path)
		if o.below {
			paths = append(paths, o.path+"/")
		}
	}
	return paths
}

func (g *gateway) serveUser(w http.ResponseWriter, r *http.Request) {
	r = g.Long.arrive(r)
	leave, ok := g.limits.admit(r)
	if !ok {
		tooMany(w)
		return
	}
	who, err := authenticate(g.Authenticators, r)
	leave()
	if err != nil {
		g.Logger.WarnContext(r.Context(), "cannot authenticate a request", "from", r.RemoteAddr, "err", err)
		refuse(w, metav1.StatusReasonServiceUnavailable, http.StatusServiceUnavailable, "cannot find out who this request is from; try again")
		return
	}
	if who != nil {
		r = r.WithContext(withUser(r.Context(), who))
		// Before RBAC, which knows persons and not what their tokens are for.
		if err := auth.ScopeAllows(who, r); err != nil {
			recordDenied(g.Audit, r, err)
			refuseError(w, err)
			return
		}
	} else {
		done, ok := g.nobody(w, r)
		if !ok {
			tooMany(w)
			return
		}
		defer done()
	}
	switch {
	case g.Routes != nil && strings.HasPrefix(r.URL.Path, "/slipway/"):
		// A route may be open to those who are about to log in; its rule says so.
		g.Routes.ServeHTTP(w, r)
	case who == nil:
		recordDenied(g.Audit, r, apierrors.NewUnauthorized(notLoggedIn))
		w.Header().Set("WWW-Authenticate", `Bearer realm="slipway"`)
		refuse(w, metav1.StatusReasonUnauthorized, http.StatusUnauthorized, notLoggedIn)
	case g.Lists != nil && g.Lists(w, r):
	default:
		if may, goesOn := g.Long.api(r); goesOn {
			held, done := g.Long.hold(r, who, may)
			defer done()
			r = held
		}
		g.proxy.ServeHTTP(w, r)
	}
}

// limitBody bounds the size of a request's body and the time it may take.
func (g *gateway) limitBody(w http.ResponseWriter, r *http.Request, size int64, limit time.Duration) {
	r.Body = http.MaxBytesReader(w, r.Body, size)
	if r.ContentLength == 0 {
		return
	}
	// Not every connection has deadlines; where it has none the body limit must do.
	if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(limit)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		g.Logger.WarnContext(r.Context(), "cannot limit the time of a request's body", "err", err)
	}
}

// nobody counts a request that is from no person, and keeps it small. It gives false when there are too many.
func (g *gateway) nobody(w http.ResponseWriter, r *http.Request) (done func(), ok bool) {
	if !g.limits.spend(r) {
		return nil, false
	}
	if !IsUpgrade(r) {
		g.limitBody(w, r, openBody, openTime)
	}
	return g.limits.hold(r)
}

// authenticate gives the person behind a request, or nil for nobody.
func authenticate(authenticators []Authenticator, r *http.Request) (user.Info, error) {
	for _, authenticator := range authenticators {
		who, ok, err := authenticator.Authenticate(r)
		if err != nil {
			return nil, err
		}
		if ok && who.GetName() != "" {
			return who, nil
		}
	}
	return nil, nil
}

type userKey struct{}

func withUser(ctx context.Context, who user.Info) context.Context {
	return context.WithValue(ctx, userKey{}, who)
}

// UserOf gives the person behind a request that reached a Route.
func UserOf(ctx context.Context) (user.Info, bool) { return userOf(ctx) }

func userOf(ctx context.Context) (user.Info, bool) {
	who, ok := ctx.Value(userKey{}).(user.Info)
	return who, ok
}
