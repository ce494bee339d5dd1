package login

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/access"
	"slipway.dev/slipway/internal/audit"
	"slipway.dev/slipway/internal/auth"
	"slipway.dev/slipway/internal/gateway"
)

const (
	host    = "slipway.example:8443"
	phrase  = "correct horse battery"
	another = "another good phrase"
	origin  = "https://" + host
)

// site is a whole port with these routes, before an API that answers 200 to everyone.
type site struct {
	client   client.WithWatch
	accounts *auth.Accounts
	setup    *auth.Setup
	admin    *auth.AdminToken
	handler  http.Handler
	events   []audit.Event
}

// Record keeps the line for the test.
func (s *site) Record(e audit.Event) { s.events = append(s.events, e) }

func account(name string, role v1alpha1.PlatformRole) *v1alpha1.User {
	return &v1alpha1.User{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name)}, Spec: v1alpha1.UserSpec{PlatformRole: role}}
}

// newSite gives a port where admin, root (a system administrator) and alice have the password phrase.
func newSite(t *testing.T, objects ...client.Object) *site {
	t.Helper()
	s := emptySite(t, append(objects, account("admin", v1alpha1.SystemAdministrator), account("root", v1alpha1.SystemAdministrator), account("alice", ""))...)
	for _, name := range []string{"admin", "root", "alice"} {
		s.set(t, name, phrase, false)
	}
	return s
}

func (s *site) set(t *testing.T, name, password string, mustChange bool) {
	t.Helper()
	u, err := s.accounts.User(t.Context(), name)
	if err == nil {
		err = s.accounts.SetPassword(t.Context(), u, password, mustChange, "")
	}
	if err != nil {
		t.Fatal(err)
	}
}

func emptySite(t *testing.T, objects ...client.Object) *site {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	s := &site{}
	// RBAC lets system administrators set passwords, and nobody else do anything.
	rbac := interceptor.Funcs{Create: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.CreateOption) error {
		review, ok := o.(*authorizationv1.SubjectAccessReview)
		if !ok {
			return c.Create(ctx, o, options...)
		}
		what := review.Spec.ResourceAttributes
		administers := slices.Contains(review.Spec.Groups, access.SystemAdministrators) || slices.Contains(review.Spec.Groups, "system:masters")
		review.Status.Allowed = administers && what.Verb == "create" && what.Resource == "users" && what.Subresource == "password" && what.Name != ""
		return nil
	}}
	s.client = clientfake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(rbac).Build()
	sessions, tokens := auth.NewSessions(s.client), auth.NewTokens(s.client)
	s.accounts = auth.NewAccounts(auth.AccountsConfig{Client: s.client, Sessions: sessions, Tokens: tokens, Argon2: auth.Argon2{MemoryKiB: 64, Passes: 1, Lanes: 1}})
	s.setup = auth.NewSetup(s.accounts)
	var err error
	if s.admin, err = auth.LoadAdminToken(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	routes, err := gateway.NewRoutes(gateway.RouteDeps{Access: access.NewAuthorizer(s.client), Audit: s},
		Routes(Deps{Client: s.client, Accounts: s.accounts, Sessions: sessions, Tokens: tokens, Setup: s.setup, CA: func() []byte { return []byte("the authority") }})...)
	if err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(r.Header.Get("Impersonate-User")))
	}))
	t.Cleanup(api.Close)
	s.handler, err = gateway.NewHandler(gateway.Config{
		Upstream: &rest.Config{Host: api.URL}, Authenticators: []gateway.Authenticator{s.admin, tokens, sessions}, Routes: routes,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// call is one request; with a cookie it says what a browser says of our own pages.
type call struct {
	method, path string
	body         any
	cookie       *http.Cookie
	token        string
	headers      map[string]string
	from         string
}

func (s *site) do(t *testing.T, c call) *http.Response {
	t.Helper()
	var body strings.Builder
	switch b := c.body.(type) {
	case nil:
	case string:
		body.WriteString(b)
	default:
		if err := json.NewEncoder(&body).Encode(b); err != nil {
			t.Fatal(err)
		}
	}
	r := httptest.NewRequestWithContext(t.Context(), c.method, c.path, strings.NewReader(body.String()))
	r.Host = host
	r.RemoteAddr = "192.0.2.1:1234"
	if c.from != "" {
		r.RemoteAddr = c.from + ":1234"
	}
	if c.body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.cookie != nil {
		r.AddCookie(&http.Cookie{Name: c.cookie.Name, Value: c.cookie.Value})
		r.Header.Set("Origin", origin)
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	for k, v := range c.headers {
		if r.Header.Del(k); v != "" {
			r.Header.Set(k, v)
		}
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w.Result()
}

// want calls and wants that status; the answer is decoded into the object, if there is one.
func (s *site) want(t *testing.T, c call, status int, into any) *http.Response {
	t.Helper()
	answer := s.do(t, c)
	if answer.StatusCode != status {
		t.Fatalf("%s %s answers %s, want %d: %s", c.method, c.path, answer.Status, status, bodyOf(t, answer))
	}
	if into != nil {
		if err := json.NewDecoder(answer.Body).Decode(into); err != nil {
			t.Fatal(err)
		}
	}
	return answer
}

func cookieOf(r *http.Response, name string) *http.Cookie {
	for _, c := range r.Cookies() {
		if c.Name == name && c.MaxAge >= 0 {
			return c
		}
	}
	return nil
}

func bodyOf(t *testing.T, r *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

type object = map[string]any

// login gives the cookie of a session.
func (s *site) login(t *testing.T, name, password string) *http.Cookie {
	t.Helper()
	answer := s.want(t, call{method: "POST", path: "/slipway/v1/login", body: object{"user": name, "password": password}}, 200, nil)
	cookie := cookieOf(answer, auth.SessionCookie)
	if cookie == nil {
		t.Fatal("a login gives no cookie")
	}
	return cookie
}

// tokenOf gives a token that a login made.
func (s *site) tokenOf(t *testing.T, name, password string) string {
	t.Helper()
	var got entered
	s.want(t, call{method: "POST", path: "/slipway/v1/login", body: object{"user": name, "password": password, "token": true}}, 200, &got)
	return got.Token
}
