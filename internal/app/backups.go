package app

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/backup"
	"slipway.dev/slipway/internal/drill"
	"slipway.dev/slipway/internal/fault"
)

// stores gives the store of a backup location by its name. One that does not exist is an error that is fs.ErrNotExist.
func stores(c client.Reader) func(context.Context, string) (backup.Store, error) {
	return func(ctx context.Context, name string) (backup.Store, error) {
		var l v1alpha1.BackupLocation
		err := c.Get(ctx, client.ObjectKey{Name: name}, &l)
		if apierrors.IsNotFound(err) {
			return nil, fault.NewTerminal("NotFound", "slipway backup location list", fmt.Errorf("there is no backup location %s: %w", name, fs.ErrNotExist))
		}
		if err != nil {
			return nil, fault.NewTransient("APIUnreachable", fmt.Errorf("cannot read backup location %s: %w", name, err))
		}
		var keys backup.S3Keys
		if l.Spec.S3 != nil {
			var secret corev1.Secret
			err := c.Get(ctx, client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: l.Spec.S3.SecretName}, &secret)
			if err != nil || secret.Type != v1alpha1.SecretTypeCredential {
				return nil, fault.NewTerminal("NoSecret", "make a Secret of type "+v1alpha1.SecretTypeCredential+" with accessKey and secretKey in "+v1alpha1.SystemNamespace,
					fmt.Errorf("cannot use the Secret %s of backup location %s: it is missing or of another type", l.Spec.S3.SecretName, name))
			}
			keys = backup.S3Keys{Access: string(secret.Data[v1alpha1.SecretKeyAccessKey]), Secret: string(secret.Data[v1alpha1.SecretKeySecretKey])}
		}
		return backup.NewStore(l.Spec, keys)
	}
}

// scratch makes an empty directory below the data directory for what is secret and gone after a crash. What a drill has
// left running there is ended first.
func scratch(dataDir string, log *slog.Logger) (string, error) {
	dir := filepath.Join(dataDir, "scratch")
	ended, err := drill.Sweep(dir)
	if err != nil {
		return "", err
	}
	if ended > 0 {
		log.Warn("ended processes that a drill had left", "processes", ended)
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", fmt.Errorf("cannot clear %s: %w", dir, err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("cannot make %s: %w", dir, err)
	}
	return dir, nil
}
