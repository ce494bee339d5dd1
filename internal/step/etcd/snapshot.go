package etcd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// SnapshotDir holds the snapshot that was taken before the last dangerous change, and nothing else.
const SnapshotDir = step.StateDir + "/etcd-snapshot"

// snapshotTime is how long a snapshot may take: etcd holds 8 GiB at most.
const snapshotTime = 30 * time.Minute

// Snapshot keeps etcd's data in a file on the member's own host, which holds the same data anyway. Only root reads it.
type Snapshot struct {
	// Name tells what it was taken for. A snapshot of that name is taken once: a new try must not keep half-changed data.
	Name string `json:"name"`
}

// ID is stored in plans.
func (Snapshot) ID() step.ID { return "etcd.snapshot/v1" }

// Deadline is longer than that of other steps.
func (Snapshot) Deadline() time.Duration { return snapshotTime }

// Needs tells what must be there.
func (Snapshot) Needs() []step.Output { return []step.Output{step.ServedAPI} }

func (s Snapshot) path() string { return path.Join(SnapshotDir, s.Name+".db") }

// Check looks for the file, which gets its name last, and for older ones.
func (s Snapshot) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	taken, others, err := s.look(ctx, r)
	if err != nil {
		return nil, err
	}
	var drift step.Drift
	if !taken {
		drift.Want(s.path(), "", "a snapshot of etcd")
	}
	for _, path := range others {
		drift.Want(path, "an older snapshot", "")
	}
	return drift, nil
}

// Apply takes the snapshot and then removes older ones.
func (s Snapshot) Apply(ctx context.Context, w step.Writer) error {
	taken, _, err := s.look(ctx, w)
	if err != nil {
		return err
	}
	if !taken {
		if err := s.take(ctx, w); err != nil {
			return err
		}
	}
	_, others, err := s.look(ctx, w)
	if err != nil || len(others) == 0 {
		return err
	}
	if err := w.Remove(ctx, others...); err != nil {
		return fmt.Errorf("cannot remove older snapshots: %w", err)
	}
	return nil
}

// look says whether the snapshot is there, and what else is.
func (s Snapshot) look(ctx context.Context, r host.Reader) (taken bool, others []string, err error) {
	entries, err := host.QueryTree(ctx, r, SnapshotDir)
	if err != nil {
		return false, nil, fmt.Errorf("cannot look for the snapshot: %w", err)
	}
	for _, e := range entries {
		switch {
		case e.Path == s.path():
			taken = true
		case strings.HasPrefix(e.Path, SnapshotDir+"/"):
			others = append(others, e.Path)
		}
	}
	return taken, others, nil
}

// take streams the data to the host and proves by its digest that all has come.
func (s Snapshot) take(ctx context.Context, w step.Writer) error {
	unfinished := s.path() + ".new"
	// The file is there before its content, so that only root can ever read it.
	if err := w.WriteFile(ctx, unfinished, host.File{Mode: 0o600}); err != nil {
		return fmt.Errorf("cannot write %s: %w", unfinished, err)
	}
	sum := sha256.New()
	err := w.RunFed(ctx, []string{"dd", "of=" + unfinished, "bs=1M", "conv=fsync", "status=none"}, func(out io.Writer) error {
		snapshot, err := w.Reading.Cluster.EtcdSnapshot(ctx, w.Target.Name)
		if err != nil {
			return err
		}
		defer snapshot.Close()
		_, err = io.Copy(io.MultiWriter(out, sum), snapshot)
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot take a snapshot of etcd: %w", err)
	}
	digests, err := host.QueryDigests(ctx, w, unfinished)
	if err != nil {
		return fmt.Errorf("cannot read the snapshot back: %w", err)
	}
	if digests[unfinished] != hex.EncodeToString(sum.Sum(nil)) {
		return fault.NewTransient("SnapshotDamaged", fmt.Errorf("cannot use the snapshot of etcd on %s: the host holds something else than was sent", w.Target.Name))
	}
	if _, err := w.Run(ctx, host.Command{Argv: []string{"mv", "--force", "--no-target-directory", unfinished, s.path()}}); err != nil {
		return fmt.Errorf("cannot put %s in place: %w", s.path(), err)
	}
	return nil
}
