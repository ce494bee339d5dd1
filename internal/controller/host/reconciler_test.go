package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/host/ssh"
)

const (
	keyA = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGbM2rRTfEoL0LNK2PmbrUuTDMmCBeTGwwbTSmIZlcZX"
	keyB = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8SO4nMJCb2RZ1K/1ktyKuxSZ9B26SMUzYVKlImvhdk"
)

// session is a connection that answers with facts until it is cut.
type session struct {
	host.Session
	facts func() (v1alpha1.HostFacts, error)
	ended chan struct{}
}

func (s *session) Facts(context.Context) (v1alpha1.HostFacts, error) { return s.facts() }
func (s *session) Done() <-chan struct{}                             { return s.ended }

// world is a fake API with machines behind it. It must be used inside a synctest bubble.
type world struct {
	t         *testing.T
	client    client.Client
	reconcile *Reconciler

	mu      sync.Mutex
	dial    func(name string) (host.Session, error)
	dials   []time.Time
	forgot  []string
	scan    func() (string, error)
	lookup  []netip.Addr
	pending map[string]bool
	writes  int
}

func (w *world) Session(_ context.Context, name string) (host.Session, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dials = append(w.dials, time.Now())
	return w.dial(name)
}

// answer sets what the next logins meet.
func (w *world) answer(dial func(name string) (host.Session, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dial = dial
}

func (w *world) Forget(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forgot = append(w.forgot, name)
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{t: t, pending: map[string]bool{}}
	b := clientfake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&v1alpha1.Host{}).
		WithInterceptorFuncs(interceptor.Funcs{SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			w.writes++
			return c.SubResource(sub).Patch(ctx, o, p, opts...)
		}})
	for _, i := range indexes() {
		b = b.WithIndex(i.object, i.name, i.values)
	}
	w.client = b.Build()
	w.answer(func(string) (host.Session, error) { return up(facts()), nil })
	w.scan = func() (string, error) { return keyA, nil }
	w.reconcile = New(Deps{Client: w.client, Sessions: w, Log: slog.New(slog.DiscardHandler),
		Scan: func(context.Context, string, int) (string, string, error) {
			key, err := w.scan()
			return key, ssh.Fingerprint(key), err
		},
		Lookup: func(context.Context, string) ([]netip.Addr, error) {
			if w.lookup == nil {
				return nil, errors.New("no such host")
			}
			return w.lookup, nil
		}})
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() {
		cancel()
		synctest.Wait()
	})
	w.reconcile.watchers.start(ctx, func(name string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.pending[name] = true
	})
	return w
}

// settle reconciles the named hosts and then whatever the watchers ask for, until all is quiet.
func (w *world) settle(names ...string) {
	w.t.Helper()
	for _, name := range names {
		if _, err := w.reconcile.Reconcile(w.t.Context(), request(name)); err != nil {
			w.t.Fatal(err)
		}
	}
	synctest.Wait()
	w.mu.Lock()
	names = nil
	for name := range w.pending {
		names = append(names, name)
	}
	clear(w.pending)
	w.mu.Unlock()
	if len(names) > 0 {
		w.settle(names...)
	}
}

// pass lets d go by and settles.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	<-time.After(d)
	w.settle()
}

func (w *world) host(name string) *v1alpha1.Host {
	w.t.Helper()
	h := &v1alpha1.Host{}
	if err := w.client.Get(w.t.Context(), client.ObjectKey{Name: name}, h); err != nil {
		w.t.Fatal(err)
	}
	return h
}

// change edits a host's spec or metadata, and counts the generation as the API would.
func (w *world) change(name string, edit func(h *v1alpha1.Host)) {
	w.t.Helper()
	h := w.host(name)
	edit(h)
	h.Generation++
	if err := w.client.Update(w.t.Context(), h); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) want(name, kind, wanted string) {
	w.t.Helper()
	if got := condition(w.host(name), kind); got != wanted {
		w.t.Errorf("%s of %s is %q, want %q", kind, name, got, wanted)
	}
}

func condition(h *v1alpha1.Host, kind string) string {
	c := meta.FindStatusCondition(h.Status.Conditions, kind)
	if c == nil {
		return ""
	}
	return string(c.Status) + " " + c.Reason
}

