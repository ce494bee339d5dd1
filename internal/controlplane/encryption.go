package controlplane

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"sigs.k8s.io/yaml"

	"slipway.dev/slipway/internal/pki"
	"slipway.dev/slipway/internal/secret"
)

// EncryptionFile is the file with the key that encrypts Secrets, in the directory of the encryption key.
const EncryptionFile = "encryption.yaml"

// keyBytes is the length that secretbox wants.
const keyBytes = 32

// keyRing holds the keys that encrypt Secrets: the first writes, all read. There are two while a rotation goes on.
type keyRing []apiserverv1.Key

// prefix is what every value begins with that the writing key encrypted.
func (k keyRing) prefix() string { return "k8s:enc:secretbox:v1:" + k[0].Name + ":" }

// rotating says that there may be values that an older key encrypted.
func (k keyRing) rotating() bool { return len(k) > 1 }

func keyFile(directory, keyDir string) string {
	return filepath.Join(cmp.Or(keyDir, filepath.Join(directory, "keys")), EncryptionFile)
}

// loadKeyRing reads the keys, and mints the first one of a new installation. Over data that exists no key is ever
// minted: it could not read a single Secret, and would hide that the right one is missing.
func loadKeyRing(directory, path string) (keyRing, error) {
	ring, err := readKeyRing(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return ring, err
	}
	exists, err := hasData(directory)
	if err != nil {
		return nil, err
	}
	if exists {
		return nil, missingKey(directory, path)
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	ring = keyRing{key}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("cannot create directory of the encryption key: %w", err)
	}
	return ring, ring.write(path)
}

// missingKey says what to do about a key that is not there.
func missingKey(directory, path string) error {
	fix := "put it back from a backup"
	if usual := keyFile(directory, ""); usual != path {
		if _, err := os.Stat(usual); err == nil {
			fix = fmt.Sprintf("move %s there, or start without --encryption-key-dir", usual)
		}
	} else {
		fix += ", or name its directory with --encryption-key-dir"
	}
	return fmt.Errorf("cannot open the Secrets in %s: their encryption key %s is missing; %s", directory, path, fix)
}

// hasData says whether the data directory holds a store.
func hasData(directory string) (bool, error) {
	_, err := os.Stat(filepath.Join(directory, "etcd", "member"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("cannot look for data: %w", err)
	}
	return err == nil, nil
}

// readKeyRing reads the keys and refuses those that somebody else may have. The error wraps fs.ErrNotExist when there
// is no file.
func readKeyRing(path string) (keyRing, error) {
	if err := checkKeyDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	content, err := pki.ReadPrivate(path)
	if err != nil {
		return nil, fmt.Errorf("cannot load encryption key: %w", err)
	}
	var config apiserverv1.EncryptionConfiguration
	// An error of the parser could quote the key.
	if yaml.UnmarshalStrict(content, &config) != nil {
		return nil, fmt.Errorf("cannot load encryption key: %s is not an EncryptionConfiguration; put it back from a backup", path)
	}
	if len(config.Resources) != 1 || len(config.Resources[0].Resources) != 1 || config.Resources[0].Resources[0] != "secrets" ||
		len(config.Resources[0].Providers) != 1 || config.Resources[0].Providers[0].Secretbox == nil {
		return nil, fmt.Errorf("cannot load encryption key: %s must encrypt secrets with secretbox and nothing else; change it with `slipway server rotate-key` only", path)
	}
	ring := keyRing(config.Resources[0].Providers[0].Secretbox.Keys)
	if len(ring) == 0 || len(ring) > 2 {
		return nil, fmt.Errorf("cannot load encryption key: %s holds %d keys, one or two are right", path, len(ring))
	}
	for _, key := range ring {
		if err := checkKey(key); err != nil {
			return nil, fmt.Errorf("cannot use encryption key %q in %s: %w", key.Name, path, err)
		}
	}
	return ring, nil
}

func checkKey(key apiserverv1.Key) error {
	raw, err := base64.StdEncoding.DecodeString(key.Secret)
	switch {
	case err != nil:
		return errors.New("it is not base64")
	case key.Name == "" || strings.Contains(key.Name, ":"):
		return errors.New("it has no usable name")
	}
	if err := secret.CheckKey(raw); err != nil {
		return err
	}
	if len(raw) != keyBytes {
		return fmt.Errorf("it has %d bytes, not %d", len(raw), keyBytes)
	}
	return nil
}

// checkKeyDir refuses a directory in which others could put another key. One that is not there is no error.
func checkKeyDir(directory string) error {
	info, err := os.Stat(directory)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot look for the encryption key: %w", err)
	}
	if info.Mode().Perm()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0 {
		return fmt.Errorf("cannot use the encryption key in %s: others may write there (mode %04o); run `chmod 700 %s`", directory, info.Mode().Perm(), directory)
	}
	return nil
}

// newKey mints a key. Its name is random too: what one key encrypted is then never taken for another's.
func newKey() (apiserverv1.Key, error) {
	raw := make([]byte, keyBytes)
	if _, err := rand.Read(raw); err != nil {
		return apiserverv1.Key{}, fmt.Errorf("cannot mint encryption key: %w", err)
	}
	return apiserverv1.Key{Name: "key-" + strings.ToLower(rand.Text()[:10]), Secret: base64.StdEncoding.EncodeToString(raw)}, nil
}

// write stores the keys, so that a crash leaves the old file or the new one. There is no fallback to plain text in
// it: what is not encrypted cannot be read.
func (k keyRing) write(path string) error {
	content, err := yaml.Marshal(apiserverv1.EncryptionConfiguration{
		TypeMeta: metav1.TypeMeta{APIVersion: apiserverv1.SchemeGroupVersion.String(), Kind: "EncryptionConfiguration"},
		Resources: []apiserverv1.ResourceConfiguration{{
			Resources: []string{"secrets"},
			Providers: []apiserverv1.ProviderConfiguration{{Secretbox: &apiserverv1.SecretboxConfiguration{Keys: k}}},
		}},
	})
	if err != nil {
		return fmt.Errorf("cannot write encryption key: %w", err)
	}
	if err := pki.WriteFile(path, content, 0o600); err != nil {
		return fmt.Errorf("cannot write encryption key: %w", err)
	}
	return removeRemains(path)
}

// removeRemains takes away what a crash left of writing the file: it holds keys too.
func removeRemains(path string) error {
	remains, err := filepath.Glob(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".*"))
	if err != nil {
		return fmt.Errorf("cannot look for remains of %s: %w", path, err)
	}
	for _, name := range remains {
		if err := os.Remove(name); err != nil {
			return fmt.Errorf("cannot remove the remains of %s: %w", path, err)
		}
	}
	return nil
}
