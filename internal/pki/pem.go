package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

const (
	blockCertificate = "CERTIFICATE"
	blockECKey       = "EC PRIVATE KEY"
	blockRSAKey      = "RSA PRIVATE KEY"
	blockKey         = "PRIVATE KEY"
	blockPublicKey   = "PUBLIC KEY"
)

// EncodeCertificate gives a DER certificate in PEM.
func EncodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: blockCertificate, Bytes: der})
}

// ParseCertificate reads the first certificate of a PEM text; it fails when there is none.
func ParseCertificate(certPEM []byte) (*x509.Certificate, error) {
	for block, rest := pem.Decode(certPEM); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == blockCertificate {
			return x509.ParseCertificate(block.Bytes)
		}
	}
	return nil, errors.New("cannot find a PEM certificate")
}

// EncodeKey gives a private key in PEM, in the form of its own algorithm that kubeadm reads too.
// It fails for anything but ECDSA and RSA.
func EncodeKey(key crypto.Signer) ([]byte, error) {
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		der, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			return nil, fmt.Errorf("cannot encode key: %w", err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: blockECKey, Bytes: der}), nil
	case *rsa.PrivateKey:
		return pem.EncodeToMemory(&pem.Block{Type: blockRSAKey, Bytes: x509.MarshalPKCS1PrivateKey(key)}), nil
	default:
		return nil, fmt.Errorf("cannot encode key: %T is neither ECDSA nor RSA", key)
	}
}

// EncodePublicKey gives a public key in PEM (PKIX).
func EncodePublicKey(key crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("cannot encode public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockPublicKey, Bytes: der}), nil
}

// ParseKey reads the first private key of a PEM text: EC, RSA or PKCS 8. It fails when there is none, and when the
// key is too weak to be trusted.
func ParseKey(keyPEM []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(keyPEM); block != nil; block, rest = pem.Decode(rest) {
		var key any
		var err error
		switch block.Type {
		case blockECKey:
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case blockRSAKey:
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case blockKey:
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		default:
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read private key: %w", err)
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, fmt.Errorf("cannot use key: %T cannot sign", key)
		}
		return signer, CheckPublicKey(signer.Public())
	}
	return nil, errors.New("cannot find a PEM private key")
}

const (
	// minRSA and minCurve are the fewest bits of an RSA key and of an elliptic curve.
	minRSA   = 2048
	minCurve = 256
)

// CheckPublicKey refuses a key that can be broken: RSA below 2048 bits, curves below 256.
func CheckPublicKey(key crypto.PublicKey) error {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSA {
			return fmt.Errorf("cannot use RSA key of %d bits: %d at least are needed", bits, minRSA)
		}
	case *ecdsa.PublicKey:
		if bits := key.Curve.Params().BitSize; bits < minCurve {
			return fmt.Errorf("cannot use elliptic curve key of %d bits: %d at least are needed", bits, minCurve)
		}
	}
	return nil
}
