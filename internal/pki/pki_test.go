package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestIssue(t *testing.T) {
	ca, err := NewCA("test-ca", 48*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		reason   string
		template Template
		wantRSA  bool
		wantLife time.Duration
		wantErr  bool
	}{
		"Server": {
			reason:   "a server certificate verifies for its name and lives as long as asked",
			template: Template{CommonName: "s", DNSNames: []string{"host.test"}, IPs: []net.IP{net.IPv4(10, 0, 0, 1)}, ValidFor: time.Hour},
			wantLife: time.Hour,
		},
		"RSA":                {reason: "RSA keys are there for old peers", template: Template{CommonName: "s", DNSNames: []string{"host.test"}, ValidFor: time.Hour, Algorithm: RSA2048}, wantRSA: true, wantLife: time.Hour},
		"NotLongerThanItsCA": {reason: "a leaf never outlives its CA", template: Template{CommonName: "s", DNSNames: []string{"host.test"}}, wantLife: 48 * time.Hour},
		"UnknownAlgorithm":   {reason: "an unknown algorithm is refused", template: Template{Algorithm: "DSA"}, wantErr: true},
		"Past":               {reason: "a certificate that has ended is refused", template: Template{ValidFor: -time.Hour}, wantErr: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			certPEM, keyPEM, err := ca.Issue(tc.template)
			if (err != nil) != tc.wantErr {
				t.Fatalf("%s: Issue() error = %v", tc.reason, err)
			}
			if tc.wantErr {
				return
			}
			if _, err := tls.X509KeyPair(certPEM, keyPEM); err != nil {
				t.Fatalf("%s: key and certificate do not match: %v", tc.reason, err)
			}
			leaf, err := ParseCertificate(certPEM)
			if err != nil {
				t.Fatal(err)
			}
			roots := x509.NewCertPool()
			roots.AddCert(ca.Certificate())
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "host.test"}); err != nil {
				t.Errorf("%s: %v", tc.reason, err)
			}
			if _, isRSA := leaf.PublicKey.(*rsa.PublicKey); isRSA != tc.wantRSA {
				t.Errorf("%s: RSA = %v, want %v", tc.reason, isRSA, tc.wantRSA)
			}
			if life := time.Until(leaf.NotAfter); life > tc.wantLife || life < tc.wantLife-time.Minute {
				t.Errorf("%s: life = %s, want %s", tc.reason, life, tc.wantLife)
			}
			if age := time.Since(leaf.NotBefore); age < backdate || age > backdate+time.Minute {
				t.Errorf("%s: starts %s ago, want %s", tc.reason, age, backdate)
			}
		})
	}
}

func TestParseCA(t *testing.T) {
	one, err := NewCA("one", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	two, err := NewCAWithKey("two", time.Hour, RSA2048)
	if err != nil {
		t.Fatal(err)
	}
	leaf, leafKey, err := one.Issue(Template{CommonName: "leaf"})
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		reason    string
		cert, key []byte
		wantErr   bool
	}{
		"ECDSA":    {reason: "an ECDSA CA is read back", cert: one.CertPEM(), key: one.KeyPEM()},
		"RSA":      {reason: "an RSA CA is read back", cert: two.CertPEM(), key: two.KeyPEM()},
		"WrongKey": {reason: "another CA's key is refused", cert: one.CertPEM(), key: two.KeyPEM(), wantErr: true},
		"Leaf":     {reason: "a leaf is not a CA", cert: leaf, key: leafKey, wantErr: true},
		"Garbage":  {reason: "garbage is refused", cert: []byte("x"), key: []byte("y"), wantErr: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if _, err := ParseCA(tc.cert, tc.key); (err != nil) != tc.wantErr {
				t.Errorf("%s: ParseCA() error = %v", tc.reason, err)
			}
		})
	}
}

func TestLoadOrCreateCA(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "keys")
	first, err := LoadOrCreateCA(directory, "ca", "test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	second, err := LoadOrCreateCA(directory, "ca", "test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.CertPEM(), second.CertPEM()) || !bytes.Equal(first.KeyPEM(), second.KeyPEM()) {
		t.Error("the second load gave another CA")
	}
	info, err := os.Stat(filepath.Join(directory, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the CA's key is %o, want 600", info.Mode().Perm())
	}
	entries, err := os.ReadDir(directory)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 2 {
		t.Errorf("temporary files were left: %v", entries)
	}
}

func TestNewServiceAccountKey(t *testing.T) {
	private, public, err := NewServiceAccountKey()
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseKey(private)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := key.(*ecdsa.PrivateKey); !ok {
		t.Errorf("key is %T, want ECDSA", key)
	}
	again, err := EncodePublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(public, again) {
		t.Error("the public key is not that of the private key")
	}
}

// reached is a connection on which a client reached the given address.
type reached struct {
	net.Conn
	local net.Addr
}

func (r reached) LocalAddr() net.Addr { return r.local }

func TestServingCertificateCoversNewAddresses(t *testing.T) {
	ca, err := NewCA("test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	addresses := []net.IP{net.IPv4(192, 0, 2, 1)}
	serving := NewServingCertificate(ca, func() (Template, error) { return Template{CommonName: "s", IPs: addresses}, nil })
	if _, err := serving.GetCertificate(nil); err != nil {
		t.Fatal(err)
	}
	later := net.IPv4(192, 0, 2, 2)
	addresses = append(addresses, later)
	certificate, err := serving.GetCertificate(&tls.ClientHelloInfo{Conn: reached{local: &net.TCPAddr{IP: later, Port: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := certificate.Leaf.VerifyHostname(later.String()); err != nil {
		t.Errorf("a network card that came after the start: %v", err)
	}
}

func TestServingCertificateRenews(t *testing.T) {
	ca, err := NewCA("test", 1000*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	names, failure := []string{"a.test"}, error(nil)
	serving := NewServingCertificate(ca, func() (Template, error) {
		return Template{CommonName: "s", DNSNames: names, ValidFor: 90 * time.Hour}, failure
	})
	start := time.Now()
	at := func(offset time.Duration) *tls.Certificate {
		t.Helper()
		serving.now = func() time.Time { return start.Add(offset) }
		certificate, err := serving.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return certificate
	}
	first := at(0)
	if at(time.Hour) != first {
		t.Error("a fresh certificate was replaced")
	}
	failure = errors.New("no names")
	if at(70*time.Hour) != first {
		t.Error("a failed renewal did not keep the valid certificate")
	}
	failure = nil
	second := at(71 * time.Hour)
	if second == first {
		t.Error("a certificate with a third of its life left was not replaced")
	}
	names = []string{"a.test", "b.test"}
	if third := at(71*time.Hour + 2*recheck); third == second || len(third.Leaf.DNSNames) != 2 {
		t.Error("a new name did not give a new certificate")
	}
}
