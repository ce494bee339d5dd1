package backup

import (
	"context"
	"fmt"

	"filippo.io/age"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
)

// The Secret in slipway-system that holds the installation's key, and its only entry: an age identity.
const (
	KeySecret = "backup-key"
	keyEntry  = "identity"
)

// identity gives the key that encrypts every backup of this installation. It is made when it is first asked for.
func identity(ctx context.Context, c client.Client) (*age.HybridIdentity, error) {
	var have corev1.Secret
	name := client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: KeySecret}
	err := c.Get(ctx, name, &have)
	if apierrors.IsNotFound(err) {
		err = makeIdentity(ctx, c)
		if err == nil || apierrors.IsAlreadyExists(err) {
			err = c.Get(ctx, name, &have)
		}
	}
	if err != nil {
		return nil, fault.NewTransient("APIUnreachable", fmt.Errorf("cannot read the key of backups: %w", err))
	}
	key, err := age.ParseHybridIdentity(string(have.Data[keyEntry]))
	if err != nil || have.Type != v1alpha1.SecretTypeBackupKey {
		// Not the error of the parser: it may hold part of the key.
		return nil, fault.NewTerminal("BackupKeyUnusable", "put the copy of the key back: docs/howto/backup-and-restore.md",
			fmt.Errorf("cannot use the key of backups: Secret %s is not of type %s or holds no age identity", KeySecret, v1alpha1.SecretTypeBackupKey))
	}
	return key, nil
}

func makeIdentity(ctx context.Context, c client.Client) error {
	key, err := age.GenerateHybridIdentity()
	if err != nil {
		return fmt.Errorf("cannot make a key: %w", err)
	}
	return c.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: KeySecret},
		Type:       v1alpha1.SecretTypeBackupKey, Data: map[string][]byte{keyEntry: []byte(key.String())},
	})
}
