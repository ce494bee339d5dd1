package backup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"filippo.io/age"
)

// Opened is a backup that was proven, ready to restore.
type Opened struct {
	Manifest    Manifest
	Description Description
	// Keys are secret.
	Keys map[string][]byte
	// Snapshot is the path of the etcd snapshot with its checksum at the end, as etcdutl reads it. The file is mode 600.
	// It holds every object of the cluster; Close removes it.
	Snapshot string
}

// Open proves a backup as Verify does and gives its parts. The snapshot is put into directory, which must exist and
// belong to the server alone. What is restored is what was proven: the file is read once. The caller closes it.
func Open(ctx context.Context, r io.Reader, directory string, identities ...age.Identity) (*Opened, error) {
	o, err := open(ctx, r, directory, identities)
	if err != nil {
		return nil, fmt.Errorf("cannot open the backup: %w", err)
	}
	return o, nil
}

func open(ctx context.Context, r io.Reader, directory string, identities []age.Identity) (_ *Opened, err error) {
	// CreateTemp makes files of mode 600.
	f, err := os.CreateTemp(directory, "snapshot-*.db")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	buffered := bufio.NewWriterSize(f, 1<<20)
	m, description, keys, err := read(ctx, r, buffered, identities)
	if err == nil {
		err = errors.Join(buffered.Flush(), f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	path, err := filepath.Abs(f.Name())
	if err != nil {
		return nil, err
	}
	return &Opened{Manifest: m, Description: description, Keys: keys, Snapshot: path}, nil
}

// Close removes the snapshot. To close twice is fine.
func (o *Opened) Close() error {
	if err := os.Remove(o.Snapshot); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot remove the snapshot of a backup: %w", err)
	}
	return nil
}
