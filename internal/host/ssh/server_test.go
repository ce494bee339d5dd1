package ssh

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"
)

// server is an SSH server in this process. It runs commands with sh, as this user.
type server struct {
	key      ssh.Signer
	hostKey  string
	password string
	// authorized is the public key that may log in, in known_hosts form.
	authorized string
	// keyboard asks for the password with keyboard-interactive instead.
	keyboard bool
	banner   string
	env      []string
	// rekey is after how many bytes keys are exchanged again; 0 is the library's own.
	rekey uint64

	logins      atomic.Int64
	attempts    atomic.Int64
	connections atomic.Int64
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{password: "right"}
	private, public := newKey(t, "")
	key, err := ssh.ParsePrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	s.key, s.hostKey = key, public
	return s
}

// start serves on a loopback port and gives a target without a login.
func (s *server) start(t *testing.T) Target {
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
			s.connections.Add(1)
			go s.serve(conn)
		}
	}()
	return Target{Name: "w1", Address: "127.0.0.1", Port: listener.Addr().(*net.TCPAddr).Port, HostKey: s.hostKey}
}

func (s *server) config() *ssh.ServerConfig {
	check := func(password string) (*ssh.Permissions, error) {
		s.attempts.Add(1)
		if password != s.password {
			return nil, errors.New("wrong password")
		}
		return nil, nil
	}
	config := &ssh.ServerConfig{BannerCallback: func(ssh.ConnMetadata) string { return s.banner }}
	config.RekeyThreshold = s.rekey
	if s.authorized != "" {
		config.PublicKeyCallback = func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if formatKey(key) != s.authorized {
				return nil, errors.New("unknown key")
			}
			return nil, nil
		}
	}
	config.KeyboardInteractiveCallback = func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
		answers, err := ask("", "", []string{"Password: "}, []bool{false})
		if err != nil {
			return nil, err
		}
		return check(answers[0])
	}
	if !s.keyboard {
		config.PasswordCallback = func(_ ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) { return check(string(password)) }
	}
	config.AddHostKey(s.key)
	return config
}

func (s *server) serve(conn net.Conn) {
	defer conn.Close()
	c, channels, requests, err := ssh.NewServerConn(conn, s.config())
	if err != nil {
		return
	}
	defer c.Close()
	s.logins.Add(1)
	go ssh.DiscardRequests(requests)
	for next := range channels {
		if next.ChannelType() != "session" {
			_ = next.Reject(ssh.Prohibited, "no forwarding here")
			continue
		}
		channel, requests, err := next.Accept()
		if err != nil {
			return
		}
		go s.session(channel, requests)
	}
}

func (s *server) session(channel ssh.Channel, requests <-chan *ssh.Request) {
	defer channel.Close()
	for r := range requests {
		var line struct{ Command string }
		if r.Type != "exec" || ssh.Unmarshal(r.Payload, &line) != nil {
			_ = r.Reply(false, nil)
			continue
		}
		_ = r.Reply(true, nil)
		cmd := exec.Command("sh", "-c", line.Command)
		cmd.Env = append(os.Environ(), s.env...)
		cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
		stdin, err := cmd.StdinPipe()
		if err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(stdin, channel)
			_ = stdin.Close()
		}()
		code := 0
		var exit *exec.ExitError
		if err := cmd.Run(); errors.As(err, &exit) {
			code = exit.ExitCode()
		}
		_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(code)}))
		return
	}
}

// stubSudo puts a sudo before the real one that asks for the password as sudo does: one byte at a time.
const stubSudo = `#!/bin/sh
prompt= ask=1
[ -z "$STUB_NOPASSWD" ] || ask=
while :; do
	case $1 in
	-n) if [ -n "$ask" ]; then echo "sudo: a password is required" >&2; exit 1; fi ;;
	-S) ;;
	-p) prompt=$2; shift ;;
	--) shift; break ;;
	esac
	shift
done
if [ -n "$STUB_TTY" ]; then echo "sudo: sorry, you must have a tty to run sudo" >&2; exit 1; fi
if [ -n "$ask" ]; then
	echo "We trust you have received the usual lecture." >&2
	for try in 1 2 3; do
		printf '%s' "$prompt" >&2
		read -r password || { echo "sudo: no password was provided" >&2; exit 1; }
		echo "$password" >>"$STUB_LOG"
		if [ "$password" = "$STUB_PASSWORD" ]; then break; fi
		echo "Sorry, try again." >&2
		if [ "$try" = 3 ]; then echo "sudo: 3 incorrect password attempts" >&2; exit 1; fi
	done
fi
exec "$@"
`

// withSudo gives the server a sudo of its own, which logs what it was told; extra are its settings.
func (s *server) withSudo(t *testing.T, extra ...string) (log string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/sudo", []byte(stubSudo), 0o755); err != nil {
		t.Fatal(err)
	}
	s.env = append([]string{"PATH=" + dir + ":" + os.Getenv("PATH"), "STUB_PASSWORD=sesame", "STUB_LOG=" + dir + "/log"}, extra...)
	return dir + "/log"
}

func readLog(t *testing.T, name string) []string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Fields(string(b))
}
