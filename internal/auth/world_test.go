package auth

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/user"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"slipway.dev/slipway/api/v1alpha1"
)

// cheap keeps the tests quick; one case uses what people get.
func cheap() Argon2 { return Argon2{MemoryKiB: 64, Passes: 1, Lanes: 1} }

// world is the API with everything of this package on it.
type world struct {
	client   client.WithWatch
	sessions *Sessions
	tokens   *Tokens
	accounts *Accounts
	setup    *Setup
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	return newWorldWith(t, interceptor.Funcs{}, objects...)
}

func newWorldWith(t *testing.T, funcs interceptor.Funcs, objects ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{client: clientfake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(funcs).Build()}
	w.sessions, w.tokens = NewSessions(w.client), NewTokens(w.client)
	w.accounts = NewAccounts(AccountsConfig{Client: w.client, Sessions: w.sessions, Tokens: w.tokens, Argon2: cheap()})
	w.setup = NewSetup(w.accounts)
	return w
}

func person(name string, change ...func(*v1alpha1.User)) *v1alpha1.User {
	u := &v1alpha1.User{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-of-" + name)}}
	for _, c := range change {
		c(u)
	}
	return u
}

func setting(login v1alpha1.LoginSetting) *v1alpha1.Setting {
	return &v1alpha1.Setting{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.SettingLogin}, Spec: v1alpha1.SettingSpec{Login: &login}}
}

// user gives a User as it is stored now.
func (w *world) user(t *testing.T, name string) *v1alpha1.User {
	t.Helper()
	u, err := w.accounts.User(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// open opens a session and gives its cookie.
func (w *world) open(t *testing.T, name string, origin Origin, groups ...string) *http.Cookie {
	t.Helper()
	s, err := w.sessions.Open(t.Context(), w.user(t, name), groups, origin)
	if err != nil {
		t.Fatal(err)
	}
	return s.Cookie()
}

// mint makes a token for a person.
func (w *world) mint(t *testing.T, who user.Info, request TokenRequest) *Token {
	t.Helper()
	if request.Name == "" {
		request.Name = "test"
	}
	token, err := w.tokens.Mint(t.Context(), who, request)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// who gives the person who logged in as that user.
func (w *world) who(t *testing.T, name string) user.Info {
	t.Helper()
	return w.mustBe(t, w.sessions, withCookie("GET", w.open(t, name, Origin{})))
}

// mustBe authenticates a request.
func (w *world) mustBe(t *testing.T, a interface {
	Authenticate(*http.Request) (user.Info, bool, error)
}, r *http.Request) user.Info {
	t.Helper()
	who, ok, err := a.Authenticate(r)
	if err != nil || !ok {
		t.Fatalf("not authenticated: %v", err)
	}
	return who
}

func (w *world) update(t *testing.T, u *v1alpha1.User) {
	t.Helper()
	if err := w.client.Update(t.Context(), u); err != nil {
		t.Fatal(err)
	}
}

// secrets gives the names of the Secrets of a type.
func (w *world) secrets(t *testing.T, secretType corev1.SecretType) []string {
	t.Helper()
	var list corev1.SecretList
	if err := w.client.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range list.Items {
		if s.Type == secretType {
			names = append(names, s.Name)
		}
	}
	return names
}

func withCookie(method string, cookie *http.Cookie, headers ...string) *http.Request {
	r := httptest.NewRequest(method, "https://slipway.example:8443/api/v1/namespaces", nil)
	r.AddCookie(&http.Cookie{Name: cookie.Name, Value: cookie.Value})
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

func withBearer(token string) *http.Request {
	r := httptest.NewRequest("GET", "https://slipway.example:8443/api/v1/namespaces", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

// failing makes one call fail; tests say which.
func failing(err error, when func(client.Object) bool) interceptor.Funcs {
	return interceptor.Funcs{Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
		if when(o) {
			return err
		}
		return c.Get(ctx, key, o, options...)
	}}
}
