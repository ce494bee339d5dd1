package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

type fixed struct {
	token string
	who   user.Info
	err   error
}

func (f fixed) Authenticate(r *http.Request) (user.Info, bool, error) {
	if f.err != nil {
		return nil, false, f.err
	}
	return f.who, r.Header.Get("Authorization") == "Bearer "+f.token, nil
}

var alice = &user.DefaultInfo{Name: "alice", UID: "7", Groups: []string{"ops", "system:authenticated"}, Extra: map[string][]string{"example.org/a:b": {"x"}}}

// upstream is an API server that remembers the last request and answers as told.
type upstream struct {
	*httptest.Server
	mu      sync.Mutex
	last    *http.Request
	handler http.HandlerFunc
}

func newUpstream(t *testing.T, handler http.HandlerFunc) *upstream {
	u := &upstream{handler: handler}
	u.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.mu.Lock()
		u.last = r
		u.mu.Unlock()
		if u.handler != nil {
			u.handler(w, r)
		}
	}))
	u.EnableHTTP2 = true
	u.StartTLS()
	t.Cleanup(u.Close)
	return u
}

func (u *upstream) config() *rest.Config {
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: u.Certificate().Raw})
	return &rest.Config{Host: u.URL, BearerToken: "gateway-credential", TLSClientConfig: rest.TLSClientConfig{CAData: ca}}
}

func (u *upstream) seen() *http.Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.last
}

// front serves the gateway before an upstream on a real TLS port.
func front(t *testing.T, config Config) *httptest.Server {
	t.Helper()
	if config.Authenticators == nil {
		config.Authenticators = []Authenticator{fixed{token: "alice-token", who: alice}}
	}
	handler, err := NewHandler(config)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// TestIdentity sends raw requests, since a Go client would repair some of them.
func TestIdentity(t *testing.T) {
	cases := map[string]struct {
		reason  string
		headers string
		status  int
	}{
		"Plain":                {reason: "the user's name and groups reach the API server", headers: "Authorization: Bearer alice-token\r\n", status: 200},
		"NoToken":              {reason: "no credential, no access", status: 401},
		"WrongToken":           {reason: "a wrong credential, no access", headers: "Authorization: Bearer nope\r\n", status: 401},
		"Impersonate":          {reason: "nobody becomes someone else", headers: "Authorization: Bearer alice-token\r\nImpersonate-User: root\r\nImpersonate-Group: system:masters\r\nImpersonate-Uid: 0\r\nImpersonate-Extra-Scopes: all\r\n", status: 200},
		"ImpersonateOddCase":   {reason: "spelling does not help", headers: "Authorization: Bearer alice-token\r\niMPERSONATE-gROUP: system:masters\r\nImpersonate_User: root\r\nimpersonate_group: system:masters\r\n", status: 200},
		"FrontProxy":           {reason: "nobody is a front proxy", headers: "Authorization: Bearer alice-token\r\nX-Remote-User: root\r\nX-Remote-Group: system:masters\r\nX-Remote-Extra-A: b\r\nX_Remote_User: root\r\n", status: 200},
		"HopByHop":             {reason: "Connection cannot remove what the gateway sets", headers: "Authorization: Bearer alice-token\r\nConnection: Impersonate-User, Impersonate-Group, Authorization\r\n", status: 200},
		"HopByHopSmuggle":      {reason: "Connection cannot carry a claim past the cleaning", headers: "Authorization: Bearer alice-token\r\nConnection: keep-alive, X-Remote-User\r\nX-Remote-User: root\r\n", status: 200},
		"Upgrade":              {reason: "an upgrade is cleaned too", headers: "Authorization: Bearer alice-token\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nImpersonate-User: root\r\nX-Remote-User: root\r\n", status: 200},
		"UpgradeNoToken":       {reason: "an upgrade needs a credential", headers: "Connection: Upgrade\r\nUpgrade: websocket\r\n", status: 401},
		"WebSocketBearer":      {reason: "a token in a protocol name goes no further", headers: "Authorization: Bearer alice-token\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.cm9vdA, v5.channel.k8s.io\r\n", status: 200},
		"Cookie":               {reason: "cookies and proxy credentials go no further", headers: "Authorization: Bearer alice-token\r\nCookie: a=b\r\nProxy-Authorization: Basic x\r\n", status: 200},
		"ForwardedFor":         {reason: "nobody invents where they come from", headers: "Authorization: Bearer alice-token\r\nX-Forwarded-For: 10.9.9.9\r\nX-Real-Ip: 10.9.9.9\r\nForwarded: for=10.9.9.9\r\n", status: 200},
		"TwoAuthorizations":    {reason: "the second credential is not passed on", headers: "Authorization: Bearer alice-token\r\nAuthorization: Bearer gateway-credential\r\n", status: 200},
		"Trailer":              {reason: "a trailer makes no claim", headers: "Authorization: Bearer alice-token\r\nTrailer: Impersonate-User\r\n", status: 200},
		"ForeignHost":          {reason: "the Host header does not choose where a request goes", headers: "Authorization: Bearer alice-token\r\nX-Forwarded-Host: evil.test\r\n", status: 200},
		"UnderscoreConnection": {reason: "an unknown hop-by-hop header is dropped", headers: "Authorization: Bearer alice-token\r\nConnection: Foo\r\nFoo: bar\r\n", status: 200},
	}
	up := newUpstream(t, nil)
	server := front(t, Config{Upstream: up.config()})
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			up.mu.Lock()
			up.last = nil
			up.mu.Unlock()
			status := raw(t, server, "GET /api/v1/namespaces HTTP/1.1\r\nHost: evil.test\r\n"+tc.headers+"\r\n")
			if status != tc.status {
				t.Fatalf("%s: status %d, want %d", tc.reason, status, tc.status)
			}
			got := up.seen()
			if tc.status != 200 {
				if got != nil {
					t.Fatalf("%s: the request reached the API server", tc.reason)
				}
				return
			}
			want := http.Header{
				"Impersonate-User": {"alice"}, "Impersonate-Uid": {"7"}, "Impersonate-Group": {"ops", "system:authenticated"},
				"Impersonate-Extra-Example.org%2fa%3ab": {"x"}, "Authorization": {"Bearer gateway-credential"},
			}
			if diff := cmp.Diff(want, identity(got.Header)); diff != "" {
				t.Errorf("%s: -want +got\n%s", tc.reason, diff)
			}
			if got.Host != strings.TrimPrefix(up.URL, "https://") {
				t.Errorf("%s: Host = %q", tc.reason, got.Host)
			}
			if forwarded := got.Header.Get("X-Forwarded-For"); forwarded != "127.0.0.1" {
				t.Errorf("%s: X-Forwarded-For = %q", tc.reason, forwarded)
			}
		})
	}
}

