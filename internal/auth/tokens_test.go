package auth

import (
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/authentication/user"

	"slipway.dev/slipway/api/v1alpha1"
)

func TestTokenIdentity(t *testing.T) {
	login := v1alpha1.LoginSetting{OIDC: &v1alpha1.OIDCSetting{Issuer: directoryIssuer}}
	w := newWorld(t, person("alice"), person("oidc-1", ofDirectory), setting(login))
	token := w.mint(t, w.who(t, "alice"), TokenRequest{Name: "ci", Scope: Scope{ReadOnly: true, Projects: []string{"dev"}}})
	if !regexp.MustCompile(`^slp_[a-z2-7]{16}_[A-Z2-7]{52}$`).MatchString(token.Secret) {
		t.Errorf("a token has another form: %d characters", len(token.Secret))
	}
	got := w.mustBe(t, w.tokens, withBearer(token.Secret))
	want := &user.DefaultInfo{Name: "alice", UID: "uid-of-alice", Groups: []string{"system:authenticated"}, Extra: map[string][]string{
		"slipway.dev/via": {"token:" + token.ID}, "slipway.dev/user": {"alice"}, "slipway.dev/read-only": {"true"}, "slipway.dev/projects": {"dev"},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	session := w.mustBe(t, w.sessions, withCookie("GET", w.open(t, "oidc-1", Origin{}, "dev", "ops")))
	directory := w.mustBe(t, w.tokens, withBearer(w.mint(t, session, TokenRequest{}).Secret))
	if diff := cmp.Diff([]string{"oidc:dev", "oidc:ops", "system:authenticated"}, directory.GetGroups()); diff != "" || directory.GetName() != "oidc:alice@corp" {
		t.Errorf("a token of a directory person is %s %s", directory.GetName(), diff)
	}
	var list corev1.SecretList
	must(t, w.client.List(t.Context(), &list))
	for _, s := range list.Items {
		for k, v := range s.Data {
			if strings.Contains(string(v), token.Secret[len(token.Secret)-52:]) {
				t.Errorf("%s/%s holds the token's secret", s.Name, k)
			}
		}
	}
}

func TestTokenRefused(t *testing.T) {
	cases := map[string]struct {
		reason string
		change func(t *testing.T, w *world, token *Token)
		want   bool
	}{
		"Good":    {reason: "the plain case", want: true},
		"Expired": {reason: "a token has an end", change: func(_ *testing.T, _ *world, _ *Token) { <-time.After(time.Hour) }},
		"Before":  {reason: "it does not end early", change: func(_ *testing.T, _ *world, _ *Token) { <-time.After(59 * time.Minute) }, want: true},
		"Secret":  {reason: "the ID alone is worth nothing", change: func(_ *testing.T, _ *world, k *Token) { k.Secret = k.Secret[:21] + strings.Repeat("A", 52) }},
		"Short":   {reason: "the ID alone is worth nothing", change: func(_ *testing.T, _ *world, k *Token) { k.Secret = k.Secret[:21] }},
		"Longer":  {reason: "only the whole token counts", change: func(_ *testing.T, _ *world, k *Token) { k.Secret += "A" }},
		"Form":    {reason: "another form is no token", change: func(_ *testing.T, _ *world, k *Token) { k.Secret = k.Secret[4:] }},
		"Revoked": {reason: "its owner revokes it", change: func(t *testing.T, w *world, k *Token) { must(t, w.tokens.Revoke(t.Context(), w.who(t, "alice"), k.ID)) }},
		"Disabled": {reason: "disabling ends it at once", change: func(t *testing.T, w *world, _ *Token) {
			u := w.user(t, "alice")
			u.Spec.Disabled = true
			w.update(t, u)
		}},
		"Deleted": {reason: "a deleted user is nobody", change: func(t *testing.T, w *world, _ *Token) { must(t, w.client.Delete(t.Context(), person("alice"))) }},
		"MadeAnew": {reason: "a new user of the same name inherits nothing", change: func(t *testing.T, w *world, _ *Token) {
			must(t, w.client.Delete(t.Context(), person("alice")))
			must(t, w.client.Create(t.Context(), person("alice", func(u *v1alpha1.User) { u.UID = "another" })))
		}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, person("alice"))
				token := w.mint(t, w.who(t, "alice"), TokenRequest{Life: time.Hour})
				if tc.change != nil {
					tc.change(t, w, token)
				}
				who, ok, err := w.tokens.Authenticate(withBearer(token.Secret))
				if err != nil || ok != tc.want {
					t.Errorf("%s: Authenticate() = %v, %v, %v", tc.reason, who, ok, err)
				}
			})
		})
	}
}

