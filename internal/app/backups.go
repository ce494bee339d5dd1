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
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/host/backupdir"
)

// stores gives the store of a backup location by its name. One that does not exist is an error that is fs.ErrNotExist. owner is
// the installation, by which hosts know who changes them.
func stores(c client.Reader, sessions host.Sessions, owner string) func(context.Context, string) (backup.Store, error) {
	return func(ctx context.Context, name string) (backup.Store, error) {
		var l v1alpha1.BackupLocation
		err := c.Get(ctx, client.ObjectKey{Name: name}, &l)
		if apierrors.IsNotFound(err) {
			return nil, fault.NewTerminal("NotFound", "slipway backup location list", fmt.Errorf("there is no backup location %s: %w", name, fs.ErrNotExist))
		}
		if err != nil {
			return nil, fault.NewTransient("APIUnreachable", fmt.Errorf("cannot read backup location %s: %w", name, err))
		}
		if d := l.Spec.HostDirectory; d != nil {
			known, err := knownHosts(ctx, c, *d)
			if err != nil {
				return nil, err
			}
			return backupdir.New(known, backupdir.Deps{Sessions: sessions, Fence: fenceOf(c, owner)}), nil
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

// knownHosts leaves out the hosts that were removed: what they kept was lost with them.
func knownHosts(ctx context.Context, c client.Reader, d v1alpha1.HostDirectoryLocation) (v1alpha1.HostDirectoryLocation, error) {
	known := d
	known.Hosts = nil
	for _, name := range d.Hosts {
		var h v1alpha1.Host
		err := c.Get(ctx, client.ObjectKey{Name: name}, &h)
		switch {
		case err == nil:
			known.Hosts = append(known.Hosts, name)
		case !apierrors.IsNotFound(err):
			return d, fault.NewTransient("APIUnreachable", fmt.Errorf("cannot read host %s: %w", name, err))
		}
	}
	return known, nil
}

// fenceOf gives the right to change a host that a cluster holds: the epoch of its claim.
func fenceOf(c client.Reader, owner string) func(context.Context, string) (host.Fence, error) {
	return func(ctx context.Context, name string) (host.Fence, error) {
		var claim v1alpha1.HostClaim
		err := c.Get(ctx, client.ObjectKey{Name: name}, &claim)
		if err != nil && !apierrors.IsNotFound(err) {
			return host.Fence{}, fault.NewTransient("APIUnreachable", fmt.Errorf("cannot read the claim of host %s: %w", name, err))
		}
		if err != nil || claim.Spec.Epoch == 0 {
			return host.Fence{}, fault.NewTerminal("HostFree", "use a host of a cluster that is created; a backup is removed by hand from a host that no cluster holds any more",
				fmt.Errorf("no cluster holds host %s, so nothing is changed on it", name))
		}
		return host.Fence{Owner: owner, Epoch: claim.Spec.Epoch}, nil
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
