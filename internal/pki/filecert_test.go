package pki

import (
	"crypto"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// organisation is a CA with a directory in which it puts the server's files.
type organisation struct {
	*CA
	directory string
}

func newOrganisation(t *testing.T) organisation {
	t.Helper()
	ca, err := NewCA("organisation", 1000*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	o := organisation{CA: ca, directory: t.TempDir()}
	o.write(t, "ca.pem", ca.CertPEM(), 0o644)
	return o
}

func (o organisation) files() CertificateFiles {
	return CertificateFiles{Certificate: o.path("tls.crt"), Key: o.path("tls.key"), CA: o.path("ca.pem")}
}

func (o organisation) path(name string) string { return filepath.Join(o.directory, name) }

func (o organisation) write(t *testing.T, name string, content []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(o.path(name), content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(o.path(name), mode); err != nil {
		t.Fatal(err)
	}
}

func (o organisation) issue(t *testing.T, template Template) (certPEM, keyPEM []byte) {
	t.Helper()
	if template.Usages == nil {
		template.Usages = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	certPEM, keyPEM, err := o.Issue(template)
	if err != nil {
		t.Fatal(err)
	}
	return certPEM, keyPEM
}

func TestLoadFileCertificate(t *testing.T) {
	named := Template{CommonName: "s", DNSNames: []string{"slipway.corp.test"}, ValidFor: 90 * time.Hour}
	cases := map[string]struct {
		reason string
		change func(*testing.T, organisation, *CertificateFiles)
		want   string
	}{
		"Good":          {reason: "certificate, key and CA fit", change: func(*testing.T, organisation, *CertificateFiles) {}},
		"GroupReadable": {reason: "web servers share a group that may read keys", change: func(t *testing.T, o organisation, _ *CertificateFiles) { chmod(t, o.path("tls.key"), 0o640) }},
		"RootInChain": {reason: "a chain that ends with its root needs no --tls-ca", change: func(t *testing.T, o organisation, f *CertificateFiles) {
			cert, key := o.issue(t, named)
			o.write(t, "tls.crt", append(cert, o.CertPEM()...), 0o644)
			o.write(t, "tls.key", key, 0o600)
			f.CA = ""
		}},
		"NoRoot":        {reason: "clients could not be told what to trust", change: func(_ *testing.T, _ organisation, f *CertificateFiles) { f.CA = "" }, want: "--tls-ca"},
		"WorldReadable": {reason: "everyone on this machine could be the server", change: func(t *testing.T, o organisation, _ *CertificateFiles) { chmod(t, o.path("tls.key"), 0o644) }, want: "chmod 600"},
		"OtherKey": {reason: "the key of another certificate", change: func(t *testing.T, o organisation, _ *CertificateFiles) {
			_, key := o.issue(t, named)
			o.write(t, "tls.key", key, 0o600)
		}, want: "does not match"},
		"Expired": {reason: "no client would take it", change: func(t *testing.T, o organisation, _ *CertificateFiles) {
			cert, err := sign(&x509.Certificate{DNSNames: named.DNSNames, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)},
				o.certificate, readKey(t, o.path("tls.key")).Public(), o.key)
			if err != nil {
				t.Fatal(err)
			}
			o.write(t, "tls.crt", cert, 0o644)
		}, want: "it expired at"},
		"NoName": {reason: "nothing reads common names any more", change: func(t *testing.T, o organisation, _ *CertificateFiles) {
			cert, key := o.issue(t, Template{CommonName: "slipway.corp.test", ValidFor: time.Hour})
			o.write(t, "tls.crt", cert, 0o644)
			o.write(t, "tls.key", key, 0o600)
		}, want: "no DNS name"},
		"ClientOnly": {reason: "a client's certificate is no server's", change: func(t *testing.T, o organisation, _ *CertificateFiles) {
			cert, key := o.issue(t, Template{DNSNames: named.DNSNames, ValidFor: time.Hour, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
			o.write(t, "tls.crt", cert, 0o644)
			o.write(t, "tls.key", key, 0o600)
		}, want: "does not lead to its root"},
		"OtherCA": {reason: "what is handed out would not be trusted", change: func(t *testing.T, o organisation, _ *CertificateFiles) {
			o.write(t, "ca.pem", newOrganisation(t).CertPEM(), 0o644)
		}, want: "does not lead to its root"},
		"KeyInCA": {reason: "the CA file goes to every client", change: func(t *testing.T, o organisation, _ *CertificateFiles) {
			o.write(t, "ca.pem", append(o.KeyPEM(), o.CertPEM()...), 0o644)
		}, want: "every client gets this file"},
		"Missing":  {reason: "a path that is wrong", change: func(_ *testing.T, _ organisation, f *CertificateFiles) { f.Certificate += "x" }, want: "tls.crtx"},
		"EmptyKey": {reason: "a key that was never written", change: func(t *testing.T, o organisation, _ *CertificateFiles) { o.write(t, "tls.key", nil, 0o600) }, want: "it is empty"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			o := newOrganisation(t)
			cert, key := o.issue(t, named)
			o.write(t, "tls.crt", cert, 0o644)
			o.write(t, "tls.key", key, 0o600)
			files := o.files()
			tc.change(t, o, &files)
			f, err := LoadFileCertificate(files, func(err error) { t.Error(err) })
			if tc.want != "" {
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("%s: %v, want %q", tc.reason, err, tc.want)
				}
				return
			}
			if err != nil {
				t.Fatalf("%s: %v", tc.reason, err)
			}
			if string(f.RootsPEM()) != string(o.CertPEM()) {
				t.Errorf("%s: the root to trust is not the organisation's", tc.reason)
			}
			if f.For("slipway.corp.test") == nil || f.For("other.test") != nil || f.For("") != nil {
				t.Errorf("%s: it is not served for its own name alone", tc.reason)
			}
		})
	}
}

func readKey(t *testing.T, path string) crypto.Signer {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseKey(content)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestFileCertificateIsReadAgain(t *testing.T) {
	o := newOrganisation(t)
	put := func(names ...string) {
		cert, key := o.issue(t, Template{CommonName: "s", DNSNames: names, IPs: []net.IP{net.IPv4(10, 0, 0, 1)}, ValidFor: 90 * time.Hour})
		o.write(t, "tls.crt", cert, 0o644)
		o.write(t, "tls.key", key, 0o600)
	}
	put("a.test")
	var reported []error
	f, err := LoadFileCertificate(o.files(), func(err error) { reported = append(reported, err) })
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	at := func(offset time.Duration) { f.now = func() time.Time { return start.Add(offset) } }
	put("b.test")
	at(time.Second)
	if f.For("a.test") == nil {
		t.Error("the files are looked at on every handshake")
	}
	at(10 * time.Second)
	if f.For("b.test") == nil || f.For("a.test") != nil {
		t.Error("a renewed certificate is not served")
	}
	o.write(t, "tls.key", []byte("half of a k"), 0o600)
	at(20 * time.Second)
	if f.For("b.test") == nil || len(reported) != 1 {
		t.Errorf("a broken file did not leave the last good one in service, or was not reported: %v", reported)
	}
	at(30 * time.Second)
	if f.For("b.test") == nil || len(reported) != 1 {
		t.Errorf("the same broken file was reported again: %v", reported)
	}
	put("c.test")
	at(40 * time.Second)
	if f.For("c.test") == nil {
		t.Error("after it was mended the file is not served")
	}
	at(91 * time.Hour)
	if f.For("c.test") != nil {
		t.Error("an expired certificate is served")
	}
}
