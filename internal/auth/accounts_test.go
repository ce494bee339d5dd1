package auth

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
)

const (
	alices = "correct horse battery"
	here   = "192.0.2.7"
	there  = "198.51.100.9"
)

// withPassword gives a world in which alice has a password.
func withPassword(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	w := newWorld(t, append(objects, person("alice"))...)
	must(t, w.accounts.SetPassword(t.Context(), w.user(t, "alice"), alices, false, ""))
	return w
}

func TestCheck(t *testing.T) {
	disabled := func(u *v1alpha1.User) { u.Spec.Disabled = true }
	cases := map[string]struct {
		reason         string
		name, password string
		change         func(t *testing.T, w *world)
		refused        func(error) bool
	}{
		"Right":       {reason: "the plain case", name: "alice", password: alices},
		"Wrong":       {reason: "another password", name: "alice", password: "correct horse batterx", refused: apierrors.IsUnauthorized},
		"Empty":       {reason: "no password", name: "alice", refused: apierrors.IsUnauthorized},
		"Unknown":     {reason: "another user", name: "mallory", password: alices, refused: apierrors.IsUnauthorized},
		"NoPassword":  {reason: "a user who has none yet", name: "bob", password: alices, refused: apierrors.IsUnauthorized},
		"Directory":   {reason: "a person of the directory logs in there", name: "oidc-1", password: alices, refused: apierrors.IsUnauthorized},
		"NoName":      {reason: "what cannot be a name", name: "../alice", password: alices, refused: apierrors.IsUnauthorized},
		"Huge":        {reason: "what cannot be a password", name: "alice", password: strings.Repeat("x", 1<<20), refused: apierrors.IsUnauthorized},
		"Disabled":    {reason: "who knows the password may know why", name: "carol", password: alices, refused: apierrors.IsForbidden},
		"DisabledBad": {reason: "who does not, may not", name: "carol", password: "x", refused: apierrors.IsUnauthorized},
		"MadeAnew": {reason: "a new user of the same name has no password yet", name: "alice", password: alices, refused: apierrors.IsUnauthorized, change: func(t *testing.T, w *world) {
			must(t, w.client.Delete(t.Context(), person("alice")))
			must(t, w.client.Create(t.Context(), person("alice", func(u *v1alpha1.User) { u.UID = "another" })))
		}},
		"Foreign": {reason: "a Secret that somebody put there is no password", name: "alice", password: alices, refused: apierrors.IsUnauthorized, change: func(t *testing.T, w *world) {
			var s corev1.Secret
			must(t, w.client.Get(t.Context(), passwordSecret("alice"), &s))
			must(t, w.client.Delete(t.Context(), &s))
			s.ResourceVersion, s.Type = "", v1alpha1.SecretTypeCredential
			must(t, w.client.Create(t.Context(), &s))
		}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := withPassword(t, person("bob"), person("oidc-1", ofDirectory), person("carol", disabled))
			must(t, w.accounts.SetPassword(t.Context(), w.user(t, "carol"), alices, false, ""))
			if tc.change != nil {
				tc.change(t, w)
			}
			proof, err := w.accounts.Check(t.Context(), tc.name, tc.password, here)
			if tc.refused != nil {
				if !tc.refused(err) {
					t.Errorf("%s: %v", tc.reason, err)
				}
				return
			}
			if err != nil || proof.User.Name != tc.name {
				t.Errorf("%s: %v, %v", tc.reason, proof, err)
			}
		})
	}
}

// TestWrongIsWrong holds that the answer does not tell whether a user exists, nor what the password was.
func TestWrongIsWrong(t *testing.T) {
	w := withPassword(t)
	messages := map[string]bool{}
	for _, name := range []string{"alice", "mallory", "../x"} {
		_, err := w.accounts.Check(t.Context(), name, "hunter22hunter22", here)
		if err == nil || strings.Contains(err.Error(), "hunter22") {
			t.Fatalf("%s: %v", name, err)
		}
		messages[err.Error()] = true
	}
	if len(messages) != 1 {
		t.Errorf("the answers differ: %v", messages)
	}
}

// TestUnknownUserCostsTheSame holds that a user who does not exist is hashed for all the same. Time itself is not asserted.
func TestUnknownUserCostsTheSame(t *testing.T) {
	w := withPassword(t)
	for range parallelHashes {
		w.accounts.hasher.turns <- struct{}{}
	}
	for _, name := range []string{"alice", "mallory", "../x"} {
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := w.accounts.check(gone, name, "x"); !errors.Is(err, context.Canceled) {
			t.Errorf("%s is not hashed for: %v", name, err)
		}
	}
	p, _, _, err := parsePHC(w.accounts.decoy)
	if err != nil || p != w.accounts.hasher.params {
		t.Errorf("the decoy costs %v, %v", p, err)
	}
}

