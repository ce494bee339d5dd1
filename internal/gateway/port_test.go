package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/internal/pki"
)

// TestOrganisationsCertificate holds who gets which certificate, and that what is handed out trusts both.
func TestOrganisationsCertificate(t *testing.T) {
	organisation, err := pki.NewCA("organisation", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	directory := t.TempDir()
	files := pki.CertificateFiles{Certificate: filepath.Join(directory, "tls.crt"), Key: filepath.Join(directory, "tls.key"), CA: filepath.Join(directory, "ca.crt")}
	put := func(names ...string) {
		cert, key, err := organisation.Issue(pki.Template{CommonName: "s", DNSNames: names, ValidFor: time.Hour, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
		if err != nil {
			t.Fatal(err)
		}
		for path, content := range map[string][]byte{files.Certificate: cert, files.Key: key, files.CA: organisation.CertPEM()} {
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	put("slipway.corp.test")
	port, err := Listen(t.Context(), PortConfig{Address: "127.0.0.1:0", DataDir: t.TempDir(), Certificate: files, Names: []string{"own.test", "slipway.corp.test"}})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = port.Serve(t.Context(), http.NotFoundHandler()) }()
	pool := func(pem []byte) *x509.CertPool {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		return roots
	}
	own, theirs, both := pool(port.ca.CertPEM()), pool(organisation.CertPEM()), pool(port.CACert())
	for name, c := range map[string]struct {
		reason, server string
		roots          *x509.CertPool
		want           bool
	}{
		"ByName":         {"people who trust the organisation reach it by its name", "slipway.corp.test", theirs, true},
		"ByAddress":      {"a host that was set up before trusts our own CA", "127.0.0.1", own, true},
		"ByAddressOther": {"the organisation did not sign our addresses", "127.0.0.1", theirs, false},
		"ByOtherName":    {"other names have our own", "own.test", own, true},
		"ByNameOwn":      {"for its name the organisation's certificate is the one", "slipway.corp.test", own, false},
		"HandedOut":      {"a kubeconfig trusts both", "slipway.corp.test", both, true},
		"HandedOutIP":    {"by address too", "127.0.0.1", both, true},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := tls.Dial("tcp", port.Addr().String(), &tls.Config{RootCAs: c.roots, ServerName: c.server})
			if err == nil {
				conn.Close()
			}
			if (err == nil) != c.want {
				t.Errorf("%v: %s", err, c.reason)
			}
		})
	}
	if err := os.Chmod(files.Key, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(t.Context(), PortConfig{Address: "127.0.0.1:0", DataDir: t.TempDir(), Certificate: files}); err == nil || !strings.Contains(err.Error(), "chmod 600 "+files.Key) {
		t.Errorf("a key that everyone may read was used: %v", err)
	}
}

// TestWeakTLSIsRefused holds the floor of what the port speaks.
func TestWeakTLSIsRefused(t *testing.T) {
	port, err := Listen(t.Context(), PortConfig{Address: "127.0.0.1:0", DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = port.Serve(t.Context(), http.NotFoundHandler()) }()
	for name, c := range map[string]struct {
		reason string
		config *tls.Config
		want   bool
	}{
		"1.0":       {"broken", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}, false},
		"1.1":       {"broken", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false},
		"RSA":       {"without forward secrecy", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}}, false},
		"3DES, RC4": {"broken ciphers", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA, tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA}}, false},
		"1.2":       {"what older clients speak", &tls.Config{MaxVersion: tls.VersionTLS12}, true},
		"1.3":       {"what clients speak", &tls.Config{MinVersion: tls.VersionTLS13}, true},
	} {
		t.Run(name, func(t *testing.T) {
			c.config.InsecureSkipVerify = true
			conn, err := tls.Dial("tcp", port.Addr().String(), c.config)
			if err == nil {
				conn.Close()
			}
			if (err == nil) != c.want {
				t.Errorf("%s: %v", c.reason, err)
			}
		})
	}
}

// TestLargeHeadersAreRefused holds that headers are bounded before anyone looks at them.
func TestLargeHeadersAreRefused(t *testing.T) {
	port, err := Listen(t.Context(), PortConfig{Address: "127.0.0.1:0", DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = port.Serve(t.Context(), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }))
	}()
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	for size, want := range map[int]int{1 << 10: 200, 2 * headerBytes: http.StatusRequestHeaderFieldsTooLarge} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+port.Addr().String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Large", strings.Repeat("x", size))
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%d bytes of headers gave %d, want %d", size, response.StatusCode, want)
		}
	}
}
