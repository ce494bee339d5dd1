package host

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host/ssh"
)

func TestResolver(t *testing.T) {
	type parts struct {
		credential *v1alpha1.Credential
		secret     *corev1.Secret
	}
	cases := map[string]struct {
		reason string
		host   string
		edit   func(p *parts)
		want   ssh.Target
		err    string
		fix    string
	}{
		"Password": {reason: "root needs no sudo, yet the password stands ready",
			want: ssh.Target{User: "root", Auth: ssh.Auth{Password: "hunter22"}, SudoPassword: "hunter22"}},
		"SudoPassword": {reason: "sudo may have a password of its own",
			edit: func(p *parts) {
				p.credential.Spec.User = "ops"
				p.secret.Data[v1alpha1.SecretKeySudoPassword] = []byte("other")
			},
			want: ssh.Target{User: "ops", Auth: ssh.Auth{Password: "hunter22"}, SudoPassword: "other"}},
		"PrivateKey": {reason: "a key says nothing about sudo",
			edit: func(p *parts) {
				p.credential.Spec.Type, p.credential.Spec.User = v1alpha1.CredentialPrivateKey, "ops"
				p.secret.Data = map[string][]byte{v1alpha1.SecretKeyPrivateKey: []byte("PEM\n"), v1alpha1.SecretKeyPassphrase: []byte("open\n")}
			},
			want: ssh.Target{User: "ops", Auth: ssh.Auth{PrivateKey: []byte("PEM\n"), Passphrase: "open"}}},
		"NoHost":       {reason: "the name is wrong", host: "w9", err: ReasonHostNotFound, fix: "add the host first"},
		"NoCredential": {reason: "the reference points nowhere", edit: func(p *parts) { p.credential = nil }, err: ReasonCredentialNotFound, fix: "create the Credential root"},
		"NoSecret":     {reason: "the secret was deleted", edit: func(p *parts) { p.secret = nil }, err: ReasonSecretNotFound, fix: "create the Secret root-1 in slipway-system"},
		"OtherNamespace": {reason: "only slipway-system holds secrets of credentials",
			edit: func(p *parts) { p.secret.Namespace = "default" }, err: ReasonSecretNotFound, fix: "slipway-system"},
		"SecretOfAnotherKind": {reason: "who may write a Credential must not read, by a machine, what is no login: here the password of a person",
			edit: func(p *parts) { p.secret.Type = v1alpha1.SecretTypePassword }, err: ssh.ReasonBadCredential, fix: "a new Secret of type slipway.dev/credential"},
		"SecretWithoutKind": {reason: "what nobody has marked as a login is none",
			edit: func(p *parts) { p.secret.Type = corev1.SecretTypeOpaque }, err: ssh.ReasonBadCredential, fix: "a new Secret of type slipway.dev/credential"},
		"NoKey": {reason: "a login of the type PrivateKey needs one",
			edit: func(p *parts) { p.credential.Spec.Type = v1alpha1.CredentialPrivateKey }, err: ssh.ReasonBadCredential, fix: "a new Secret with the key privateKey"},
		"Empty": {reason: "an empty password is none",
			edit: func(p *parts) { p.secret.Data[v1alpha1.SecretKeyPassword] = []byte("\n") }, err: ssh.ReasonBadCredential, fix: "a new Secret with the key password"},
		"UnknownType": {reason: "a newer type than this version knows",
			edit: func(p *parts) { p.credential.Spec.Type = "Agent" }, err: ssh.ReasonBadCredential, fix: "Password or PrivateKey"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := parts{login()[0].(*v1alpha1.Credential), login()[1].(*corev1.Secret)}
				if c.edit != nil {
					c.edit(&p)
				}
				objects := []client.Object{machine("w1")}
				if p.credential != nil {
					objects = append(objects, p.credential)
				}
				if p.secret != nil {
					objects = append(objects, p.secret)
				}
				name := c.host
				if name == "" {
					name = "w1"
				}
				got, err := Resolver(newWorld(t, objects...).client)(t.Context(), name)
				if c.err != "" {
					var e *fault.Error
					if !errors.As(err, &e) || e.Class != fault.Terminal || e.Reason != c.err || !strings.Contains(e.Fix, c.fix) {
						t.Errorf("%s: got %v (%+v), want %s with %q", c.reason, err, e, c.err, c.fix)
					}
					if strings.Contains(fmt.Sprintf("%v %+v", err, e), "hunter22") {
						t.Errorf("%s: the error shows the password", c.reason)
					}
					return
				}
				c.want.Name, c.want.Address, c.want.Port, c.want.HostKey = "w1", "192.168.7.1", 22, keyA
				if err != nil || got.Digest() != c.want.Digest() || got.Credential != "root" {
					t.Errorf("%s: got %v, %v; want %v", c.reason, got, err, c.want)
				}
			})
		})
	}
}
