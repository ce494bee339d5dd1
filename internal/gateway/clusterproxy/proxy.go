package clusterproxy

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/transport"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/access"
	"slipway.dev/slipway/internal/auth"
	"slipway.dev/slipway/internal/gateway"
	roles "slipway.dev/slipway/internal/step/access"
)

// prefix begins the names of people and their groups inside a cluster.
const prefix = "slipway:"

// proxy passes a request on to a cluster, in the person's name.
func (h *handler) proxy(w http.ResponseWriter, r *http.Request) error {
	path := below(r.URL)
	gateway.Note(r.Context(), "method", r.Method)
	gateway.Note(r.Context(), "path", path.EscapedPath())
	c, err := h.cluster(r)
	if err != nil {
		return err
	}
	who, _ := gateway.UserOf(r.Context())
	as, err := h.as(r.Context(), who, c)
	if err != nil {
		return err
	}
	gateway.KeepWhile(r.Context(), func(ctx context.Context, who user.Info) (bool, error) {
		now, err := h.as(ctx, who, c)
		return now.administers() || !as.administers(), err
	})
	way, err := h.link(r.Context(), c)
	if err != nil {
		return h.explain(r, c, err)
	}
	var failed error
	passing := httputil.ReverseProxy{
		Rewrite:       func(request *httputil.ProxyRequest) { rewrite(request, way.target, path) },
		Transport:     inName{as: as, way: way},
		FlushInterval: -1, // A watch is passed on event by event.
		ModifyResponse: func(response *http.Response) error {
			return cleanResponse(response, way.target, strings.TrimSuffix(r.URL.EscapedPath(), path.EscapedPath()))
		},
		ErrorLog:     log.New(debugWriter{h.Log}, "", 0),
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) { failed = err },
	}
	passing.ServeHTTP(w, r)
	if failed != nil {
		return h.explain(r, c, failed)
	}
	return nil
}

// below gives the path below proxy/ exactly as the client sent it, with its slash.
func below(sent *url.URL) *url.URL {
	const parts = 9 // "", slipway, v1, projects, PROJECT, clusters, NAME, proxy, and all the rest.
	raw := "/" + strings.SplitN(sent.EscapedPath(), "/", parts)[parts-1]
	path, err := url.PathUnescape(raw)
	if err != nil {
		path = raw // It came out of a path that could be read.
	}
	return &url.URL{Path: path, RawPath: raw}
}

// identity is who a person is inside a cluster.
type identity struct {
	user   string
	groups []string
}

func (i identity) administers() bool { return len(i.groups) > 0 && i.groups[0] == roles.Administrators }

// as gives who a person is inside a cluster: RBAC of the platform says in which of the two groups.
func (h *handler) as(ctx context.Context, who user.Info, c *v1alpha1.Cluster) (identity, error) {
	administers, err := h.Access.Allowed(ctx, who, access.Attributes{
		Verb: "administer", Resource: "clusters", Subresource: "proxy", Namespace: c.Namespace, Name: c.Name,
	})
	if err != nil {
		return identity{}, err
	}
	group := roles.Viewers
	if administers && !auth.ScopeOf(who).ReadOnly {
		group = roles.Administrators
	}
	i := identity{user: prefix + who.GetName(), groups: []string{group}}
	for _, g := range auth.DirectoryGroups(who) {
		i.groups = append(i.groups, prefix+v1alpha1.DirectoryPrefix+g)
	}
	return i, nil
}

// inName sends requests in the name of a person.
type inName struct {
	as  identity
	way *link
}

// RoundTrip says last of all who the request is from: nothing that the client sent can undo it.
func (n inName) RoundTrip(r *http.Request) (*http.Response, error) {
	if n.as.user == prefix || len(n.as.groups) == 0 {
		return nil, errors.New("cannot pass on a request that is from no one")
	}
	r = r.Clone(r.Context())
	r.Header[transport.ImpersonateUserHeader] = []string{n.as.user}
	r.Header[transport.ImpersonateGroupHeader] = n.as.groups
	if gateway.IsUpgrade(r) {
		return n.way.upgrades.RoundTrip(r)
	}
	return n.way.plain.RoundTrip(r)
}

// rewrite makes the outgoing request, without any claim of the client about who it is.
func rewrite(request *httputil.ProxyRequest, target, path *url.URL) {
	out := request.Out
	out.URL.Scheme, out.URL.Host = target.Scheme, target.Host
	out.URL.Path, out.URL.RawPath = path.Path, path.RawPath
	out.Host = ""
	out.Header = gateway.CleanHeader(out.Header)
	out.Trailer = nil
	request.SetXForwarded()
}

// cleanResponse keeps a cluster from speaking to a browser as the platform: who administers a cluster chooses what
// its services answer, and must not get at the sessions of those who look. The gateway's own headers let no script run.
func cleanResponse(response *http.Response, target *url.URL, base string) error {
	for _, name := range []string{"Set-Cookie", "Clear-Site-Data", "Alt-Svc", "Refresh", "Service-Worker-Allowed"} {
		response.Header.Del(name)
	}
	for name := range response.Header {
		if strings.HasPrefix(name, "Access-Control-") {
			response.Header.Del(name)
		}
	}
	if to, err := url.Parse(response.Header.Get("Location")); err == nil && strings.HasPrefix(to.Path, "/") && (to.Host == "" || to.Host == target.Host) {
		// Without this it would lead to the platform's own API.
		to.Scheme, to.Host, to.User = "", "", nil
		response.Header.Set("Location", base+to.String())
	}
	return gateway.CleanResponse(response)
}

// explain gives the person an error that says what to do; why goes to the log.
func (h *handler) explain(r *http.Request, c *v1alpha1.Cluster, err error) error {
	var tooLarge *http.MaxBytesError
	var status apierrors.APIStatus
	switch {
	case errors.As(err, &tooLarge):
		return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("the request's body is larger than %d bytes", tooLarge.Limit))
	case r.Context().Err() != nil:
		return err // There is no one to tell, or the gateway does.
	case errors.As(err, &status) && apierrors.IsConflict(err):
		return err
	}
	h.Log.WarnContext(r.Context(), "cannot reach a cluster", "cluster", c.Name, "project", c.Namespace, "err", err)
	return apierrors.NewServiceUnavailable(fmt.Sprintf("cannot reach cluster %s through its control plane: "+
		"`slipway cluster status %s -p %s` says what is wrong with it; a project administrator whom the cluster itself still answers can use "+
		"`slipway cluster kubeconfig %s -p %s --break-glass --reason TEXT`", c.Name, c.Name, c.Namespace, c.Name, c.Namespace))
}

// debugWriter receives what net/http logs about single connections.
type debugWriter struct{ logger *slog.Logger }

// Write logs one line for debugging.
func (d debugWriter) Write(line []byte) (int, error) {
	d.logger.Debug(strings.TrimSpace(string(line)), "component", "clusterproxy")
	return len(line), nil
}
