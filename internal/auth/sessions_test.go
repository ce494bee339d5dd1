package auth

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/authentication/user"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

const directoryIssuer = "https://sso.example"

func ofDirectory(u *v1alpha1.User) {
	u.Spec.Directory = &v1alpha1.DirectoryIdentity{Issuer: directoryIssuer, Subject: "1", Username: "alice@corp"}
}

// TestSessionIdentity holds what a session makes of a person.
func TestSessionIdentity(t *testing.T) {
	oidc := v1alpha1.LoginSetting{OIDC: &v1alpha1.OIDCSetting{Issuer: directoryIssuer, SystemAdministratorGroups: []string{"root"}, AuditorGroups: []string{"audit"}}}
	other := v1alpha1.LoginSetting{OIDC: &v1alpha1.OIDCSetting{Issuer: "https://other.example"}}
	cases := map[string]struct {
		reason string
		user   *v1alpha1.User
		login  v1alpha1.LoginSetting
		groups []string
		want   *user.DefaultInfo
	}{
		"Local":         {reason: "a local account is known by its name", user: person("alice"), want: &user.DefaultInfo{Name: "alice", Groups: []string{"system:authenticated"}}},
		"Administrator": {reason: "the role puts a person in the group that RBAC knows", user: person("alice", func(u *v1alpha1.User) { u.Spec.PlatformRole = v1alpha1.SystemAdministrator }), want: &user.DefaultInfo{Name: "alice", Groups: []string{"slipway:system-administrators", "system:authenticated"}}},
		"Auditor":       {reason: "the role puts a person in the group that RBAC knows", user: person("alice", func(u *v1alpha1.User) { u.Spec.PlatformRole = v1alpha1.Auditor }), want: &user.DefaultInfo{Name: "alice", Groups: []string{"slipway:auditors", "system:authenticated"}}},
		"LocalGroups":   {reason: "nobody brings groups but the directory", user: person("alice"), login: oidc, groups: []string{"root"}, want: &user.DefaultInfo{Name: "alice", Groups: []string{"system:authenticated"}}},
		"Directory":     {reason: "names of the directory have a prefix", user: person("oidc-1", ofDirectory), login: oidc, groups: []string{"dev", "root", "audit"}, want: &user.DefaultInfo{Name: "oidc:alice@corp", Groups: []string{"oidc:audit", "oidc:dev", "oidc:root", "slipway:auditors", "slipway:system-administrators", "system:authenticated"}}},
		"SystemGroups":  {reason: "a directory cannot put anyone in groups of the platform", user: person("oidc-1", ofDirectory), login: oidc, groups: []string{"system:masters", "slipway:system-administrators"}, want: &user.DefaultInfo{Name: "oidc:alice@corp", Groups: []string{"oidc:slipway:system-administrators", "oidc:system:masters", "system:authenticated"}}},
		"NoDirectory":   {reason: "without the directory its people are nobody", user: person("oidc-1", ofDirectory)},
		"OtherIssuer":   {reason: "another directory may give the name to someone else", user: person("oidc-1", ofDirectory), login: other},
		"SystemName":    {reason: "a name of the platform is nobody's, should one get past the rules of the kind", user: person("system:masters")},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tc.user, setting(tc.login))
			session, err := w.sessions.Open(t.Context(), tc.user, tc.groups, Origin{})
			if err != nil {
				if tc.want == nil && apierrors.IsForbidden(err) {
					return
				}
				t.Fatal(err)
			}
			who, ok, err := w.sessions.Authenticate(withCookie("GET", session.Cookie()))
			if err != nil {
				t.Fatal(err)
			}
			if tc.want == nil {
				if ok {
					t.Fatalf("%s: authenticated as %v", tc.reason, who)
				}
				return
			}
			if !ok {
				t.Fatalf("%s: nobody", tc.reason)
			}
			tc.want.UID = string(tc.user.UID)
			tc.want.Extra = map[string][]string{"slipway.dev/via": {"session:" + session.ID}, "slipway.dev/user": {tc.user.Name}}
			if diff := cmp.Diff(tc.want, who); diff != "" {
				t.Errorf("%s:\n%s", tc.reason, diff)
			}
		})
	}
}

