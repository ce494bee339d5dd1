package gateway

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"slipway.dev/slipway/internal/audit"
)

// limited is a gateway with a route for everyone and one for those who are logged in.
func limited(t *testing.T, open func(http.ResponseWriter, *http.Request) error) *gateway {
	t.Helper()
	up := newUpstream(t, nil)
	routes, err := NewRoutes(RouteDeps{Audit: audit.Discard{}},
		Route{Method: "POST", Path: "/slipway/v1/login", Rule: Rule{Open: true}, Serve: open},
		Route{Method: "GET", Path: "/slipway/v1/me", Rule: Rule{Self: true}, Serve: func(w http.ResponseWriter, _ *http.Request) error {
			return WriteJSON(w, "me")
		}})
	if err != nil {
		t.Fatal(err)
	}
	handler, err := NewHandler(Config{Upstream: up.config(), Authenticators: []Authenticator{fixed{token: "alice-token", who: alice}}, Routes: routes,
		Registry: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer pull" {
				w.WriteHeader(http.StatusUnauthorized)
			}
		})})
	if err != nil {
		t.Fatal(err)
	}
	return handler.(*gateway)
}

func nothing(http.ResponseWriter, *http.Request) error { return nil }

// ask sends one request from an address.
func ask(g *gateway, from, method, path, token string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	r.RemoteAddr = from
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	g.ServeHTTP(w, r)
	return w
}

func TestLimitOfWhoIsNotLoggedIn(t *testing.T) {
	const here = "192.0.2.1:1000"
	cases := map[string]struct {
		reason             string
		from, method, path string
		token              string
		first              int
	}{
		"WrongToken":  {"guessing tokens is slowed down", here, "GET", "/slipway/v1/me", "guess", 401},
		"NoToken":     {"so is asking without any", here, "GET", "/api/v1/secrets", "", 401},
		"OpenRoute":   {"so is what is open to everyone", here, "POST", "/slipway/v1/login", "", 200},
		"NoSuchRoute": {"so is looking for routes", here, "GET", "/slipway/v1/nothing", "", 401},
		"Registry":    {"so is guessing the token of a cluster", here, "GET", "/v2/", "", 401},
		"IPv6":        {"a client has all addresses of its /64", "[2001:db8:1:2::1]:1000", "GET", "/api", "", 401},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			g := limited(t, nothing)
			now := time.Now()
			g.limits.now = func() time.Time { return now }
			for i := range creditMost {
				if w := ask(g, c.from, c.method, c.path, c.token); w.Code != c.first {
					t.Fatalf("request %d: %d, want %d: %s", i, w.Code, c.first, c.reason)
				}
			}
			w := ask(g, strings.Replace(c.from, "::1]", "::2]", 1), c.method, c.path, c.token)
			if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "TooManyRequests") {
				t.Errorf("after %d requests: %d %v %s: %s", creditMost, w.Code, w.Header(), w.Body, c.reason)
			}
			if w := ask(g, c.from, "GET", "/slipway/v1/me", "alice-token"); w.Code != 200 {
				t.Errorf("a person behind the same address got %d: many people share one", w.Code)
			}
			if w := ask(g, c.from, "GET", "/v2/", "pull"); w.Code != 200 {
				t.Errorf("a host behind the same address got %d", w.Code)
			}
			if w := ask(g, "198.51.100.7:1", "GET", "/api", ""); w.Code != 401 {
				t.Errorf("another address got %d", w.Code)
			}
			now = now.Add(time.Second)
			again := 0
			for range 3 * creditPerSecond {
				if ask(g, c.from, c.method, c.path, c.token).Code == c.first {
					again++
				}
			}
			if again != creditPerSecond {
				t.Errorf("%d requests were answered in the next second, want %d", again, creditPerSecond)
			}
		})
	}
}

func TestPersonsAreNotLimited(t *testing.T) {
	g := limited(t, nothing)
	for i := range 10 * creditMost {
		if w := ask(g, "192.0.2.1:1", "GET", "/slipway/v1/me", "alice-token"); w.Code != 200 {
			t.Fatalf("request %d of a person: %d", i, w.Code)
		}
	}
}

func TestLimitsForgetClients(t *testing.T) {
	l := newLimits()
	for i := range clientsKnown + 1000 {
		r := &http.Request{RemoteAddr: fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255)}
		if !l.spend(r) {
			t.Fatal("a new client has no credit")
		}
	}
	if len(l.clients) != clientsKnown || l.order.Len() != clientsKnown {
		t.Errorf("%d clients are remembered, %d at most", len(l.clients), clientsKnown)
	}
}

