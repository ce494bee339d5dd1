package ssh

import (
	"bufio"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"

	"slipway.dev/slipway/internal/host"
)

// newKey makes a key pair: the private half in OpenSSH form and the public half in known_hosts form.
func newKey(t *testing.T, passphrase string) (private []byte, public string) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var block *pem.Block
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(key, "test")
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "test", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	sshKey, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(block), formatKey(sshKey)
}

// startSSHD runs the real sshd on a loopback port, in a mount namespace of its own, for as long as the
// test runs. The script prepares that namespace. It gives a target that logs in as root.
func startSSHD(t *testing.T, script string) Target {
	t.Helper()
	sshd := "/usr/sbin/sshd"
	if _, err := os.Stat(sshd); err != nil || os.Geteuid() != 0 {
		t.Fatalf("this test needs root and %s (apt-get install openssh-server): uid %d, %v", sshd, os.Geteuid(), err)
	}
	dir := t.TempDir()
	hostKey, hostPublic := newKey(t, "")
	userKey, userPublic := newKey(t, "")
	files := map[string]string{"host": string(hostKey), "authorized": userPublic + "\n"}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		port := freePort(t)
		config := fmt.Sprintf("ListenAddress 127.0.0.1:%d\nHostKey %s/host\nAuthorizedKeysFile /run/authorized\nPidFile none\n"+
			"StrictModes no\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\n", port, dir)
		if err := os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		if runSSHD(t, script, sshd, filepath.Join(dir, "config")) {
			return Target{Name: "w1", Address: "127.0.0.1", Port: port, HostKey: hostPublic, Auth: Auth{PrivateKey: userKey},
				place: host.FencePlace{State: filepath.Join(dir, "lib/slipway/fence"), Runtime: filepath.Join(dir, "run/slipway"), Wait: 1}}
		}
	}
	t.Fatal("sshd found no free port")
	return Target{}
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// runSSHD starts sshd and says whether it listens. The mount namespace keeps the directory that sshd
// wants below /run, and every mount of a test, away from the machine.
func runSSHD(t *testing.T, script, sshd, config string) bool {
	t.Helper()
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c",
		`mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /root && mkdir -p /run/sshd && cp "$1/authorized" /run && chmod 644 /run/authorized && shift && `+script+` && exec "$@"`, "sshd", filepath.Dir(config), sshd, "-D", "-e", "-f", config)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	output, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "Server listening on") {
			go func() {
				for lines.Scan() {
				}
			}()
			return true
		}
		t.Log(lines.Text())
	}
	return false
}

// proxy carries connections to a server until it is cut.
type proxy struct {
	listener net.Listener
	target   string

	mu    sync.Mutex
	conns []net.Conn
}

func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, target: target}
	t.Cleanup(func() {
		_ = listener.Close()
		p.cut()
	})
	go p.serve()
	return p
}

func (p *proxy) port() int { return p.listener.Addr().(*net.TCPAddr).Port }

func (p *proxy) serve() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = near.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, near, far)
		p.mu.Unlock()
		go carry(near, far)
		go carry(far, near)
	}
}

func carry(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	_, _ = to.Close(), from.Close()
}

// cut ends every connection now.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

func hasZero(s string) bool { return strings.IndexByte(s, 0) >= 0 }

func runShell(t *testing.T, line string) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", line).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
