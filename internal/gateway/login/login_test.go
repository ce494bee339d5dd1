package login

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/audit"
	"slipway.dev/slipway/internal/auth"
)

const api = "/apis/slipway.dev/v1alpha1/clusters"

func TestLogin(t *testing.T) {
	disabled := account("carol", "")
	disabled.Spec.Disabled = true
	cases := map[string]struct {
		reason  string
		body    any
		headers map[string]string
		status  int
	}{
		"Right":     {reason: "the plain case", body: object{"user": "alice", "password": phrase}, status: 200},
		"Wrong":     {reason: "another password", body: object{"user": "alice", "password": "x"}, status: 401},
		"Unknown":   {reason: "another user", body: object{"user": "mallory", "password": phrase}, status: 401},
		"Empty":     {reason: "nothing", body: object{}, status: 401},
		"Disabled":  {reason: "a disabled user gets in with nothing", body: object{"user": "carol", "password": phrase}, status: 403},
		"Extra":     {reason: "a field that is not known is a mistake of the caller", body: object{"user": "alice", "password": phrase, "admin": true}, status: 400},
		"NotJSON":   {reason: "what is no JSON", body: "user=alice&password=" + phrase, status: 400},
		"Two":       {reason: "two objects", body: `{"user":"alice","password":"` + phrase + `"}{}`, status: 400},
		"Form":      {reason: "a form of another page cannot say JSON", body: object{"user": "alice", "password": phrase}, headers: map[string]string{"Content-Type": "text/plain"}, status: 400},
		"Foreign":   {reason: "another page must not log its visitor in as someone", body: object{"user": "alice", "password": phrase}, headers: map[string]string{"Origin": "https://evil.example"}, status: 400},
		"Huge":      {reason: "a body before login is small", body: object{"user": "alice", "password": strings.Repeat("x", maxBody)}, status: 400},
		"OldCookie": {reason: "a cookie that is over does not keep anyone from logging in", body: object{"user": "alice", "password": phrase}, headers: map[string]string{"Cookie": auth.SessionCookie + "=x"}, status: 200},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, disabled.DeepCopy())
			s.set(t, "carol", phrase, false)
			answer := s.do(t, call{method: "POST", path: "/slipway/v1/login", body: tc.body, headers: tc.headers})
			body := bodyOf(t, answer)
			if answer.StatusCode != tc.status || strings.Contains(body, phrase) {
				t.Errorf("%s: %s", tc.reason, body)
			}
			if cookie := cookieOf(answer, auth.SessionCookie); (cookie != nil) != (tc.status == 200) {
				t.Errorf("%s: the cookie is %v", tc.reason, cookie)
			}
		})
	}
}

// TestSessionLife follows a browser from login to logout.
func TestSessionLife(t *testing.T) {
	s := newSite(t)
	cookie := s.login(t, "alice", phrase)
	if !cookie.Secure || !cookie.HttpOnly || cookie.Path != "/" || cookie.SameSite != http.SameSiteLaxMode {
		t.Errorf("the cookie is %s", cookie)
	}
	if got := bodyOf(t, s.want(t, call{method: "GET", path: api, cookie: cookie}, 200, nil)); !strings.HasSuffix(got, "alice") {
		t.Errorf("the API sees %s", got)
	}
	s.want(t, call{method: "POST", path: api, cookie: cookie, headers: map[string]string{"Origin": "https://evil.example"}}, 401, nil)
	s.want(t, call{method: "POST", path: "/slipway/v1/logout", cookie: cookie, headers: map[string]string{"Origin": ""}}, 401, nil)

	second := s.login(t, "alice", phrase)
	var list items[auth.Session]
	s.want(t, call{method: "GET", path: "/slipway/v1/me/sessions", cookie: cookie}, 200, &list)
	if len(list.Items) != 2 {
		t.Fatalf("alice has the sessions %+v", list.Items)
	}
	for _, session := range list.Items {
		if !session.Current {
			s.want(t, call{method: "DELETE", path: "/slipway/v1/me/sessions/" + session.ID, cookie: cookie}, 204, nil)
		}
	}
	s.want(t, call{method: "GET", path: api, cookie: second}, 401, nil)
	s.want(t, call{method: "DELETE", path: "/slipway/v1/me/sessions/" + list.Items[0].ID, cookie: s.login(t, "root", phrase)}, 404, nil)

	answer := s.want(t, call{method: "POST", path: "/slipway/v1/logout", cookie: cookie}, 204, nil)
	if len(answer.Cookies()) != 1 || answer.Cookies()[0].MaxAge >= 0 {
		t.Errorf("after logout the browser keeps %v", answer.Cookies())
	}
	s.want(t, call{method: "GET", path: api, cookie: cookie}, 401, nil)
}

