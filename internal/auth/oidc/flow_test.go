package oidc_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/auth/oidc"
	"slipway.dev/slipway/internal/auth/oidc/oidctest"
)

const redirect = "https://slipway.example:8443" + oidctest.Callback

func newClient(t *testing.T, objects ...client.Object) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return clientfake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
}

func loginSetting(o v1alpha1.OIDCSetting) *v1alpha1.Setting {
	return &v1alpha1.Setting{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.SettingLogin},
		Spec:       v1alpha1.SettingSpec{Login: &v1alpha1.LoginSetting{OIDC: &o}},
	}
}

func clientSecret(kind corev1.SecretType) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: "sso"}, Type: kind,
		Data: map[string][]byte{oidc.SecretKey: []byte(oidctest.ClientSecret)},
	}
}

// begin gives the provider of the setting, a login at it, and what the browser brings back.
func begin(t *testing.T, p *oidctest.Provider, providers *oidc.Providers) (*oidc.Provider, oidc.Flow, url.Values) {
	t.Helper()
	current, err := providers.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	address, flow := current.Begin(redirect)
	back := p.Login(t, address)
	if got := back.Query().Get("state"); got != flow.State {
		t.Fatalf("state is %q, not %q", got, flow.State)
	}
	return current, flow, back.Query()
}

