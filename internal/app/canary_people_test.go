package app

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/auth"
	"slipway.dev/slipway/internal/secret/secrettest"
)

// logIn does what people do with their passwords, tokens and sessions, rightly and wrongly, and names a secret for an
// identity provider that is not there.
func (i *installation) logIn(t *testing.T, known secrettest.Canaries) {
	t.Helper()
	anonymous, err := rest.HTTPClientFor(rest.AnonymousClientConfig(i.config))
	if err != nil {
		t.Fatal(err)
	}
	bearer := "Bearer " + i.config.BearerToken
	// ask sends a request and keeps the answer, unless it is where a person gets the secret to see, once.
	ask := func(want int, method, path, body, credential string, gives func(*http.Response, []byte)) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, i.config.Host+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		switch {
		case strings.HasPrefix(credential, "Bearer "):
			request.Header.Set("Authorization", credential)
		case credential != "":
			request.Header.Set("Cookie", credential)
			request.Header.Set("Origin", i.config.Host)
		}
		response, err := anonymous.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		answer, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != want {
			t.Errorf("%s %s gave %s %s, want %d", method, path, response.Status, answer, want)
		}
		if gives != nil {
			gives(response, answer)
			return
		}
		fmt.Fprintln(i.said, request.URL.Path, response.Status, response.Header, string(answer))
	}
	token := func(name string) func(*http.Response, []byte) {
		return func(_ *http.Response, answer []byte) {
			var given struct{ Token, Secret string }
			if err := json.Unmarshal(answer, &given); err != nil || given.Token+given.Secret == "" {
				t.Fatalf("no token in %s: %v", answer, err)
			}
			known[name] = given.Token + given.Secret
		}
	}
	session := ""
	cookie := func(name string) func(*http.Response, []byte) {
		return func(response *http.Response, _ []byte) {
			for _, c := range response.Cookies() {
				session = c.Name + "=" + c.Value
				known[name] = c.Value
			}
		}
	}
	_, link, _ := strings.Cut(i.setUp, "#")
	known["set-up link"] = link
	password, next := known.Mint("password of admin"), known.Mint("new password of admin")
	ask(403, "POST", "/slipway/v1/setup", fmt.Sprintf(`{"token":%q,"password":%q}`, known.Mint("wrong set-up link"), known.Mint("wrong first password")), "", nil)
	ask(204, "POST", "/slipway/v1/setup", fmt.Sprintf(`{"token":%q,"password":%q}`, link, password), "", nil)
	ask(401, "POST", "/slipway/v1/login", fmt.Sprintf(`{"user":"admin","password":%q}`, known.Mint("wrong password")), "", nil)
	ask(401, "POST", "/slipway/v1/login", fmt.Sprintf(`{"user":"nobody","password":%q}`, known.Mint("password of nobody")), "", nil)
	ask(400, "POST", "/slipway/v1/login", fmt.Sprintf(`{"user":"admin","passwort":%q}`, known.Mint("password in the wrong field")), "", nil)
	ask(200, "POST", "/slipway/v1/login", fmt.Sprintf(`{"user":"admin","password":%q}`, password), "", cookie("session"))
	ask(200, "POST", "/slipway/v1/login", fmt.Sprintf(`{"user":"admin","password":%q,"token":true}`, password), "", token("token of a login"))
	ask(200, "GET", "/slipway/v1/me", "", session, nil)
	ask(200, "GET", "/slipway/v1/me/tokens", "", session, nil)
	ask(200, "GET", "/slipway/v1/me/sessions", "", session, nil)
	ask(204, "POST", "/slipway/v1/me/password", fmt.Sprintf(`{"current":%q,"new":%q}`, password, next), session, cookie("session after a new password"))
	ask(403, "POST", "/slipway/v1/me/password", fmt.Sprintf(`{"current":%q,"new":%q}`, known.Mint("wrong current password"), known.Mint("refused password")), session, nil)
	if err := i.client.Create(t.Context(), &v1alpha1.User{ObjectMeta: metav1.ObjectMeta{Name: "bob"}}); err != nil {
		t.Fatal(err)
	}
	ask(204, "POST", "/slipway/v1/users/bob/password", fmt.Sprintf(`{"password":%q}`, known.Mint("password of bob")), bearer, nil)
	ask(200, "POST", "/slipway/v1/me/tokens", `{"name":"ci","scope":{},"expiresInHours":1}`, session, token("personal token"))
	ask(401, "GET", "/slipway/v1/me", "", "Bearer "+known.Mint("wrong token"), nil)
	ask(401, "GET", "/slipway/v1/me", "", auth.NoCookie().Name+"="+known.Mint("wrong session"), nil)

	for _, o := range []client.Object{
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: "oidc"}, Type: v1alpha1.SecretTypeCredential,
			StringData: map[string]string{"clientSecret": known.Mint("OIDC client secret")}},
		&v1alpha1.Setting{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.SettingLogin}, Spec: v1alpha1.SettingSpec{Login: &v1alpha1.LoginSetting{
			OIDC: &v1alpha1.OIDCSetting{Issuer: "https://127.0.0.1:1/realm", ClientID: "slipway", ClientSecretName: "oidc"}}}},
	} {
		if err := i.client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	ask(503, "GET", "/slipway/v1/oidc/start", "", "", nil)
	ask(400, "GET", "/slipway/v1/oidc/callback?code="+known.Mint("OIDC code")+"&state=x", "", "", nil)
}