func message(h *v1alpha1.Host, kind string) string {
	c := meta.FindStatusCondition(h.Status.Conditions, kind)
	if c == nil {
		return ""
	}
	return c.Message
}

func up(f v1alpha1.HostFacts) *session {
	return &session{ended: make(chan struct{}), facts: func() (v1alpha1.HostFacts, error) { return f, nil }}
}

func facts() v1alpha1.HostFacts {
	return v1alpha1.HostFacts{Kernel: "6.1.0", MachineID: "id-1", DefaultRouteNIC: "eth0", FreeBytes: map[string]int64{"/": 1000},
		NICs: []v1alpha1.HostNIC{
			{Name: "eth0", Addresses: []string{"2001:db8::1/64", "10.0.0.1/24"}},
			{Name: "eth1", Addresses: []string{"192.168.7.1/24"}},
		}}
}

func machine(name string, edits ...func(h *v1alpha1.Host)) *v1alpha1.Host {
	h := &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: name, Generation: 1},
		Spec: v1alpha1.HostSpec{Address: "192.168.7.1", Port: 22, Credential: "root", HostKey: keyA}}
	for _, edit := range edits {
		edit(h)
	}
	return h
}

func login() []client.Object {
	return []client.Object{
		&v1alpha1.Credential{ObjectMeta: metav1.ObjectMeta{Name: "root"},
			Spec: v1alpha1.CredentialSpec{User: "root", Type: v1alpha1.CredentialPassword, SecretName: "root-1"}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: "root-1"}, Type: v1alpha1.SecretTypeCredential,
			Data: map[string][]byte{v1alpha1.SecretKeyPassword: []byte("hunter22\n")}},
	}
}

