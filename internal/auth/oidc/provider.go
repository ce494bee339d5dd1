package oidc

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/pki"
)

const (
	// answerTime is how long the provider may take for one answer.
	answerTime = 10 * time.Second
	// maxAnswer is the largest answer of the provider that is read.
	maxAnswer = 1 << 20
	// leeway is how far the provider's clock may be behind ours.
	leeway = time.Minute
)

// Provider is one OpenID Connect provider, as its discovery document describes it. Providers.Current gives one.
type Provider struct {
	setting  v1alpha1.OIDCSetting
	secret   string
	client   *http.Client
	endpoint oauth2.Endpoint
	verifier *gooidc.IDTokenVerifier
	// namesItself says that every answer to a login carries the provider's issuer (RFC 9207).
	namesItself bool
	key         [32]byte
}

// Flow is what one login must bring back. It stays on the server; the browser only carries State.
type Flow struct {
	// State names the login.
	State string
	// nonce must be in the ID token, verifier proves to the provider that the code is redeemed by who asked for it.
	nonce, verifier, redirect string
	key                       [32]byte
}

// discover reads the provider's discovery document.
func discover(ctx context.Context, setting v1alpha1.OIDCSetting, secret string) (*Provider, error) {
	client, err := httpClient(setting.CA)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(gooidc.ClientContext(ctx, client), answerTime)
	defer cancel()
	found, err := gooidc.NewProvider(ctx, setting.Issuer)
	if err != nil {
		return nil, fmt.Errorf("cannot read the discovery document of %s: %w", setting.Issuer, brief(err))
	}
	var document struct {
		Keys        string   `json:"jwks_uri"`
		AuthMethods []string `json:"token_endpoint_auth_methods_supported"`
		PKCE        []string `json:"code_challenge_methods_supported"`
		NamesItself bool     `json:"authorization_response_iss_parameter_supported"`
	}
	if err := found.Claims(&document); err != nil {
		return nil, fmt.Errorf("cannot read the discovery document of %s: %w", setting.Issuer, err)
	}
	endpoint := found.Endpoint()
	for _, address := range []string{endpoint.AuthURL, endpoint.TokenURL, document.Keys} {
		if u, err := url.Parse(address); err != nil || u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("cannot use provider %s: its discovery document has %q where an https address belongs", setting.Issuer, address)
		}
	}
	if len(document.PKCE) > 0 && !slices.Contains(document.PKCE, "S256") {
		return nil, fmt.Errorf("cannot use provider %s: it has no PKCE with S256", setting.Issuer)
	}
	// The library would try both styles and so offer the one code twice.
	endpoint.AuthStyle = oauth2.AuthStyleInHeader
	if secret == "" || (len(document.AuthMethods) > 0 && !slices.Contains(document.AuthMethods, "client_secret_basic")) {
		endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	return &Provider{
		setting: setting, secret: secret, client: client, endpoint: endpoint, namesItself: document.NamesItself,
		// The algorithms are those of the discovery document that use key pairs, RS256 when it names none: never "none" or HS256.
		verifier: found.Verifier(&gooidc.Config{ClientID: setting.ClientID, Now: func() time.Time { return time.Now().Add(-leeway) }}),
	}, nil
}

// Begin gives the address to send a browser to, and what to keep until it comes back to redirect.
func (p *Provider) Begin(redirect string) (string, Flow) {
	f := Flow{State: pki.NewToken(), nonce: pki.NewToken(), verifier: pki.NewToken(), redirect: redirect, key: p.key}
	return p.config(redirect).AuthCodeURL(f.State, gooidc.Nonce(f.nonce), oauth2.S256ChallengeOption(f.verifier)), f
}

