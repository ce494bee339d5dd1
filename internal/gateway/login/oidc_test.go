package login

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/user"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/access"
	"slipway.dev/slipway/internal/audit"
	"slipway.dev/slipway/internal/auth"
	"slipway.dev/slipway/internal/auth/oidc"
	"slipway.dev/slipway/internal/auth/oidc/oidctest"
	"slipway.dev/slipway/internal/gateway"
)

const directoryHost = "slipway.example:8443"

// directory is a server with the routes, and the provider it trusts.
type directory struct {
	*oidctest.Provider
	client   client.Client
	sessions *auth.Sessions
	tokens   *auth.Tokens
	handler  http.Handler
	events   []audit.Event
}

// Record keeps the line for the test.
func (d *directory) Record(e audit.Event) { d.events = append(d.events, e) }

func newDirectory(t *testing.T, objects ...client.Object) *directory {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	d := &directory{Provider: oidctest.Start(t)}
	setting := d.Setting()
	setting.ClientSecretName = "sso"
	setting.SystemAdministratorGroups = []string{"ops"}
	objects = append(objects,
		&v1alpha1.Setting{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.SettingLogin}, Spec: v1alpha1.SettingSpec{Login: &v1alpha1.LoginSetting{OIDC: &setting, SessionHours: 3}}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: "sso"}, Type: v1alpha1.SecretTypeCredential,
			Data: map[string][]byte{oidc.SecretKey: []byte(oidctest.ClientSecret)}})
	d.client = clientfake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
	d.sessions, d.tokens = auth.NewSessions(d.client), auth.NewTokens(d.client)
	routes, err := gateway.NewRoutes(gateway.RouteDeps{Access: access.NewAuthorizer(d.client), Audit: d},
		OIDCRoutes(OIDCDeps{Client: d.client, Sessions: d.sessions, Tokens: d.tokens})...)
	if err != nil {
		t.Fatal(err)
	}
	d.handler, err = gateway.NewHandler(gateway.Config{
		Upstream: &rest.Config{Host: "http://127.0.0.1:1"}, Authenticators: []gateway.Authenticator{d.sessions}, Routes: routes,
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// get asks the server as a browser with these cookies.
func (d *directory) get(address string, cookies ...*http.Cookie) *http.Response {
	r := httptest.NewRequest(http.MethodGet, address, nil)
	r.Host = directoryHost
	for _, c := range cookies {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	d.handler.ServeHTTP(w, r)
	return w.Result()
}

// begin opens the start page and logs in at the provider; it gives where the browser is sent, with its cookie.
func (d *directory) begin(t *testing.T, query string) (string, *http.Cookie) {
	t.Helper()
	started := d.get("/slipway/v1/oidc/start" + query)
	cookie := setCookieOf(started, oidcCookie)
	if started.StatusCode != http.StatusSeeOther || cookie == nil {
		t.Fatalf("start answers %s: %s", started.Status, dumpOf(t, started))
	}
	if !cookie.Secure || !cookie.HttpOnly || cookie.Path != "/" || cookie.Domain != "" || cookie.SameSite != http.SameSiteLaxMode || cookie.MaxAge > 600 {
		t.Errorf("the browser's cookie is %s", cookie)
	}
	back := d.Login(t, started.Header.Get("Location"))
	if back.Host != directoryHost {
		t.Fatalf("the provider sends the browser to %s", back)
	}
	return back.RequestURI(), cookie
}

func setCookieOf(r *http.Response, name string) *http.Cookie {
	for _, c := range r.Cookies() {
		if c.Name == name && c.MaxAge >= 0 {
			return c
		}
	}
	return nil
}

func dumpOf(t *testing.T, r *http.Response) string {
	t.Helper()
	var b strings.Builder
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// person gives who the server takes a request with the cookie or the token for, nil for nobody.
func (d *directory) person(t *testing.T, authenticator gateway.Authenticator, cookie *http.Cookie, token string) user.Info {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/apis", nil)
	if cookie != nil {
		r.AddCookie(cookie)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	who, ok, err := authenticator.Authenticate(r)
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		return nil
	}
	return who
}

func TestOIDCLogsBrowserIn(t *testing.T) {
	d := newDirectory(t, &v1alpha1.User{ObjectMeta: metav1.ObjectMeta{Name: "alice"}})
	back, binding := d.begin(t, "")
	answer := d.get(back, binding)
	session := setCookieOf(answer, auth.SessionCookie)
	if answer.StatusCode != http.StatusSeeOther || answer.Header.Get("Location") != afterLogin || session == nil {
		t.Fatalf("callback answers %s", dumpOf(t, answer))
	}
	who := d.person(t, d.sessions, session, "")
	if who == nil {
		t.Fatal("the session is nobody's")
	}
	// Not "alice": that is a local account.
	if diff := cmp.Diff("oidc:alice", who.GetName()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"oidc:dev", "oidc:ops", "slipway:system-administrators", "system:authenticated"}, who.GetGroups()); diff != "" {
		t.Error(diff)
	}
	if want := (audit.Event{Actor: "oidc:alice", From: "192.0.2.1", Verb: "login", Code: 303, Result: audit.Allowed}); !cmp.Equal(want, d.events[0]) {
		t.Errorf("the audit log has %+v", d.events)
	}
	var u v1alpha1.User
	if err := d.client.Get(t.Context(), client.ObjectKey{Name: oidc.UserName(d.Issuer(), "subject-of-alice")}, &u); err != nil || u.Spec.PlatformRole != "" {
		t.Errorf("the User has role %q, %v; the groups give the role", u.Spec.PlatformRole, err)
	}
	var setting v1alpha1.Setting
	if err := d.client.Get(t.Context(), client.ObjectKey{Name: v1alpha1.SettingLogin}, &setting); err != nil {
		t.Fatal(err)
	}
	setting.Spec.Login.OIDC.SystemAdministratorGroups = nil
	if err := d.client.Update(t.Context(), &setting); err != nil {
		t.Fatal(err)
	}
	if who := d.person(t, d.sessions, session, ""); who == nil || slices.Contains(who.GetGroups(), access.SystemAdministrators) {
		t.Errorf("after the setting took the role away the session is %v", who)
	}
	u.Spec.Disabled = true
	if err := d.client.Update(t.Context(), &u); err != nil {
		t.Fatal(err)
	}
	if who := d.person(t, d.sessions, session, ""); who != nil {
		t.Errorf("a disabled person's session still is %v", who)
	}
}

func TestOIDCLoginTakesThePlaceOfASession(t *testing.T) {
	d := newDirectory(t)
	back, binding := d.begin(t, "")
	first := setCookieOf(d.get(back, binding), auth.SessionCookie)
	back, binding = d.begin(t, "")
	second := setCookieOf(d.get(back, binding, first), auth.SessionCookie)
	if d.person(t, d.sessions, first, "") != nil {
		t.Error("a session lives on of which no browser has the cookie any more")
	}
	if d.person(t, d.sessions, second, "") == nil {
		t.Error("the second login has no session")
	}
}

func TestOIDCRefusesBrowser(t *testing.T) {
	aliceName := func(d *directory) string { return oidc.UserName(d.Issuer(), "subject-of-alice") }
	for name, c := range map[string]struct {
		reason string
		// given may change the world and what the browser brings back.
		given func(t *testing.T, d *directory, back string, binding *http.Cookie) (string, *http.Cookie)
		code  int
		want  string
	}{
		"wrong state": {reason: "a login that nobody began here", code: http.StatusBadRequest, want: "log in again",
			given: func(_ *testing.T, _ *directory, back string, b *http.Cookie) (string, *http.Cookie) {
				return strings.Replace(back, "state=", "state=x", 1), b
			}},
		"no state": {reason: "an answer of no login", code: http.StatusBadRequest, want: "log in again",
			given: func(_ *testing.T, _ *directory, _ string, b *http.Cookie) (string, *http.Cookie) {
				return oidcCallback + "?code=x", b
			}},
		"replayed": {reason: "the address of a login in a history or a log is worth nothing", code: http.StatusBadRequest, want: "used already",
			given: func(t *testing.T, d *directory, back string, b *http.Cookie) (string, *http.Cookie) {
				if first := d.get(back, b); first.StatusCode != http.StatusSeeOther {
					t.Fatal(first.Status)
				}
				return back, b
			}},
		"other browser": {reason: "an attacker's login must not be finished in the victim's browser", code: http.StatusBadRequest, want: "another browser",
			given: func(t *testing.T, d *directory, back string, _ *http.Cookie) (string, *http.Cookie) {
				_, other := d.begin(t, "")
				return back, other
			}},
		"no cookie": {reason: "as another browser", code: http.StatusBadRequest, want: "another browser",
			given: func(_ *testing.T, _ *directory, back string, _ *http.Cookie) (string, *http.Cookie) { return back, nil }},
		"system:masters": {reason: "a directory must not say who is root", code: http.StatusForbidden, want: "belong to the platform",
			given: func(_ *testing.T, d *directory, back string, b *http.Cookie) (string, *http.Cookie) {
				d.Claims["groups"] = []string{"system:masters"}
				return back, b
			}},
		"disabled": {reason: "an administrator shut the person out", code: http.StatusForbidden, want: "disabled",
			given: func(t *testing.T, d *directory, back string, b *http.Cookie) (string, *http.Cookie) {
				d.create(t, &v1alpha1.User{ObjectMeta: metav1.ObjectMeta{Name: aliceName(d)}, Spec: v1alpha1.UserSpec{Disabled: true,
					Directory: &v1alpha1.DirectoryIdentity{Issuer: d.Issuer(), Subject: "subject-of-alice", Username: "alice"}}})
				return back, b
			}},
		"name taken": {reason: "another person's roles", code: http.StatusForbidden, want: "belongs to another person",
			given: func(t *testing.T, d *directory, back string, b *http.Cookie) (string, *http.Cookie) {
				d.create(t, &v1alpha1.User{ObjectMeta: metav1.ObjectMeta{Name: oidc.UserName(d.Issuer(), "old")}, Spec: v1alpha1.UserSpec{
					Directory: &v1alpha1.DirectoryIdentity{Issuer: d.Issuer(), Subject: "old", Username: "alice"}}})
				return back, b
			}},
		"turned down": {reason: "what the provider says is shown as text, never as a page", code: http.StatusForbidden, want: "&lt;script&gt;",
			given: func(_ *testing.T, _ *directory, back string, b *http.Cookie) (string, *http.Cookie) {
				return back + "&error=" + url.QueryEscape("<script>"), b
			}},
		"provider down": {reason: "it went away while the person logged in", code: http.StatusServiceUnavailable, want: "log in with a local account",
			given: func(_ *testing.T, d *directory, back string, b *http.Cookie) (string, *http.Cookie) {
				d.Stop()
				return back, b
			}},
		"set-up removed": {reason: "an administrator took the provider away meanwhile", code: http.StatusNotFound, want: "not set up",
			given: func(t *testing.T, d *directory, back string, b *http.Cookie) (string, *http.Cookie) {
				if err := d.client.Delete(t.Context(), &v1alpha1.Setting{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.SettingLogin}}); err != nil {
					t.Fatal(err)
				}
				return back, b
			}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDirectory(t)
			back, binding := d.begin(t, "")
			back, binding = c.given(t, d, back, binding)
			d.events = nil
			var cookies []*http.Cookie
			if binding != nil {
				cookies = append(cookies, binding)
			}
			answer := d.get(back, cookies...)
			page := dumpOf(t, answer)
			if answer.StatusCode != c.code || !strings.Contains(page, c.want) || !strings.Contains(page, `href="/slipway/login"`) {
				t.Errorf("%s: %s", c.reason, page)
			}
			if setCookieOf(answer, auth.SessionCookie) != nil || strings.Contains(page, "<script>") {
				t.Errorf("%s: the answer has a session or a script: %s", c.reason, page)
			}
			if len(d.events) != 1 || d.events[0].Result == audit.Allowed || !strings.Contains(d.events[0].Detail["reason"], strings.TrimPrefix(c.want, "&lt;script&gt;")) {
				t.Errorf("%s: the audit log has %+v", c.reason, d.events)
			}
		})
	}
}

func (d *directory) create(t *testing.T, o client.Object) {
	t.Helper()
	if err := d.client.Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

func TestOIDCStartWithoutProvider(t *testing.T) {
	d := newDirectory(t)
	d.Stop()
	answer := d.get("/slipway/v1/oidc/start")
	page := dumpOf(t, answer)
	if answer.StatusCode != http.StatusServiceUnavailable || !strings.Contains(page, "log in with a local account") || strings.Contains(page, "127.0.0.1") {
		t.Errorf("a provider that is down answers %s", page)
	}
}

const (
	programVerifier = "the-verifier-that-the-program-keeps-to-itself-for-now"
	programPort     = "40404"
)

func challengeOf(secret string) string {
	digest := sha256.Sum256([]byte(secret))
	return base64.RawURLEncoding.EncodeToString(digest[:])
}

// code logs a program's person in and gives the code that the browser brings to the program.
func (d *directory) code(t *testing.T) string {
	t.Helper()
	back, binding := d.begin(t, "?cli="+programPort+"&challenge="+challengeOf(programVerifier))
	answer := d.get(back, binding)
	to, err := answer.Location()
	if err != nil || to.Scheme != "http" || to.Host != "127.0.0.1:"+programPort || to.Path != "/" {
		t.Fatalf("the browser is sent to %v, %v: %s", to, err, dumpOf(t, answer))
	}
	if setCookieOf(answer, auth.SessionCookie) != nil {
		t.Error("the login of a program opened a session in the browser")
	}
	return to.Query().Get("code")
}

func (d *directory) exchange(code, secret string) *http.Response {
	body := fmt.Sprintf(`{"code":%q,"verifier":%q}`, code, secret)
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/slipway/v1/oidc/exchange", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	d.handler.ServeHTTP(w, r)
	return w.Result()
}

func TestOIDCLogsProgramIn(t *testing.T) {
	d := newDirectory(t)
	answer := d.exchange(d.code(t), programVerifier)
	var token entered
	if err := json.NewDecoder(answer.Body).Decode(&token); err != nil || answer.StatusCode != http.StatusOK {
		t.Fatal(answer.Status, err)
	}
	who := d.person(t, d.tokens, nil, token.Token)
	if who == nil || token.Identity != "oidc:alice" || who.GetName() != "oidc:alice" || !slices.Contains(who.GetGroups(), "oidc:dev") {
		t.Errorf("the token is of %v", who)
	}
	if life := time.Until(token.Expires); life > 3*time.Hour || life < 2*time.Hour {
		t.Errorf("the token lives for %s: what the directory said is believed no longer than in a session", life)
	}
	last := d.events[len(d.events)-1]
	if last.Verb != "login" || last.Actor != "oidc:alice" || last.Result != audit.Allowed {
		t.Errorf("the audit log has %+v", last)
	}
}

func TestOIDCExchangeRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		try    func(t *testing.T, d *directory, code string) *http.Response
	}{
		"stolen": {reason: "another program saw the code", try: func(_ *testing.T, d *directory, code string) *http.Response {
			return d.exchange(code, strings.Repeat("x", 43))
		}},
		"no verifier": {reason: "the code alone", try: func(_ *testing.T, d *directory, code string) *http.Response { return d.exchange(code, "") }},
		"challenge": {reason: "the challenge went through the browser, so it is no secret", try: func(_ *testing.T, d *directory, code string) *http.Response {
			return d.exchange(code, challengeOf(programVerifier))
		}},
		"no code": {reason: "a verifier alone", try: func(_ *testing.T, d *directory, _ string) *http.Response { return d.exchange("", programVerifier) }},
		"after a wrong try": {reason: "who guesses once burns the code", try: func(_ *testing.T, d *directory, code string) *http.Response {
			d.exchange(code, strings.Repeat("x", 43))
			return d.exchange(code, programVerifier)
		}},
		"twice": {reason: "a code gives one token", try: func(t *testing.T, d *directory, code string) *http.Response {
			if first := d.exchange(code, programVerifier); first.StatusCode != http.StatusOK {
				t.Fatal(first.Status)
			}
			return d.exchange(code, programVerifier)
		}},
		"disabled meanwhile": {reason: "an administrator was faster", try: func(t *testing.T, d *directory, code string) *http.Response {
			var u v1alpha1.User
			if err := d.client.Get(t.Context(), client.ObjectKey{Name: oidc.UserName(d.Issuer(), "subject-of-alice")}, &u); err != nil {
				t.Fatal(err)
			}
			u.Spec.Disabled = true
			if err := d.client.Update(t.Context(), &u); err != nil {
				t.Fatal(err)
			}
			return d.exchange(code, programVerifier)
		}},
		"made anew meanwhile": {reason: "another account of the same name", try: func(t *testing.T, d *directory, code string) *http.Response {
			name := oidc.UserName(d.Issuer(), "subject-of-alice")
			if err := d.client.Delete(t.Context(), &v1alpha1.User{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
				t.Fatal(err)
			}
			d.create(t, &v1alpha1.User{ObjectMeta: metav1.ObjectMeta{Name: name, UID: "another"}, Spec: v1alpha1.UserSpec{
				Directory: &v1alpha1.DirectoryIdentity{Issuer: d.Issuer(), Subject: "subject-of-alice", Username: "alice"}}})
			return d.exchange(code, programVerifier)
		}},
		"deleted meanwhile": {reason: "as disabled", try: func(t *testing.T, d *directory, code string) *http.Response {
			if err := d.client.DeleteAllOf(t.Context(), &v1alpha1.User{}); err != nil {
				t.Fatal(err)
			}
			return d.exchange(code, programVerifier)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDirectory(t)
			answer := c.try(t, d, d.code(t))
			body := dumpOf(t, answer)
			if answer.StatusCode != http.StatusUnauthorized && answer.StatusCode != http.StatusForbidden || strings.Contains(body, "slp_") {
				t.Errorf("%s: %s", c.reason, body)
			}
			if last := d.events[len(d.events)-1]; last.Result != audit.Refused {
				t.Errorf("%s: the audit log has %+v", c.reason, last)
			}
		})
	}
}

func TestOIDCStartRefusesProgram(t *testing.T) {
	good := challengeOf(programVerifier)
	for name, query := range map[string]string{
		"no challenge: any program could use the code":  "?cli=40404",
		"no port: there is nobody to send the code to":  "?challenge=" + good,
		"a port of the system":                          "?cli=443&challenge=" + good,
		"not a port":                                    "?cli=65536&challenge=" + good,
		"another host":                                  "?cli=1@evil.example:80&challenge=" + good,
		"a challenge that is shorter than its digest":   "?cli=40404&challenge=abc",
		"a challenge with padding, which never matches": "?cli=40404&challenge=" + good + "%3D",
	} {
		d := newDirectory(t)
		if answer := d.get("/slipway/v1/oidc/start" + query); answer.StatusCode != http.StatusBadRequest || answer.Header.Get("Location") != "" {
			t.Errorf("%s: %s", name, dumpOf(t, answer))
		}
	}
}
