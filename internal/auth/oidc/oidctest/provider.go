// Package oidctest owns an OpenID Connect provider for tests: a real HTTPS server with discovery, keys, authorize and
// token endpoints that hold to the protocol, PKCE and single use of codes included. It shares no code with what it
// tests, it logs in whoever comes without asking, and it must never be part of a server.
package oidctest

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway.dev/slipway/api/v1alpha1"
)

// The client that the provider knows. Every redirect address is registered for it that ends in Callback.
const (
	ClientID     = "slipway"
	ClientSecret = "s3cret of the client: %&+"
	Callback     = "/slipway/v1/oidc/callback"
)

// Provider is a running provider. Set its fields before a login; methods may be called at any time.
type Provider struct {
	// Claims are put into the next ID tokens, over those of the protocol: a nil value takes a claim away.
	Claims map[string]any
	// Sign makes the token of its claims; nil signs with the current key. See None, Confused and Foreign.
	Sign func(p *Provider, claims map[string]any) string
	// Public lets the client in without its secret.
	Public bool
	// AuthMethod is how the client must say its secret: client_secret_basic (default) or client_secret_post.
	AuthMethod string
	// NamesItself puts the issuer into answers (RFC 9207); Issuer there is another's when AnswersAs is set.
	NamesItself bool
	AnswersAs   string
	// Discovery is put into the discovery document, over what belongs there.
	Discovery map[string]any

	server *httptest.Server

	mu       sync.Mutex
	key      *rsa.PrivateKey
	keyID    string
	codes    map[string]grant
	requests map[string]int
}

// grant is what a code stands for.
type grant struct{ redirect, challenge, nonce string }

// Start gives a provider that runs until the test ends, with one person: alice of the groups dev and ops.
func Start(t testing.TB) *Provider {
	t.Helper()
	p := &Provider{
		Claims: map[string]any{
			"sub": "subject-of-alice", "preferred_username": "alice", "name": "Alice Li", "email": "alice@corp.example",
			"email_verified": true, "groups": []string{"ops", "dev"},
		},
		codes: map[string]grant{}, requests: map[string]int{},
	}
	p.RotateKey(t)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /realm/.well-known/openid-configuration", p.discovery)
	mux.HandleFunc("GET /realm/keys", p.keys)
	mux.HandleFunc("GET /realm/authorize", p.authorize)
	mux.HandleFunc("POST /realm/token", p.token)
	p.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.requests[strings.TrimPrefix(r.URL.Path, "/realm/")]++
		p.mu.Unlock()
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(p.server.Close)
	return p
}

// Issuer gives the provider's URL.
func (p *Provider) Issuer() string { return p.server.URL + "/realm" }

// CA gives the certificate authority of the provider, in PEM.
func (p *Provider) CA() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.server.Certificate().Raw}))
}

// Setting gives the setting that names the provider and its client, without the Secret of the client.
func (p *Provider) Setting() v1alpha1.OIDCSetting {
	return v1alpha1.OIDCSetting{Issuer: p.Issuer(), ClientID: ClientID, CA: p.CA()}
}

// Stop ends the server, as a provider that is down.
func (p *Provider) Stop() { p.server.Close() }

// Requests says how often a path below the issuer was asked, such as token or keys.
func (p *Provider) Requests(path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests[path]
}

// RotateKey signs with a new key from now on, and forgets the old one.
func (p *Provider) RotateKey(t testing.TB) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.key, p.keyID = key, rand.Text()
}

// Login does what a browser does at the provider: it opens the address a login begins with, and gives where it is sent.
func (p *Provider) Login(t testing.TB, address string) *url.URL {
	t.Helper()
	browser := *p.server.Client()
	browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	response, err := browser.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	back, err := response.Location()
	if err != nil {
		t.Fatalf("the provider answered %s to %s", response.Status, address)
	}
	return back
}

