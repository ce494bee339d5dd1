package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestReadPrivate(t *testing.T) {
	cases := map[string]struct {
		reason  string
		content string
		mode    fs.FileMode
		want    string
	}{
		"Private":       {reason: "mode 600 is how we write it", content: "x", mode: 0o600},
		"ReadOnly":      {reason: "a mounted secret may be read-only", content: "x", mode: 0o400},
		"GroupReadable": {reason: "whoever is in the group has the key", content: "x", mode: 0o640, want: "mode 0640"},
		"WorldReadable": {reason: "everyone has the key", content: "x", mode: 0o604, want: "chmod 600"},
		"GroupWritable": {reason: "someone else may choose the key", content: "x", mode: 0o620, want: "others may read or change it"},
		"Empty":         {reason: "an empty file is a disk that was full, not a key", mode: 0o600, want: "it is empty"},
		"Blank":         {reason: "nor is a line end", content: "\n", mode: 0o600, want: "it is empty"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "secret")
			if err := os.WriteFile(path, []byte(tc.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, tc.mode); err != nil {
				t.Fatal(err)
			}
			made := false
			content, err := LoadOrCreate(path, func() ([]byte, error) { made = true; return []byte("new"), nil })
			switch {
			case made:
				t.Errorf("%s: a new secret took the place of the one that is there", tc.reason)
			case tc.want == "" && (err != nil || string(content) != tc.content):
				t.Errorf("%s: %q, %v", tc.reason, content, err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), path)):
				t.Errorf("%s: %v, want %q and the path", tc.reason, err, tc.want)
			}
		})
	}
	if _, err := ReadPrivate(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file gave %v", err)
	}
	if _, err := ReadPrivate(t.TempDir()); err == nil || !strings.Contains(err.Error(), "regular file") {
		t.Errorf("a directory gave %v", err)
	}
}

func TestWeakKeys(t *testing.T) {
	weakRSA, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weakCurve, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := x509.MarshalECPrivateKey(weakCurve)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(weakRSA)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"1024 bits":          {Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(weakRSA)},
		"1024 bits, PKCS 8":  {Type: "PRIVATE KEY", Bytes: pkcs8},
		"224 bits, on P-224": {Type: "EC PRIVATE KEY", Bytes: curve},
	} {
		if _, err := ParseKey(pem.EncodeToMemory(block)); err == nil || !strings.Contains(err.Error(), name[:4]) {
			t.Errorf("%s: ParseKey() = %v, want a refusal that names the size", name, err)
		}
	}
}

// TestLoadCARefusesWhatOthersRead holds that the check is made where the CA is loaded.
func TestLoadCARefusesWhatOthersRead(t *testing.T) {
	directory := t.TempDir()
	if _, err := LoadOrCreateCA(directory, "ca", "test", time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(directory, "ca.pem"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrCreateCA(directory, "ca", "test", time.Hour); err == nil || !strings.Contains(err.Error(), "chmod") {
		t.Errorf("a CA key that everyone may read was used: %v", err)
	}
}
