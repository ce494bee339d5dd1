package login

import (
	"regexp"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/auth"
)

// TestFirstRun follows a fresh server until admin is in.
func TestFirstRun(t *testing.T) {
	s := emptySite(t, account("alice", ""))
	s.set(t, "alice", phrase, false)
	link, err := s.setup.NewLink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []call{
		{method: "POST", path: "/slipway/v1/login", body: object{"user": "alice", "password": phrase}},
		{method: "GET", path: "/slipway/v1/oidc/start"},
		{method: "GET", path: "/slipway/v1/oidc/callback"},
		{method: "POST", path: "/slipway/v1/oidc/exchange", body: object{}},
	} {
		if body := bodyOf(t, s.want(t, c, 503, nil)); !strings.Contains(body, "not set up yet") {
			t.Errorf("%s %s does not say why: %s", c.method, c.path, body)
		}
	}
	if ca := bodyOf(t, s.want(t, call{method: "GET", path: "/slipway/ca.crt"}, 200, nil)); ca != "the authority" {
		t.Errorf("whom to trust is %q", ca)
	}
	s.want(t, call{method: "GET", path: api}, 401, nil)
	s.want(t, call{method: "GET", path: api, token: s.admin.Token()}, 200, nil)

	use := call{method: "POST", path: "/slipway/v1/setup"}
	use.body = object{"token": strings.Repeat("A", 52), "password": phrase}
	s.want(t, use, 403, nil)
	use.body = object{"token": link, "password": "admin1234567"}
	s.want(t, use, 400, nil)
	use.body = object{"token": link, "password": phrase}
	use.headers = map[string]string{"Origin": "https://evil.example"}
	s.want(t, use, 400, nil)
	use.headers = nil
	s.want(t, use, 204, nil)
	s.want(t, use, 410, nil)

	cookie := s.login(t, "admin", phrase)
	var got me
	s.want(t, call{method: "GET", path: "/slipway/v1/me", cookie: cookie}, 200, &got)
	if got.Identity != "admin" || len(got.PlatformRoles) != 1 || got.PlatformRoles[0] != v1alpha1.SystemAdministrator {
		t.Errorf("admin is %+v", got)
	}
	s.login(t, "alice", phrase)
	for _, e := range s.events {
		for _, v := range e.Detail {
			if strings.Contains(v, link) || strings.Contains(e.Reason, link) {
				t.Errorf("the audit log holds the link: %+v", e)
			}
		}
	}
}

// TestPages holds what a browser is shown, in which language, and that the page runs nothing but our script.
func TestPages(t *testing.T) {
	oidc := &v1alpha1.Setting{ObjectMeta: metav1.ObjectMeta{Name: "login"}, Spec: v1alpha1.SettingSpec{Login: &v1alpha1.LoginSetting{OIDC: &v1alpha1.OIDCSetting{Issuer: "https://sso.example"}}}}
	fresh, ready, directory := emptySite(t), newSite(t), newSite(t, oidc)
	ready.set(t, "root", phrase, true)
	cases := map[string]struct {
		reason   string
		site     *site
		path     string
		language string
		user     string
		has, not []string
	}{
		"Setup":        {reason: "the first run", site: fresh, path: "/slipway/setup", has: []string{"Choose a password", `data-post="/slipway/v1/setup"`, `lang="en"`}},
		"SetupChinese": {reason: "in the reader's language", site: fresh, path: "/slipway/setup", language: "zh-CN,zh;q=0.9,en;q=0.8", has: []string{"首次设置", `lang="zh"`}, not: []string{"Choose"}},
		"SetupUsed":    {reason: "the first run is over", site: ready, path: "/slipway/setup", has: []string{"set up already"}, not: []string{"<form"}},
		"TooEarly":     {reason: "nobody can log in yet", site: fresh, path: "/slipway/login", has: []string{"not set up yet"}, not: []string{"<form"}},
		"Login":        {reason: "the form", site: ready, path: "/slipway/login", language: "de, en;q=0.5", has: []string{`name="password"`, "Log in"}, not: []string{"oidc"}},
		"Directory":    {reason: "the way to the directory", site: directory, path: "/slipway/login", has: []string{"/slipway/v1/oidc/start", `name="password"`}},
		"LoggedIn":     {reason: "who is in can leave", site: ready, path: "/slipway/login", user: "alice", has: []string{"alice", "Log out"}, not: []string{`name="password"`}},
		"MustChange":   {reason: "the forced change works in a browser", site: ready, path: "/slipway/login", user: "root", has: []string{`data-post="/slipway/v1/me/password"`, `name="current"`}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := call{method: "GET", path: tc.path, headers: map[string]string{"Accept-Language": tc.language}}
			if tc.user != "" {
				c.cookie = tc.site.login(t, tc.user, phrase)
			}
			answer := tc.site.want(t, c, 200, nil)
			policy := answer.Header.Get("Content-Security-Policy")
			if !strings.HasPrefix(policy, "default-src 'none'; script-src 'self';") || strings.Contains(policy, "unsafe") {
				t.Errorf("the policy is %s", policy)
			}
			if answer.Header.Get("Cache-Control") != "no-store" {
				t.Error("the page may be kept")
			}
			body := bodyOf(t, answer)
			for _, part := range tc.has {
				if !strings.Contains(body, part) {
					t.Errorf("%s: no %q in %s", tc.reason, part, body)
				}
			}
			for _, part := range tc.not {
				if strings.Contains(body, part) {
					t.Errorf("%s: %q in %s", tc.reason, part, body)
				}
			}
			if inline := regexp.MustCompile(`<script[^>]*>[^<]|<style|style=|\son[a-z]+=|https?://`).FindString(body); inline != "" {
				t.Errorf("the page holds %q, which its policy forbids", inline)
			}
			for _, loaded := range regexp.MustCompile(`(?:src|stylesheet" href)="([^"]+)"`).FindAllStringSubmatch(body, -1) {
				tc.site.want(t, call{method: "GET", path: loaded[1]}, 200, nil)
			}
		})
	}
}

// TestPageEscapesNames holds that a name of the directory is text on a page.
func TestPageEscapesNames(t *testing.T) {
	u := account("oidc-1", "")
	u.Spec.Directory = &v1alpha1.DirectoryIdentity{Issuer: "https://sso.example", Subject: "1", Username: `<img src=x>"`}
	oidc := &v1alpha1.Setting{ObjectMeta: metav1.ObjectMeta{Name: "login"}, Spec: v1alpha1.SettingSpec{Login: &v1alpha1.LoginSetting{OIDC: &v1alpha1.OIDCSetting{Issuer: "https://sso.example"}}}}
	s := newSite(t, u, oidc)
	session, err := auth.NewSessions(s.client).Open(t.Context(), u, nil, auth.Origin{})
	if err != nil {
		t.Fatal(err)
	}
	if body := bodyOf(t, s.want(t, call{method: "GET", path: "/slipway/login", cookie: session.Cookie()}, 200, nil)); strings.Contains(body, "<img") {
		t.Errorf("the page is %s", body)
	}
}

func TestLanguage(t *testing.T) {
	for accepted, want := range map[string]string{
		"": "en", "zh": "zh", "zh-CN": "zh", "ZH-hans-cn": "zh", "en-GB, zh;q=0.9": "en", "zh;q=0.3, en;q=0.2": "zh", "de, fr;q=0.9": "en",
		"de, zh;q=0.1": "zh", "zh;q=0": "en", "zh;q=x": "en", "zh; q=0.5, en; q=0.6": "en",
	} {
		if got := language(accepted); got != want {
			t.Errorf("%q is %s, want %s", accepted, got, want)
		}
	}
}