// TestLoginTakesTheSessionsPlace holds that a browser that logs in again leaves no session behind.
func TestLoginTakesTheSessionsPlace(t *testing.T) {
	s := newSite(t)
	cookie := s.login(t, "alice", phrase)
	s.want(t, call{method: "POST", path: "/slipway/v1/login", cookie: cookie, body: object{"user": "root", "password": phrase}}, 200, nil)
	s.want(t, call{method: "GET", path: api, cookie: cookie}, 401, nil)
}

func TestTokens(t *testing.T) {
	s := newSite(t)
	token := s.tokenOf(t, "alice", phrase)
	s.want(t, call{method: "GET", path: api, token: token}, 200, nil)

	var made auth.Token
	s.want(t, call{method: "POST", path: "/slipway/v1/me/tokens", token: token, body: object{"name": "ci", "scope": object{"readOnly": true}, "expiresInHours": 2}}, 200, &made)
	s.want(t, call{method: "GET", path: api, token: made.Secret}, 200, nil)
	s.want(t, call{method: "POST", path: api, token: made.Secret, body: object{}}, 403, nil)
	s.want(t, call{method: "POST", path: "/slipway/v1/me/tokens", token: made.Secret, body: object{"name": "more"}}, 403, nil)
	s.want(t, call{method: "POST", path: "/slipway/v1/me/tokens", token: token, body: object{"name": "longer", "expiresInHours": 13}}, 403, nil)
	s.want(t, call{method: "POST", path: "/slipway/v1/me/tokens", token: token, body: object{"name": "past", "expiresInHours": -1}}, 400, nil)
	s.want(t, call{method: "POST", path: "/slipway/v1/me/tokens", token: token, body: object{"name": "endless", "expiresInHours": 1e300}}, 403, nil)

	listed := bodyOf(t, s.want(t, call{method: "GET", path: "/slipway/v1/me/tokens", token: token}, 200, nil))
	if !strings.Contains(listed, made.ID) || strings.Contains(listed, "slp_") {
		t.Errorf("the list is %s", listed)
	}
	s.want(t, call{method: "DELETE", path: "/slipway/v1/me/tokens/" + made.ID, token: s.tokenOf(t, "root", phrase)}, 404, nil)
	s.want(t, call{method: "DELETE", path: "/slipway/v1/me/tokens/" + made.ID, token: token}, 204, nil)
	s.want(t, call{method: "GET", path: api, token: made.Secret}, 401, nil)

	s.want(t, call{method: "POST", path: "/slipway/v1/logout", token: token}, 204, nil)
	s.want(t, call{method: "GET", path: api, token: token}, 401, nil)
}

// TestLoginToken holds how long a token of `slipway login` lives.
func TestLoginToken(t *testing.T) {
	cases := map[string]struct {
		reason string
		hours  any
		days   int32
		life   time.Duration
		status int
	}{
		"Default": {reason: "a working day", hours: 0, life: 12 * time.Hour, status: 200},
		"Asked":   {reason: "as asked", hours: 48, life: 48 * time.Hour, status: 200},
		"TooLong": {reason: "the setting limits it", hours: 48, days: 1, status: 403},
		"Never":   {reason: "a time that is over makes no sense", hours: -3, status: 400},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, &v1alpha1.Setting{ObjectMeta: metav1.ObjectMeta{Name: "login"}, Spec: v1alpha1.SettingSpec{Login: &v1alpha1.LoginSetting{TokenDays: tc.days}}})
			began := time.Now()
			var got entered
			s.want(t, call{method: "POST", path: "/slipway/v1/login", body: object{"user": "alice", "password": phrase, "token": true, "expiresInHours": tc.hours}}, tc.status, &got)
			if tc.status == 200 && got.Expires.Sub(began).Round(time.Minute) != tc.life {
				t.Errorf("%s: it ends %s", tc.reason, got.Expires.Sub(began))
			}
		})
	}
}

// TestLockedOut holds what a person who guessed, and one who did not, see.
func TestLockedOut(t *testing.T) {
	s := newSite(t)
	wrong := call{method: "POST", path: "/slipway/v1/login", body: object{"user": "alice", "password": "x"}, from: "198.51.100.9"}
	for range 5 {
		s.want(t, wrong, 401, nil)
	}
	answer := s.want(t, wrong, 429, nil)
	if after := answer.Header.Get("Retry-After"); after == "" || after == "0" {
		t.Errorf("Retry-After is %q", after)
	}
	s.login(t, "alice", phrase)
}

