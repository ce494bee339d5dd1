package controlplane

import (
	"fmt"
	"os"
	"path/filepath"

	"slipway.dev/slipway/internal/pki"
)

// files are the paths the API server reads: the keys of this installation.
type files struct {
	runDir            string
	serviceAccountKey string
	encryption        string
	keys              keyRing
}

// loadFiles gives the files of this installation, minting its keys at the first start. The keys lie outside
// the store's directory, so that a copy of the store alone does not open its Secrets; the one that opens them may
// lie in a directory of its own, keyDir.
func loadFiles(directory, keyDir string) (files, error) {
	f := files{
		runDir:            filepath.Join(directory, "run"),
		serviceAccountKey: filepath.Join(directory, "keys", "service-account.key"),
		encryption:        keyFile(directory, keyDir),
	}
	if err := os.MkdirAll(f.runDir, 0o700); err != nil {
		return files{}, fmt.Errorf("cannot create %s: %w", f.runDir, err)
	}
	key, err := pki.LoadOrCreate(f.serviceAccountKey, func() ([]byte, error) {
		private, _, err := pki.NewServiceAccountKey()
		return private, err
	})
	if err == nil {
		_, err = pki.ParseKey(key)
	}
	if err != nil {
		return files{}, fmt.Errorf("cannot load service-account key %s: %w", f.serviceAccountKey, err)
	}
	f.keys, err = loadKeyRing(directory, f.encryption)
	return f, err
}
