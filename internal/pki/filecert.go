package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
)

// CertificateFiles names the PEM files of a server certificate that someone else issues and renews.
type CertificateFiles struct {
	// Certificate holds the server's certificate, then those between it and its root.
	Certificate string
	// Key holds the private key. Its group may read it, nobody else.
	Key string
	// CA holds the root; it may be empty when Certificate ends with it, or is its own.
	CA string
}

// FileCertificate serves the certificate of files that may change at any time: they are looked at every few seconds
// while clients connect. It is safe for concurrent use.
type FileCertificate struct {
	files  CertificateFiles
	report func(error)
	now    func() time.Time

	mu      sync.Mutex
	current *loaded
	stamp   string
	checked time.Time
}

// loaded is what one reading of the files gave.
type loaded struct {
	pair  tls.Certificate
	roots []byte
}

// LoadFileCertificate reads the files and refuses them, with the reason, when they cannot serve: the key is not that
// of the certificate, is weak or may be read by others, the certificate has expired, names no server, or does not
// lead to the root. report is told when files that changed later are refused; the last good ones are then kept.
func LoadFileCertificate(files CertificateFiles, report func(error)) (*FileCertificate, error) {
	f := &FileCertificate{files: files, report: report, now: time.Now}
	stamp, err := f.stat()
	if err == nil {
		f.current, err = f.load()
	}
	if err != nil {
		return nil, err
	}
	f.stamp, f.checked = stamp, f.now()
	return f, nil
}

// For gives the certificate for a client that asks for the named server, and nil when it is not for that name or
// has expired.
func (f *FileCertificate) For(name string) *tls.Certificate {
	current := f.latest()
	if name == "" || current.pair.Leaf.VerifyHostname(name) != nil || f.now().After(current.pair.Leaf.NotAfter) {
		return nil
	}
	return &current.pair
}

// RootsPEM gives the certificates that clients must trust.
func (f *FileCertificate) RootsPEM() []byte { return f.latest().roots }

func (f *FileCertificate) latest() *loaded {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	if now.Sub(f.checked) < recheck {
		return f.current
	}
	f.checked = now
	stamp, err := f.stat()
	if stamp == f.stamp {
		return f.current
	}
	f.stamp = stamp
	var next *loaded
	if err == nil {
		next, err = f.load()
	}
	if err != nil {
		f.report(fmt.Errorf("cannot use the changed certificate, so the last one is kept: %w", err))
		return f.current
	}
	f.current = next
	return next
}

// stat gives a text that changes with any of the files.
func (f *FileCertificate) stat() (string, error) {
	var stamp string
	var problems []error
	for _, path := range []string{f.files.Certificate, f.files.Key, f.files.CA} {
		if path == "" {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			problems = append(problems, fmt.Errorf("cannot read %s: %w", path, err))
			stamp += " none"
			continue
		}
		stamp += fmt.Sprint(" ", info.ModTime().UnixNano(), info.Size(), info.Mode())
		if system, known := info.Sys().(*syscall.Stat_t); known {
			stamp += fmt.Sprint(" ", system.Ino)
		}
	}
	return stamp, errors.Join(problems...)
}

func (f *FileCertificate) load() (*loaded, error) {
	chain, err := os.ReadFile(f.files.Certificate)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", f.files.Certificate, err)
	}
	keyPEM, err := readPrivate(f.files.Key, strangersMode)
	if err != nil {
		return nil, err
	}
	if _, err := ParseKey(keyPEM); err != nil {
		return nil, fmt.Errorf("cannot use %s: %w", f.files.Key, err)
	}
	pair, err := tls.X509KeyPair(chain, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("cannot use %s with the key %s: %w", f.files.Certificate, f.files.Key, err)
	}
	roots, err := f.roots(pair)
	if err == nil {
		err = f.verify(pair, roots)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot use %s: %w", f.files.Certificate, err)
	}
	return &loaded{pair: pair, roots: roots}, nil
}

// roots gives what clients must trust: the CA file, or the one certificate of the chain that signed itself.
func (f *FileCertificate) roots(pair tls.Certificate) ([]byte, error) {
	if f.files.CA != "" {
		content, err := os.ReadFile(f.files.CA)
		if err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", f.files.CA, err)
		}
		return onlyCertificates(f.files.CA, content)
	}
	for _, der := range pair.Certificate {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		if bytes.Equal(certificate.RawIssuer, certificate.RawSubject) {
			return EncodeCertificate(der), nil
		}
	}
	return nil, errors.New("the root that issued it is not in the file: give it with --tls-ca, since hosts and kubeconfigs must trust it")
}

// onlyCertificates gives the certificates of a PEM text: what else is in the file must not be handed out.
func onlyCertificates(path string, content []byte) ([]byte, error) {
	var out []byte
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != blockCertificate {
			return nil, fmt.Errorf("cannot use %s: it holds a %s, and every client gets this file", path, block.Type)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, fmt.Errorf("cannot use %s: %w", path, err)
		}
		out = append(out, EncodeCertificate(block.Bytes)...)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("cannot use %s: it holds no PEM certificate", path)
	}
	return out, nil
}

func (f *FileCertificate) verify(pair tls.Certificate, rootsPEM []byte) error {
	leaf, now := pair.Leaf, f.now()
	switch {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("it expired at %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("it is not valid before %s; look at the clock of this machine", leaf.NotBefore.UTC().Format(time.RFC3339))
	case len(leaf.DNSNames) == 0:
		return errors.New("it has no DNS name (subjectAltName): clients would refuse it")
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM(rootsPEM)
	for _, der := range pair.Certificate[1:] {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		between.AddCert(certificate)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	if err != nil {
		return fmt.Errorf("it does not lead to its root: %w; put the certificates between them behind it, and the root into --tls-ca", err)
	}
	return nil
}