// TestForcedChange follows a person with a password that somebody else has chosen.
func TestForcedChange(t *testing.T) {
	s := newSite(t)
	s.want(t, call{method: "POST", path: "/slipway/v1/users/alice/password", cookie: s.login(t, "root", phrase), body: object{"password": "chosen by somebody"}}, 204, nil)
	var told entered
	answer := s.want(t, call{method: "POST", path: "/slipway/v1/login", body: object{"user": "alice", "password": "chosen by somebody"}}, 200, &told)
	cookie := cookieOf(answer, auth.SessionCookie)
	if !told.MustChange {
		t.Error("the login does not say that the password must change")
	}
	for _, c := range []call{
		{method: "GET", path: api}, {method: "GET", path: "/slipway/v1/me"}, {method: "GET", path: "/slipway/v1/me/tokens"},
		{method: "POST", path: "/slipway/v1/me/tokens", body: object{"name": "x"}},
	} {
		c.cookie = cookie
		if body := bodyOf(t, s.want(t, c, 403, nil)); !strings.Contains(body, "change your password") {
			t.Errorf("%s %s does not say why: %s", c.method, c.path, body)
		}
	}
	token := call{method: "POST", path: "/slipway/v1/login", body: object{"user": "alice", "password": "chosen by somebody", "token": true}}
	if body := bodyOf(t, s.want(t, token, 403, nil)); !strings.Contains(body, "slp_") && !strings.Contains(body, string(auth.ReasonPasswordMustChange)) {
		t.Errorf("a token for a password that must change: %s", body)
	}
	change := call{method: "POST", path: "/slipway/v1/me/password", cookie: cookie, body: object{"current": "chosen by somebody", "new": "chosen by somebody"}}
	s.want(t, change, 400, nil)
	change.body = object{"current": "chosen by somebody", "new": another}
	cookie = cookieOf(s.want(t, change, 204, nil), auth.SessionCookie)
	s.want(t, call{method: "GET", path: api, cookie: cookie}, 200, nil)
	s.want(t, call{method: "GET", path: api, cookie: change.cookie}, 401, nil)
}

func TestChangePassword(t *testing.T) {
	s := newSite(t)
	cookie, other := s.login(t, "alice", phrase), s.login(t, "alice", phrase)
	token, asks := s.tokenOf(t, "alice", phrase), s.tokenOf(t, "alice", phrase)
	change := call{method: "POST", path: "/slipway/v1/me/password", token: asks}
	change.body = object{"current": "wrong", "new": another}
	s.want(t, change, 403, nil)
	change.body = object{"current": phrase, "new": "short"}
	s.want(t, change, 400, nil)
	change.body = object{"current": phrase, "new": "my name is alice!"}
	s.want(t, change, 400, nil)
	change.body = object{"current": phrase, "new": another}
	s.want(t, change, 204, nil)
	for name, c := range map[string]call{"a session": {cookie: cookie}, "another session": {cookie: other}, "a token": {token: token}} {
		c.method, c.path = "GET", api
		if answer := s.do(t, c); answer.StatusCode != 401 {
			t.Errorf("%s goes on after the change: %s", name, answer.Status)
		}
	}
	s.want(t, call{method: "GET", path: api, token: asks}, 200, nil)
	s.login(t, "alice", another)
}

// TestStolenSessionCannotGuess holds that the change of a password is no way around the lock-out.
func TestStolenSessionCannotGuess(t *testing.T) {
	s := newSite(t)
	cookie := s.login(t, "alice", phrase)
	guess := call{method: "POST", path: "/slipway/v1/me/password", cookie: cookie, body: object{"current": "x", "new": another}}
	for range 5 {
		s.want(t, guess, 403, nil)
	}
	s.want(t, guess, 429, nil)
}

