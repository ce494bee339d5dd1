package ssh

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
)

func TestDial(t *testing.T) {
	t.Parallel()
	key, public := newKey(t, "")
	locked, lockedPublic := newKey(t, "open")
	_, stranger := newKey(t, "")
	cases := map[string]struct {
		reason   string
		server   func(s *server)
		target   func(t *Target)
		fault    string
		attempts int64
	}{
		"Password": {reason: "the right password logs in with one try",
			target: func(t *Target) { t.Auth.Password = "right" }, attempts: 1},
		"Keyboard": {reason: "a machine that only asks by keyboard-interactive gets the password too",
			server: func(s *server) { s.keyboard = true }, target: func(t *Target) { t.Auth.Password = "right" }, attempts: 1},
		"WrongPassword": {reason: "a wrong password is tried once, by one of the two methods the server offers, and is Terminal",
			target: func(t *Target) { t.Auth.Password = "wrong" }, fault: ReasonLoginRefused, attempts: 1},
		"WrongKeyboard": {reason: "a wrong password by keyboard-interactive is Terminal too",
			server: func(s *server) { s.keyboard = true }, target: func(t *Target) { t.Auth.Password = "wrong" }, fault: ReasonLoginRefused, attempts: 1},
		"Key": {reason: "a private key logs in",
			server: func(s *server) { s.authorized = public }, target: func(t *Target) { t.Auth.PrivateKey = key }},
		"LockedKey": {reason: "a private key with a passphrase logs in",
			server: func(s *server) { s.authorized = lockedPublic }, target: func(t *Target) { t.Auth.PrivateKey, t.Auth.Passphrase = locked, "open" }},
		"WrongPassphrase": {reason: "a wrong passphrase is found before anything is sent",
			target: func(t *Target) { t.Auth.PrivateKey, t.Auth.Passphrase = locked, "shut" }, fault: ReasonBadCredential},
		"NoPassphrase": {reason: "a missing passphrase is named",
			target: func(t *Target) { t.Auth.PrivateKey = locked }, fault: ReasonBadCredential},
		"WrongKey": {reason: "a key that may not log in is refused",
			server: func(s *server) { s.authorized = stranger }, target: func(t *Target) { t.Auth.PrivateKey = key }, fault: ReasonLoginRefused},
		"KeyThenPassword": {reason: "with both, the password serves when the key may not",
			server: func(s *server) { s.authorized = stranger },
			target: func(t *Target) { t.Auth = Auth{PrivateKey: key, Password: "right"} }, attempts: 1},
		"NoSecret": {reason: "an empty credential is named", fault: ReasonBadCredential},
		"Changed": {reason: "another key than the pinned one stops before any secret is sent",
			target: func(t *Target) { t.HostKey, t.Auth.Password = stranger, "right" }, fault: ReasonHostKeyChanged},
		"Unconfirmed": {reason: "without a pinned key nothing logs in",
			target: func(t *Target) { t.HostKey, t.Auth.Password = "", "right" }, fault: ReasonHostKeyUnconfirmed},
		"BadPin": {reason: "a pinned key that is none stops",
			target: func(t *Target) { t.HostKey, t.Auth.Password = "ssh-ed25519 AAAA", "right" }, fault: ReasonHostKeyUnconfirmed},
		"Booting": {reason: "a machine that lets nobody in while it boots is only unreachable",
			server: func(s *server) {
				s.banner = "System is booting up. Unprivileged users are not permitted to log in yet."
			},
			target: func(t *Target) { t.Auth.Password = "wrong" }, fault: host.ReasonUnreachable, attempts: 1},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			srv := newServer(t)
			if tc.server != nil {
				tc.server(srv)
			}
			target := srv.start(t)
			if tc.target != nil {
				tc.target(&target)
			}
			s, err := Dial(t.Context(), target)
			if s != nil {
				defer s.Close()
			}
			if got := srv.attempts.Load(); got != tc.attempts {
				t.Errorf("%s: %d passwords were tried, want %d", tc.reason, got, tc.attempts)
			}
			if tc.fault == "" {
				if err != nil {
					t.Errorf("%s: %v", tc.reason, err)
				}
				return
			}
			class := fault.Terminal
			if tc.fault == host.ReasonUnreachable {
				class = fault.Transient
			}
			if fault.ReasonOf(err) != tc.fault || fault.ClassOf(err) != class {
				t.Errorf("%s: got %v (%s, %s), want %s, %s", tc.reason, err, fault.ClassOf(err), fault.ReasonOf(err), class, tc.fault)
			}
			if class == fault.Terminal && fault.FixOf(err) == "" {
				t.Errorf("%v names no fix", err)
			}
			if err != nil && (strings.Contains(err.Error(), "wrong\"") || strings.Contains(err.Error(), "right")) {
				t.Errorf("%v shows a secret", err)
			}
		})
	}
}