func (p *Provider) discovery(w http.ResponseWriter, _ *http.Request) {
	document := map[string]any{
		"issuer": p.Issuer(), "authorization_endpoint": p.Issuer() + "/authorize", "token_endpoint": p.Issuer() + "/token", "jwks_uri": p.Issuer() + "/keys",
		"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
		"id_token_signing_alg_values_supported": []string{"RS256", "HS256", "none"}, "code_challenge_methods_supported": []string{"S256"},
		"token_endpoint_auth_methods_supported":          []string{p.authMethod()},
		"authorization_response_iss_parameter_supported": p.NamesItself,
	}
	maps.Copy(document, p.Discovery)
	answer(w, http.StatusOK, document)
}

func (p *Provider) keys(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	answer(w, http.StatusOK, map[string]any{"keys": []map[string]string{{
		"kty": "RSA", "use": "sig", "alg": "RS256", "kid": p.keyID,
		"n": encode(p.key.N.Bytes()), "e": encode(big.NewInt(int64(p.key.E)).Bytes()),
	}}})
}

// authorize logs the person in. Faults that make the redirect address doubtful are not sent to it.
func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	redirect, err := url.Parse(q.Get("redirect_uri"))
	if q.Get("client_id") != ClientID || err != nil || redirect.Scheme != "https" || redirect.Path != Callback {
		http.Error(w, "unknown client or redirect address", http.StatusBadRequest)
		return
	}
	back := url.Values{"state": q["state"]}
	if p.NamesItself || p.AnswersAs != "" {
		back.Set("iss", p.Issuer())
	}
	if p.AnswersAs != "" {
		back.Set("iss", p.AnswersAs)
	}
	switch {
	case q.Get("response_type") != "code":
		back.Set("error", "unsupported_response_type")
	case !slices.Contains(strings.Fields(q.Get("scope")), "openid"):
		back.Set("error", "invalid_scope")
	case q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43 || q.Get("nonce") == "" || q.Get("state") == "":
		back.Set("error", "invalid_request")
	default:
		code := rand.Text()
		p.mu.Lock()
		p.codes[code] = grant{redirect: redirect.String(), challenge: q.Get("code_challenge"), nonce: q.Get("nonce")}
		p.mu.Unlock()
		back.Set("code", code)
	}
	redirect.RawQuery = back.Encode()
	http.Redirect(w, r, redirect.String(), http.StatusFound)
}

func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	if !p.knows(r) {
		answer(w, http.StatusUnauthorized, map[string]string{"error": "invalid_client"})
		return
	}
	code := r.PostFormValue("code")
	p.mu.Lock()
	granted, ok := p.codes[code]
	delete(p.codes, code) // Once, whatever comes of it.
	p.mu.Unlock()
	challenge := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	if !ok || r.PostFormValue("grant_type") != "authorization_code" || granted.redirect != r.PostFormValue("redirect_uri") ||
		granted.challenge != encode(challenge[:]) {
		answer(w, http.StatusBadRequest, map[string]string{"error": "invalid_grant"})
		return
	}
	now := time.Now()
	claims := map[string]any{
		"iss": p.Issuer(), "aud": ClientID, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(), "nonce": granted.nonce,
	}
	maps.Copy(claims, p.Claims)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	sign := p.Sign
	if sign == nil {
		sign = (*Provider).signed
	}
	answer(w, http.StatusOK, map[string]any{"access_token": rand.Text(), "token_type": "Bearer", "expires_in": 300, "id_token": sign(p, claims)})
}

func (p *Provider) authMethod() string {
	switch {
	case p.Public:
		return "none"
	case p.AuthMethod != "":
		return p.AuthMethod
	default:
		return "client_secret_basic"
	}
}

// knows says that the client proved itself in the one way that the discovery document names.
func (p *Provider) knows(r *http.Request) bool {
	id, secret, basic := r.BasicAuth()
	id, errID := url.QueryUnescape(id)
	secret, errSecret := url.QueryUnescape(secret)
	if errID != nil || errSecret != nil {
		return false
	}
	if method := p.authMethod(); method != "client_secret_basic" {
		if basic {
			return false
		}
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
		if method == "none" {
			return id == ClientID && secret == ""
		}
	}
	return id == ClientID && subtle.ConstantTimeCompare([]byte(secret), []byte(ClientSecret)) == 1
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	// A client that went away is its own business.
	_ = json.NewEncoder(w).Encode(body)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func hs256(key, text []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(text)
	return mac.Sum(nil)
}
