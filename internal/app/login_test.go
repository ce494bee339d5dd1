package app

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"slipway.dev/slipway/internal/access"
	"slipway.dev/slipway/internal/audit"
	"slipway.dev/slipway/internal/auth"
	"slipway.dev/slipway/internal/gateway"
	"slipway.dev/slipway/internal/gateway/login"
	"slipway.dev/slipway/internal/pki"
)

// loginWorld is a port with the real routes of login before an API that says who it is asked by.
type loginWorld struct {
	people *people
	url    string
	front  *httptest.Server
	ca     *pki.CA
	home   string
}

func newLoginWorld(t *testing.T) *loginWorld {
	t.Helper()
	scheme, err := Scheme()
	if err != nil {
		t.Fatal(err)
	}
	ca, err := pki.NewCA("slipway", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	// An API gives every object a UID.
	uids := interceptor.Funcs{Create: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.CreateOption) error {
		o.SetUID(uuid.NewUUID())
		return c.Create(ctx, o, options...)
	}}
	live := clientfake.NewClientBuilder().WithScheme(scheme).WithInterceptorFuncs(uids).Build()
	admin, err := auth.LoadAdminToken(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &loginWorld{people: newPeople(live, admin, ca.CertPEM, nil), ca: ca, home: t.TempDir()}
	routes, err := gateway.NewRoutes(gateway.RouteDeps{Access: access.NewAuthorizer(live), Audit: audit.Discard{}}, login.Routes(w.people.Deps)...)
	if err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(r.Header.Get("Impersonate-User") + " by " + r.Header.Get("Impersonate-Extra-Slipway.dev%2fvia")))
	}))
	t.Cleanup(api.Close)
	handler, err := gateway.NewHandler(gateway.Config{Upstream: &rest.Config{Host: api.URL}, Authenticators: w.people.authenticators, Routes: routes})
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := ca.Issue(pki.Template{CommonName: "slipway", IPs: []net.IP{net.IPv4(127, 0, 0, 1)}})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	w.front = httptest.NewUnstartedServer(handler)
	w.front.EnableHTTP2 = true
	w.front.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	w.front.StartTLS()
	t.Cleanup(w.front.Close)
	t.Setenv("HOME", w.home)
	t.Setenv("KUBECONFIG", "")
	return w
}

// slipway runs one command line of the program and wants that exit code; it gives what was printed.
func (w *loginWorld) slipway(t *testing.T, want int, args ...string) (out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	if got := Main(t.Context(), args, strings.NewReader(""), &o, &e); got != want {
		t.Fatalf("slipway %s: exit code %d, want %d: %s", strings.Join(args[:1], " "), got, want, &e)
	}
	return o.String(), e.String()
}

func (w *loginWorld) file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(w.home, name)
	if err := os.WriteFile(path, []byte(content+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestFirstLogin follows an administrator from the link of a fresh server to logout, with the program itself.
func TestFirstLogin(t *testing.T) {
	w := newLoginWorld(t)
	link, err := w.people.setupLink(t.Context(), w.front.Listener.Addr(), nil)
	if err != nil || !strings.HasPrefix(link, w.front.URL+"/slipway/setup#") {
		t.Fatalf("the link is %s, %v", link, err)
	}
	password, other := w.file(t, "password", "correct horse battery"), w.file(t, "other", "another good phrase")
	trust := []string{"--ca-fingerprint", fingerprints(w.ca.CertPEM())[0]}
	enter := append([]string{"login", w.front.URL, "--user", "admin", "--password-file", password}, trust...)

	if _, said := w.slipway(t, 1, enter...); !strings.Contains(said, "not set up yet") {
		t.Errorf("before set-up: %s", said)
	}
	setup := append([]string{"setup", link, "--password-file", password}, trust...)
	w.slipway(t, 0, setup...)
	if _, said := w.slipway(t, 4, setup...); !strings.Contains(said, "used") {
		t.Errorf("a used link: %s", said)
	}
	if again, err := w.people.setupLink(t.Context(), w.front.Listener.Addr(), nil); again != "" || err != nil {
		t.Errorf("a server that is set up has the link %s, %v", again, err)
	}

	w.slipway(t, 0, enter...)
	if out, _ := w.slipway(t, 0, "get", "--raw", "/version"); !strings.HasPrefix(out, "admin by token:") {
		t.Errorf("the API is asked by %q", out)
	}
	token, _ := w.slipway(t, 0, "token", "create", "ci", "--read-only", "--expires", "1h")
	if listed, _ := w.slipway(t, 0, "token", "list"); !strings.Contains(listed, "read-only") || !strings.Contains(listed, "now") {
		t.Errorf("the tokens are %s", listed)
	}
	client := w.front.Client()
	request, err := http.NewRequestWithContext(t.Context(), "GET", w.front.URL+"/version", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(token))
	status := func() int {
		answer, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		return answer.StatusCode
	}
	client.Transport.(*http.Transport).TLSClientConfig.RootCAs.AddCert(w.ca.Certificate())
	if got := status(); got != 200 {
		t.Errorf("the new token: %d", got)
	}
	w.slipway(t, 0, "passwd", "--password-file", password, "--new-password-file", other)
	if got := status(); got != 401 {
		t.Errorf("a token after the password has changed: %d", got)
	}
	w.slipway(t, 0, "token", "list")
	kubeconfig := filepath.Join(w.home, ".slipway", "kubeconfig")
	content, err := os.ReadFile(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	w.slipway(t, 0, "logout")
	if _, err := os.Stat(kubeconfig); err == nil {
		t.Error("after logout the login is still on this machine")
	}
	if err := os.WriteFile(kubeconfig, content, 0o600); err != nil {
		t.Fatal(err)
	}
	w.slipway(t, 4, "token", "list")
}
