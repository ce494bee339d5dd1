package auth

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// try logs in once, and gives how long it took.
func (w *world) try(t *testing.T, name, password, from string) (time.Duration, error) {
	t.Helper()
	began := time.Now()
	_, err := w.accounts.Check(t.Context(), name, password, from)
	return time.Since(began), err
}

// guess gives wrong passwords until one is refused unseen, at most n times.
func (w *world) guess(t *testing.T, name, from string, n int) (seen int) {
	t.Helper()
	for range n {
		_, err := w.try(t, name, "wrong", from)
		if apierrors.IsTooManyRequests(err) {
			return seen
		}
		if !apierrors.IsUnauthorized(err) {
			t.Fatal(err)
		}
		seen++
	}
	return seen
}

// TestLockout holds that guessing from one network gets slow there, and hinders nobody elsewhere.
func TestLockout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withPassword(t, person("bob"))
		if seen := w.guess(t, "alice", here, 100); seen != freeTries {
			t.Fatalf("%d wrong passwords were looked at", seen)
		}
		_, err := w.try(t, "alice", alices, here)
		if seconds, ok := apierrors.SuggestsClientDelay(err); !apierrors.IsTooManyRequests(err) || !ok || seconds < 1 {
			t.Errorf("the right password from the guessing network: %v", err)
		}
		if _, err := w.try(t, "alice", alices, there); err != nil {
			t.Errorf("the right password from another network: %v", err)
		}
		if _, err := w.try(t, "bob", "wrong", here); !apierrors.IsUnauthorized(err) {
			t.Errorf("another user from the guessing network: %v", err)
		}
		<-time.After(firstWait)
		if _, err := w.try(t, "alice", alices, here); err != nil {
			t.Errorf("the right password after the wait: %v", err)
		}
		if seen := w.guess(t, "alice", here, 100); seen != freeTries {
			t.Errorf("after a right password %d wrong ones were looked at", seen)
		}
	})
}

// TestLockoutGrows holds that each further failure waits longer, up to a bound.
func TestLockoutGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withPassword(t)
		w.guess(t, "alice", here, freeTries)
		last := 0
		for range 12 {
			_, err := w.try(t, "alice", alices, here)
			seconds, ok := apierrors.SuggestsClientDelay(err)
			if !ok || seconds < last || seconds > int(longestWait/time.Second)+1 {
				t.Fatalf("after a wait of %d s: %v", last, err)
			}
			last = seconds
			<-time.After(time.Duration(seconds) * time.Second)
			if seen := w.guess(t, "alice", here, 100); seen != 1 {
				t.Fatalf("after the wait %d passwords were looked at", seen)
			}
		}
		if last < int(longestWait/time.Second) {
			t.Errorf("the wait ends at %d s", last)
		}
		<-time.After(forget + time.Second)
		if seen := w.guess(t, "alice", here, 100); seen != freeTries {
			t.Errorf("after an hour %d passwords were looked at", seen)
		}
	})
}

// TestLockoutFromEverywhere holds that an attack from many networks slows logins down, and refuses no network that
// has not failed.
func TestLockoutFromEverywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withPassword(t)
		for i := range 200 {
			from := fmt.Sprintf("203.0.113.%d", i)
			if i < attackTries/freeTries {
				w.guess(t, "alice", from, freeTries)
				continue
			}
			if seen := w.guess(t, "alice", from, 100); seen != 1 {
				t.Fatalf("during an attack network %d had %d tries", i, seen)
			}
		}
		took, err := w.try(t, "alice", alices, there)
		if err != nil {
			t.Errorf("the right password from a network without failures: %v", err)
		}
		if took != slowest {
			t.Errorf("it took %s, want it slowed down by %s", took, slowest)
		}
	})
}

// TestLockoutUnknown holds that a user who does not exist is treated the same, so that refusals do not tell who does.
func TestLockoutUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withPassword(t)
		if seen := w.guess(t, "mallory", here, 100); seen != freeTries {
			t.Errorf("%d passwords of nobody were looked at", seen)
		}
	})
}

// TestLockoutAtOnce holds that many tries at the same moment gain nothing: no more are looked at than may be under way.
func TestLockoutAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withPassword(t)
		for range parallelHashes {
			w.accounts.hasher.turns <- struct{}{}
		}
		var seen, refused atomic.Int32
		for range 500 {
			go func() {
				_, err := w.accounts.Check(t.Context(), "alice", "wrong", here)
				switch {
				case apierrors.IsUnauthorized(err):
					seen.Add(1)
				case apierrors.IsTooManyRequests(err):
					refused.Add(1)
				}
			}()
		}
		synctest.Wait()
		if refused.Load() != 500-parallelLogins {
			t.Errorf("%d of 500 tries at once were refused unseen", refused.Load())
		}
		for range parallelHashes {
			<-w.accounts.hasher.turns
		}
		synctest.Wait()
		if seen.Load() != parallelLogins {
			t.Errorf("%d of 500 tries at once were looked at", seen.Load())
		}
	})
}

// TestLockoutForgetsWhoLeaves holds that a client that goes away while it waits leaves nothing behind.
func TestLockoutForgetsWhoLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLockout()
		for range attackTries {
			count(l.users, "alice", time.Now())
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := l.begin(gone, "alice", here); !errors.Is(err, context.Canceled) {
			t.Errorf("begin: %v", err)
		}
		if len(l.busy) != 0 || len(l.pairs) != 0 {
			t.Errorf("left behind: %v %v", l.busy, l.pairs)
		}
	})
}

// TestLockoutIsBounded holds that names and addresses that nobody has cannot fill the memory.
func TestLockoutIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLockout()
		no := false
		for i := range maxCounted + 10 {
			end, err := l.begin(t.Context(), fmt.Sprint("user-", i), here)
			must(t, err)
			end(&no)
		}
		if len(l.pairs) > maxCounted || len(l.users) > maxCounted {
			t.Errorf("%d and %d are counted", len(l.pairs), len(l.users))
		}
	})
}

func TestNetworkOf(t *testing.T) {
	cases := map[string]struct{ reason, from, want string }{
		"IPv4":    {"one address is one client", "192.0.2.7", "192.0.2.7/32"},
		"Mapped":  {"the same address as an IPv6 socket says it", "::ffff:192.0.2.7", "192.0.2.7/32"},
		"IPv6":    {"one subscriber has a whole /64", "2001:db8::1:2:3:4", "2001:db8::/64"},
		"Zone":    {"the interface is not the client", "fe80::1%eth0", "fe80::/64"},
		"Nothing": {"what is no address is one network", "pipe", "invalid Prefix"},
	}
	for name, tc := range cases {
		if got := networkOf(tc.from).String(); got != tc.want {
			t.Errorf("%s: %s: %s", name, tc.reason, got)
		}
	}
}
