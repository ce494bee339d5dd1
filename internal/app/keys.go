package app

import (
	"slipway.dev/slipway/internal/auth"
	"slipway.dev/slipway/internal/controlplane"
)

// rotateAdminToken gives the server that owns the data directory, and stands still, a new admin token.
func rotateAdminToken(dataDir string) error {
	return controlplane.WithDataDir(dataDir, func() error { return auth.RotateAdminToken(dataDir) })
}
