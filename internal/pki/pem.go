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

// ParseKey reads the first private key of a PEM text: EC, RSA or PKCS 8. It fails when there is none.
func ParseKey(keyPEM []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(keyPEM); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case blockECKey:
			return x509.ParseECPrivateKey(block.Bytes)
		case blockRSAKey:
			return x509.ParsePKCS1PrivateKey(block.Bytes)
		case blockKey:
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, err
			}
			signer, ok := key.(crypto.Signer)
			if !ok {
				return nil, fmt.Errorf("cannot use key: %T cannot sign", key)
			}
			return signer, nil
		}
	}
	return nil, errors.New("cannot find a PEM private key")
}