func TestLogin(t *testing.T) {
	alice := oidc.Person{Subject: "subject-of-alice", Username: "alice", Email: "alice@corp.example", DisplayName: "Alice Li", Groups: []string{"dev", "ops"}}
	with := func(change func(*oidc.Person)) oidc.Person {
		p := alice
		change(&p)
		return p
	}
	claim := func(name string, value any) func(*oidctest.Provider, *v1alpha1.OIDCSetting) {
		return func(p *oidctest.Provider, _ *v1alpha1.OIDCSetting) { p.Claims[name] = value }
	}
	sign := func(how func(*oidctest.Provider, map[string]any) string) func(*oidctest.Provider, *v1alpha1.OIDCSetting) {
		return func(p *oidctest.Provider, _ *v1alpha1.OIDCSetting) { p.Sign = how }
	}
	for name, c := range map[string]struct {
		reason string
		given  func(*oidctest.Provider, *v1alpha1.OIDCSetting)
		want   oidc.Person
		// refused is in the message for the person, because in the cause for the log.
		refused, because string
	}{
		"person":         {reason: "the plain case, with a confidential client", want: alice},
		"public client":  {reason: "PKCE alone must do", given: func(p *oidctest.Provider, s *v1alpha1.OIDCSetting) { p.Public, s.ClientSecretName = true, "" }, want: alice},
		"secret in form": {reason: "some providers take the secret only so", given: func(p *oidctest.Provider, _ *v1alpha1.OIDCSetting) { p.AuthMethod = "client_secret_post" }, want: alice},
		"wrong secret": {reason: "a wrong secret is the administrator's matter, not the person's",
			given: func(p *oidctest.Provider, s *v1alpha1.OIDCSetting) { s.ClientSecretName = "" }, because: "invalid_client"},
		"issuer named": {reason: "RFC 9207: the right issuer passes", given: func(p *oidctest.Provider, _ *v1alpha1.OIDCSetting) { p.NamesItself = true }, want: alice},
		"issuer mixed": {reason: "RFC 9207: an answer of another provider is a mix-up", given: func(p *oidctest.Provider, _ *v1alpha1.OIDCSetting) { p.AnswersAs = "https://evil.example" }, refused: "another provider"},
		"other scopes": {reason: "openid is always asked for: without it there is no ID token", given: func(_ *oidctest.Provider, s *v1alpha1.OIDCSetting) { s.Scopes = []string{"profile"} }, want: alice},
		"one group":    {reason: "some providers send one group as a string", given: claim("groups", "ops"), want: with(func(p *oidc.Person) { p.Groups = []string{"ops"} })},
		"no groups":    {reason: "without the claim the person has no groups, and logs in", given: claim("groups", nil), want: with(func(p *oidc.Person) { p.Groups = nil })},
		"groups twice": {reason: "a group counts once", given: claim("groups", []string{"b", "a", "b"}), want: with(func(p *oidc.Person) { p.Groups = []string{"a", "b"} })},
		"other claims": {reason: "the claims are settings", given: func(p *oidctest.Provider, s *v1alpha1.OIDCSetting) {
			s.UsernameClaim, s.GroupsClaim = "email", "roles"
			p.Claims["roles"] = "r"
		}, want: with(func(p *oidc.Person) { p.Username, p.Groups = "alice@corp.example", []string{"r"} })},
		"bad address":  {reason: "an address that a User cannot hold keeps nobody out", given: claim("email", "a@b@c"), want: with(func(p *oidc.Person) { p.Email = "" })},
		"display name": {reason: "what a terminal would obey is taken out", given: claim("name", "Al\x1b[2Jice\u202e"), want: with(func(p *oidc.Person) { p.DisplayName = "Al[2Jice" })},
		"clock behind": {reason: "half a minute between two clocks is normal", given: claim("exp", time.Now().Add(-30*time.Second).Unix()), want: alice},
		"expired":      {reason: "a token of yesterday", given: claim("exp", time.Now().Add(-24*time.Hour).Unix()), refused: "not valid", because: "expired"},
		"no expiry":    {reason: "a token without an end would be one for ever", given: claim("exp", nil), refused: "not valid", because: "expired"},
		"other issuer": {reason: "a token of another provider, signed with this one's key", given: claim("iss", "https://evil.example"), refused: "not valid", because: "different provider"},
		"other client": {reason: "a token that another client of the provider got", given: claim("aud", "wiki"), refused: "not valid", because: "audience"},
		"other party": {reason: "one of several audiences, but asked for by another", given: func(p *oidctest.Provider, _ *v1alpha1.OIDCSetting) {
			p.Claims["aud"] = []string{oidctest.ClientID, "wiki"}
			p.Claims["azp"] = "wiki"
		}, refused: "another client"},
		"no party":     {reason: "several audiences and no word of who asked", given: claim("aud", []string{oidctest.ClientID, "wiki"}), refused: "another client"},
		"wrong nonce":  {reason: "a token of another login", given: claim("nonce", "x"), refused: "another login"},
		"no nonce":     {reason: "a token of a login that nobody began here", given: claim("nonce", nil), refused: "another login"},
		"alg none":     {reason: "the discovery document lists it; it must not count all the same", given: sign(oidctest.None), refused: "not valid", because: "alg"},
		"alg confused": {reason: "the public key as a shared secret", given: sign(oidctest.Confused), refused: "not valid", because: "alg"},
		"alg shared":   {reason: "HS256 with the client's secret: who knows that could be anyone", given: sign(oidctest.Shared), refused: "not valid", because: "alg"},
		"foreign key":  {reason: "a key that the provider does not have", given: sign(oidctest.Foreign), refused: "not valid", because: "signature"},
		"no username":  {reason: "nobody is called nothing", given: claim("preferred_username", nil), refused: "claim preferred_username is missing"},
		"no subject":   {reason: "without it two people cannot be told apart", given: claim("sub", nil), refused: "no usable subject"},
		"verified word": {reason: "some providers send true as a string", given: func(p *oidctest.Provider, s *v1alpha1.OIDCSetting) {
			s.UsernameClaim = "email"
			p.Claims["email_verified"] = "true"
		}, want: with(func(p *oidc.Person) { p.Username = "alice@corp.example" })},
		"unverified": {reason: "anyone can claim an address", given: func(p *oidctest.Provider, s *v1alpha1.OIDCSetting) {
			s.UsernameClaim = "email"
			p.Claims["email_verified"] = false
		}, refused: "not verified"},
		"system name":   {reason: "a name of Kubernetes", given: claim("preferred_username", "system:masters"), refused: "belong to the platform"},
		"system group":  {reason: "the group that may do everything", given: claim("groups", []string{"dev", "system:masters"}), refused: "belong to the platform"},
		"slipway group": {reason: "our own group", given: claim("groups", "slipway:system-administrators"), refused: "belong to the platform"},
		"odd case":      {reason: "people read it the same", given: claim("groups", "System:Masters"), refused: "belong to the platform"},
		"line end":      {reason: "a name goes into headers and logs", given: claim("preferred_username", "alice\r\nImpersonate-Group: system:masters"), refused: "cannot be used"},
		"turned":        {reason: "a name that reads as another", given: claim("preferred_username", "a\u202ecila"), refused: "cannot be used"},
		"blank":         {reason: "it would look like alice", given: claim("preferred_username", "alice "), refused: "cannot be used"},
		"long name":     {reason: "a User cannot hold it", given: claim("preferred_username", strings.Repeat("a", 254)), refused: "more than 253"},
		"long group":    {reason: "as the name", given: claim("groups", strings.Repeat("a", 254)), refused: "more than 253"},
		"many groups":   {reason: "each request would carry them all", given: claim("groups", strings.Split(strings.Repeat("g,", 501)+"g", ",")), refused: "502 groups"},
		"group numbers": {reason: "what is not a name is not guessed at", given: claim("groups", []int{1}), refused: "neither a list"},
	} {
		t.Run(name, func(t *testing.T) {
			p := oidctest.Start(t)
			setting := p.Setting()
			setting.ClientSecretName = "sso"
			if c.given != nil {
				c.given(p, &setting)
			}
			providers := oidc.NewProviders(newClient(t, loginSetting(setting), clientSecret(v1alpha1.SecretTypeCredential)))
			current, flow, back := begin(t, p, providers)
			got, err := current.Finish(t.Context(), flow, back)
			var refused *oidc.Refused
			switch errors.As(err, &refused); {
			case c.refused == "" && c.because == "":
				c.want.Issuer = p.Issuer()
				if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
					t.Errorf("%s: %v\n%s", c.reason, err, diff)
				}
			case c.refused == "" && (refused != nil || err == nil || !strings.Contains(err.Error(), c.because)):
				t.Errorf("%s: error is %v, want one for the log with %q", c.reason, err, c.because)
			case c.refused != "" && (refused == nil || !strings.Contains(refused.Message, c.refused) || !strings.Contains(err.Error(), c.because)):
				t.Errorf("%s: error is %v, want a refusal with %q and %q", c.reason, err, c.refused, c.because)
			}
			if err != nil && got.Username != "" {
				t.Errorf("%s: a person comes with the error: %+v", c.reason, got)
			}
		})
	}
}