func TestFirstLook(t *testing.T) {
	unreachable := fault.NewTransient(host.ReasonUnreachable, errors.New("cannot reach host w1: read tcp 10.0.0.9:51234->192.168.7.1:22: i/o timeout"))
	changed := fault.NewTerminal(ssh.ReasonHostKeyChanged, "find out why", &ssh.HostKeyError{Host: "w1", Pinned: keyA, Offered: keyB})
	cases := map[string]struct {
		reason    string
		edit      func(h *v1alpha1.Host)
		without   bool
		dial, scn error
		lookup    string
		reachable string
		pinned    string
		message   string
		internal  string
		offered   string
	}{
		"Reachable": {reason: "a login that works gives facts, and the NIC that owns the address",
			reachable: "True LoggedIn", pinned: "True Pinned", internal: "192.168.7.1"},
		"DefaultRoute": {reason: "behind a NAT no NIC owns the address: the default route decides, IPv4 first",
			edit:      func(h *v1alpha1.Host) { h.Spec.Address = "203.0.113.9" },
			reachable: "True LoggedIn", pinned: "True Pinned", internal: "10.0.0.1"},
		"Name": {reason: "a DNS name stands for the NIC that has one of its addresses",
			edit: func(h *v1alpha1.Host) { h.Spec.Address = "w1.lan" }, lookup: "192.168.7.1",
			reachable: "True LoggedIn", pinned: "True Pinned", internal: "192.168.7.1"},
		"UnknownName": {reason: "a name that does not resolve here leaves the default route",
			edit:      func(h *v1alpha1.Host) { h.Spec.Address = "w1.lan" },
			reachable: "True LoggedIn", pinned: "True Pinned", internal: "10.0.0.1"},
		"Internal": {reason: "a wanted address that the machine has is in force",
			edit:      func(h *v1alpha1.Host) { h.Spec.InternalAddress = "2001:db8::1" },
			reachable: "True LoggedIn", pinned: "True Pinned", internal: "2001:db8::1"},
		"InternalMissing": {reason: "a wanted address that no NIC has would make a node nobody reaches",
			edit:      func(h *v1alpha1.Host) { h.Spec.InternalAddress = "10.9.9.9" },
			reachable: "False InternalAddressMissing", pinned: "True Pinned", message: "10.9.9.9 is on no network card"},
		"Unpinned": {reason: "nothing logs in before a person has confirmed the key",
			edit: func(h *v1alpha1.Host) { h.Spec.HostKey = "" }, without: true,
			reachable: "False HostKeyUnconfirmed", pinned: "False HostKeyUnconfirmed", message: ssh.Fingerprint(keyA), offered: keyA},
		"UnpinnedGone": {reason: "a machine that shows no key is unreachable first of all",
			edit: func(h *v1alpha1.Host) { h.Spec.HostKey = "" }, scn: unreachable,
			reachable: "False Unreachable", pinned: "False HostKeyUnconfirmed", message: "read tcp 192.168.7.1:22: i/o timeout"},
		"Unreachable": {reason: "the local port differs at each try and stays out of the message", dial: unreachable,
			reachable: "False Unreachable", pinned: "True Pinned", message: "read tcp 192.168.7.1:22: i/o timeout"},
		"KeyChanged": {reason: "a changed key stops everything and names both fingerprints", dial: changed,
			reachable: "False HostKeyChanged", pinned: "False HostKeyChanged", message: ssh.Fingerprint(keyB), offered: keyB},
		"NoKey": {reason: "a pinned text that is no key is told apart from a key that is not pinned",
			edit:      func(h *v1alpha1.Host) { h.Spec.HostKey = "ssh-ed25519 nonsense" },
			dial:      fault.NewTerminal(ssh.ReasonHostKeyUnconfirmed, "pin the key", errors.New("no key")),
			reachable: "False HostKeyUnconfirmed", pinned: "False HostKeyUnconfirmed", message: "no key; pin the key"},
		"NoCredential": {reason: "a missing credential is the person's to make", without: true,
			reachable: "False CredentialNotFound", pinned: "True Pinned", message: "create the Credential root"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := machine("w1")
				if c.edit != nil {
					c.edit(h)
				}
				objects := []client.Object{h}
				if !c.without {
					objects = append(objects, login()...)
				}
				w := newWorld(t, objects...)
				if c.dial != nil {
					w.answer(func(string) (host.Session, error) { return nil, c.dial })
				}
				if c.scn != nil {
					w.scan = func() (string, error) { return "", c.scn }
				}
				if c.lookup != "" {
					w.lookup = []netip.Addr{netip.MustParseAddr(c.lookup)}
				}
				w.settle("w1")
				got := w.host("w1")
				w.want("w1", v1alpha1.HostReachable, c.reachable)
				w.want("w1", v1alpha1.HostHostKeyPinned, c.pinned)
				w.want("w1", v1alpha1.HostUnique, "True NoOtherHost")
				if m := message(got, v1alpha1.HostReachable); !strings.Contains(m, c.message) {
					t.Errorf("%s: the message is %q, want %q in it", c.reason, m, c.message)
				}
				if got.Status.InternalAddress != c.internal {
					t.Errorf("%s: the internal address is %q, want %q", c.reason, got.Status.InternalAddress, c.internal)
				}
				if offered := got.Status.OfferedKey; (offered == nil) != (c.offered == "") || offered != nil && *offered != (v1alpha1.OfferedKey{Key: c.offered, Fingerprint: ssh.Fingerprint(c.offered)}) {
					t.Errorf("%s: the offered key is %v, want %q", c.reason, offered, c.offered)
				}
				if got.Status.ObservedGeneration != 1 || len(got.Finalizers) != 1 {
					t.Errorf("%s: generation %d, finalizers %v", c.reason, got.Status.ObservedGeneration, got.Finalizers)
				}
				for _, text := range []string{fmt.Sprint(got.Status), fmt.Sprintf("%+v", got.Status.Conditions)} {
					if strings.Contains(text, "hunter22") {
						t.Errorf("%s: the status shows the password", c.reason)
					}
				}
			})
		})
	}
}

