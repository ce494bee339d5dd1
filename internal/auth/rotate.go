package auth

import (
	"fmt"
	"path/filepath"

	"slipway.dev/slipway/internal/pki"
)

// adminTokenFile is the admin token's file in the data directory.
const adminTokenFile = "admin.token"

// RotateAdminToken puts a new admin token in the place of the one in dataDir. The caller holds the data directory: a
// server that runs keeps the token it has read.
func RotateAdminToken(dataDir string) error {
	if err := pki.WriteFile(filepath.Join(dataDir, adminTokenFile), []byte(pki.NewToken()+"\n"), 0o600); err != nil {
		return fmt.Errorf("cannot rotate the admin token: %w", err)
	}
	return nil
}
