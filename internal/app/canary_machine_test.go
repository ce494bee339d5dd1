package app

import (
	"bufio"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// machine is an SSH server that answers the facts and nothing else. Whatever it is told it says again, on both streams
// of every command: password, sudo password and input. It notes each command line, as its process list would show it.
type machine struct {
	key  ssh.Signer
	port int
	// refuses says that no login is right; the password then comes back in the banner.
	refuses bool
	// name and address make its identity.
	name, address string

	mu    sync.Mutex
	told  []string
	lines []string
}

func newMachine(t *testing.T, name string, refuses bool) *machine {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	m := &machine{key: key, port: listener.Addr().(*net.TCPAddr).Port, refuses: refuses, name: name, address: "198.51.100.10"}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go m.serve(conn)
		}
	}()
	return m
}

// hostKey is the machine's key in known_hosts form.
func (m *machine) hostKey() string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(m.key.PublicKey())))
}

// hear notes what the machine was told, and gives all of it.
func (m *machine) hear(text string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if text = strings.TrimSpace(text); text != "" {
		m.told = append(m.told, text)
	}
	return strings.Join(m.told, " ")
}

func (m *machine) serve(conn net.Conn) {
	defer conn.Close()
	config := &ssh.ServerConfig{
		PasswordCallback: func(_ ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			all := m.hear(string(password))
			if m.refuses {
				return nil, &ssh.BannerError{Err: errors.New("refused " + all), Message: "you said " + all + "\n"}
			}
			return nil, nil
		},
		PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil },
	}
	config.AddHostKey(m.key)
	c, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	defer c.Close()
	go ssh.DiscardRequests(requests)
	for next := range channels {
		channel, requests, err := next.Accept()
		if err != nil {
			return
		}
		go m.session(channel, requests)
	}
}

var (
	sudoPrompt = regexp.MustCompile(`slipway-password-[A-Z0-9]+:`)
	startMark  = regexp.MustCompile(`slipway-start-[A-Z0-9]+`)
)

func (m *machine) session(channel ssh.Channel, requests <-chan *ssh.Request) {
	defer channel.Close()
	for r := range requests {
		var line struct{ Command string }
		if r.Type != "exec" || ssh.Unmarshal(r.Payload, &line) != nil {
			_ = r.Reply(false, nil)
			continue
		}
		_ = r.Reply(true, nil)
		code := m.run(channel, line.Command)
		_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{code}))
		return
	}
}

func (m *machine) run(channel ssh.Channel, line string) uint32 {
	m.mu.Lock()
	m.lines = append(m.lines, line)
	m.mu.Unlock()
	in := bufio.NewReader(channel)
	if prompt := sudoPrompt.FindString(line); prompt != "" {
		fmt.Fprint(channel.Stderr(), prompt)
		password, err := in.ReadString('\n')
		if err != nil {
			return 1
		}
		m.hear(password)
	}
	mark := startMark.FindString(line)
	fmt.Fprintln(channel, mark)
	fmt.Fprintln(channel.Stderr(), mark)
	if strings.Contains(line, "fact begin") {
		fmt.Fprint(channel, m.facts())
		return 0
	}
	rest, err := io.ReadAll(in)
	if err != nil {
		return 1
	}
	all := m.hear(string(rest))
	fmt.Fprintf(channel, "I was told %s\n", all)
	fmt.Fprintf(channel.Stderr(), "cannot go on: I was told %s\n", all)
	return 1
}

// facts is what a machine says that a cluster can be made of.
func (m *machine) facts() string {
	now := time.Now().UnixNano()
	lines := []string{
		fmt.Sprint("begin\t", now), "hostname\t" + m.name, "kernel\t6.1.0-32-amd64", "machine\tx86_64",
		fmt.Sprintf("machineid\t%x", m.key.PublicKey().Marshal()[len(m.key.PublicKey().Marshal())-16:]),
		"os\tID=debian", `os	VERSION_ID="12"`, `os	PRETTY_NAME="Debian 12"`, "cpus\t4", "memtotal\t8388608", "cgroup\t2",
		"nic\teth0\t02:00:00:00:00:01\t1500\t1", "address\teth0\t" + m.address + "/24", "route\t4\tdefault via 198.51.100.1 dev eth0",
		"free\t/\t10000000\t4096", "free\t/var/lib\t10000000\t4096", "free\t/usr\t10000000\t4096", "free\t/etc\t10000000\t4096",
		"capabilities\t000001ffffffffff", "timezone\tEtc/UTC", "selinux\tDisabled", "virtualization\tkvm",
	}
	for _, feature := range []string{"overlay", "vxlan", "bridge", "nf_tables", "ip_tables", "br_netfilter"} {
		lines = append(lines, "feature\t"+feature)
	}
	for _, tool := range []string{"systemctl", "flock", "mount", "umount", "ip", "tar", "modprobe", "sysctl", "nft", "sync", "sudo", "tail", "head", "stat", "sha256sum"} {
		lines = append(lines, "tool\t"+tool)
	}
	return strings.Join(append(lines, fmt.Sprint("end\t", now)), "\n") + "\n"
}

// commandLines gives every command line the machine has seen.
func (m *machine) commandLines() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.lines, "\n")
}