// TestMint holds what a token may be: never more than what asks for it.
func TestMint(t *testing.T) {
	day := 24 * time.Hour
	cases := map[string]struct {
		reason string
		login  v1alpha1.LoginSetting
		// parent is the token that asks; nil means a session.
		parent  *TokenRequest
		request TokenRequest
		life    time.Duration
		scope   Scope
		refused func(error) bool
		// says is in the refusal.
		says string
	}{
		"Default":         {reason: "without a wish it lives for 30 days", request: TokenRequest{Name: "a"}, life: 30 * day},
		"DefaultShort":    {reason: "the setting limits the default too", login: v1alpha1.LoginSetting{TokenDays: 7}, request: TokenRequest{Name: "a"}, life: 7 * day},
		"Longest":         {reason: "the longest life is 90 days", request: TokenRequest{Name: "a", Life: 90 * day}, life: 90 * day},
		"TooLong":         {reason: "more is refused", request: TokenRequest{Name: "a", Life: 91 * day}, refused: apierrors.IsForbidden},
		"TooLongNarrow":   {reason: "who says so gets less", request: TokenRequest{Name: "a", Life: 91 * day, Narrow: true}, life: 90 * day},
		"ChildLonger":     {reason: "no token outlives the one that asks", parent: &TokenRequest{Life: day}, request: TokenRequest{Name: "a", Life: 25 * time.Hour}, refused: apierrors.IsForbidden, says: "no longer than the login that asks for it, which ends in 24h0m0s"},
		"ChildDefault":    {reason: "the default is no longer than the parent", parent: &TokenRequest{Life: day}, request: TokenRequest{Name: "a"}, life: day},
		"ChildNarrow":     {reason: "who says so gets less", parent: &TokenRequest{Life: day}, request: TokenRequest{Name: "a", Life: 2 * day, Narrow: true}, life: day},
		"ChildWrites":     {reason: "reading does not become writing", parent: &TokenRequest{Scope: Scope{ReadOnly: true}}, request: TokenRequest{Name: "a"}, refused: apierrors.IsForbidden},
		"ChildReads":      {reason: "the same scope is fine", parent: &TokenRequest{Scope: Scope{ReadOnly: true}}, request: TokenRequest{Name: "a", Scope: Scope{ReadOnly: true}}, life: 30 * day, scope: Scope{ReadOnly: true}},
		"ChildReadNarrow": {reason: "a kubeconfig of a reading token reads", parent: &TokenRequest{Scope: Scope{ReadOnly: true}}, request: TokenRequest{Name: "a", Scope: Scope{Cluster: "dev/blue"}, Narrow: true}, life: 30 * day, scope: Scope{ReadOnly: true, Cluster: "dev/blue"}},
		"ChildAll":        {reason: "one project does not become all", parent: &TokenRequest{Scope: Scope{Projects: []string{"dev"}}}, request: TokenRequest{Name: "a"}, refused: apierrors.IsForbidden},
		"ChildOther":      {reason: "one project does not become another", parent: &TokenRequest{Scope: Scope{Projects: []string{"dev"}}}, request: TokenRequest{Name: "a", Scope: Scope{Projects: []string{"dev", "prod"}}, Narrow: true}, refused: apierrors.IsForbidden},
		"ChildFewer":      {reason: "fewer projects are fine", parent: &TokenRequest{Scope: Scope{Projects: []string{"dev", "prod"}}}, request: TokenRequest{Name: "a", Scope: Scope{Projects: []string{"dev"}}}, life: 30 * day, scope: Scope{Projects: []string{"dev"}}},
		"ChildCluster":    {reason: "a cluster of the project is fine", parent: &TokenRequest{Scope: Scope{Projects: []string{"dev"}}}, request: TokenRequest{Name: "a", Scope: Scope{Cluster: "dev/blue"}}, life: 30 * day, scope: Scope{Cluster: "dev/blue"}},
		"ChildElsewhere":  {reason: "a cluster of another project is not", parent: &TokenRequest{Scope: Scope{Projects: []string{"dev"}}}, request: TokenRequest{Name: "a", Scope: Scope{Cluster: "prod/blue"}}, refused: apierrors.IsForbidden},
		"ChildOfCluster":  {reason: "one cluster does not become its project", parent: &TokenRequest{Scope: Scope{Cluster: "dev/blue"}}, request: TokenRequest{Name: "a", Scope: Scope{Projects: []string{"dev"}}}, refused: apierrors.IsForbidden},
		"NoName":          {reason: "people must know what to revoke", request: TokenRequest{Name: " "}, refused: apierrors.IsBadRequest},
		"Control":         {reason: "a name is shown on terminals", request: TokenRequest{Name: "a\x1b[2J"}, refused: apierrors.IsBadRequest},
		"Past":            {reason: "an end before the beginning makes no sense", request: TokenRequest{Name: "a", Life: -1}, refused: apierrors.IsBadRequest},
		"Both":            {reason: "projects and a cluster contradict each other", request: TokenRequest{Name: "a", Scope: Scope{Cluster: "dev/blue", Projects: []string{"dev"}}}, refused: apierrors.IsBadRequest},
		"BadCluster":      {reason: "a scope that names nothing", request: TokenRequest{Name: "a", Scope: Scope{Cluster: "dev/../prod"}}, refused: apierrors.IsBadRequest},
		"BadProject":      {reason: "a scope that names nothing", request: TokenRequest{Name: "a", Scope: Scope{Projects: []string{"*"}}}, refused: apierrors.IsBadRequest},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, person("alice"), setting(tc.login))
				who := w.who(t, "alice")
				if tc.parent != nil {
					who = w.mustBe(t, w.tokens, withBearer(w.mint(t, who, *tc.parent).Secret))
				}
				token, err := w.tokens.Mint(t.Context(), who, tc.request)
				if tc.refused != nil {
					if !tc.refused(err) || !strings.Contains(err.Error(), tc.says) {
						t.Errorf("%s: %v, %v", tc.reason, token, err)
					}
					return
				}
				if err != nil {
					t.Fatalf("%s: %v", tc.reason, err)
				}
				if life := token.Expires.Sub(token.Made); life != tc.life {
					t.Errorf("%s: it lives for %s, want %s", tc.reason, life, tc.life)
				}
				got := w.mustBe(t, w.tokens, withBearer(token.Secret))
				if diff := cmp.Diff(tc.scope, ScopeOf(got)); diff != "" {
					t.Errorf("%s:\n%s", tc.reason, diff)
				}
			})
		})
	}
}

