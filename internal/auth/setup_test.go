package auth

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"slipway.dev/slipway/api/v1alpha1"
)

func (w *world) link(t *testing.T) string {
	t.Helper()
	link, err := w.setup.NewLink(t.Context())
	if err != nil || len(link) != secretLength {
		t.Fatalf("a link of %d characters, %v", len(link), err)
	}
	return link
}

func TestSetup(t *testing.T) {
	w := newWorld(t)
	link := w.link(t)
	if needed, err := w.setup.Needed(t.Context()); err != nil || !needed {
		t.Fatalf("a fresh server needs no set-up: %v", err)
	}
	var s corev1.Secret
	must(t, w.client.Get(t.Context(), setupKey(), &s))
	if strings.Contains(string(s.Data[recordKey]), link) || s.Type != v1alpha1.SecretTypeSetup {
		t.Errorf("the link is stored as %s %s", s.Type, s.Data[recordKey])
	}
	if err := w.setup.Use(t.Context(), link, "short"); !apierrors.IsBadRequest(err) {
		t.Errorf("a password that the policy refuses: %v", err)
	}
	must(t, w.setup.Use(t.Context(), link, alices))
	proof, err := w.accounts.Check(t.Context(), "admin", alices, here)
	if err != nil || proof.MustChange || proof.User.Spec.PlatformRole != v1alpha1.SystemAdministrator {
		t.Errorf("admin after set-up: %+v, %v", proof, err)
	}
	if err := w.setup.Use(t.Context(), link, "another good phrase"); !apierrors.IsGone(err) {
		t.Errorf("a used link: %v", err)
	}
	if _, err := w.accounts.Check(t.Context(), "admin", alices, here); err != nil {
		t.Errorf("a used link changed the password: %v", err)
	}
	if again, err := w.setup.NewLink(t.Context()); again != "" || err != nil || len(w.secrets(t, v1alpha1.SecretTypeSetup)) != 0 {
		t.Errorf("a server that is set up prints a link: %v", err)
	}
}

func TestSetupRefused(t *testing.T) {
	cases := map[string]struct {
		reason string
		use    func(t *testing.T, w *world, link string) string
	}{
		"Wrong":   {reason: "another secret", use: func(*testing.T, *world, string) string { return strings.Repeat("A", secretLength) }},
		"Empty":   {reason: "no secret", use: func(*testing.T, *world, string) string { return "" }},
		"Part":    {reason: "a part of it", use: func(_ *testing.T, _ *world, link string) string { return link[:51] }},
		"Expired": {reason: "after an hour", use: func(_ *testing.T, _ *world, link string) string { <-time.After(SetupLife); return link }},
		"Older":   {reason: "the link of an earlier start", use: func(t *testing.T, w *world, link string) string { w.link(t); return link }},
		"None":    {reason: "no link was ever made", use: func(t *testing.T, w *world, link string) string { must(t, w.setup.end(t.Context())); return link }},
		"Forged": {reason: "a Secret that somebody else put there", use: func(t *testing.T, w *world, link string) string {
			var s corev1.Secret
			must(t, w.client.Get(t.Context(), setupKey(), &s))
			must(t, w.client.Delete(t.Context(), &s))
			s.ResourceVersion, s.Type = "", v1alpha1.SecretTypeCredential
			must(t, w.client.Create(t.Context(), &s))
			return link
		}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				link := tc.use(t, w, w.link(t))
				if err := w.setup.Use(t.Context(), link, alices); !apierrors.IsForbidden(err) {
					t.Errorf("%s: %v", tc.reason, err)
				}
				if needed, err := w.setup.Needed(t.Context()); !needed || err != nil {
					t.Errorf("%s: the server is set up: %v", tc.reason, err)
				}
			})
		})
	}
}

// TestSetupRace holds that of many uses at once one wins, and that its password is the one that counts.
func TestSetupRace(t *testing.T) {
	w := newWorld(t)
	link := w.link(t)
	var mu sync.Mutex
	won := map[string]bool{}
	var all sync.WaitGroup
	for _, password := range []string{"first good phrase", "second good phrase", "third good phrase", "fourth good phrase"} {
		all.Go(func() {
			err := w.setup.Use(t.Context(), link, password)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				won[password] = true
			case !apierrors.IsGone(err) && !apierrors.IsForbidden(err):
				t.Errorf("a use that lost: %v", err)
			}
		})
	}
	all.Wait()
	if len(won) != 1 {
		t.Fatalf("%d uses won", len(won))
	}
	for password := range won {
		if _, err := w.accounts.Check(t.Context(), "admin", password, here); err != nil {
			t.Errorf("the winner's password: %v", err)
		}
	}
}

// TestSetupAfterACrash holds that a set-up that broke off can be done again.
func TestSetupAfterACrash(t *testing.T) {
	admin := person("admin", func(u *v1alpha1.User) { u.Spec.PlatformRole = v1alpha1.SystemAdministrator })
	w := newWorld(t, admin)
	// The password of an earlier admin that the garbage collector has not found yet.
	stale, err := w.accounts.encode(t.Context(), person("admin", func(u *v1alpha1.User) { u.UID = "earlier" }), "an earlier phrase", false)
	must(t, err)
	must(t, w.client.Create(t.Context(), newPasswordSecret(admin, stale)))
	must(t, w.setup.Use(t.Context(), w.link(t), alices))
	if _, err := w.accounts.Check(t.Context(), "admin", alices, here); err != nil {
		t.Error(err)
	}
}
