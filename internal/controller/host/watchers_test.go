package host

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/host/ssh"
)

func TestRetries(t *testing.T) {
	cases := map[string]struct {
		reason   string
		err      error
		min, max int
	}{
		"Unreachable":  {"dials come with 1, 2, 4 ... 60 seconds between them, give or take a fifth", fault.NewTransient(host.ReasonUnreachable, errors.New("gone")), 13, 19},
		"LoginRefused": {"a second try could lock the account", fault.NewTerminal(ssh.ReasonLoginRefused, "", errors.New("no")), 1, 1},
		"KeyChanged":   {"another machine may have taken the address", fault.NewTerminal(ssh.ReasonHostKeyChanged, "", errors.New("other")), 1, 1},
		"Sudo":         {"a second try could lock the account", fault.NewTerminal(ssh.ReasonSudoRefused, "", errors.New("no")), 1, 1},
		"Incompatible": {"it may be mended on the machine, where we see nothing of it", fault.NewTerminal(ssh.ReasonIncompatible, "", errors.New("old")), 1, 2},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, append(login(), machine("w1"))...)
				w.answer(func(string) (host.Session, error) { return nil, c.err })
				w.settle("w1")
				for range 60 {
					w.pass(10 * time.Second)
				}
				if n := len(w.dials); n < c.min || n > c.max {
					t.Errorf("%s: %d dials in 10 minutes, want %d to %d", c.reason, n, c.min, c.max)
				}
				if w.writes != 1 {
					t.Errorf("%s: %d writes of the status, want one, with the reason", c.reason, w.writes)
				}
			})
		})
	}
}

// TestRefusedLogin: what makes a refused login worth another try is a new secret, a new spec, or a wish for it.
func TestRefusedLogin(t *testing.T) {
	cases := map[string]struct {
		reason string
		edit   func(w *world)
		tries  bool
	}{
		"Nothing": {"time alone changes nothing", func(*world) {}, false},
		"Label": {"a label has nothing to do with the login", func(w *world) {
			h := w.host("w1")
			h.Labels = map[string]string{"rack": "7"}
			if err := w.client.Update(w.t.Context(), h); err != nil {
				w.t.Fatal(err)
			}
		}, false},
		"Check": {"somebody asks for it", func(w *world) {
			w.change("w1", func(h *v1alpha1.Host) { h.Annotations = map[string]string{AnnotationCheck: "now"} })
		}, true},
		"Spec": {"the spec moved", func(w *world) { w.change("w1", func(h *v1alpha1.Host) { h.Spec.Region = "north" }) }, true},
		"Secret": {"the secret is another", func(w *world) {
			if err := w.client.Delete(w.t.Context(), login()[1]); err != nil {
				w.t.Fatal(err)
			}
			secret := login()[1].(*corev1.Secret)
			secret.Data[v1alpha1.SecretKeyPassword] = []byte("right")
			if err := w.client.Create(w.t.Context(), secret); err != nil {
				w.t.Fatal(err)
			}
		}, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, append(login(), machine("w1"))...)
				w.answer(func(string) (host.Session, error) {
					return nil, fault.NewTerminal(ssh.ReasonLoginRefused, "set a new credential", errors.New("refused"))
				})
				w.settle("w1")
				w.want("w1", v1alpha1.HostReachable, "False LoginRefused")
				w.answer(func(string) (host.Session, error) { return up(facts()), nil })
				c.edit(w)
				w.settle("w1")
				w.pass(time.Hour)
				want := map[bool]string{true: "True LoggedIn", false: "False LoginRefused"}[c.tries]
				w.want("w1", v1alpha1.HostReachable, want)
				if c.tries != (len(w.forgot) == 1) {
					t.Errorf("%s: forgot %v", c.reason, w.forgot)
				}
			})
		})
	}
}

// TestLoss: a broken connection is one try away from being told, and mends itself.
func TestLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, append(login(), machine("w1"))...)
		first := up(facts())
		w.answer(func(string) (host.Session, error) { return first, nil })
		w.settle("w1")
		w.want("w1", v1alpha1.HostReachable, "True LoggedIn")
		wrote := w.writes

		// The connection breaks, the machine is well.
		second := up(facts())
		w.answer(func(string) (host.Session, error) { return second, nil })
		close(first.ended)
		w.settle()
		if w.writes != wrote || len(w.dials) != 2 {
			t.Errorf("a connection that broke once: %d writes more and %d dials, want 0 and 2", w.writes-wrote, len(w.dials))
		}

		// The machine goes away.
		w.answer(func(string) (host.Session, error) {
			return nil, fault.NewTransient(host.ReasonUnreachable, errors.New("connection refused"))
		})
		close(second.ended)
		w.settle()
		w.want("w1", v1alpha1.HostReachable, "False Unreachable")
		if got := w.host("w1").Status; got.Facts == nil || got.InternalAddress == "" {
			t.Error("what is known of a machine must stay while it is away")
		}
		w.answer(func(string) (host.Session, error) { return up(facts()), nil })
		w.pass(2 * time.Minute)
		w.want("w1", v1alpha1.HostReachable, "True LoggedIn")
	})
}