func TestTwins(t *testing.T) {
	cases := map[string]struct {
		reason string
		edit   func(h *v1alpha1.Host)
		id     string
		want   string
	}{
		"Different": {"two machines", func(h *v1alpha1.Host) { h.Spec.Address = "192.168.7.2" }, "id-2", "True NoOtherHost"},
		"Clone":     {"a cloned machine kept its identity", func(h *v1alpha1.Host) { h.Spec.Address = "192.168.7.2" }, "id-1", "False DuplicateMachine"},
		"NoID":      {"an empty identity is none", func(h *v1alpha1.Host) { h.Spec.Address = "192.168.7.2" }, "", "True NoOtherHost"},
		"Endpoint":  {"the same address and port, written in another way", func(h *v1alpha1.Host) { h.Spec.Port = 0 }, "id-2", "False DuplicateMachine"},
		"Port":      {"another port may be another machine", func(h *v1alpha1.Host) { h.Spec.Port = 2222 }, "id-2", "True NoOtherHost"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, append(login(), machine("w1"), machine("w2", c.edit))...)
				w.answer(func(name string) (host.Session, error) {
					f := facts()
					if name == "w2" {
						f.MachineID = c.id
					}
					return up(f), nil
				})
				w.settle("w1", "w2")
				w.settle("w1", "w2")
				w.want("w1", v1alpha1.HostUnique, c.want)
				w.want("w2", v1alpha1.HostUnique, c.want)
				if m := message(w.host("w1"), v1alpha1.HostUnique); strings.Contains(m, "w2") != strings.HasPrefix(c.want, "False") {
					t.Errorf("%s: the message is %q", c.reason, m)
				}
			})
		})
	}
}

func TestDelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		claim := &v1alpha1.HostClaim{ObjectMeta: metav1.ObjectMeta{Name: "w1"}, Spec: v1alpha1.HostClaimSpec{Namespace: "shop", Cluster: "prod"}}
		w := newWorld(t, append(login(), machine("w1"), claim)...)
		w.settle("w1")
		if got := w.host("w1").Status.Holder; got == nil || got.Cluster != "shop/prod" {
			t.Errorf("the holder is %v", got)
		}
		if err := w.client.Delete(t.Context(), w.host("w1")); err != nil {
			t.Fatal(err)
		}
		w.settle("w1")
		w.want("w1", ConditionDeletable, "False Held")
		w.want("w1", v1alpha1.HostReachable, "True LoggedIn")
		if m := message(w.host("w1"), ConditionDeletable); m != "held by cluster shop/prod; delete or shrink the cluster first" {
			t.Errorf("the message is %q", m)
		}
		if err := w.client.Delete(t.Context(), claim); err != nil {
			t.Fatal(err)
		}
		w.settle("w1")
		if err := w.client.Get(t.Context(), client.ObjectKey{Name: "w1"}, &v1alpha1.Host{}); !apierrors.IsNotFound(err) {
			t.Errorf("a host that nobody holds must go: %v", err)
		}
		dials := len(w.dials)
		w.pass(time.Hour)
		if len(w.dials) != dials || len(w.forgot) == 0 || len(w.reconcile.watchers.running) != 0 {
			t.Errorf("a deleted host is still watched: %d dials more, forgot %v", len(w.dials)-dials, w.forgot)
		}
	})
}

// TestPinning: the way of a new host, from its key to its facts, and back when the pin is taken away.
func TestPinning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, append(login(), machine("w1", func(h *v1alpha1.Host) { h.Spec.HostKey = "" }))...)
		w.settle("w1")
		if len(w.dials) != 0 {
			t.Fatal("nobody pinned a key, but somebody logged in")
		}
		w.change("w1", func(h *v1alpha1.Host) { h.Spec.HostKey = h.Status.OfferedKey.Key })
		w.settle("w1")
		w.want("w1", v1alpha1.HostReachable, "True LoggedIn")
		if got := w.host("w1").Status.OfferedKey; got != nil {
			t.Errorf("a confirmed key is offered no more: %v", got)
		}
		dials := len(w.dials)
		w.change("w1", func(h *v1alpha1.Host) { h.Spec.InternalAddress = "10.0.0.1" })
		w.settle("w1")
		if got := w.host("w1").Status; got.InternalAddress != "10.0.0.1" || len(w.dials) != dials {
			t.Errorf("another internal address needs no new login: %q, %d dials", got.InternalAddress, len(w.dials)-dials)
		}
		w.change("w1", func(h *v1alpha1.Host) { h.Spec.HostKey = "" })
		w.settle("w1")
		w.want("w1", v1alpha1.HostReachable, "False HostKeyUnconfirmed")
		if diff := cmp.Diff([]string{"w1"}, w.forgot); diff != "" {
			t.Errorf("connections that must be closed (-want +got):\n%s", diff)
		}
	})
}
