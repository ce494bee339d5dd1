package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host/ssh"
)

// The reasons of the errors that finding out how to log in gives, beside ssh.ReasonBadCredential.
const (
	ReasonHostNotFound       = "HostNotFound"
	ReasonCredentialNotFound = "CredentialNotFound"
	ReasonSecretNotFound     = "SecretNotFound"
	reasonAPIUnavailable     = "APIUnavailable"
)

// AnnotationCheck is the annotation of a Host whose change makes Slipway look at the machine again at once,
// even after a refused login. Any value that differs from the last will do, such as the time.
const AnnotationCheck = "slipway.dev/check"

// Resolver gives the way to log in to a Host by its name, from the Host, its Credential and the Secret in
// slipway-system. What is missing or wrong there is a Terminal error that says what to do; an API that does
// not answer is Transient. The reader should be a cache: it is asked on every use of a connection.
func Resolver(c client.Reader) ssh.Resolver {
	return func(ctx context.Context, name string) (ssh.Target, error) {
		h := &v1alpha1.Host{}
		err := c.Get(ctx, client.ObjectKey{Name: name}, h)
		if err != nil {
			return ssh.Target{}, missing(err, ReasonHostNotFound, "add the host first", fmt.Sprintf("there is no Host %s", name))
		}
		t, _, err := targetOf(ctx, c, h)
		return t, err
	}
}

// targetOf also gives the version of the Secret that was used.
func targetOf(ctx context.Context, c client.Reader, h *v1alpha1.Host) (ssh.Target, string, error) {
	credential, name := &v1alpha1.Credential{}, h.Spec.Credential
	if err := c.Get(ctx, client.ObjectKey{Name: name}, credential); err != nil {
		return ssh.Target{}, "", missing(err, ReasonCredentialNotFound,
			fmt.Sprintf("create the Credential %s, or let spec.credential of Host %s name another", name, h.Name),
			fmt.Sprintf("cannot log in to host %s: there is no Credential %s", h.Name, name))
	}
	secret := &corev1.Secret{}
	key := client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: credential.Spec.SecretName}
	if err := c.Get(ctx, key, secret); err != nil {
		return ssh.Target{}, "", missing(err, ReasonSecretNotFound,
			fmt.Sprintf("create the Secret %s in %s, or let spec.secretName of Credential %s name another", key.Name, key.Namespace, name),
			fmt.Sprintf("cannot log in to host %s: Credential %s names the Secret %s, which is not in %s", h.Name, name, key.Name, key.Namespace))
	}
	// Who may write a Credential must not have the server send a Secret of another kind to a machine.
	if secret.Type != v1alpha1.SecretTypeCredential {
		return ssh.Target{}, "", fault.NewTerminal(ssh.ReasonBadCredential,
			fmt.Sprintf("make a new Secret of type %s in %s and let spec.secretName of Credential %s name it", v1alpha1.SecretTypeCredential, key.Namespace, name),
			fmt.Errorf("cannot log in to host %s: the Secret %s of Credential %s is not of type %s", h.Name, key.Name, name, v1alpha1.SecretTypeCredential))
	}
	t := ssh.Target{Name: h.Name, Address: h.Spec.Address, Port: int(h.Spec.Port), Credential: name, User: credential.Spec.User, HostKey: h.Spec.HostKey}
	if err := fill(&t, credential, secret.Data); err != nil {
		return ssh.Target{}, "", fmt.Errorf("cannot log in to host %s: %w", h.Name, err)
	}
	return t, string(secret.UID) + "/" + secret.ResourceVersion, nil
}

// fill puts the secret values into the target; errors name keys, never values.
func fill(t *ssh.Target, credential *v1alpha1.Credential, data map[string][]byte) error {
	need := func(key string) ([]byte, error) {
		if value := line(data[key]); len(value) > 0 {
			return value, nil
		}
		return nil, fault.NewTerminal(ssh.ReasonBadCredential,
			fmt.Sprintf("make a new Secret with the key %s and let spec.secretName of Credential %s name it", key, credential.Name),
			fmt.Errorf("the Secret %s of Credential %s has no %s", credential.Spec.SecretName, credential.Name, key))
	}
	t.SudoPassword = string(line(data[v1alpha1.SecretKeySudoPassword]))
	switch credential.Spec.Type {
	case v1alpha1.CredentialPassword:
		password, err := need(v1alpha1.SecretKeyPassword)
		if err != nil {
			return err
		}
		t.Auth.Password = string(password)
		if t.SudoPassword == "" {
			t.SudoPassword = t.Auth.Password
		}
	case v1alpha1.CredentialPrivateKey:
		if _, err := need(v1alpha1.SecretKeyPrivateKey); err != nil {
			return err
		}
		t.Auth.PrivateKey = data[v1alpha1.SecretKeyPrivateKey]
		t.Auth.Passphrase = string(line(data[v1alpha1.SecretKeyPassphrase]))
	default:
		return fault.NewTerminal(ssh.ReasonBadCredential, "make a Credential of the type Password or PrivateKey",
			fmt.Errorf("the type %q of Credential %s is unknown", credential.Spec.Type, credential.Name))
	}
	return nil
}

// line takes off the line end that tools put behind a value read from a file.
func line(value []byte) []byte { return bytes.TrimRight(value, "\r\n") }

// missing classifies an error of the API: an object that is not there needs a person, all else may pass.
func missing(err error, reason, fix, what string) error {
	if apierrors.IsNotFound(err) {
		return fault.NewTerminal(reason, fix, errors.New(what))
	}
	return fault.NewTransient(reasonAPIUnavailable, err)
}

func isAPIError(err error) bool { return fault.ReasonOf(err) == reasonAPIUnavailable }

// subject is what one watcher watches.
type subject struct {
	address string
	port    int
	// pinned says that a login may be tried; without it only the host key is read.
	pinned bool
	// login tells two ways to log in apart, without showing secrets.
	login string
	// attempt moves with the spec and the secret: a refused login is tried again only then.
	attempt string
	// check moves when somebody wants the machine looked at.
	check string
}

// subjectOf says how to watch a Host.
func subjectOf(ctx context.Context, c client.Reader, h *v1alpha1.Host) (subject, error) {
	s := subject{address: h.Spec.Address, port: int(h.Spec.Port), pinned: h.Spec.HostKey != "",
		login: string(h.UID) + " " + endpoint(h), attempt: fmt.Sprint(h.Generation), check: h.Annotations[AnnotationCheck]}
	if !s.pinned {
		return s, nil
	}
	t, version, err := targetOf(ctx, c, h)
	s.login += " " + t.Digest()
	s.attempt += " " + version
	return s, err
}
