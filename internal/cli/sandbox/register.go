package sandbox

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
	"slipway.dev/slipway/internal/sandbox"
)

// credentialName is the Credential of all sandbox hosts.
const credentialName = "sandbox"

// Registrar gives the Register that puts sandbox hosts into the API behind deps, and waits until each is reachable.
// The host keys need no question: this machine made them itself.
func Registrar(deps output.Deps) Register {
	return func(ctx context.Context, hosts []sandbox.Host, keyPEM []byte) error {
		c, err := deps.Connect("")
		if err != nil {
			return err
		}
		if err := storeLogin(ctx, c.Client, keyPEM); err != nil {
			return err
		}
		wanted := map[string]bool{}
		for _, h := range hosts {
			wanted[h.Name] = true
			if err := storeHost(ctx, c.Client, h); err != nil {
				return err
			}
		}
		return output.Watch(ctx, c.Client, &v1alpha1.HostList{}, nil, func(seen []*v1alpha1.Host) (bool, error) {
			reachable := 0
			for _, h := range seen {
				if wanted[h.Name] && meta.IsStatusConditionTrue(h.Status.Conditions, v1alpha1.HostReachable) {
					reachable++
				}
			}
			return reachable == len(wanted), nil
		})
	}
}

// storeLogin makes the Secret and the Credential. A sandbox that was made anew has another key: then the Secret is
// replaced, since nobody may update one.
func storeLogin(ctx context.Context, c client.Client, keyPEM []byte) error {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: "credential-" + credentialName},
		Type:       v1alpha1.SecretTypeCredential,
		Data:       map[string][]byte{v1alpha1.SecretKeyPrivateKey: keyPEM},
	}
	if err := c.Delete(ctx, secret.DeepCopy()); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot replace the login of the sandbox: %w", err)
	}
	if err := c.Create(ctx, secret); err != nil {
		return fmt.Errorf("cannot store the login of the sandbox: %w", err)
	}
	credential := &v1alpha1.Credential{
		ObjectMeta: metav1.ObjectMeta{Name: credentialName},
		Spec:       v1alpha1.CredentialSpec{User: "root", Type: v1alpha1.CredentialPrivateKey, SecretName: secret.Name},
	}
	if err := c.Create(ctx, credential); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("cannot store the login of the sandbox: %w", err)
	}
	return nil
}

func storeHost(ctx context.Context, c client.Client, h sandbox.Host) error {
	// The type and the key; what follows is a comment.
	spec := v1alpha1.HostSpec{
		Address: h.Address, Port: int32(h.Port), Credential: credentialName, HostKey: strings.Join(strings.Fields(h.HostKey)[:2], " "),
	}
	have := &v1alpha1.Host{}
	err := c.Get(ctx, client.ObjectKey{Name: h.Name}, have)
	if apierrors.IsNotFound(err) {
		err = c.Create(ctx, &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: h.Name}, Spec: spec})
	} else if err == nil && (have.Spec.Address != spec.Address || have.Spec.HostKey != spec.HostKey || have.Spec.Credential != spec.Credential) {
		before := have.DeepCopy()
		have.Spec.Address, have.Spec.HostKey, have.Spec.Credential = spec.Address, spec.HostKey, spec.Credential
		err = c.Patch(ctx, have, client.MergeFrom(before))
	}
	if err != nil {
		return fmt.Errorf("cannot register host %s: %w", h.Name, err)
	}
	return nil
}