// TestMintNobody holds who has no tokens.
func TestMintNobody(t *testing.T) {
	w := newWorld(t, person("alice"))
	must := info("alice", "uid-of-alice", "alice", nil, "session:x", Scope{})
	must.Extra[mustChangeKey] = []string{"true"}
	for name, who := range map[string]user.Info{
		"a service account":                  &user.DefaultInfo{Name: "system:serviceaccount:dev:bot", Extra: map[string][]string{ViaKey: {viaServiceAccount}}},
		"the API server":                     &user.DefaultInfo{Name: "system:apiserver"},
		"an admin without the token":         info("admin", "", "admin", nil, "session:x", Scope{}),
		"someone without a UID":              info("bob", "", "bob", nil, "session:x", Scope{}),
		"a person who must change":           must,
		"a person whose token has just gone": info("alice", "uid-of-alice", "alice", nil, "token:aaaaaaaaaaaaaaaa", Scope{}),
	} {
		if token, err := w.tokens.Mint(t.Context(), who, TokenRequest{Name: "a"}); !apierrors.IsForbidden(err) && !apierrors.IsUnauthorized(err) {
			t.Errorf("%s has a token: %v %v", name, token, err)
		}
	}
}

// TestAdminTokenMints holds that root on the server can use what needs a token, before there is any User.
func TestAdminTokenMints(t *testing.T) {
	w := newWorld(t)
	admin, err := LoadAdminToken(t.TempDir())
	must(t, err)
	who := w.mustBe(t, admin, withBearer(admin.Token()))
	token := w.mint(t, who, TokenRequest{Scope: Scope{Cluster: "dev/blue"}})
	got := w.mustBe(t, w.tokens.WithAdmin(admin), withBearer(token.Secret))
	want := &user.DefaultInfo{Name: "admin", Groups: []string{"slipway:system-administrators", "system:authenticated"}, Extra: map[string][]string{
		"slipway.dev/via": {"token:" + token.ID}, "slipway.dev/user": {"admin"}, "slipway.dev/cluster": {"dev/blue"},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	replaced, err := LoadAdminToken(t.TempDir())
	must(t, err)
	for reason, tokens := range map[string]*Tokens{"its admin token was replaced": w.tokens.WithAdmin(replaced), "there is no admin token": w.tokens} {
		if _, ok, err := tokens.Authenticate(withBearer(token.Secret)); ok || err != nil {
			t.Errorf("it counts although %s: %v", reason, err)
		}
	}
	must(t, w.tokens.Revoke(t.Context(), who, token.ID))
	if _, ok, err := w.tokens.WithAdmin(admin).Authenticate(withBearer(token.Secret)); ok || err != nil {
		t.Errorf("a revoked token counts: %v", err)
	}
}

// TestOwnTokens holds that a person sees and revokes the own tokens, and nobody else's.
func TestOwnTokens(t *testing.T) {
	w := newWorld(t, person("alice"), person("bob"))
	token := w.mint(t, w.who(t, "alice"), TokenRequest{Name: "ci", From: "192.0.2.7"})
	alice := w.mustBe(t, w.tokens, withBearer(token.Secret))
	listed, err := w.tokens.List(t.Context(), alice)
	must(t, err)
	want := []Token{{ID: token.ID, Name: "ci", Made: token.Made, Expires: token.Expires, From: "192.0.2.7", Current: true}}
	if diff := cmp.Diff(want, listed); diff != "" {
		t.Error(diff)
	}
	if err := w.tokens.Revoke(t.Context(), w.who(t, "bob"), token.ID); !apierrors.IsNotFound(err) {
		t.Errorf("bob revokes alice's token: %v", err)
	}
	w.mustBe(t, w.tokens, withBearer(token.Secret))
}

// TestTokensAreLimited holds that a person cannot fill the store, and that those that are over do not count.
func TestTokensAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, person("alice"))
		who := w.who(t, "alice")
		for range maxTokens {
			w.mint(t, who, TokenRequest{Life: time.Hour})
		}
		if _, err := w.tokens.Mint(t.Context(), who, TokenRequest{Name: "a"}); !apierrors.IsForbidden(err) {
			t.Errorf("one token too many: %v", err)
		}
		<-time.After(time.Hour)
		w.mint(t, who, TokenRequest{Life: time.Hour})
		if n := len(w.secrets(t, v1alpha1.SecretTypeToken)); n != 1 {
			t.Errorf("%d tokens are stored", n)
		}
	})
}