func TestLoginBelongsToItsFlow(t *testing.T) {
	p := oidctest.Start(t)
	p.Public = true
	c := newClient(t, loginSetting(p.Setting()))
	providers := oidc.NewProviders(c)
	current, flow, back := begin(t, p, providers)
	_, other, _ := begin(t, p, providers)

	if _, err := current.Finish(t.Context(), other, back); !refusedWith(err, "did not accept") {
		t.Errorf("a code redeemed with the verifier of another login: %v", err)
	}
	if _, err := current.Finish(t.Context(), flow, back); !refusedWith(err, "did not accept") {
		t.Errorf("a code that was tried before: %v", err)
	}
	_, flow, back = begin(t, p, providers)
	if _, err := current.Finish(t.Context(), flow, back); err != nil {
		t.Fatal(err)
	}
	if _, err := current.Finish(t.Context(), flow, back); !refusedWith(err, "did not accept") {
		t.Errorf("a code that was used before: %v", err)
	}
	if _, err := current.Finish(t.Context(), flow, url.Values{"state": {flow.State}, "error": {"access_denied\x1b"}}); !refusedWith(err, "did not log you in: access_denied") || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("a person who was turned down at the provider: %v", err)
	}

	_, flow, back = begin(t, p, providers)
	changed := loginSetting(p.Setting())
	changed.Spec.Login.OIDC.GroupsClaim = "roles"
	replace(t, c, changed)
	now, err := providers.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := now.Finish(t.Context(), flow, back); !refusedWith(err, "settings of the directory have changed") {
		t.Errorf("a login that began under other settings: %v", err)
	}
}

func TestKeyRotation(t *testing.T) {
	p := oidctest.Start(t)
	p.Public = true
	providers := oidc.NewProviders(newClient(t, loginSetting(p.Setting())))
	for i, rotate := range []bool{false, false, true, false} {
		if rotate {
			p.RotateKey(t)
		}
		current, flow, back := begin(t, p, providers)
		if _, err := current.Finish(t.Context(), flow, back); err != nil {
			t.Errorf("login %d: %v", i, err)
		}
	}
	if n := p.Requests("keys"); n != 2 {
		t.Errorf("the keys were read %d times; once for each key is enough", n)
	}
	if n := p.Requests(".well-known/openid-configuration"); n != 1 {
		t.Errorf("the discovery document was read %d times", n)
	}
}

func replace(t *testing.T, c client.Client, object client.Object) {
	t.Helper()
	now := object.DeepCopyObject().(client.Object)
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(object), now); err != nil {
		t.Fatal(err)
	}
	object.SetResourceVersion(now.GetResourceVersion())
	if err := c.Update(t.Context(), object); err != nil {
		t.Fatal(err)
	}
}

func refusedWith(err error, text string) bool {
	var refused *oidc.Refused
	return errors.As(err, &refused) && strings.Contains(refused.Message, text)
}

