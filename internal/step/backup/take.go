// Package backup owns the steps that take a backup of a cluster and prove that it can be brought back.
// It must never write anything on the host: what is taken goes through the server to where backups are kept.
package backup

import (
	"context"
	"fmt"
	"time"

	"slipway.dev/slipway/internal/step"
)

// takeLimit is how long a backup may take: etcd holds 8 GiB at most.
const takeLimit = time.Hour

// Take streams an etcd snapshot of the host's member into the file of a Backup.
type Take struct {
	Backup step.BackupRef `json:"backup"`
}

// ID is stored in plans.
func (Take) ID() step.ID { return "backup.take/v1" }

// Deadline bounds the step.
func (Take) Deadline() time.Duration { return takeLimit }

// Check looks for the file that was recorded.
func (t Take) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	kept, err := r.Backups.Kept(ctx, t.Backup)
	if err != nil {
		return nil, err
	}
	var drift step.Drift
	if !kept {
		drift.Want("backup "+t.Backup.Name, "", "kept")
	}
	return drift, nil
}

// Apply streams it. The member is asked itself, so that a snapshot comes from where the step says.
func (t Take) Apply(ctx context.Context, w step.Writer) (err error) {
	status, err := w.Reading.Cluster.EtcdStatus(ctx, w.Target.Name)
	if err != nil {
		return fmt.Errorf("cannot ask etcd on %s for its version: %w", w.Target.Name, err)
	}
	snapshot, err := w.Reading.Cluster.EtcdSnapshot(ctx, w.Target.Name)
	if err != nil {
		return err
	}
	err = w.Backups.Take(ctx, t.Backup, status.Version, snapshot)
	if closeErr := snapshot.Close(); err == nil && closeErr != nil {
		return fmt.Errorf("cannot end the snapshot of etcd on %s: %w", w.Target.Name, closeErr)
	}
	return err
}