// Finish turns what the browser brought back into the person. A *Refused error can be shown to that person; any other
// says that the provider could not be asked and belongs in the log.
func (p *Provider) Finish(ctx context.Context, f Flow, answer url.Values) (Person, error) {
	if p.key != f.key {
		return Person{}, refuse("the settings of the directory have changed; log in again")
	}
	if issuer := answer.Get("iss"); issuer != p.setting.Issuer && (issuer != "" || p.namesItself) {
		return Person{}, refuse("another provider answered this login; log in again")
	}
	if answer.Has("error") {
		return Person{}, refuse("the directory did not log you in: %s", clean(answer.Get("error"), 64))
	}
	ctx, cancel := context.WithTimeout(gooidc.ClientContext(ctx, p.client), answerTime)
	defer cancel()
	token, err := p.config(f.redirect).Exchange(ctx, answer.Get("code"), oauth2.VerifierOption(f.verifier))
	if err != nil {
		return Person{}, exchangeError(p.setting.Issuer, err)
	}
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return Person{}, fmt.Errorf("cannot log in at %s: it gave no ID token; is scope openid allowed for the client?", p.setting.Issuer)
	}
	checked, err := p.verifier.Verify(ctx, raw)
	if err != nil {
		return Person{}, &Refused{Message: "the directory's answer is not valid for this server; log in again", cause: brief(err)}
	}
	if subtle.ConstantTimeCompare([]byte(checked.Nonce), []byte(f.nonce)) != 1 {
		return Person{}, refuse("the directory's answer belongs to another login; log in again")
	}
	return p.person(checked)
}

func (p *Provider) config(redirect string) *oauth2.Config {
	scopes := p.setting.Scopes
	if len(scopes) == 0 {
		scopes = []string{"profile", "email", "groups"}
	}
	return &oauth2.Config{
		ClientID: p.setting.ClientID, ClientSecret: p.secret, Endpoint: p.endpoint, RedirectURL: redirect,
		Scopes: append([]string{gooidc.ScopeOpenID}, slices.DeleteFunc(slices.Clone(scopes), func(s string) bool { return s == gooidc.ScopeOpenID })...),
	}
}

// Refused is a login that was turned down. Message can be shown to the person; Error holds the cause too, for the log.
type Refused struct {
	Message string
	cause   error
}

func refuse(format string, args ...any) error { return &Refused{Message: fmt.Sprintf(format, args...)} }

// Error gives the message and the cause.
func (r *Refused) Error() string {
	if r.cause == nil {
		return r.Message
	}
	return r.Message + ": " + r.cause.Error()
}

// exchangeError tells a code that the provider turned down from a provider that cannot be asked.
func exchangeError(issuer string, err error) error {
	var answered *oauth2.RetrieveError
	if errors.As(err, &answered) && answered.ErrorCode == "invalid_grant" {
		return &Refused{Message: "the directory did not accept this login; log in again", cause: brief(err)}
	}
	return fmt.Errorf("cannot redeem a login at %s: %w", issuer, brief(err))
}

// brief shortens an error: the library puts whole answers of the provider into its own.
func brief(err error) error {
	const most = 300
	if len(err.Error()) <= most {
		return err
	}
	return errors.New(clean(err.Error(), most))
}

// httpClient trusts the given authority, or the system's when there is none, and follows no redirect.
func httpClient(ca string) (*http.Client, error) {
	var roots *x509.CertPool
	if ca != "" {
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM([]byte(ca)) {
			return nil, errors.New("cannot use spec.login.oidc.ca: it holds no PEM certificate")
		}
	}
	return &http.Client{
		Timeout:       answerTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: bounded{&http.Transport{
			Proxy:             http.ProxyFromEnvironment,
			TLSClientConfig:   &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2: true, MaxIdleConns: 4, IdleConnTimeout: 30 * time.Second,
		}},
	}, nil
}

// bounded cuts answers that are too large: the library reads them whole.
type bounded struct{ next http.RoundTripper }

// RoundTrip gives an answer of maxAnswer bytes at most.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(response.Body, maxAnswer), response.Body}
	return response, nil
}
