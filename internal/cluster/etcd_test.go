package cluster_test

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cluster"
	"slipway.dev/slipway/internal/cluster/etcdtest"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	fakehost "slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/pki"
	"slipway.dev/slipway/internal/step"
)

func TestEtcd_Conformance(t *testing.T) {
	etcdtest.Run(t, func(t *testing.T) etcdtest.Env {
		r := etcdtest.StartReal(t)
		return etcdtest.Env{Etcd: r.Connection, Next: r.Addresses["cp4"], Start: r.Join, Stop: r.Stop}
	})
}

type vault map[string][]byte

func (v vault) Secret(_ context.Context, ref step.SecretRef) ([]byte, error) { return v[ref.Key], nil }

// sessions gives one host, or why there is none.
type sessions struct {
	host *fakehost.Host
	err  error
}

func (s sessions) Session(context.Context, string) (host.Session, error) { return s.host, s.err }

// connect gives a connection to an etcd on the named host alone, whose certificates ca has signed.
func connect(name string, s sessions, ca *pki.CA) *cluster.Connection {
	return cluster.NewAccess(s, vault{"ca": ca.CertPEM(), "key": ca.KeyPEM()}, func(context.Context, string, string) (cluster.Address, error) {
		return cluster.Address{Hosts: []string{name}, EtcdCACert: step.SecretRef{Key: "ca"}, EtcdCAKey: step.SecretRef{Key: "key"}}, nil
	}).Connection("dev", "demo")
}

func newCA(t *testing.T) *pki.CA {
	t.Helper()
	ca, err := pki.NewCA("etcd-ca", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestEtcd_WhyItCannotBeReached(t *testing.T) {
	cases := map[string]struct {
		reason string
		err    error
		class  fault.Class
		want   string
	}{
		"refused":    {reason: "etcd starts in a moment", err: errors.New("connection refused"), class: fault.Transient, want: step.ReasonEtcdUnreachable},
		"other key":  {reason: "a host with another key stays refused, whatever was asked", err: fault.NewTerminal("HostKeyChanged", "look", errors.New("another key")), class: fault.Terminal, want: "HostKeyChanged"},
		"no session": {reason: "the host boots", err: fault.NewTransient("Connecting", errors.New("not yet")), class: fault.Transient, want: step.ReasonEtcdUnreachable},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := connect("cp1", sessions{err: tc.err}, newCA(t))
			if _, err := c.EtcdStatus(t.Context(), "cp1"); fault.ClassOf(err) != tc.class || fault.ReasonOf(err) != tc.want || !strings.Contains(err.Error(), tc.err.Error()) {
				t.Errorf("%s: %v (%s, %s)", tc.reason, err, fault.ClassOf(err), fault.ReasonOf(err))
			}
			if _, err := c.EtcdMembers(t.Context()); fault.ClassOf(err) != tc.class {
				t.Errorf("%s: members: %v (%s)", tc.reason, err, fault.ClassOf(err))
			}
		})
	}
}

func TestEtcd_WhomItTrusts(t *testing.T) {
	r := etcdtest.StartReal(t)
	cases := map[string]struct {
		reason, name string
		ca           *pki.CA
		want         string
	}{
		"the host":     {reason: "its name is in its certificate", name: "cp1", ca: r.CA},
		"another host": {reason: "cp1 answers where cp9 was asked", name: "cp9", ca: r.CA, want: "not cp9"},
		"another CA":   {reason: "somebody else's etcd answers", name: "cp1", ca: newCA(t), want: "unknown authority"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			h := fakehost.New(tc.name, v1alpha1.HostFacts{})
			h.SetDialer(func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(r.Addresses["cp1"], "2379"))
			})
			_, err := connect(tc.name, sessions{host: h}, tc.ca).EtcdStatus(t.Context(), tc.name)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("%s: %v, want %q", tc.reason, err, tc.want)
			}
		})
	}
}

func TestEtcd_CertificateLivesAnHour(t *testing.T) {
	c := connect("cp1", sessions{err: errors.New("connection refused")}, newCA(t))
	if _, err := c.EtcdStatus(t.Context(), "cp1"); err == nil {
		t.Fatal("nobody listens")
	}
	leaf, err := x509.ParseCertificate(c.EtcdCertificate())
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(leaf.NotAfter); left > time.Hour || left < 59*time.Minute {
		t.Errorf("the client certificate is valid for %s", left)
	}
	if len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth {
		t.Errorf("the client certificate is good for %v", leaf.ExtKeyUsage)
	}
}
