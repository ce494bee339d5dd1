package hostile

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	gossh "golang.org/x/crypto/ssh"

	"slipway.dev/slipway/internal/host/ssh"
)

// machine is an SSH server in this process. It runs commands with a shell, as this user, or does what a test says.
type machine struct {
	dir string
	// shell is the login shell.
	shell string
	// answer plays a command; nil runs it.
	answer func(line string, channel gossh.Channel) (code uint32, told bool)
	// channels and requests take what is left to refuse; nil refuses.
	greet func(c *gossh.ServerConn)
	// change is called on the settings before each connection.
	change func(c *gossh.ServerConfig)
	// wrap stands between the network and the server; nil is nothing.
	wrap func(net.Conn) net.Conn

	listener net.Listener

	mu    sync.Mutex
	key   gossh.Signer
	conns map[net.Conn]bool

	logins, secrets, commands atomic.Int64
}

func newSigner(t testing.TB) gossh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := gossh.NewSignerFromSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// pin gives a key as in known_hosts.
func pin(s gossh.Signer) string {
	return strings.TrimSpace(string(gossh.MarshalAuthorizedKey(s.PublicKey())))
}

func newMachine(t testing.TB) *machine {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{dir: t.TempDir(), shell: "sh", key: newSigner(t), listener: listener, conns: map[net.Conn]bool{}}
	t.Cleanup(func() {
		_ = listener.Close()
		m.cut()
	})
	return m
}

// start serves until the test ends, and gives the way to log in.
func (m *machine) start(name string) ssh.Target {
	go func() {
		for {
			conn, err := m.listener.Accept()
			if err != nil {
				return
			}
			go m.serve(conn)
		}
	}()
	return ssh.Target{Name: name, Address: "127.0.0.1", Port: m.listener.Addr().(*net.TCPAddr).Port, HostKey: pin(m.signer()),
		Auth: ssh.Auth{Password: "right"}}
}

func (m *machine) signer() gossh.Signer {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.key
}

// become gives the machine another key, and cuts its connections: another machine has taken its place.
func (m *machine) become(key gossh.Signer) {
	m.mu.Lock()
	m.key = key
	m.mu.Unlock()
	m.cut()
}

func (m *machine) cut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.conns {
		_ = c.Close()
	}
}

func (m *machine) serve(conn net.Conn) {
	m.mu.Lock()
	m.conns[conn] = true
	m.mu.Unlock()
	defer func() {
		_ = conn.Close()
		m.mu.Lock()
		delete(m.conns, conn)
		m.mu.Unlock()
	}()
	config := &gossh.ServerConfig{PasswordCallback: func(_ gossh.ConnMetadata, password []byte) (*gossh.Permissions, error) {
		m.secrets.Add(1)
		if string(password) != "right" {
			return nil, errors.New("wrong password")
		}
		return nil, nil
	}}
	config.AddHostKey(m.signer())
	if m.change != nil {
		m.change(config)
	}
	if m.wrap != nil {
		conn = m.wrap(conn)
	}
	c, channels, requests, err := gossh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	defer c.Close()
	m.logins.Add(1)
	go gossh.DiscardRequests(requests)
	if m.greet != nil {
		go m.greet(c)
	}
	for next := range channels {
		if next.ChannelType() != "session" {
			_ = next.Reject(gossh.Prohibited, "no forwarding here")
			continue
		}
		channel, requests, err := next.Accept()
		if err != nil {
			return
		}
		go m.session(channel, requests)
	}
}

func (m *machine) session(channel gossh.Channel, requests <-chan *gossh.Request) {
	defer channel.Close()
	for r := range requests {
		var line struct{ Command string }
		if r.Type != "exec" || gossh.Unmarshal(r.Payload, &line) != nil {
			_ = r.Reply(false, nil)
			continue
		}
		m.commands.Add(1)
		_ = r.Reply(true, nil)
		code, told := uint32(0), true
		if m.answer != nil {
			code, told = m.answer(line.Command, channel)
		} else {
			code = m.run(line.Command, channel)
		}
		if told {
			_, _ = channel.SendRequest("exit-status", false, gossh.Marshal(struct{ Status uint32 }{code}))
		}
		return
	}
}

// run runs a line as sshd does. The fence stays inside the test's directory.
func (m *machine) run(line string, channel gossh.Channel) uint32 {
	line = strings.NewReplacer("/var/lib/slipway", m.dir+"/lib", "/run/slipway", m.dir+"/run").Replace(line)
	cmd := exec.Command(m.shell, "-c", line)
	cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return 255
	}
	go func() {
		_, _ = io.Copy(stdin, channel)
		_ = stdin.Close()
	}()
	var exit *exec.ExitError
	switch err := cmd.Run(); {
	case errors.As(err, &exit):
		return uint32(exit.ExitCode())
	case err != nil:
		return 255
	}
	return 0
}

func dial(t testing.TB, target ssh.Target) *ssh.Session {
	t.Helper()
	s, err := ssh.Dial(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}