func TestSetPassword(t *testing.T) {
	directory := account("oidc-1", "")
	directory.Spec.Directory = &v1alpha1.DirectoryIdentity{Issuer: "https://sso.example", Subject: "1", Username: "dora"}
	cases := map[string]struct {
		reason      string
		who, target string
		body        object
		status      int
		must        bool
	}{
		"Administrator": {reason: "a system administrator gives passwords", who: "root", target: "alice", body: object{"password": another}, status: 204, must: true},
		"NoChange":      {reason: "and may say that it stays", who: "root", target: "alice", body: object{"password": another, "mustChange": false}, status: 204},
		"Ordinary":      {reason: "nobody else does", who: "alice", target: "root", body: object{"password": another}, status: 403},
		"Own":           {reason: "not even the own one: that asks for the current one", who: "alice", target: "alice", body: object{"password": another}, status: 403},
		"Admin":         {reason: "only admin touches admin", who: "root", target: "admin", body: object{"password": another}, status: 403},
		"AdminSelf":     {reason: "only admin touches admin", who: "admin", target: "admin", body: object{"password": another, "mustChange": false}, status: 204},
		"Policy":        {reason: "the policy is for everyone", who: "root", target: "alice", body: object{"password": "short"}, status: 400},
		"Nobody":        {reason: "a user who does not exist", who: "root", target: "mallory", body: object{"password": another}, status: 404},
		"Directory":     {reason: "that password is in the directory", who: "root", target: "oidc-1", body: object{"password": another}, status: 400},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, directory.DeepCopy())
			path := "/slipway/v1/users/" + tc.target + "/password"
			s.want(t, call{method: "POST", path: path, cookie: s.login(t, tc.who, phrase), body: tc.body}, tc.status, nil)
			if tc.status != 204 {
				if tc.status == 403 {
					s.login(t, tc.target, phrase)
				}
				return
			}
			var told entered
			s.want(t, call{method: "POST", path: "/slipway/v1/login", body: object{"user": tc.target, "password": another}}, 200, &told)
			if told.MustChange != tc.must {
				t.Errorf("%s: must change is %v", tc.reason, told.MustChange)
			}
		})
	}
}

// TestAdminTokenRecovers holds that root on the server gets admin back.
func TestAdminTokenRecovers(t *testing.T) {
	s := newSite(t)
	s.want(t, call{method: "POST", path: "/slipway/v1/users/admin/password", token: s.admin.Token(), body: object{"password": another, "mustChange": false}}, 204, nil)
	s.login(t, "admin", another)
}

func TestMe(t *testing.T) {
	project := func(name string, members ...v1alpha1.ProjectMember) *v1alpha1.Project {
		return &v1alpha1.Project{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.ProjectSpec{Members: members}}
	}
	s := newSite(t,
		project("dev", v1alpha1.ProjectMember{Name: "alice", Role: v1alpha1.ReadOnly}, v1alpha1.ProjectMember{Name: "alice", Role: v1alpha1.ClusterAdministrator}),
		project("prod", v1alpha1.ProjectMember{Name: "root", Role: v1alpha1.ReadOnly}, v1alpha1.ProjectMember{Kind: v1alpha1.MemberGroup, Name: "alice", Role: v1alpha1.ProjectAdministrator}))
	var got me
	s.want(t, call{method: "GET", path: "/slipway/v1/me", cookie: s.login(t, "alice", phrase)}, 200, &got)
	got.Via, _, _ = strings.Cut(got.Via, ":")
	want := me{Identity: "alice", User: "alice", Groups: []string{"system:authenticated"}, Via: "session", PlatformRoles: []v1alpha1.PlatformRole{},
		Projects: []membership{{Name: "dev", Roles: []v1alpha1.ProjectRole{v1alpha1.ReadOnly, v1alpha1.ClusterAdministrator}}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	s.want(t, call{method: "GET", path: "/slipway/v1/me", token: s.admin.Token()}, 200, &got)
	if got.Via != "admin-token" || len(got.PlatformRoles) != 1 {
		t.Errorf("the admin token is %+v", got)
	}
	for _, path := range []string{"/slipway/v1/me", "/slipway/v1/me/tokens", "/slipway/v1/me/sessions"} {
		s.want(t, call{method: "GET", path: path}, 401, nil)
	}
}

// TestAuditOfLogins holds what the audit log learns, and that it learns no password.
func TestAuditOfLogins(t *testing.T) {
	s := newSite(t)
	s.do(t, call{method: "POST", path: "/slipway/v1/login", body: object{"user": "alice", "password": "x"}})
	s.do(t, call{method: "POST", path: "/slipway/v1/login", body: object{"user": phrase, "password": "alice"}})
	s.login(t, "alice", phrase)
	want := []audit.Event{
		{Verb: "login", From: "192.0.2.1", Code: 401, Result: audit.Refused, Reason: "Unauthorized", Detail: map[string]string{"user": "alice"}},
		{Verb: "login", From: "192.0.2.1", Code: 401, Result: audit.Refused, Reason: "Unauthorized", Detail: map[string]string{"user": "(not a name)"}},
		{Verb: "login", Actor: "alice", From: "192.0.2.1", Code: 200, Result: audit.Allowed, Detail: map[string]string{"user": "alice"}},
	}
	if diff := cmp.Diff(want, s.events); diff != "" {
		t.Error(diff)
	}
}