// identity gives every header that could say who a request is from.
func identity(header http.Header) http.Header {
	found := http.Header{}
	for name, values := range header {
		lower := strings.ReplaceAll(strings.ToLower(name), "_", "-")
		for _, part := range []string{"impersonate", "x-remote", "authorization", "cookie", "trailer", "foo", "real-ip"} {
			if strings.Contains(lower, part) {
				found[name] = values
			}
		}
		for _, value := range values {
			if strings.Contains(value, bearerProtocol) {
				found[name] = values
			}
		}
	}
	return found
}

func raw(t *testing.T, server *httptest.Server, request string) int {
	t.Helper()
	conn, err := tls.Dial("tcp", server.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode
}

func TestRoutes(t *testing.T) {
	up := newUpstream(t, nil)
	broken := errors.New("secret detail")
	registry := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) })
	cases := map[string]struct {
		reason string
		target string
		token  string
		config Config
		status int
		body   string
	}{
		"Livez":            {reason: "liveness is for anyone", target: "/livez", status: 200, body: "ok"},
		"Readyz":           {reason: "readiness is for anyone", target: "/readyz", status: 200, body: "ok"},
		"NotReady":         {reason: "a failed check is named and not explained", target: "/readyz", config: Config{Checks: map[string]func(context.Context) error{"etcd": func(context.Context) error { return broken }}}, status: 503, body: "not ready: etcd\n"},
		"LivezBelow":       {reason: "only the exact path is open", target: "/livez/ping", status: 401},
		"LivezDots":        {reason: "dots do not open a closed path", target: "/livez/../api", status: 401},
		"DoubleSlash":      {reason: "a double slash is not another path", target: "//livez", status: 401},
		"Metrics":          {reason: "metrics need a user", target: "/metrics", status: 401},
		"MetricsUser":      {reason: "the API server decides who sees metrics", target: "/metrics", token: "alice-token", status: 200},
		"Registry":         {reason: "the registry answers for itself", target: "/v2/", config: Config{Registry: registry}, status: 418},
		"RegistryRoot":     {reason: "with and without the slash", target: "/v2", config: Config{Registry: registry}, status: 418},
		"NotRegistry":      {reason: "a path that only begins like the registry's is not its", target: "/v2x", config: Config{Registry: registry}, status: 401},
		"NoRegistry":       {reason: "without a registry its path needs a user", target: "/v2/", status: 401},
		"AuthenticatorOut": {reason: "no answer about the user is no access", target: "/api", config: Config{Authenticators: []Authenticator{fixed{err: broken}}}, status: 503},
		"Nameless":         {reason: "a user without a name is no user", target: "/api", token: "x", config: Config{Authenticators: []Authenticator{fixed{token: "x", who: &user.DefaultInfo{}}}}, status: 401},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			tc.config.Upstream = up.config()
			server := front(t, tc.config)
			request := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: h\r\n", tc.target)
			if tc.token != "" {
				request += "Authorization: Bearer " + tc.token + "\r\n"
			}
			if status := raw(t, server, request+"\r\n"); status != tc.status {
				t.Errorf("%s: status %d, want %d", tc.reason, status, tc.status)
			}
			if tc.body == "" {
				return
			}
			response, err := server.Client().Get(server.URL + tc.target)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(string(body), tc.body) || strings.Contains(string(body), broken.Error()) {
				t.Errorf("%s: body %q", tc.reason, body)
			}
		})
	}
}

