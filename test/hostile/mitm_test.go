package hostile

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	fakehost "slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/pki"
	"slipway.dev/slipway/internal/plan/create"
	"slipway.dev/slipway/internal/step"
	"slipway.dev/slipway/internal/step/containerd"
	"slipway.dev/slipway/internal/step/precheck"
)

// authority makes a CA, and certificates of it for an address.
type authority struct {
	t  *testing.T
	ca *pki.CA
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	ca, err := pki.NewCA("slipway", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return authority{t, ca}
}

func (a authority) issue(address string) tls.Certificate {
	a.t.Helper()
	cert, key, err := a.ca.Issue(pki.Template{CommonName: address, IPs: []net.IP{net.ParseIP(address)}, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	if err != nil {
		a.t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		a.t.Fatal(err)
	}
	return pair
}

// TestMITM_PrecheckRefusesAnotherServer: whoever answers at the server's address, as each host sees it, must prove to be
// the server, before anything is changed on any host.
func TestMITM_PrecheckRefusesAnotherServer(t *testing.T) {
	t.Parallel()
	const address = "192.0.2.1"
	ours, theirs := newAuthority(t), newAuthority(t)
	speak := func(c tls.Certificate, version uint16) func(net.Conn) {
		return func(conn net.Conn) {
			_ = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{c}, MaxVersion: version}).Handshake()
			_, _ = io.Copy(io.Discard, conn)
		}
	}
	cases := map[string]struct {
		reason string
		server func(net.Conn)
		dial   error
		worker bool
		// refused is part of the finding; failed is the reason of an error that is none.
		refused, failed string
	}{
		"the server":        {reason: "our own certificate is the proof", server: speak(ours.issue(address), 0)},
		"another authority": {reason: "a man in the middle has none of ours, though it has our CA's name", server: speak(theirs.issue(address), 0), refused: "unknown authority"},
		"another name":      {reason: "a certificate of ours for another machine is no proof", server: speak(ours.issue("192.0.2.99"), 0), refused: "192.0.2.99"},
		"old TLS":           {reason: "a downgrade is refused", server: speak(ours.issue(address), tls.VersionTLS11), refused: "protocol"},
		"no TLS": {reason: "nor does plain HTTP prove anything", server: func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n\x1b[2J")
			_, _ = io.Copy(io.Discard, c)
		}, refused: "tls"},
		"nothing":              {reason: "nor the end of the connection", server: func(net.Conn) {}, refused: "EOF"},
		"garbage":              {reason: "nor bytes without end", server: func(c net.Conn) { pourGarbage(c) }, refused: "tls"},
		"no way through":       {reason: "a control plane must let us through anyway", dial: fault.NewTerminal(host.ReasonForwardingRefused, "let us", io.EOF), failed: host.ReasonForwardingRefused},
		"worker lets nobody":   {reason: "a worker need not, its runtime asks for the proof itself", dial: fault.NewTerminal(host.ReasonForwardingRefused, "let us", io.EOF), worker: true},
		"no answer just now":   {reason: "what may pass is tried again", dial: fault.NewTransient(host.ReasonUnreachable, io.EOF), failed: host.ReasonUnreachable},
		"same, from a worker":  {reason: "on every host", dial: fault.NewTransient(host.ReasonUnreachable, io.EOF), failed: host.ReasonUnreachable, worker: true},
		"middle, for a worker": {reason: "on every host", server: speak(theirs.issue(address), 0), refused: "unknown authority", worker: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = listener.Close() })
			go func() {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				tc.server(conn)
			}()
			h := fakehost.New("w1", v1alpha1.HostFacts{})
			h.SetReach(func(netip.AddrPort) bool { return true })
			look := precheck.Look{Cluster: "uid", CA: string(ours.ca.CertPEM())}
			r := step.Reader{Reader: h, Target: step.Target{Name: "w1", Platform: address + ":8443", ControlPlane: !tc.worker},
				Dial: func(_ context.Context, _, to string) (net.Conn, error) {
					if to != address+":8443" {
						t.Errorf("asked %s", to)
					}
					if tc.dial != nil {
						return nil, tc.dial
					}
					return net.Dial("tcp", listener.Addr().String())
				}}
			_, err = look.Check(t.Context(), r)
			switch {
			case tc.failed != "":
				if fault.ReasonOf(err) != tc.failed || !strings.Contains(err.Error(), "w1") {
					t.Errorf("%s: %v", tc.reason, err)
				}
			case tc.refused == "":
				if err != nil {
					t.Errorf("%s: %v", tc.reason, err)
				}
			case err == nil || fault.ReasonOf(err) != "PrecheckFailed" || !strings.Contains(err.Error(), "host w1: server: ") || !strings.Contains(err.Error(), tc.refused):
				t.Errorf("%s: %v", tc.reason, err)
			case err.Error() != host.Clean(err.Error(), 2000):
				t.Errorf("%s: %q", tc.reason, err)
			}
			tried.add("servers in the middle", name)
		})
	}
}

