package app

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/audit"
	"slipway.dev/slipway/internal/pki"
	"slipway.dev/slipway/internal/secret"
)

// openAudit opens the audit log of a data directory, and mints its key at the first start.
func openAudit(dataDir, version string, log *slog.Logger) (*audit.Log, error) {
	path := filepath.Join(dataDir, audit.KeyName)
	key, err := pki.LoadOrCreate(path, func() ([]byte, error) { return []byte(pki.NewToken() + "\n"), nil })
	if err != nil {
		return nil, err
	}
	key = bytes.TrimSpace(key)
	if err := secret.CheckKey(key); err != nil {
		return nil, fmt.Errorf("cannot use the key in %s: %w; put it back from a backup, or remove it to get a new one", path, err)
	}
	return audit.Open(audit.Options{Dir: filepath.Join(dataDir, audit.DirName), Key: key, Version: version, Logger: log})
}

// auditDays gives how many days Setting retention keeps the audit log.
func auditDays(c client.Reader) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		var setting v1alpha1.Setting
		err := c.Get(ctx, client.ObjectKey{Name: v1alpha1.SettingRetention}, &setting)
		if client.IgnoreNotFound(err) != nil {
			return 0, fmt.Errorf("cannot read Setting %s: %w", v1alpha1.SettingRetention, err)
		}
		if apierrors.IsNotFound(err) || setting.Spec.Retention == nil || setting.Spec.Retention.AuditDays == 0 {
			return audit.DefaultDays, nil
		}
		return int(setting.Spec.Retention.AuditDays), nil
	}
}