func TestWatchIsNotBuffered(t *testing.T) {
	release := make(chan struct{})
	up := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		for i := range 3 {
			fmt.Fprintf(w, "event %d\n", i)
			w.(http.Flusher).Flush()
			select {
			case <-release:
			case <-r.Context().Done():
				return
			}
		}
	})
	server := front(t, Config{Upstream: up.config()})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/api/v1/namespaces?watch=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer alice-token")
	response, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.ProtoMajor != 2 {
		t.Errorf("the front speaks HTTP/%d, want 2", response.ProtoMajor)
	}
	lines := bufio.NewScanner(response.Body)
	for i := range 3 {
		// The upstream writes the next event only after this one was read here.
		if !lines.Scan() || lines.Text() != fmt.Sprintf("event %d", i) {
			t.Fatalf("event %d did not come: %q %v", i, lines.Text(), lines.Err())
		}
		release <- struct{}{}
	}
}

func TestUpgradeTalksBothWays(t *testing.T) {
	up := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		conn, buffer, err := http.NewResponseController(w).Hijack()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
		line, err := buffer.ReadString('\n')
		if err == nil {
			fmt.Fprint(conn, "echo "+line)
		}
	})
	server := front(t, Config{Upstream: up.config()})
	conn, err := tls.Dial("tcp", server.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /exec HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer alice-token\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("no upgrade: %v %v", response, err)
	}
	fmt.Fprint(conn, "hello\n")
	if line, err := reader.ReadString('\n'); err != nil || line != "echo hello\n" {
		t.Errorf("got %q, %v", line, err)
	}
}

func TestBodyLimit(t *testing.T) {
	up := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	server := front(t, Config{Upstream: up.config()})
	for name, tc := range map[string]struct {
		reason string
		size   int
		status int
	}{
		"AtLimit": {reason: "a body at the limit passes", size: maxBody, status: 200},
		"Above":   {reason: "a larger one is refused", size: maxBody + 1, status: 413},
	} {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/api", bytes.NewReader(make([]byte, tc.size)))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Authorization", "Bearer alice-token")
			response, err := server.Client().Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.StatusCode != tc.status {
				t.Errorf("%s: status %d, want %d", tc.reason, response.StatusCode, tc.status)
			}
		})
	}
}

func TestPort(t *testing.T) {
	directory := t.TempDir()
	port, err := Listen(t.Context(), PortConfig{Address: "127.0.0.1:0", DataDir: directory, Names: []string{"slipway.test", "192.0.2.7"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- port.Serve(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) }))
	}()
	path := filepath.Join(directory, "admin.kubeconfig")
	if err := WriteKubeconfig(path, port.URL(), port.CACert(), "admin", "t"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("kubeconfig: %v %v", info, err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Get(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.Proto != "HTTP/2.0" {
		t.Errorf("protocol %s", response.Proto)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(port.CACert())
	for _, name := range []string{"localhost", "127.0.0.1", "::1", "slipway.test", "192.0.2.7"} {
		conn, err := tls.Dial("tcp", port.Addr().String(), &tls.Config{RootCAs: roots, ServerName: name})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		conn.Close()
	}
	if _, err := tls.Dial("tcp", port.Addr().String(), &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
	client.CloseIdleConnections()
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("Serve() = %v", err)
		}
	case <-time.After(3 * drainTime):
		t.Error("Serve did not end")
	}
}

func TestListenRefusesATakenAddress(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if _, err := Listen(t.Context(), PortConfig{Address: taken.Addr().String(), DataDir: t.TempDir()}); err == nil {
		t.Error("a taken address was not refused")
	}
}