func pourGarbage(c net.Conn) {
	for {
		if _, err := c.Write([]byte("\x16\x03\x03\xff\xff\x1b[2J garbage")); err != nil {
			return
		}
	}
}

// TestMITM_EveryHostIsAsked: the plan of a cluster looks for the proof on each of its hosts, first of all.
func TestMITM_EveryHostIsAsked(t *testing.T) {
	t.Parallel()
	l := newLand(t)
	p, err := create.Plan(l.input(goodRequest()))
	if err != nil {
		t.Fatal(err)
	}
	first := p.Stages[0]
	s, err := l.steps.Decode(first.Calls[0].ID, first.Calls[0].Parameters)
	if err != nil {
		t.Fatal(err)
	}
	if look, ok := s.(precheck.Look); !ok || look.CA != l.ca || !first.Gate || len(first.Hosts) != len(p.Hosts) {
		t.Errorf("the first stage is %+v with %T", first, s)
	}
}

// TestMITM_RuntimeTrustsNobodyElse: what containerd is told of the server's registry names our authority for exactly the
// server's address, over TLS, and nothing turns the check off.
func TestMITM_RuntimeTrustsNobodyElse(t *testing.T) {
	t.Parallel()
	c := containerd.Configure{DataDir: "/var/lib/containerd", PauseImage: "registry.k8s.io/pause:3.10.2", CA: "the authority\n", Token: step.SecretRef{Key: "token"}}
	on := fakehost.New("w1", v1alpha1.HostFacts{})
	r := &recorder{Host: on, fence: home}
	w := step.Writer{Writer: r, Target: step.Target{Name: "w1", Platform: "192.0.2.1:8443"}, Secrets: vault{}}
	if err := c.Apply(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, f := range r.files {
		files[f.path] = f.content
		for _, word := range []string{"skip_verify", "insecure", "http://", "override_path"} {
			if strings.Contains(string(f.content), word) {
				t.Errorf("%s says %s", f.path, word)
			}
		}
	}
	var hosts struct {
		Server string
		Host   map[string]struct {
			Capabilities []string
			CA           string
			SkipVerify   any `toml:"skip_verify"`
			Client       any
		}
	}
	if err := toml.Unmarshal(files["/etc/containerd/certs.d/_default/hosts.toml"], &hosts); err != nil {
		t.Fatal(err)
	}
	mirror, ok := hosts.Host["https://192.0.2.1:8443"]
	if !ok || len(hosts.Host) != 1 || hosts.Server != "" {
		t.Fatalf("the mirrors are %+v", hosts)
	}
	if mirror.SkipVerify != nil || string(files[mirror.CA]) != "the authority\n" {
		t.Errorf("the mirror is %+v, its authority %q", mirror, files[mirror.CA])
	}
	// Pull and resolve only: a server in the middle gets nothing pushed.
	if strings.Join(mirror.Capabilities, " ") != "pull resolve" {
		t.Errorf("the mirror may %v", mirror.Capabilities)
	}
}
