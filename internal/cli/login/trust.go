package login

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"slipway.dev/slipway/internal/cli/output"
	"slipway.dev/slipway/internal/pki"
)

const (
	dialTime = 15 * time.Second
	maxCA    = 64 << 10
	// caPath is where a server gives its certificate authorities to everyone.
	caPath = "/slipway/ca.crt"
)

// trust says which servers the person trusts.
type trust struct{ file, fingerprint string }

func (t *trust) flags(flags *pflag.FlagSet) {
	flags.StringVar(&t.file, "ca-file", "", "file with the server's certificate authority, in PEM (on the server: pki/gateway.crt in its data directory)")
	flags.StringVar(&t.fingerprint, "ca-fingerprint", "", "fingerprint of the server's certificate authority, sha256:…, as the server prints it at its start")
}

// serverAddress reads a URL that a person typed and gives https://HOST[:PORT].
func serverAddress(text string) (*url.URL, error) {
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		// The text may hold the secret of a set-up link.
		return nil, output.Usagef("the server's URL must be https://HOST:PORT")
	}
	return &url.URL{Scheme: "https", Host: u.Host}, nil
}

// roots gives the certificate authority to trust for the server, in PEM; nil means those of this machine. What this
// machine does not know is asked for on a terminal, or must be said by a flag.
func (c Config) roots(ctx context.Context, server *url.URL, t trust) ([]byte, error) {
	if t.file != "" {
		content, err := os.ReadFile(t.file)
		if err != nil {
			return nil, fmt.Errorf("cannot read --ca-file: %w", err)
		}
		if !x509.NewCertPool().AppendCertsFromPEM(content) {
			return nil, output.Usagef("--ca-file %s holds no PEM certificate", t.file)
		}
		return content, nil
	}
	if t.fingerprint == "" {
		err := probe(ctx, server, nil)
		var unknown x509.UnknownAuthorityError
		if !errors.As(err, &unknown) {
			return nil, err
		}
	}
	root, err := rootOf(ctx, server)
	if err != nil {
		return nil, err
	}
	if err := c.confirm(ctx, server, root, t.fingerprint); err != nil {
		return nil, err
	}
	return pki.EncodeCertificate(root.Raw), nil
}

// confirm lets the person say whether it is the right authority.
func (c Config) confirm(ctx context.Context, server *url.URL, root *x509.Certificate, wanted string) error {
	found := fingerprint(root)
	const fix = "the server prints its fingerprint at its start; give it with --ca-fingerprint, or the file pki/gateway.crt of its data directory with --ca-file"
	switch {
	case wanted != "" && !sameFingerprint(wanted, found):
		return output.Refused("FingerprintDiffers", "do not log in: find out who answers at that address. "+fix,
			"%s has the certificate authority %s, not %s", server.Host, found, output.Line(wanted))
	case wanted != "":
		return nil
	case !c.Terminal:
		return output.Refused("UnknownAuthority", fix, "this machine does not know the certificate authority of %s: %s", server.Host, found)
	}
	answer, err := output.Answer(ctx, c.Deps, fmt.Sprintf("This machine does not know the certificate authority of %s.\nIts fingerprint is %s\n"+
		"Compare it with what the server printed at its start. Is it the same? [y/N] ", server.Host, found))
	if err != nil {
		return err
	}
	if answer = strings.ToLower(answer); answer != "y" && answer != "yes" {
		return output.Refused("UnknownAuthority", fix, "%s is not trusted", server.Host)
	}
	return nil
}

func fingerprint(certificate *x509.Certificate) string {
	digest := sha256.Sum256(certificate.Raw)
	return "sha256:" + hex.EncodeToString(digest[:])
}

// sameFingerprint takes the spelling of other programs too: upper case, with colons.
func sameFingerprint(wanted, found string) bool {
	plain := func(s string) string {
		s = strings.TrimPrefix(strings.ToLower(strings.TrimSpace(s)), "sha256:")
		return strings.ReplaceAll(s, ":", "")
	}
	return plain(wanted) == plain(found)
}

// probe connects and says whether the server's certificate is good: by these roots, or those of this machine.
func probe(ctx context.Context, server *url.URL, roots *x509.CertPool) error {
	conn, err := dial(ctx, server, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots})
	if err != nil {
		return fmt.Errorf("cannot reach %s: %w", server, err)
	}
	return conn.Close()
}

func dial(ctx context.Context, server *url.URL, config *tls.Config) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	address := server.Host
	if server.Port() == "" {
		address += ":443"
	}
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return conn.(*tls.Conn), nil
}

// rootOf gives the authority that the server's certificate leads to, as the server itself says it. Nothing is believed
// yet: the caller confirms the fingerprint.
func rootOf(ctx context.Context, server *url.URL) (*x509.Certificate, error) {
	blind := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}
	conn, err := dial(ctx, server, blind)
	if err != nil {
		return nil, fmt.Errorf("cannot reach %s: %w", server, err)
	}
	chain := conn.ConnectionState().PeerCertificates
	if err := conn.Close(); err != nil {
		return nil, fmt.Errorf("cannot reach %s: %w", server, err)
	}
	said, err := authorities(ctx, server, blind)
	if err != nil {
		return nil, err
	}
	between := x509.NewCertPool()
	for _, certificate := range chain[1:] {
		between.AddCert(certificate)
	}
	var last error
	for _, root := range append(said, chain[1:]...) {
		pool := x509.NewCertPool()
		pool.AddCert(root)
		if _, last = chain[0].Verify(x509.VerifyOptions{DNSName: server.Hostname(), Roots: pool, Intermediates: between}); last == nil {
			return root, nil
		}
		var wrongName x509.HostnameError
		if errors.As(last, &wrongName) {
			return nil, output.Refused("WrongName", "use an address that the certificate names, or start the server with --name "+server.Hostname(),
				"the certificate of %s is not for that address: %w", server.Host, last)
		}
	}
	return nil, output.Refused("UnknownAuthority", "give the authority with --ca-file", "cannot find the certificate authority of %s: %w", server.Host, last)
}

// authorities asks the server for its certificate authorities.
func authorities(ctx context.Context, server *url.URL, config *tls.Config) ([]*x509.Certificate, error) {
	client := &http.Client{Timeout: dialTime, Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, CheckRedirect: noRedirect}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.JoinPath(caPath).String(), nil)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("cannot ask %s for its certificate authority: %w", server, err)
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(io.LimitReader(answer.Body, maxCA))
	if err != nil {
		return nil, fmt.Errorf("cannot ask %s for its certificate authority: %w", server, err)
	}
	var all []*x509.Certificate
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("cannot read the certificate authority of %s: %w", server, err)
		}
		all = append(all, certificate)
	}
	return all, nil
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