// TestLimitOfServedAtOnce holds that one address cannot take all places, and that all together have an end.
func TestLimitOfServedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimits()
		hold := func(address string) (func(), bool) { return l.hold(&http.Request{RemoteAddr: address + ":1"}) }
		var done []func()
		for i := range anonymousEach {
			d, ok := hold("192.0.2.1")
			if !ok {
				t.Fatalf("request %d was refused", i)
			}
			done = append(done, d)
		}
		if _, ok := hold("192.0.2.1"); ok {
			t.Error("one address took more than its share")
		}
		for i := anonymousEach; i < anonymousMost; i++ {
			if _, ok := hold(fmt.Sprintf("10.0.%d.%d", i>>8, i&255)); !ok {
				t.Fatalf("request %d of all was refused", i)
			}
		}
		if _, ok := hold("192.0.2.99"); ok {
			t.Error("more requests than the limit are served at once")
		}
		done[0]()
		if _, ok := hold("192.0.2.99"); !ok {
			t.Error("the place of a request that ended was not given away")
		}
	})
}

// TestDoubtedWaitTheirTurn holds that among many wrong credentials from one address a right one still gets in.
func TestDoubtedWaitTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimits()
		r := httptest.NewRequest("GET", "/", nil)
		for l.spend(r) {
		}
		if _, ok := l.admit(r); ok {
			t.Error("a request without a credential was let in without credit")
		}
		r.Header.Set("Cookie", "__Host-slipway=x")
		var leaving []func()
		for range doubtedMost {
			leave, ok := l.admit(r)
			if !ok {
				t.Fatal("a credential was not looked at")
			}
			leaving = append(leaving, leave)
		}
		time.AfterFunc(time.Second, leaving[0])
		began := time.Now()
		if _, ok := l.admit(r); !ok || time.Since(began) != time.Second {
			t.Errorf("it was let in: %v after %s, want after the second that the one before took", ok, time.Since(began))
		}
		// Credit comes back meanwhile, so it is spent again.
		for l.spend(r) {
		}
		began = time.Now()
		frozen := began
		l.now = func() time.Time { return frozen }
		if _, ok := l.admit(r); ok || time.Since(began) != doubtedTime {
			t.Errorf("it was let in: %v after %s, want a refusal after %s", ok, time.Since(began), doubtedTime)
		}
	})
}

func TestBodyOfOpenRoutes(t *testing.T) {
	read := func(w http.ResponseWriter, r *http.Request) error {
		_, err := io.Copy(io.Discard, r.Body)
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return nil
		}
		return err
	}
	for name, c := range map[string]struct {
		reason, token string
		size, want    int
	}{
		"AtLimit":  {"64 KiB are more than any login needs", "", openBody, 200},
		"Above":    {"nobody fills memory before login", "", openBody + 1, 413},
		"LoggedIn": {"the route has the limit, whoever comes", "alice-token", openBody + 1, 413},
	} {
		t.Run(name, func(t *testing.T) {
			g := limited(t, read)
			r := httptest.NewRequest("POST", "/slipway/v1/login", strings.NewReader(strings.Repeat("x", c.size)))
			if c.token != "" {
				r.Header.Set("Authorization", "Bearer "+c.token)
			}
			w := httptest.NewRecorder()
			g.ServeHTTP(w, r)
			if w.Code != c.want {
				t.Errorf("%d, want %d: %s", w.Code, c.want, c.reason)
			}
		})
	}
}

func TestSecurityHeaders(t *testing.T) {
	up := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src *")
		w.Header().Set("X-Frame-Options", "ALLOWALL")
		w.Header().Set("Cross-Origin-Resource-Policy", "cross-origin")
	})
	g := limited(t, nothing)
	config := g.Config
	config.Upstream = up.config()
	server := front(t, config)
	for name, c := range map[string]struct {
		reason, path, token string
		noStore             bool
	}{
		"API":      {"the API server's answer does not soften them", "/api/v1/namespaces", "alice-token", false},
		"Refused":  {"a refusal has them", "/api/v1/namespaces", "", true},
		"Route":    {"a route has them and is never cached", "/slipway/v1/me", "alice-token", true},
		"NoRoute":  {"so has a path without a route", "/slipway/v1/nothing", "alice-token", true},
		"Live":     {"so have the probes", "/livez", "", true},
		"Registry": {"so has the registry", "/v2/", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+c.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if c.token != "" {
				r.Header.Set("Authorization", "Bearer "+c.token)
			}
			response, err := server.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			for name, value := range securityHeaders() {
				if got := response.Header.Values(name); len(got) != 1 || got[0] != value {
					t.Errorf("%s is %q, want %q once: %s", name, got, value, c.reason)
				}
			}
			if got := response.Header.Get("Cache-Control"); c.noStore && got != "no-store" {
				t.Errorf("Cache-Control is %q: %s", got, c.reason)
			}
		})
	}
}

func TestAuthenticatorFailureIsNoCredit(t *testing.T) {
	g := limited(t, nothing)
	g.Authenticators = []Authenticator{fixed{err: errors.New("down")}}
	for range 2 * creditMost {
		if w := ask(g, "192.0.2.1:1", "GET", "/api", "alice-token"); w.Code != http.StatusServiceUnavailable {
			t.Fatalf("%d: while nobody can be known nobody is at fault", w.Code)
		}
	}
}