func TestHostKeyErrors(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	target := srv.start(t)
	_, other := newKey(t, "")
	target.Auth.Password = "right"

	key, fingerprint, err := Scan(t.Context(), target.Address, target.Port)
	if err != nil || key != srv.hostKey || fingerprint != Fingerprint(srv.hostKey) {
		t.Fatalf("scan gives %q, %q, %v", key, fingerprint, err)
	}
	var keyErr *HostKeyError
	target.HostKey = other
	_, err = Dial(t.Context(), target)
	if !errors.As(err, &keyErr) || keyErr.Offered != srv.hostKey || keyErr.Pinned != other ||
		!strings.Contains(err.Error(), Fingerprint(other)) || !strings.Contains(err.Error(), fingerprint) {
		t.Errorf("a changed key must name both fingerprints: %v", err)
	}
	// A pinned key of a kind that the machine no longer has must not pass for a network trouble.
	target.HostKey = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg="
	_, err = Dial(t.Context(), target)
	if !errors.As(err, &keyErr) || fault.ReasonOf(err) != ReasonHostKeyChanged || keyErr.Offered != srv.hostKey {
		t.Errorf("a changed kind of key gives %v", err)
	}
	target.HostKey = ""
	_, err = Dial(t.Context(), target)
	if !errors.As(err, &keyErr) || keyErr.Pinned != "" || keyErr.Offered != srv.hostKey || !strings.Contains(err.Error(), fingerprint) {
		t.Errorf("an unconfirmed key gives %v", err)
	}
	if srv.attempts.Load() != 0 || srv.logins.Load() != 0 {
		t.Error("a secret was sent to an unconfirmed machine")
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	_, public := newKey(t, "")
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	chatty, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = chatty.Close() })
	go func() {
		for {
			conn, err := chatty.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			_ = conn.Close()
		}
	}()
	cases := map[string]struct {
		reason   string
		listener net.Listener
	}{
		"Silent": {"a server that accepts and never speaks is given up after 10 seconds", silent},
		"Closed": {"a closed port is unreachable", closed},
		"Other":  {"a server of another protocol is unreachable", chatty},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			port := tc.listener.Addr().(*net.TCPAddr).Port
			start := time.Now()
			_, err := Dial(context.WithoutCancel(t.Context()), Target{Name: "w1", Address: "127.0.0.1", Port: port, HostKey: public, Auth: Auth{Password: "x"}})
			if fault.ClassOf(err) != fault.Transient || fault.ReasonOf(err) != host.ReasonUnreachable {
				t.Errorf("%s: got %v", tc.reason, err)
			}
			if took := time.Since(start); took > helloTimeout+2*time.Second {
				t.Errorf("%s: it took %v", tc.reason, took)
			}
		})
	}
	t.Run("Cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		accepted := make(chan struct{})
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		go func() {
			if conn, err := listener.Accept(); err == nil {
				defer conn.Close()
				close(accepted)
				<-ctx.Done()
			}
		}()
		go func() { <-accepted; cancel() }()
		start := time.Now()
		_, err = Dial(ctx, Target{Name: "w1", Address: "127.0.0.1", Port: listener.Addr().(*net.TCPAddr).Port, HostKey: public, Auth: Auth{Password: "x"}})
		if fault.ClassOf(err) != fault.Transient || time.Since(start) > helloTimeout/2 {
			t.Errorf("a cancelled dial gives %v after %v", err, time.Since(start))
		}
	})
}

func TestSudo(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		reason   string
		password string
		env      []string
		fault    string
		told     []string
	}{
		"Password":      {reason: "sudo gets the password once, the command gets the input whole", password: "sesame", told: []string{"sesame"}},
		"NeedsNone":     {reason: "a password that sudo does not ask for must not reach the command", password: "sesame", env: []string{"STUB_NOPASSWD=1"}},
		"None":          {reason: "sudo without a password works", env: []string{"STUB_NOPASSWD=1"}},
		"WrongPassword": {reason: "a wrong password is told once, never again", password: "wrong", fault: ReasonSudoRefused, told: []string{"wrong"}},
		"Missing":       {reason: "a password that is needed but not there is named", fault: ReasonSudoRefused},
		"Terminal":      {reason: "requiretty is named", password: "sesame", env: []string{"STUB_TTY=1"}, fault: ReasonSudoRefused},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			srv := newServer(t)
			log := srv.withSudo(t, tc.env...)
			target := srv.start(t)
			target.User, target.Auth.Password, target.SudoPassword = "admin", "right", tc.password
			dir := t.TempDir()
			target.place = host.FencePlace{State: dir + "/state", Runtime: dir + "/run", Wait: 1}
			s := dialTest(t, target)
			w := s.Writer(host.Fence{Owner: "alpha", Epoch: 1})
			input := strings.Repeat("sesame\nline\n", 10_000)
			r, err := w.Run(t.Context(), host.Command{Argv: []string{"cat"}, Stdin: strings.NewReader(input)})
			if tc.fault == "" {
				if err != nil || string(r.Stdout) != input {
					t.Errorf("%s: %d bytes came back, %v", tc.reason, len(r.Stdout), err)
				}
				if string(r.Stderr) != "" {
					t.Errorf("%s: sudo's words leaked: %q", tc.reason, r.Stderr)
				}
				_, err = w.Run(t.Context(), host.Command{Argv: []string{"false"}})
				var failed *host.CommandError
				if !errors.As(err, &failed) || failed.Result.ExitCode != 1 {
					t.Errorf("%s: the exit code became %v", tc.reason, err)
				}
				tc.told = append(tc.told, tc.told...)
			} else {
				for range 3 {
					_, err = s.Query(t.Context(), host.BootID())
				}
				if fault.ReasonOf(err) != tc.fault || fault.ClassOf(err) != fault.Terminal || fault.FixOf(err) == "" {
					t.Errorf("%s: got %v", tc.reason, err)
				}
				if strings.Contains(err.Error(), "wrong") {
					t.Errorf("%v shows the password", err)
				}
			}
			if got := readLog(t, log); strings.Join(got, " ") != strings.Join(tc.told, " ") {
				t.Errorf("%s: sudo was told %q, want %q", tc.reason, got, tc.told)
			}
		})
	}
}

