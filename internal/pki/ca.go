package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

// backdate is how far before now a certificate starts, so that a peer whose clock is a little behind accepts it.
const backdate = 5 * time.Minute

// KeyAlgorithm names the kind of private key to mint.
type KeyAlgorithm string

const (
	// ECDSAP256 is an elliptic curve key on P-256; it is the default everywhere.
	ECDSAP256 KeyAlgorithm = "ECDSA-P256"
	// RSA2048 is an RSA key of 2048 bits, for peers that cannot use elliptic curves.
	RSA2048 KeyAlgorithm = "RSA-2048"
)

// CA is a certificate authority: a certificate that may sign others, and its private key.
// It is safe for concurrent use.
type CA struct {
	certificate *x509.Certificate
	key         crypto.Signer
	certPEM     []byte
	keyPEM      []byte
}

// Template says what a leaf certificate is for.
type Template struct {
	// CommonName is the subject's common name; Kubernetes reads it as the user name of a client.
	CommonName string
	// Organization holds the subject's organizations; Kubernetes reads them as the groups of a client.
	Organization []string
	// DNSNames and IPs are the names and addresses a server is reached by.
	DNSNames []string
	IPs      []net.IP
	// Usages are the extended key usages; none means both server and client authentication.
	Usages []x509.ExtKeyUsage
	// ValidFor is how long the certificate is valid from now; it never outlives its CA. Zero means one year.
	ValidFor time.Duration
	// Algorithm is the kind of key; empty means ECDSAP256.
	Algorithm KeyAlgorithm
}

// NewCA mints a self-signed certificate authority with an ECDSA P-256 key, valid for the given duration.
// It fails when the duration is not positive.
func NewCA(commonName string, validFor time.Duration) (*CA, error) {
	return NewCAWithKey(commonName, validFor, ECDSAP256)
}

// NewCAWithKey is NewCA with a choice of key algorithm; empty means ECDSAP256.
func NewCAWithKey(commonName string, validFor time.Duration, algorithm KeyAlgorithm) (*CA, error) {
	if validFor <= 0 {
		return nil, fmt.Errorf("cannot mint CA %q: it must be valid for some time, not %s", commonName, validFor)
	}
	key, err := newKey(algorithm)
	if err != nil {
		return nil, fmt.Errorf("cannot mint CA %q: %w", commonName, err)
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: commonName},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(validFor),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	certPEM, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("cannot mint CA %q: %w", commonName, err)
	}
	keyPEM, err := EncodeKey(key)
	if err != nil {
		return nil, fmt.Errorf("cannot mint CA %q: %w", commonName, err)
	}
	return ParseCA(certPEM, keyPEM)
}

// ParseCA reads a certificate authority from its PEM certificate and private key.
// It fails when the certificate is not a CA or the key is not its key.
func ParseCA(certPEM, keyPEM []byte) (*CA, error) {
	certificate, err := ParseCertificate(certPEM)
	if err != nil {
		return nil, fmt.Errorf("cannot read CA: %w", err)
	}
	key, err := ParseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("cannot read CA %q: %w", certificate.Subject.CommonName, err)
	}
	if !certificate.IsCA {
		return nil, fmt.Errorf("cannot read CA %q: the certificate is not a CA", certificate.Subject.CommonName)
	}
	public, ok := certificate.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(key.Public()) {
		return nil, fmt.Errorf("cannot read CA %q: the private key does not belong to the certificate", certificate.Subject.CommonName)
	}
	return &CA{certificate: certificate, key: key, certPEM: certPEM, keyPEM: keyPEM}, nil
}

// CertPEM gives the CA's own certificate in PEM.
func (c *CA) CertPEM() []byte { return c.certPEM }

// KeyPEM gives the CA's private key in PEM. It is a secret.
func (c *CA) KeyPEM() []byte { return c.keyPEM }

// Certificate gives the CA's own parsed certificate.
func (c *CA) Certificate() *x509.Certificate { return c.certificate }

// Issue mints a key and a certificate for it, signed by this CA, and gives both in PEM.
// It fails when the CA has expired or the template is not valid.
func (c *CA) Issue(template Template) (certPEM, keyPEM []byte, err error) {
	key, err := newKey(template.Algorithm)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot issue certificate %q: %w", template.CommonName, err)
	}
	validFor := template.ValidFor
	if validFor == 0 {
		validFor = 365 * 24 * time.Hour
	}
	now := time.Now()
	notAfter := now.Add(validFor)
	if notAfter.After(c.certificate.NotAfter) {
		notAfter = c.certificate.NotAfter
	}
	if !notAfter.After(now) {
		return nil, nil, fmt.Errorf("cannot issue certificate %q: it would end at %s, which has passed",
			template.CommonName, notAfter.Format(time.RFC3339))
	}
	usages := template.Usages
	if len(usages) == 0 {
		usages = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	certPEM, err = sign(&x509.Certificate{
		Subject:               pkix.Name{CommonName: template.CommonName, Organization: template.Organization},
		DNSNames:              template.DNSNames,
		IPAddresses:           template.IPs,
		NotBefore:             now.Add(-backdate),
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:           usages,
		BasicConstraintsValid: true,
	}, c.certificate, key.Public(), c.key)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot issue certificate %q: %w", template.CommonName, err)
	}
	keyPEM, err = EncodeKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot issue certificate %q: %w", template.CommonName, err)
	}
	return certPEM, keyPEM, nil
}

// NewServiceAccountKey mints the key pair that signs and checks service-account tokens: an ECDSA P-256
// private key and its public key, both in PEM.
func NewServiceAccountKey() (privatePEM, publicPEM []byte, err error) {
	key, err := newKey(ECDSAP256)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot mint service-account key: %w", err)
	}
	if privatePEM, err = EncodeKey(key); err != nil {
		return nil, nil, fmt.Errorf("cannot mint service-account key: %w", err)
	}
	if publicPEM, err = EncodePublicKey(key.Public()); err != nil {
		return nil, nil, fmt.Errorf("cannot mint service-account key: %w", err)
	}
	return privatePEM, publicPEM, nil
}

func newKey(algorithm KeyAlgorithm) (crypto.Signer, error) {
	switch algorithm {
	case "", ECDSAP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	default:
		return nil, fmt.Errorf("cannot mint key: algorithm %q is not known, use %s or %s", algorithm, ECDSAP256, RSA2048)
	}
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer) ([]byte, error) {
	// 127 bits keep the number positive and within the 20 octets that RFC 5280 allows.
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	if serial.Sign() == 0 {
		return nil, errors.New("random serial number is zero")
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		return nil, err
	}
	return EncodeCertificate(der), nil
}
