package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	gossh "golang.org/x/crypto/ssh"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

// labelHost marks the Credential and the Secret that were made for one host, so that they go with it.
const labelHost = "slipway.dev/host"

// login is what the flags say about how to log in.
type login struct {
	user, key, passphrase, password, sudoPassword, credential string
	passwordStdin                                             bool
}

// check refuses flags that do not make exactly one way to log in.
func (l *login) check() error {
	ways := 0
	for _, given := range []bool{l.key != "", l.password != "", l.passwordStdin} {
		if given {
			ways++
		}
	}
	switch {
	case l.credential != "" && (ways > 0 || l.user != "" || l.passphrase != "" || l.sudoPassword != ""):
		return output.Usagef("cannot combine --credential with --user, --key or a password: the credential has them")
	case l.credential != "":
		return nil
	case l.user == "":
		return output.Usagef("cannot add the host: --user or --credential is missing")
	case ways == 0:
		return output.Usagef("cannot add the host: one of --key, --password-file and --password-stdin is missing")
	case ways > 1:
		return output.Usagef("cannot combine --key, --password-file and --password-stdin: give one")
	case l.passphrase != "" && l.key == "":
		return output.Usagef("cannot use --passphrase-file without --key")
	default:
		return nil
	}
}

// read gives the values of the Secret and the credential's type.
func (l *login) read(stdin io.Reader) (map[string][]byte, v1alpha1.CredentialType, error) {
	data := map[string][]byte{}
	if l.sudoPassword != "" {
		value, err := readSecret(l.sudoPassword)
		if err != nil {
			return nil, "", err
		}
		data[v1alpha1.SecretKeySudoPassword] = value
	}
	if l.key != "" {
		return data, v1alpha1.CredentialPrivateKey, l.readKey(data)
	}
	var err error
	if l.passwordStdin {
		value, readErr := io.ReadAll(stdin)
		if readErr != nil {
			return nil, "", fmt.Errorf("cannot read the password from standard input: %w", readErr)
		}
		data[v1alpha1.SecretKeyPassword], err = trimSecret("standard input", value)
	} else {
		data[v1alpha1.SecretKeyPassword], err = readSecret(l.password)
	}
	return data, v1alpha1.CredentialPassword, err
}

// readKey puts key and passphrase into data once they fit together.
func (l *login) readKey(data map[string][]byte) error {
	key, err := os.ReadFile(l.key)
	if err != nil {
		return fmt.Errorf("cannot read the private key: %w", err)
	}
	data[v1alpha1.SecretKeyPrivateKey] = key
	if l.passphrase != "" {
		passphrase, err := readSecret(l.passphrase)
		if err != nil {
			return err
		}
		data[v1alpha1.SecretKeyPassphrase] = passphrase
		if _, err := gossh.ParseRawPrivateKeyWithPassphrase(key, passphrase); err != nil {
			return output.Refused("BadCredential", "check --key and --passphrase-file", "cannot open private key %s: %w", l.key, err)
		}
		return nil
	}
	_, err = gossh.ParseRawPrivateKey(key)
	if locked := new(gossh.PassphraseMissingError); errors.As(err, &locked) {
		return output.Refused("BadCredential", "give its passphrase with --passphrase-file", "cannot open private key %s: it is locked by a passphrase", l.key)
	}
	if err != nil {
		return output.Refused("BadCredential", "give the private key itself, in PEM or OpenSSH form, not its .pub file", "cannot open private key %s: %w", l.key, err)
	}
	return nil
}

func readSecret(path string) ([]byte, error) {
	value, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the secret: %w", err)
	}
	return trimSecret(path, value)
}

// trimSecret takes the line end away that editors and echo put there.
func trimSecret(from string, value []byte) ([]byte, error) {
	value = bytes.TrimRight(value, "\r\n")
	if len(value) == 0 {
		return nil, output.Refused("BadCredential", "put the secret into it", "cannot use %s: it is empty", from)
	}
	return value, nil
}

// store makes the Secret and the Credential of a host, and notes in made what it made.
func (l *login) store(ctx context.Context, c client.Client, host string, stdin io.Reader, made *[]client.Object) (string, error) {
	if l.credential != "" {
		var credential v1alpha1.Credential
		if err := c.Get(ctx, client.ObjectKey{Name: l.credential}, &credential); err != nil {
			return "", fmt.Errorf("cannot use credential %s: %w", l.credential, err)
		}
		return l.credential, nil
	}
	data, kind, err := l.read(stdin)
	if err != nil {
		return "", err
	}
	labels := map[string]string{labelHost: host}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, GenerateName: "host-" + host + "-", Labels: labels},
		Type:       v1alpha1.SecretTypeCredential, Data: data, Immutable: new(true),
	}
	if err := c.Create(ctx, secret); err != nil {
		return "", fmt.Errorf("cannot store the login of host %s: %w", host, err)
	}
	*made = append(*made, secret)
	credential := &v1alpha1.Credential{
		ObjectMeta: metav1.ObjectMeta{Name: host, Labels: labels},
		Spec:       v1alpha1.CredentialSpec{User: l.user, Type: kind, SecretName: secret.Name},
	}
	err = c.Create(ctx, credential)
	if apierrors.IsAlreadyExists(err) {
		credential.ObjectMeta = metav1.ObjectMeta{GenerateName: host + "-", Labels: labels}
		err = c.Create(ctx, credential)
	}
	if err != nil {
		return "", fmt.Errorf("cannot create the credential of host %s: %w", host, err)
	}
	*made = append(*made, credential)
	return credential.Name, nil
}