func TestForwardingRefused(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	target := srv.start(t)
	target.Auth.Password = "right"
	_, err := dialTest(t, target).DialContext(t.Context(), "tcp", "127.0.0.1:6443")
	if fault.ReasonOf(err) != ReasonForwardingRefused || fault.ClassOf(err) != fault.Terminal {
		t.Errorf("forbidden forwarding gives %v", err)
	}
}

func TestPool(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	target := srv.start(t)
	target.Auth.Password = "right"
	var mu sync.Mutex
	pool := NewPool(func(_ context.Context, name string) (Target, error) {
		mu.Lock()
		defer mu.Unlock()
		return target, nil
	})
	defer pool.Close()
	change := func(f func()) {
		mu.Lock()
		defer mu.Unlock()
		f()
	}

	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			if _, err := pool.Session(t.Context(), "w1"); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if got := srv.connections.Load(); got != 1 {
		t.Errorf("20 callers made %d connections, want 1", got)
	}

	first, err := pool.Session(t.Context(), "w1")
	if err != nil {
		t.Fatal(err)
	}
	_ = first.(*Session).Close()
	second, err := pool.Session(t.Context(), "w1")
	if err != nil || second == first {
		t.Errorf("a broken connection was kept: %v", err)
	}

	change(func() { target.Auth.Password = "wrong" })
	before := srv.attempts.Load()
	for range 5 {
		if _, err := pool.Session(t.Context(), "w1"); fault.ReasonOf(err) != ReasonLoginRefused {
			t.Errorf("a wrong password gives %v", err)
		}
	}
	if got := srv.attempts.Load() - before; got != 1 {
		t.Errorf("a wrong password was tried %d times, want 1", got)
	}
	pool.Forget("w1")
	if _, err := pool.Session(t.Context(), "w1"); err == nil || srv.attempts.Load()-before != 2 {
		t.Errorf("after Forget the login must be tried anew: %v", err)
	}
	change(func() { target.Auth.Password = "right" })
	if _, err := pool.Session(t.Context(), "w1"); err != nil {
		t.Errorf("a new password must be tried at once: %v", err)
	}

	if err := pool.Close(); err != nil {
		t.Error(err)
	}
	if _, err := pool.Session(t.Context(), "w1"); err == nil {
		t.Error("a closed pool gives a session")
	}
}

func TestPoolRemembersSudo(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	log := srv.withSudo(t)
	target := srv.start(t)
	target.User, target.Auth.Password, target.SudoPassword = "admin", "right", "wrong"
	pool := NewPool(func(context.Context, string) (Target, error) { return target, nil })
	defer pool.Close()
	for range 4 {
		s, err := pool.Session(t.Context(), "w1")
		if err == nil {
			_, err = s.Query(t.Context(), host.BootID())
		}
		if fault.ReasonOf(err) != ReasonSudoRefused {
			t.Errorf("a wrong sudo password gives %v", err)
		}
	}
	if told := readLog(t, log); len(told) != 1 {
		t.Errorf("the wrong sudo password was told %d times, want 1", len(told))
	}
}

func TestTargetHidesSecrets(t *testing.T) {
	target := Target{Name: "w1", Address: "10.0.0.1", Auth: Auth{Password: "hunter2", PrivateKey: []byte("hunter2"), Passphrase: "hunter2"}, SudoPassword: "hunter2"}
	other := target
	other.SudoPassword = "hunter3"
	if target.Digest() == other.Digest() {
		t.Error("two targets have one digest")
	}
	for _, text := range []string{target.String(), target.GoString(), target.Digest()} {
		if strings.Contains(text, "hunter") {
			t.Errorf("%q shows a secret", text)
		}
	}
}
