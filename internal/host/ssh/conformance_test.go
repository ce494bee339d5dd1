package ssh

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/host/hosttest"
)

func dialTest(t *testing.T, target Target) *Session {
	t.Helper()
	s, err := Dial(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestConformance runs the suite against the real sshd, with a login shell that talks before each command.
func TestConformance(t *testing.T) {
	t.Parallel()
	target := startSSHD(t, `echo 'echo noise; echo noise >&2' >/root/.bashrc`)
	hosttest.Run(t, func(t *testing.T) hosttest.Env {
		dir := t.TempDir()
		p := startProxy(t, target.endpoint())
		target := target
		target.Port = p.port()
		target.place = host.FencePlace{State: filepath.Join(dir, "lib/slipway/fence"), Runtime: filepath.Join(dir, "run/slipway"), Wait: 1}
		s := dialTest(t, target)
		return hosttest.Env{
			Session:   s,
			Dir:       filepath.Join(dir, "scratch"),
			Place:     target.place,
			Cut:       p.cut,
			Reconnect: func(t *testing.T) host.Session { return dialTest(t, target) },
			Orphan:    func(t *testing.T) func() { return orphan(t, s, p, filepath.Join(dir, "fifo")) },
			Listen:    echo,
		}
	})
}

// orphan starts a command that reads a fifo, cuts its connection and lets it run until release.
func orphan(t *testing.T, s *Session, p *proxy, fifo string) (release func()) {
	t.Helper()
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	lost := make(chan error, 1)
	go func() {
		_, err := s.Writer(host.Fence{Owner: "alpha", Epoch: 1}).Run(context.WithoutCancel(t.Context()), host.Command{Argv: []string{"cat", fifo}})
		lost <- err
	}()
	// Opening for writing waits until the command has opened it for reading.
	input, err := os.OpenFile(fifo, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	p.cut()
	if err := <-lost; err == nil {
		t.Fatal("the cut command succeeded")
	}
	return func() { _ = input.Close() }
}

// echo listens on loopback and sends back what it gets.
func echo(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	return listener.Addr().String()
}

// TestFewSessions: where sshd allows fewer sessions than expected, commands wait instead of failing.
func TestFewSessions(t *testing.T) {
	t.Parallel()
	s := dialTest(t, startSSHD(t, `set -- "$@" -o MaxSessions=2`))
	var wait sync.WaitGroup
	for range 24 {
		wait.Go(func() {
			if _, err := s.Stat(t.Context(), "/etc"); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if !s.alive() || s.missing.Load() == 0 || s.missing.Load() > maxChannels-2 {
		t.Errorf("%d places were given up, the session lives: %t", s.missing.Load(), s.alive())
	}
}

// withUsers gives sshd's namespace an /etc of its own with four users: asked must tell sudo a password,
// free need not, fresh needs it and gets sudo's pseudo-terminal and lecture every
// time, plain may not use sudo.
const withUsers = `cp -a /etc /run/etc && mount --bind /run/etc /etc && mkdir -p /run/sudo &&
useradd -M -s /bin/sh asked && useradd -M -s /bin/sh -p '*' free && useradd -M -s /bin/sh plain && useradd -M -s /bin/sh fresh &&
printf 'asked:sesame\nfresh:sesame\nplain:sesame\n' | chpasswd -c SHA512 &&
printf '%s\n' 'asked ALL=(ALL) ALL' 'free ALL=(ALL) NOPASSWD: ALL' 'fresh ALL=(ALL) ALL' \
	'Defaults:fresh timestamp_timeout=0,lecture=always,use_pty' 'Defaults:asked !use_pty' >/etc/sudoers.d/test`

// TestRealSudo runs commands through the real sudo, whose ways with standard input are its own.
func TestRealSudo(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("sudo"); err != nil {
		t.Fatal("this test needs sudo (apt-get install sudo)")
	}
	base := startSSHD(t, withUsers)
	var input strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&input, "sesame %d\x00\n", i)
	}
	cases := map[string]struct {
		reason         string
		user, password string
		fault          string
	}{
		"Password":   {"a password that is asked for lets the command run", "asked", "sesame", ""},
		"NotAsked":   {"a password that is not asked for never becomes input", "free", "sesame", ""},
		"NoPassword": {"no password is needed", "free", "", ""},
		"PseudoTTY":  {"a lecture and a pseudo-terminal change nothing", "fresh", "sesame", ""},
		"Wrong":      {"a wrong password is refused", "asked", "wrong", ReasonSudoRefused},
		"NotThere":   {"a missing password is refused", "fresh", "", ReasonSudoRefused},
		"NotAllowed": {"a user whom sudo does not know is refused", "plain", "sesame", ReasonSudoRefused},
		"NoShell":    {"a user without a shell is refused", "nobody", "x", ReasonSudoRefused},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			target := base
			target.User, target.SudoPassword = tc.user, tc.password
			dir := t.TempDir()
			target.place = host.FencePlace{State: dir + "/state", Runtime: dir + "/run", Wait: 1}
			s, err := Dial(t.Context(), target)
			if err == nil {
				defer s.Close()
				err = s.Writer(host.Fence{Owner: "alpha", Epoch: 1}).WriteFile(t.Context(), dir+"/file", host.File{Content: []byte(input.String()), Mode: 0o600})
			}
			if tc.fault != "" {
				if fault.ReasonOf(err) != tc.fault {
					t.Errorf("%s: got %v", tc.reason, err)
				}
				t.Log(err)
				return
			}
			if err != nil {
				t.Fatalf("%s: %v", tc.reason, err)
			}
			for range 2 {
				got, err := s.ReadFile(t.Context(), dir+"/file")
				if err != nil || string(got) != input.String() {
					t.Errorf("%s: %d bytes came back, %v", tc.reason, len(got), err)
				}
			}
			r, err := s.Writer(host.Fence{Owner: "alpha", Epoch: 1}).Run(t.Context(), host.Command{Argv: []string{"sh", "-c", "cat; echo err >&2; id -u; exit 7"}, Stdin: strings.NewReader("in\n")})
			if r.ExitCode != 7 || string(r.Stdout) != "in\n0\n" || string(r.Stderr) != "err\n" {
				t.Errorf("%s: got %q, %q, %v", tc.reason, r.Stdout, r.Stderr, err)
			}
		})
	}
}

// FuzzQuote: whatever the arguments, the shell of a login takes the line apart into exactly them.
func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "a b", "'", `\`, "\n", "$(id)", "é", "\xff\x01", "-n", `'\''`} {
		f.Add(s, "x"+s)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		line, err := quote([]string{"printf", `%s\0`, a, b})
		if hasZero(a) || hasZero(b) || len(line) > maxLine {
			if err == nil {
				t.Fatal("a line that cannot be run was made")
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		got := runShell(t, line)
		if want := fmt.Sprintf("%s\x00%s\x00", a, b); got != want {
			t.Errorf("%q became %q", want, got)
		}
	})
}
