package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
)

// bearerProtocol is how a browser's WebSocket carries a token: it cannot set headers.
const bearerProtocol = "base64url.bearer.authorization.k8s.io."

// newProxy gives a handler that passes requests to the API server in the name of the context's user.
func newProxy(upstream *rest.Config, logger *slog.Logger) (http.Handler, error) {
	target, _, err := rest.DefaultServerUrlFor(upstream)
	if err != nil {
		return nil, fmt.Errorf("cannot proxy to the API server: %w", err)
	}
	plain, err := rest.TransportFor(upstream)
	if err != nil {
		return nil, fmt.Errorf("cannot proxy to the API server: %w", err)
	}
	upgrades, err := upgradeTransport(upstream)
	if err != nil {
		return nil, fmt.Errorf("cannot proxy to the API server: %w", err)
	}
	return &httputil.ReverseProxy{
		Rewrite:   func(request *httputil.ProxyRequest) { rewrite(request, target) },
		Transport: &inName{plain: plain, upgrades: upgrades},
		// A watch is passed on event by event.
		FlushInterval:  -1,
		ModifyResponse: CleanResponse,
		ErrorLog:       log.New(debugWriter{logger}, "", 0),
		ErrorHandler:   func(w http.ResponseWriter, r *http.Request, err error) { answerError(w, r, err, logger) },
	}, nil
}

// upgradeTransport speaks HTTP/1.1 only: HTTP/2 has no upgrades.
func upgradeTransport(upstream *rest.Config) (http.RoundTripper, error) {
	config := rest.CopyConfig(upstream)
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, err
	}
	if tlsConfig != nil {
		tlsConfig.NextProtos = []string{"http/1.1"}
	}
	wrapping, err := config.TransportConfig()
	if err != nil {
		return nil, err
	}
	return transport.HTTPWrappersForConfig(wrapping, &http.Transport{
		TLSClientConfig: tlsConfig,
		TLSNextProto:    map[string]func(string, *tls.Conn) http.RoundTripper{},
	})
}

// inName sends requests in the name of their context's user.
type inName struct{ plain, upgrades http.RoundTripper }

// RoundTrip sends an upgrade over HTTP/1.1 and everything else over HTTP/2. A request without a user is not
// sent at all: it would be the gateway's own.
func (n *inName) RoundTrip(r *http.Request) (*http.Response, error) {
	who, ok := userOf(r.Context())
	if !ok || who.GetName() == "" {
		return nil, errors.New("cannot proxy a request that is from no one")
	}
	next := n.plain
	if IsUpgrade(r) {
		next = n.upgrades
	}
	return transport.NewImpersonatingRoundTripper(transport.ImpersonationConfig{
		UserName: who.GetName(), UID: who.GetUID(), Groups: who.GetGroups(), Extra: who.GetExtra(),
	}, next).RoundTrip(r)
}

// rewrite makes the outgoing request: to the API server, and without any claim of the client about who it is.
// The hop-by-hop headers that Connection names are gone before it is called; whom the request is for is said
// after it, so no header of the client can undo that.
func rewrite(request *httputil.ProxyRequest, target *url.URL) {
	out := request.Out
	request.SetURL(target)
	out.Header = CleanHeader(out.Header)
	out.Trailer = nil
	request.SetXForwarded()
}

// CleanHeader gives the headers without credentials and without claims of identity, however they are spelled.
func CleanHeader(header http.Header) http.Header {
	clean := make(http.Header, len(header))
	for name, values := range header {
		// Some servers read an underscore as a dash.
		spelled := strings.ReplaceAll(strings.ToLower(name), "_", "-")
		switch {
		case strings.HasPrefix(spelled, "impersonate-"), strings.HasPrefix(spelled, "x-remote-"),
			spelled == "authorization", spelled == "proxy-authorization", spelled == "cookie",
			strings.HasPrefix(spelled, "x-forwarded-"), spelled == "forwarded", spelled == "x-real-ip":
			continue
		case spelled == "sec-websocket-protocol":
			values = withoutBearer(values)
			if len(values) == 0 {
				continue
			}
		}
		clean[name] = values
	}
	return clean
}

func withoutBearer(values []string) []string {
	var kept []string
	for _, value := range values {
		protocols := slices.DeleteFunc(strings.Split(value, ","), func(protocol string) bool {
			return strings.HasPrefix(strings.ToLower(strings.TrimSpace(protocol)), bearerProtocol)
		})
		if len(protocols) > 0 {
			kept = append(kept, strings.Join(protocols, ","))
		}
	}
	return kept
}

// CleanResponse lets the gateway's own security headers stand.
func CleanResponse(response *http.Response) error {
	for name := range securityHeaders() {
		response.Header.Del(name)
	}
	return nil
}

// IsUpgrade says that a request asks to go on in another protocol, as exec and port-forward do.
func IsUpgrade(r *http.Request) bool {
	if r.Header.Get("Upgrade") == "" {
		return false
	}
	for _, value := range r.Header.Values("Connection") {
		for token := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(token), "upgrade") {
				return true
			}
		}
	}
	return false
}

func answerError(w http.ResponseWriter, r *http.Request, err error, logger *slog.Logger) {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		refuse(w, metav1.StatusReasonRequestEntityTooLarge, http.StatusRequestEntityTooLarge, fmt.Sprintf("the request's body is larger than %d bytes", tooLarge.Limit))
	case errors.Is(context.Cause(r.Context()), cut{}):
		refuse(w, metav1.StatusReasonUnauthorized, http.StatusUnauthorized, cut{}.Error())
	case errors.Is(err, context.Canceled):
		// The client has gone: there is no one to answer.
		refuse(w, metav1.StatusReasonTimeout, http.StatusGatewayTimeout, "the client closed the request")
	default:
		logger.WarnContext(r.Context(), "cannot reach the API server", "method", r.Method, "path", r.URL.Path, "err", err)
		refuse(w, metav1.StatusReasonServiceUnavailable, http.StatusServiceUnavailable, "cannot reach the API server; try again")
	}
}

// debugWriter receives what net/http logs about single connections.
type debugWriter struct{ logger *slog.Logger }

// Write logs one line for debugging.
func (d debugWriter) Write(line []byte) (int, error) {
	d.logger.Debug(strings.TrimSpace(string(line)), "component", "gateway")
	return len(line), nil
}