func TestProviders(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		given  func(*oidctest.Provider, *v1alpha1.OIDCSetting) client.Object
		want   string
	}{
		"no such secret": {reason: "the Secret comes after the Setting", given: func(_ *oidctest.Provider, s *v1alpha1.OIDCSetting) client.Object {
			s.ClientSecretName = "sso"
			return nil
		}, want: "not found"},
		"other secret": {reason: "a Setting must not send a cluster's keys to a provider",
			given: func(_ *oidctest.Provider, s *v1alpha1.OIDCSetting) client.Object {
				s.ClientSecretName = "sso"
				return clientSecret(v1alpha1.SecretTypeKeys)
			}, want: "not of type slipway.dev/credential"},
		"down":           {reason: "nobody listens", given: func(p *oidctest.Provider, _ *v1alpha1.OIDCSetting) client.Object { p.Stop(); return nil }, want: "cannot read the discovery document"},
		"unknown CA":     {reason: "someone in the middle", given: func(_ *oidctest.Provider, s *v1alpha1.OIDCSetting) client.Object { s.CA = ""; return nil }, want: "certificate"},
		"no CA":          {reason: "a CA that is none must not mean: trust the system's", given: func(_ *oidctest.Provider, s *v1alpha1.OIDCSetting) client.Object { s.CA = "x"; return nil }, want: "no PEM"},
		"other issuer":   {reason: "the document of another realm", given: discovery("issuer", "https://other.example"), want: "did not match"},
		"plain address":  {reason: "codes and secrets never go in the clear", given: discovery("token_endpoint", "http://127.0.0.1/token"), want: "https address"},
		"no address":     {reason: "half a document", given: discovery("authorization_endpoint", ""), want: "https address"},
		"no PKCE":        {reason: "plain is not PKCE", given: discovery("code_challenge_methods_supported", []string{"plain"}), want: "S256"},
		"endless answer": {reason: "a provider must not fill the memory", given: discovery("x", strings.Repeat("x", 2<<20)), want: "decode"},
	} {
		t.Run(name, func(t *testing.T) {
			p := oidctest.Start(t)
			setting := p.Setting()
			var objects []client.Object
			if o := c.given(p, &setting); o != nil {
				objects = append(objects, o)
			}
			_, err := oidc.NewProviders(newClient(t, append(objects, loginSetting(setting))...)).Current(t.Context())
			if err == nil || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 500 {
				t.Errorf("%s: error is %v, want %q", c.reason, err, c.want)
			}
		})
	}
}

func discovery(name string, value any) func(*oidctest.Provider, *v1alpha1.OIDCSetting) client.Object {
	return func(p *oidctest.Provider, _ *v1alpha1.OIDCSetting) client.Object {
		p.Discovery = map[string]any{name: value}
		return nil
	}
}

func TestProvidersFollowTheSetting(t *testing.T) {
	p := oidctest.Start(t)
	p.Discovery = map[string]any{"issuer": "https://wrong.example"}
	setting := p.Setting()
	setting.ClientSecretName = "sso"
	c := newClient(t)
	providers := oidc.NewProviders(c)
	if _, err := providers.Current(t.Context()); !errors.Is(err, oidc.ErrNone) {
		t.Errorf("without a Setting: %v", err)
	}
	for _, o := range []client.Object{loginSetting(setting), clientSecret(v1alpha1.SecretTypeCredential)} {
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if _, err := providers.Current(t.Context()); err == nil {
			t.Error("a document with another issuer passes")
		}
	}
	if n := p.Requests(".well-known/openid-configuration"); n != 1 {
		t.Errorf("a failing provider was asked %d times in a moment", n)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	p.Discovery = nil
	setting.GroupsClaim = "roles"
	replace(t, c, loginSetting(setting))
	if _, err := providers.Current(gone); err == nil {
		t.Error("a client that has gone gets an answer")
	}
	first, err := providers.Current(t.Context())
	if err != nil {
		t.Fatalf("after the setting changed, and one client had gone: %v", err)
	}
	if again, err := providers.Current(t.Context()); again != first || err != nil {
		t.Errorf("the same setting gives another provider: %v", err)
	}
	secret := clientSecret(v1alpha1.SecretTypeCredential)
	secret.Data[oidc.SecretKey] = []byte("another")
	replace(t, c, secret)
	if changed, err := providers.Current(t.Context()); changed == first || err != nil {
		t.Errorf("another secret gives the same provider: %v", err)
	}
}