// TestHashIsRenewed holds that a login renews a hash of older parameters, and that nobody is logged out by that.
func TestHashIsRenewed(t *testing.T) {
	w := withPassword(t)
	old := w.hash(t)
	dearer := Argon2{MemoryKiB: 128, Passes: 2, Lanes: 1}
	w.accounts = NewAccounts(AccountsConfig{Client: w.client, Sessions: w.sessions, Tokens: w.tokens, Argon2: dearer})
	if _, err := w.accounts.Check(t.Context(), "alice", "wrong", here); !apierrors.IsUnauthorized(err) || w.hash(t) != old {
		t.Fatalf("a wrong password changed the hash: %v", err)
	}
	proof, err := w.accounts.Check(t.Context(), "alice", alices, here)
	must(t, err)
	if stored := w.hash(t); !strings.HasPrefix(stored, "$argon2id$v=19$m=128,t=2,p=1$") {
		t.Errorf("the hash is still %s", stored)
	}
	must(t, w.accounts.StillHolds(t.Context(), proof))
	if _, err := w.accounts.Check(t.Context(), "alice", alices, here); err != nil {
		t.Errorf("after renewing: %v", err)
	}
}

func (w *world) hash(t *testing.T) string {
	t.Helper()
	var s corev1.Secret
	must(t, w.client.Get(t.Context(), passwordSecret("alice"), &s))
	var p password
	must(t, json.Unmarshal(s.Data[recordKey], &p))
	if strings.Contains(string(s.Data[recordKey]), alices) || s.Type != v1alpha1.SecretTypePassword {
		t.Errorf("the password is stored as %s %s", s.Type, s.Data[recordKey])
	}
	return p.Hash
}

// TestSetPassword holds that a new password ends what the old one opened.
func TestSetPassword(t *testing.T) {
	w := withPassword(t, person("bob"))
	session := w.open(t, "alice", Origin{})
	alice := w.who(t, "alice")
	kept, lost := w.mint(t, alice, TokenRequest{}), w.mint(t, alice, TokenRequest{})
	bobs := w.open(t, "bob", Origin{})
	proof, err := w.accounts.Check(t.Context(), "alice", alices, here)
	must(t, err)
	must(t, w.accounts.SetPassword(t.Context(), w.user(t, "alice"), "another good phrase", true, kept.ID))

	if _, err := w.accounts.Check(t.Context(), "alice", alices, here); !apierrors.IsUnauthorized(err) {
		t.Errorf("the old password: %v", err)
	}
	fresh, err := w.accounts.Check(t.Context(), "alice", "another good phrase", here)
	if err != nil || !fresh.MustChange {
		t.Errorf("the new password: %+v, %v", fresh, err)
	}
	if err := w.accounts.StillHolds(t.Context(), proof); !apierrors.IsUnauthorized(err) {
		t.Errorf("a login that was under way with the old password: %v", err)
	}
	if _, ok, _ := w.sessions.Authenticate(withCookie("GET", session)); ok {
		t.Error("a session outlived the password")
	}
	if _, ok, _ := w.tokens.Authenticate(withBearer(lost.Secret)); ok {
		t.Error("a token outlived the password")
	}
	w.mustBe(t, w.tokens, withBearer(kept.Secret))
	w.mustBe(t, w.sessions, withCookie("GET", bobs))
}

func TestSetPasswordRefused(t *testing.T) {
	w := withPassword(t, person("oidc-1", ofDirectory), setting(v1alpha1.LoginSetting{Password: v1alpha1.PasswordPolicy{MinLength: 16}}))
	if err := w.accounts.SetPassword(t.Context(), w.user(t, "alice"), "x7Kq-92mVfLp", false, ""); !apierrors.IsBadRequest(err) {
		t.Errorf("a password shorter than the setting asks: %v", err)
	}
	if err := w.accounts.SetPassword(t.Context(), w.user(t, "oidc-1"), alices, false, ""); !apierrors.IsBadRequest(err) {
		t.Errorf("a password for a person of the directory: %v", err)
	}
	if _, err := w.accounts.Check(t.Context(), "alice", alices, here); err != nil {
		t.Errorf("the password is lost after a refused change: %v", err)
	}
}

// TestMustChangeSession holds that the forced change travels with the session.
func TestMustChangeSession(t *testing.T) {
	w := withPassword(t)
	forced := w.mustBe(t, w.sessions, withCookie("GET", w.open(t, "alice", Origin{MustChange: true})))
	if !MustChange(forced) || MustChange(w.who(t, "alice")) {
		t.Error("the session does not say that the password must change, or every session does")
	}
}
