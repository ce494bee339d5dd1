package pki

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// WriteFile writes a file so that a crash at any moment leaves either the old content or the new one, and so
// that the new one is on disk when it returns. The file gets the given mode; its directory must exist.
func WriteFile(path string, content []byte, mode fs.FileMode) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot write %s: %w", path, err)
		}
	}()
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temporary.Name()))
		}
	}()
	_, err = temporary.Write(content)
	err = errors.Join(err, temporary.Chmod(mode), temporary.Sync(), temporary.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(temporary.Name(), path); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

// ReadPrivate gives the content of a file that holds a secret. It refuses one that another user may read or change,
// that belongs to another user, or that is empty, and says what to do. The error wraps fs.ErrNotExist when there is none.
func ReadPrivate(path string) ([]byte, error) { return readPrivate(path, othersMode) }

const (
	// othersMode are the permissions that let others at a file.
	othersMode fs.FileMode = 0o077
	// strangersMode is the same for files whose group is chosen by hand, such as that of web servers: it may read.
	strangersMode fs.FileMode = 0o037
)

func readPrivate(path string, refused fs.FileMode) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	// It was only read.
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	switch owner, known := info.Sys().(*syscall.Stat_t); {
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("cannot use %s: it is not a regular file", path)
	case info.Mode().Perm()&refused != 0:
		return nil, fmt.Errorf("cannot use %s: others may read or change it (mode %04o); run `chmod 600 %s`, and replace the secret in it if others had access",
			path, info.Mode().Perm(), path)
	case known && owner.Uid != 0 && int(owner.Uid) != os.Geteuid():
		return nil, fmt.Errorf("cannot use %s: it belongs to another user (uid %d), who may change it; run `chown %d %s`", path, owner.Uid, os.Geteuid(), path)
	}
	content, err := io.ReadAll(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	if len(bytes.TrimSpace(content)) == 0 {
		return nil, fmt.Errorf("cannot use %s: it is empty; put it back from a backup", path)
	}
	return content, nil
}

// LoadOrCreate gives the content of a private file (mode 600), as ReadPrivate does. When there is none it asks create
// for the content and writes that first, so the file holds the same secret ever after.
func LoadOrCreate(path string, create func() ([]byte, error)) ([]byte, error) {
	content, err := ReadPrivate(path)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return content, err
	}
	if content, err = create(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("cannot create directory of %s: %w", path, err)
	}
	if err := WriteFile(path, content, 0o600); err != nil {
		return nil, err
	}
	return content, nil
}

// LoadOrCreateCA gives the certificate authority kept in directory/name.pem (mode 600: certificate and key in
// one file, so that a crash never separates them), minting it at first. The certificate alone is written
// beside it as directory/name.crt for people to hand out.
func LoadOrCreateCA(directory, name, commonName string, validFor time.Duration) (*CA, error) {
	content, err := LoadOrCreate(filepath.Join(directory, name+".pem"), func() ([]byte, error) {
		ca, err := NewCA(commonName, validFor)
		if err != nil {
			return nil, err
		}
		return append(append([]byte{}, ca.CertPEM()...), ca.KeyPEM()...), nil
	})
	if err != nil {
		return nil, err
	}
	certificate, err := ParseCertificate(content)
	if err != nil {
		return nil, fmt.Errorf("cannot read CA in %s: %w", filepath.Join(directory, name+".pem"), err)
	}
	key, err := ParseKey(content)
	if err != nil {
		return nil, fmt.Errorf("cannot read CA in %s: %w", filepath.Join(directory, name+".pem"), err)
	}
	keyPEM, err := EncodeKey(key)
	if err != nil {
		return nil, err
	}
	ca, err := ParseCA(EncodeCertificate(certificate.Raw), keyPEM)
	if err != nil {
		return nil, err
	}
	return ca, WriteFile(filepath.Join(directory, name+".crt"), ca.CertPEM(), 0o644)
}

// NewToken gives 256 random bits as 52 characters of base32: safe in headers, URLs and YAML.
func NewToken() string { return rand.Text() + rand.Text() }

func syncDirectory(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}