// TestSessionRefused holds everything that makes a session count for nothing.
func TestSessionRefused(t *testing.T) {
	cases := map[string]struct {
		reason string
		// change spoils the world or the cookie.
		change  func(t *testing.T, w *world, cookie *http.Cookie)
		request func(cookie *http.Cookie) *http.Request
		want    bool
	}{
		"Good":     {reason: "the plain case", want: true},
		"Secret":   {reason: "the ID alone is worth nothing", change: func(_ *testing.T, _ *world, c *http.Cookie) { c.Value = c.Value[:16] + "." + strings.Repeat("A", 52) }},
		"NoSecret": {reason: "the ID alone is worth nothing", change: func(_ *testing.T, _ *world, c *http.Cookie) { c.Value = c.Value[:16] }},
		"Name":     {reason: "no cookie reaches another Secret", change: func(_ *testing.T, _ *world, c *http.Cookie) { c.Value = "../password-a1234." + c.Value[17:] }},
		"Disabled": {reason: "disabling ends it at once", change: func(t *testing.T, w *world, _ *http.Cookie) {
			u := w.user(t, "alice")
			u.Spec.Disabled = true
			w.update(t, u)
		}},
		"Deleted": {reason: "a deleted user is nobody", change: func(t *testing.T, w *world, _ *http.Cookie) { must(t, w.client.Delete(t.Context(), person("alice"))) }},
		"MadeAnew": {reason: "a new user of the same name inherits nothing", change: func(t *testing.T, w *world, _ *http.Cookie) {
			must(t, w.client.Delete(t.Context(), person("alice")))
			must(t, w.client.Create(t.Context(), person("alice", func(u *v1alpha1.User) { u.UID = "another" })))
		}},
		"EndAll": {reason: "an administrator ends every session", change: func(t *testing.T, w *world, _ *http.Cookie) { must(t, EndAll(t.Context(), w.client, "alice")) }},
		"OtherType": {reason: "a token's record is no session", change: func(t *testing.T, w *world, c *http.Cookie) {
			var s corev1.Secret
			must(t, w.client.Get(t.Context(), w.sessions.store.key(c.Value[:16]), &s))
			s.Type = v1alpha1.SecretTypeToken
			must(t, w.client.Update(t.Context(), &s))
		}},
		"Twice": {reason: "two cookies are ambiguous", request: func(c *http.Cookie) *http.Request {
			r := withCookie("GET", c)
			r.AddCookie(&http.Cookie{Name: c.Name, Value: "x"})
			return r
		}},
		"OtherName": {reason: "without the prefix another host can set a cookie", request: func(c *http.Cookie) *http.Request {
			return withCookie("GET", &http.Cookie{Name: "slipway", Value: c.Value})
		}},
		"WithBearer": {reason: "a program that sends a token means the token", request: func(c *http.Cookie) *http.Request { return withCookie("GET", c, "Authorization", "Bearer x") }},
		"Post":       {reason: "a form of another page sends the cookie too", request: func(c *http.Cookie) *http.Request { return withCookie("POST", c) }},
		"PostSame": {reason: "our own page says so", request: func(c *http.Cookie) *http.Request {
			return withCookie("POST", c, "Origin", "https://slipway.example:8443")
		}, want: true},
		"PostFetch": {reason: "a browser may say so without an origin", request: func(c *http.Cookie) *http.Request { return withCookie("DELETE", c, "Sec-Fetch-Site", "same-origin") }, want: true},
		"PostOther": {reason: "another page", request: func(c *http.Cookie) *http.Request { return withCookie("POST", c, "Origin", "https://evil.example") }},
		"PostPort":  {reason: "another port is another page", request: func(c *http.Cookie) *http.Request { return withCookie("POST", c, "Origin", "https://slipway.example") }},
		"PostPlain": {reason: "a page that came without TLS", request: func(c *http.Cookie) *http.Request {
			return withCookie("POST", c, "Origin", "http://slipway.example:8443")
		}},
		"PostNull": {reason: "a sandboxed frame", request: func(c *http.Cookie) *http.Request { return withCookie("POST", c, "Origin", "null") }},
		"PostBoth": {reason: "the origin counts more than what else is said", request: func(c *http.Cookie) *http.Request {
			return withCookie("POST", c, "Origin", "https://evil.example", "Sec-Fetch-Site", "same-origin")
		}},
		"PostTwo": {reason: "two origins are ambiguous", request: func(c *http.Cookie) *http.Request {
			return withCookie("POST", c, "Origin", "https://slipway.example:8443", "Origin", "https://evil.example")
		}},
		"PostSite": {reason: "a neighbour below the same domain is another page", request: func(c *http.Cookie) *http.Request { return withCookie("PATCH", c, "Sec-Fetch-Site", "same-site") }},
		"Upgrade": {reason: "any page can open a WebSocket", request: func(c *http.Cookie) *http.Request {
			return withCookie("GET", c, "Connection", "Upgrade", "Upgrade", "websocket")
		}},
		"UpgradeOther": {reason: "any page can open a WebSocket", request: func(c *http.Cookie) *http.Request {
			return withCookie("GET", c, "Connection", "Upgrade", "Upgrade", "websocket", "Origin", "https://evil.example")
		}},
		"UpgradeSame": {reason: "our own page can", request: func(c *http.Cookie) *http.Request {
			return withCookie("GET", c, "Connection", "Upgrade", "Upgrade", "websocket", "Origin", "https://slipway.example:8443")
		}, want: true},
		"Head":    {reason: "looking changes nothing", request: func(c *http.Cookie) *http.Request { return withCookie("HEAD", c) }, want: true},
		"Options": {reason: "only GET and HEAD are known to change nothing", request: func(c *http.Cookie) *http.Request { return withCookie("OPTIONS", c) }},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, person("alice"))
			cookie := w.open(t, "alice", Origin{})
			if tc.change != nil {
				tc.change(t, w, cookie)
			}
			request := withCookie("GET", cookie)
			if tc.request != nil {
				request = tc.request(cookie)
			}
			who, ok, err := w.sessions.Authenticate(request)
			if err != nil || ok != tc.want {
				t.Errorf("%s: Authenticate() = %v, %v, %v", tc.reason, who, ok, err)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestSessionIsUnknownWhenTheAPIIsAway holds that what cannot be read is an error, not a no.
func TestSessionIsUnknownWhenTheAPIIsAway(t *testing.T) {
	away := errors.New("no API")
	down := false
	w := newWorldWith(t, failing(away, func(o client.Object) bool { _, isUser := o.(*v1alpha1.User); return down && isUser }), person("alice"))
	cookie := w.open(t, "alice", Origin{})
	down = true
	if _, ok, err := w.sessions.Authenticate(withCookie("GET", cookie)); ok || !errors.Is(err, away) {
		t.Errorf("Authenticate() = %v, %v", ok, err)
	}
}

func TestSessionCookie(t *testing.T) {
	w := newWorld(t, person("alice"))
	c := w.open(t, "alice", Origin{})
	if c.Name != "__Host-slipway" || !c.Secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" || c.SameSite != http.SameSiteLaxMode {
		t.Errorf("the cookie is %s", c)
	}
	if other := w.open(t, "alice", Origin{}); other.Value == c.Value {
		t.Error("two sessions share a cookie")
	}
	var list corev1.SecretList
	must(t, w.client.List(t.Context(), &list))
	for _, s := range list.Items {
		for k, v := range s.Data {
			if _, secret, _ := strings.Cut(c.Value, "."); strings.Contains(string(v), secret) {
				t.Errorf("%s/%s holds the session's secret", s.Name, k)
			}
		}
		if len(s.OwnerReferences) != 1 || s.OwnerReferences[0].UID != "uid-of-alice" {
			t.Errorf("%s outlives its user: %v", s.Name, s.OwnerReferences)
		}
	}
}

func TestSessionEnds(t *testing.T) {
	cases := map[string]struct {
		reason string
		login  v1alpha1.LoginSetting
		// uses says after how long the session is used each time.
		uses []time.Duration
		want bool
	}{
		"Used":         {reason: "use keeps a session", uses: []time.Duration{50 * time.Minute, 50 * time.Minute, 50 * time.Minute}, want: true},
		"Idle":         {reason: "a session that nobody uses ends after an hour", uses: []time.Duration{61 * time.Minute}},
		"IdleSetting":  {reason: "the setting says how long", login: v1alpha1.LoginSetting{SessionIdleMinutes: 5}, uses: []time.Duration{6 * time.Minute}},
		"Short":        {reason: "with a short setting use is noted often enough", login: v1alpha1.LoginSetting{SessionIdleMinutes: 5}, uses: []time.Duration{3 * time.Minute, 3 * time.Minute, 3 * time.Minute}, want: true},
		"Absolute":     {reason: "use does not keep it for ever", uses: repeat(30*time.Minute, 25)},
		"JustBefore":   {reason: "it does not end early", uses: repeat(30*time.Minute, 23), want: true},
		"HoursSetting": {reason: "the setting says when", login: v1alpha1.LoginSetting{SessionHours: 1}, uses: []time.Duration{30 * time.Minute, 31 * time.Minute}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, person("alice"), setting(tc.login))
				cookie := w.open(t, "alice", Origin{})
				ok := true
				for _, after := range tc.uses {
					<-time.After(after)
					var err error
					if _, ok, err = w.sessions.Authenticate(withCookie("GET", cookie)); err != nil {
						t.Fatal(err)
					}
				}
				if ok != tc.want {
					t.Errorf("%s: authenticated is %v", tc.reason, ok)
				}
			})
		})
	}
}

