package auth

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// TestHash runs once with the parameters that people get.
func TestHash(t *testing.T) {
	h := newHasher(Argon2{})
	stored, err := h.hash(t.Context(), "correct horse battery")
	must(t, err)
	if !strings.HasPrefix(stored, "$argon2id$v=19$m=65536,t=3,p=4$") {
		t.Errorf("a hash reads %s", stored)
	}
	cases := map[string]struct {
		reason, password string
		want             bool
	}{
		"Right":  {reason: "the password", password: "correct horse battery", want: true},
		"Wrong":  {reason: "another", password: "correct horse batterz"},
		"Prefix": {reason: "all of it counts", password: "correct horse batter"},
		"Empty":  {reason: "nothing is no password"},
	}
	for name, tc := range cases {
		right, outdated, err := h.verify(t.Context(), tc.password, stored)
		if err != nil || right != tc.want || outdated {
			t.Errorf("%s: %s: %v, %v, %v", name, tc.reason, right, outdated, err)
		}
	}
	if again, err := h.hash(t.Context(), "correct horse battery"); err != nil || again == stored {
		t.Errorf("two hashes of one password are the same, or %v", err)
	}
}

// TestHashKnownAnswer pins the format: hashes that are stored must be read for ever.
func TestHashKnownAnswer(t *testing.T) {
	// From the command line tool of the argon2 reference implementation: echo -n password | argon2 somesalt -id -t 2 -k 256 -p 1.
	const stored = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
	right, outdated, err := newHasher(Argon2{}).verify(t.Context(), "password", stored)
	if err != nil || !right || !outdated {
		t.Errorf("right %v, outdated %v, %v", right, outdated, err)
	}
}

func TestBrokenHash(t *testing.T) {
	for name, stored := range map[string]string{
		"Empty":    "",
		"Bcrypt":   "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
		"Argon2i":  "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
		"Version":  "$argon2id$v=16$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
		"Memory":   "$argon2id$v=19$m=4000000000,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
		"NoKey":    "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$",
		"NoSalt":   "$argon2id$v=19$m=256,t=2,p=1$$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
		"NoPasses": "$argon2id$v=19$m=256,t=0,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
	} {
		right, _, err := newHasher(cheap()).verify(t.Context(), "password", stored)
		if right || err == nil {
			t.Errorf("%s: %v, %v", name, right, err)
		}
		if err != nil && stored != "" && strings.Contains(err.Error(), stored) {
			t.Errorf("%s: the error quotes the hash", name)
		}
	}
}

// TestHashesTakeTurns holds that people who log in cannot take all memory.
func TestHashesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHasher(cheap())
		for range parallelHashes {
			h.turns <- struct{}{}
		}
		began := time.Now()
		if _, err := h.hash(t.Context(), "x"); !apierrors.IsTooManyRequests(err) || time.Since(began) != hashWait {
			t.Errorf("with no turn: %v after %s", err, time.Since(began))
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := h.hash(gone, "x"); err == nil {
			t.Error("who has gone still waits")
		}
		go func() {
			<-time.After(time.Second)
			<-h.turns
		}()
		if _, err := h.hash(t.Context(), "x"); err != nil {
			t.Errorf("with a turn after a second: %v", err)
		}
	})
}
