package step

import (
	"context"
	"io"
)

// BackupRef names a Backup and its project.
type BackupRef struct {
	Project string `json:"project"`
	Name    string `json:"name"`
}

// The reasons of what is wrong with a backup; all are Terminal.
const (
	// ReasonBackupMissing says that its file is gone from its place.
	ReasonBackupMissing = "BackupMissing"
	// ReasonBackupDamaged says that its file is not what was written, or cannot be read with the installation's key.
	ReasonBackupDamaged = "BackupDamaged"
	// ReasonBackupForeign says that it is whole, but of another cluster or of other keys than the cluster has now.
	ReasonBackupForeign = "BackupForeign"
)

// BackupReader looks at backups, which the server keeps.
type BackupReader interface {
	// Kept says whether the Backup's file was recorded and is in its place with the size that was recorded.
	Kept(ctx context.Context, ref BackupRef) (bool, error)
	// Prove reads the whole file of the Backup and proves everything about it, and that it fits its cluster.
	Prove(ctx context.Context, ref BackupRef) error
	// Drilled says whether that drill has brought the Backup back.
	Drilled(ctx context.Context, ref BackupRef, drill string) (bool, error)
}

// DrillPrograms are those that a backup is brought back with, on the server's own machine: digests of two images and of a
// node file.
type DrillPrograms struct {
	Etcd      string `json:"etcd"`
	APIServer string `json:"apiServer"`
	Etcdutl   string `json:"etcdutl"`
}

// BackupWriter makes backups and gives what is in them.
type BackupWriter interface {
	BackupReader
	// Take writes the Backup's file from an etcd snapshot, reads it back and records it. A file that was not recorded
	// is written anew.
	Take(ctx context.Context, ref BackupRef, etcdVersion string, snapshot io.Reader) error
	// Snapshot proves the Backup as Prove does, and gives the etcd snapshot in it and its size in bytes. The caller closes it.
	Snapshot(ctx context.Context, ref BackupRef) (io.ReadCloser, int64, error)
	// Drill brings the Backup back on the server's machine, compares what then is served with what was taken, and records
	// what came of it under the name of that drill. Nothing of it is left.
	Drill(ctx context.Context, ref BackupRef, drill string, programs DrillPrograms) error
}