func repeat(d time.Duration, n int) []time.Duration {
	all := make([]time.Duration, n)
	for i := range all {
		all[i] = d
	}
	return all
}

// TestSessionUseIsWrittenSeldom holds that reading does not become writing.
func TestSessionUseIsWrittenSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, person("alice"))
		cookie := w.open(t, "alice", Origin{})
		version := func() string {
			var s corev1.Secret
			must(t, w.client.Get(t.Context(), w.sessions.store.key(cookie.Value[:16]), &s))
			return s.ResourceVersion
		}
		versions := map[string]bool{version(): true}
		for range 60 {
			<-time.After(10 * time.Second)
			w.mustBe(t, w.sessions, withCookie("GET", cookie))
			versions[version()] = true
		}
		if len(versions) < 2 || len(versions) > 4 {
			t.Errorf("%d writes in ten minutes of use", len(versions)-1)
		}
	})
}

// TestLooking holds that a watch that somebody left open keeps no session alive: the server looks at it each minute.
func TestLooking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, person("alice"))
		cookie := w.open(t, "alice", Origin{})
		for minute := range 62 {
			<-time.After(time.Minute)
			request := withCookie("GET", cookie)
			_, ok, err := w.sessions.Authenticate(request.WithContext(Looking(request.Context())))
			if err != nil || ok != (minute < 59) {
				t.Fatalf("minute %d: authenticated is %v, %v", minute+1, ok, err)
			}
		}
	})
}

