package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestSomebodyElse puts somebody else in the place of those that Slipway and its hosts talk to. A man in the middle
// answers for the server, before a cluster is made and after; another machine answers for the host, in the middle of an
// operation. Each is refused, learns nothing, and with the right one back everything goes on.
func TestSomebodyElse(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	w := newWorld(t)
	w.startServer(ctx)
	w.run(ctx, "sandbox", "up", "--data-dir", w.data, "--hosts", "1", "--register")
	w.verifyBundle(ctx)
	h := w.sandboxHosts(ctx)[0]
	m := newMiddle(t, w, h)
	create := []string{"cluster", "create", "demo", "--kubernetes", w.kubernetes, "--control-plane", h.Name}

	m.stepIn(ctx)
	if out := w.refused(ctx, t, "", create...); !strings.Contains(out, "cannot prove to be the server") || !strings.Contains(out, h.Name) {
		t.Errorf("the refusal does not say who answers for the server:\n%s", out)
	}
	if m.connections.Load() == 0 {
		t.Error("nobody came to the man in the middle: the redirection does not work")
	}
	w.run(ctx, "delete", "cluster", "demo", "--timeout=60s")
	m.stepOut(ctx)

	w.swapInTheMiddle(ctx, t, h, create)
	w.run(ctx, "cluster", "kubeconfig", "demo", "--output", w.kubeconfig)
	pull := "crictl pull " + w.image(ctx, t, "coredns") + " 2>&1"
	w.onHost(ctx, h, pull)
	before := m.connections.Load()
	m.stepIn(ctx)
	begun := time.Now()
	out, err := w.ssh(ctx, h, pull)
	logf(t, begun, "the pull past the man in the middle ended")
	if err == nil || !strings.Contains(out, "x509: certificate signed by unknown authority") || m.connections.Load() == before {
		t.Errorf("%d connections to the man in the middle, the pull says: %v\n%s", m.connections.Load()-before, err, out)
	}
	m.stepOut(ctx)
	w.onHost(ctx, h, pull)
	if n := m.requests.Load(); n != 0 {
		t.Errorf("the man in the middle got %d requests, and with them the host's token", n)
	}
	w.run(ctx, "delete", "cluster", "demo", "--cascade=foreground", "--timeout=120s")
}

// swapScript gives the host the key of another machine and ends every session, and notes where the log of sshd stands
// once the last command of the old machine has ended.
const swapScript = `set -e
cd /etc/ssh
mkdir /run/right
cp -p ssh_host_* /run/right
rm ssh_host_*
ssh-keygen -q -t ed25519 -N "" -f ssh_host_ed25519_key
systemctl restart ssh
pkill -KILL -f "^sshd: root@notty" || true
flock /run/slipway/lock journalctl --lines=0 --show-cursor --quiet >/run/swapping
mv /run/swapping /run/swapped`

// lookScript waits for the end of swapScript, and gives what has been written since, and who has logged in.
const lookScript = `until test -e /run/swapped; do sleep 0.1; done
find / /run/slipway -xdev -newer /run/swapped ! -type d ! -path '/proc/*' ! -path '/sys/*' ! -path '/var/log/*' ! -path '/var/lib/systemd/*' ! -path '/var/lib/containerd/*' -printf 'written: %p\n'
journalctl --unit=ssh --after-cursor="$(sed 's/-- cursor: //' /run/swapped)" --output=cat | grep ^Accepted`

// swapInTheMiddle creates a cluster, lets another machine take the place of the host when the first change is on record,
// and then brings the right one back.
func (w *world) swapInTheMiddle(ctx context.Context, t *testing.T, h sandboxHost, create []string) {
	begun := time.Now()
	w.run(ctx, append(create, "--no-wait")...)
	until(ctx, t, "step runtime-files", func() bool { return w.stepBegun(ctx, "runtime-files") })
	// The script ends this session too, perhaps before it has said so.
	_, _ = w.ssh(ctx, h, "systemd-run --quiet --no-block sh -c '"+swapScript+"'")
	w.run(ctx, "wait", "--for=jsonpath={.status.state}=Failed", "--timeout=1m", "cluster/demo")
	logf(t, begun, "the operation stopped")

	op := w.run(ctx, "get", "cluster", "demo", "-o", "jsonpath={.status.operation}")
	failure := w.run(ctx, "get", "operation", op, "-o", "jsonpath={.status.failures[*]}")
	if !strings.Contains(failure, `"HostKeyChanged"`) || strings.Count(failure, "SHA256:") < 2 || !strings.Contains(failure, `"fix"`) {
		t.Errorf("the operation does not say that the host's key has changed, from which to which, and what to do: %s", failure)
	}
	w.run(ctx, "wait", "--for=jsonpath={.status.conditions[?(@.type==\"Reachable\")].reason}=HostKeyChanged", "--timeout=30s", "host/"+h.Name)
	if out := w.onHost(ctx, h, lookScript); strings.Contains(out, "written:") || strings.Count(out, "Accepted") != 1 {
		t.Errorf("after the swap the other machine was written to, or somebody besides this test logged in:\n%s", out)
	}

	w.onHost(ctx, h, "rm /etc/ssh/ssh_host_* && cp -p /run/right/* /etc/ssh && systemctl restart ssh")
	w.run(ctx, "operation", "retry", op)
	w.run(ctx, "wait", "--for=condition=Ready", "--timeout=3m", "cluster/demo")
	logf(t, begun, "cluster demo created, with a swap of the host in the middle")
}

// middle is a server with a certificate of its own making, for the address of Slipway's server as a host sees it.
type middle struct {
	w                     *world
	host                  sandboxHost
	server, port          string
	connections, requests atomic.Int64
}

func newMiddle(t *testing.T, w *world, h sandboxHost) *middle {
	t.Helper()
	m := &middle{w: w, host: h}
	conn, err := net.Dial("udp", net.JoinHostPort(h.Address, "9")) // Nothing is sent.
	if err != nil {
		t.Fatal(err)
	}
	m.server = conn.LocalAddr().(*net.UDPAddr).IP.String()
	_ = conn.Close()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "slipway"}, IPAddresses: []net.IP{net.ParseIP(m.server)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(m.server, "0"))
	if err != nil {
		t.Fatal(err)
	}
	if _, m.port, err = net.SplitHostPort(listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	s := &http.Server{
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				m.connections.Add(1)
			}
		},
		Handler:  http.HandlerFunc(func(http.ResponseWriter, *http.Request) { m.requests.Add(1) }),
		ErrorLog: log.New(io.Discard, "", 0), // That clients refuse it is what this is about.
	}
	go func() { _ = s.ServeTLS(listener, "", "") }()
	t.Cleanup(func() { _ = s.Close() })
	return m
}

// stepIn redirects the host's way to the server, and closes the one to registries elsewhere, where the runtime would look
// next.
func (m *middle) stepIn(ctx context.Context) {
	_, port, _ := net.SplitHostPort(m.w.listen)
	m.w.onHost(ctx, m.host, fmt.Sprintf("nft add table ip middle; nft 'add chain ip middle out { type nat hook output priority -100 ; }'; "+
		"nft add rule ip middle out ip daddr %s tcp dport %s dnat to %s:%s; "+
		"nft 'add chain ip middle closed { type filter hook output priority 0 ; }'; nft add rule ip middle closed udp dport 53 reject; "+
		"nft 'add rule ip middle closed tcp dport { 53, 443 } reject with tcp reset'", m.server, port, m.server, m.port))
}

func (m *middle) stepOut(ctx context.Context) { m.w.onHost(ctx, m.host, "nft delete table ip middle") }