// TestSmallMovements: only what matters is written.
func TestSmallMovements(t *testing.T) {
	cases := map[string]struct {
		reason string
		edit   func(f *v1alpha1.HostFacts)
		writes int
	}{
		"Same":      {"nothing moved", func(*v1alpha1.HostFacts) {}, 0},
		"SmallSkew": {"clocks always differ a little", func(f *v1alpha1.HostFacts) { f.ClockSkewMillis += 499 }, 0},
		"Skew":      {"half a second matters", func(f *v1alpha1.HostFacts) { f.ClockSkewMillis -= 500 }, 1},
		"SmallFree": {"logs grow", func(f *v1alpha1.HostFacts) { f.FreeBytes = map[string]int64{"/": 951} }, 0},
		"Free":      {"a twentieth of the room is gone", func(f *v1alpha1.HostFacts) { f.FreeBytes = map[string]int64{"/": 950} }, 1},
		"NewDisk":   {"a fact is a fact", func(f *v1alpha1.HostFacts) { f.Disks = []v1alpha1.HostDisk{{Name: "sdb", Bytes: 1}} }, 1},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, append(login(), machine("w1"))...)
				var mu sync.Mutex
				now := facts()
				looks := 0
				w.answer(func(string) (host.Session, error) {
					return &session{facts: func() (v1alpha1.HostFacts, error) {
						mu.Lock()
						defer mu.Unlock()
						looks++
						return now, nil
					}}, nil
				})
				w.settle("w1")
				wrote := w.writes
				mu.Lock()
				c.edit(&now)
				mu.Unlock()
				w.pass(10 * time.Minute)
				if looks != 2 || w.writes-wrote != c.writes {
					t.Errorf("%s: %d looks, %d writes; want 2 and %d", c.reason, looks, w.writes-wrote, c.writes)
				}
			})
		})
	}
}

// TestManyLooks: with many machines only some are dialled together, and all of them in the end.
func TestManyLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const hosts = maxLooks + 32
		objects := login()
		for i := range hosts {
			objects = append(objects, machine(fmt.Sprintf("w%d", i), func(h *v1alpha1.Host) { h.Spec.Port = int32(1000 + i) }))
		}
		w := newWorld(t, objects...)
		gate := make(chan struct{})
		busy, most := 0, 0
		var mu sync.Mutex
		w.answer(func(string) (host.Session, error) {
			return &session{facts: func() (v1alpha1.HostFacts, error) {
				mu.Lock()
				busy++
				most = max(most, busy)
				mu.Unlock()
				<-gate
				mu.Lock()
				busy--
				mu.Unlock()
				return facts(), nil
			}}, nil
		})
		for i := range hosts {
			w.settle(fmt.Sprintf("w%d", i))
		}
		close(gate)
		synctest.Wait()
		if most != maxLooks {
			t.Errorf("%d machines were asked at the same time, want %d", most, maxLooks)
		}
		if n := len(w.dials); n != hosts {
			t.Errorf("%d dials, want %d", n, hosts)
		}
	})
}

// TestSettling: what is written of a new Host is what its machine says, unless that takes long.
func TestSettling(t *testing.T) {
	cases := map[string]struct {
		reason string
		delay  time.Duration
		early  string
		writes int
	}{
		"Answers": {"one write of each of many hosts", 2 * time.Second, "", 1},
		"Slow":    {"somebody waits and wants to know for what", 20 * time.Second, "Unknown Connecting", 2},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, append(login(), machine("w1"))...)
				slow := up(facts())
				slow.facts = func() (v1alpha1.HostFacts, error) {
					<-time.After(c.delay)
					return facts(), nil
				}
				w.answer(func(string) (host.Session, error) { return slow, nil })
				// Long after the Host was made, as when thousands are made at once.
				<-time.After(time.Hour)
				result, err := w.reconcile.Reconcile(t.Context(), request("w1"))
				if err != nil || result.RequeueAfter == 0 || w.writes != 0 {
					t.Fatalf("%s: comes again in %s with error %v after %d writes", c.reason, result.RequeueAfter, err, w.writes)
				}
				if c.early != "" {
					<-time.After(result.RequeueAfter)
					w.settle("w1")
					w.want("w1", v1alpha1.HostReachable, c.early)
				}
				w.pass(time.Minute)
				w.want("w1", v1alpha1.HostReachable, "True LoggedIn")
				if w.writes != c.writes {
					t.Errorf("%s: %d writes, want %d", c.reason, w.writes, c.writes)
				}
			})
		})
	}
}