// TestSessionsAreLimited holds that a person cannot fill the store.
func TestSessionsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, person("alice"), person("bob"))
		first, bobs := w.open(t, "alice", Origin{}), w.open(t, "bob", Origin{})
		for range maxSessions {
			<-time.After(time.Second)
			w.open(t, "alice", Origin{})
		}
		if _, ok, err := w.sessions.Authenticate(withCookie("GET", first)); ok || err != nil {
			t.Errorf("the oldest session made no room: %v", err)
		}
		w.mustBe(t, w.sessions, withCookie("GET", bobs))
		if n := len(w.secrets(t, v1alpha1.SecretTypeSession)); n != maxSessions+1 {
			t.Errorf("%d sessions are stored", n)
		}
	})
}

// TestOwnSessions holds that a person sees and ends the own sessions, and nobody else's.
func TestOwnSessions(t *testing.T) {
	w := newWorld(t, person("alice"), person("bob"))
	cookie := w.open(t, "alice", Origin{From: "192.0.2.7"})
	alice := w.mustBe(t, w.sessions, withCookie("GET", cookie))
	bob := w.who(t, "bob")
	sessions, err := w.sessions.List(t.Context(), alice)
	must(t, err)
	if len(sessions) != 1 || !sessions[0].Current || sessions[0].From != "192.0.2.7" || sessions[0].secret != "" {
		t.Fatalf("alice has %+v", sessions)
	}
	if err := w.sessions.End(t.Context(), bob, sessions[0].ID); !apierrors.IsNotFound(err) {
		t.Errorf("bob ends alice's session: %v", err)
	}
	w.mustBe(t, w.sessions, withCookie("GET", cookie))
	must(t, w.sessions.End(t.Context(), alice, sessions[0].ID))
	if _, ok, err := w.sessions.Authenticate(withCookie("GET", cookie)); ok || err != nil {
		t.Errorf("an ended session counts: %v", err)
	}
}

// TestOpenRefused holds that a disabled user gets no session, whatever opened it.
func TestOpenRefused(t *testing.T) {
	w := newWorld(t, person("alice", func(u *v1alpha1.User) { u.Spec.Disabled = true }))
	if _, err := w.sessions.Open(t.Context(), w.user(t, "alice"), nil, Origin{}); !apierrors.IsForbidden(err) {
		t.Errorf("Open: %v", err)
	}
	if _, err := w.tokens.Login(t.Context(), w.user(t, "alice"), nil, TokenRequest{Name: "x"}); !apierrors.IsForbidden(err) {
		t.Errorf("Login: %v", err)
	}
}

// TestSweep holds that what is over is deleted, and nothing else.
func TestSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, person("alice"), person("bob"), person("carol"))
		for _, name := range []string{"alice", "bob", "carol"} {
			w.mint(t, w.who(t, name), TokenRequest{Life: 48 * time.Hour})
		}
		admin := info("admin", "", "admin", nil, viaAdminToken, Scope{})
		admin.Extra[adminMarkKey] = []string{"mark"}
		w.mint(t, admin, TokenRequest{Life: 48 * time.Hour})
		<-time.After(2 * time.Hour)
		bob := w.user(t, "bob")
		bob.Spec.Disabled = true
		w.update(t, bob)
		must(t, w.client.Delete(t.Context(), person("carol")))
		must(t, sweep(t.Context(), w.client))
		if left := len(w.secrets(t, v1alpha1.SecretTypeSession)); left != 0 {
			t.Errorf("%d sessions are left that nobody used for two hours", left)
		}
		if left := len(w.secrets(t, v1alpha1.SecretTypeToken)); left != 2 {
			t.Errorf("%d tokens are left, want those of alice and admin", left)
		}
		<-time.After(48 * time.Hour)
		must(t, sweep(t.Context(), w.client))
		if left := w.secrets(t, v1alpha1.SecretTypeToken); len(left) != 0 {
			t.Errorf("%v are left after their end", left)
		}
	})
}
