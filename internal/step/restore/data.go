package restore

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

const (
	snapshotPath = WorkDir + "/snapshot.db"
	// bump is added to the revision: no watcher may have seen a revision that comes again.
	bump = "1000000000"
)

// Data replaces etcd's data by that of a backup. What was there is kept beside it until Finish.
type Data struct {
	Backup step.BackupRef `json:"backup"`
	// Restore is unique to this restore; it is the token of the new etcd cluster, too.
	Restore string `json:"restore"`
	// DataDir is etcd's.
	DataDir string `json:"dataDir"`
	// Members are all members of the new cluster, as NAME=PEER-URL.
	Members []string `json:"members"`
	// Port is the API server's.
	Port int32 `json:"port"`
}

// ID is stored in plans.
func (Data) ID() step.ID { return "restore.data/v1" }

// Deadline bounds the step.
func (Data) Deadline() time.Duration { return dataLimit }

// Needs tells what must be there.
func (Data) Needs() []step.Output { return []step.Output{step.RestoreFiles} }

// work is inside the data directory, which may be a file system of its own: nothing is ever moved across.
func (d Data) work() string { return d.DataDir + "/.slipway-restore" }

func before(dataDir string) string { return dataDir + "/.slipway-before" }

// Check reads the mark that came with the data.
func (d Data) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	done, err := restored(ctx, r, d.DataDir, d.Restore)
	if err != nil {
		return nil, err
	}
	var drift step.Drift
	if !done {
		drift.Want(d.DataDir, "other data", "backup "+d.Backup.Name)
		return drift, nil
	}
	left, err := exist(ctx, r, d.work())
	if err != nil {
		return nil, err
	}
	if left[0] {
		drift.Want(d.work(), "present", "absent")
	}
	return drift, nil
}

// Apply makes the new data beside the old and swaps them by renames.
func (d Data) Apply(ctx context.Context, w step.Writer) error {
	done, err := restored(ctx, w, d.DataDir, d.Restore)
	if err != nil {
		return err
	}
	if done {
		return d.clear(ctx, w)
	}
	if err := d.stopped(ctx, w); err != nil {
		return err
	}
	if err := w.Remove(ctx, d.work(), snapshotPath); err != nil {
		return fmt.Errorf("cannot clear what an earlier try left: %w", err)
	}
	for _, dir := range []string{WorkDir, d.DataDir} {
		if err := directory(ctx, w, dir); err != nil {
			return err
		}
	}
	if err := d.send(ctx, w); err != nil {
		return err
	}
	if err := run(ctx, w, Etcdutl, "snapshot", "restore", snapshotPath, "--data-dir="+d.work(), "--name="+w.Target.Name,
		"--initial-cluster="+strings.Join(d.Members, ","), "--initial-cluster-token="+d.Restore,
		"--initial-advertise-peer-urls="+step.EtcdPeerURL(w.Target.Address), "--bump-revision="+bump, "--mark-compacted"); err != nil {
		return err
	}
	// It holds every Secret of the cluster.
	if err := w.Remove(ctx, snapshotPath); err != nil {
		return fmt.Errorf("cannot remove the snapshot: %w", err)
	}
	member := d.work() + "/member"
	if err := w.WriteFile(ctx, mark(member), host.File{Content: []byte(d.Restore), Mode: 0o600}); err != nil {
		return fmt.Errorf("cannot mark the restored data: %w", err)
	}
	return d.swap(ctx, w, member)
}

// stopped refuses to touch the data of an etcd that runs.
func (d Data) stopped(ctx context.Context, w step.Writer) error {
	drift, err := running(ctx, w)
	if err != nil {
		return err
	}
	open, err := listening(ctx, w, d.Port)
	if err != nil {
		return err
	}
	if !drift.Clean() || open != "" {
		return fault.NewTerminal("ControlPlaneRuns", "stop what was started by hand, then retry",
			fmt.Errorf("cannot restore the data of etcd on %s: the control plane was started again", w.Target.Name))
	}
	return nil
}

// send brings the snapshot to the host. tar notices when it is cut off.
func (d Data) send(ctx context.Context, w step.Writer) (err error) {
	snapshot, size, err := w.Backups.Snapshot(ctx, d.Backup)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := snapshot.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("cannot close the snapshot: %w", closeErr)
		}
	}()
	argv := []string{"tar", "--extract", "--file=-", "--directory=/", "--no-same-owner", "--preserve-permissions"}
	err = w.RunFed(ctx, argv, func(out io.Writer) error {
		archive := tar.NewWriter(out)
		if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(snapshotPath, "/"), Mode: 0o600, Size: size}); err != nil {
			return err
		}
		if _, err := io.Copy(archive, snapshot); err != nil {
			return err
		}
		return archive.Close()
	})
	if err != nil {
		return fmt.Errorf("cannot send the snapshot: %w", err)
	}
	return nil
}

// swap may be cut off between its two renames: then there is no data at all, which the next try sees.
func (d Data) swap(ctx context.Context, w step.Writer, member string) error {
	there, err := exist(ctx, w, d.DataDir+"/member")
	if err != nil {
		return err
	}
	if there[0] {
		if err := w.Remove(ctx, before(d.DataDir)); err != nil {
			return fmt.Errorf("cannot remove what an earlier restore kept: %w", err)
		}
		if err := move(ctx, w, d.DataDir+"/member", before(d.DataDir)); err != nil {
			return err
		}
	}
	if err := move(ctx, w, member, d.DataDir+"/member"); err != nil {
		return err
	}
	return d.clear(ctx, w)
}

func (d Data) clear(ctx context.Context, w step.Writer) error {
	if err := w.Remove(ctx, d.work()); err != nil {
		return fmt.Errorf("cannot remove %s: %w", d.work(), err)
	}
	return nil
}

// Finish removes what a restore brought to the host, and the data that it replaced.
type Finish struct {
	// DataDir is etcd's.
	DataDir string `json:"dataDir"`
}

// ID is stored in plans.
func (Finish) ID() step.ID { return "restore.finish/v1" }

// Check looks for it.
func (f Finish) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	paths := []string{WorkDir, before(f.DataDir)}
	there, err := exist(ctx, r, paths...)
	if err != nil {
		return nil, err
	}
	var drift step.Drift
	for i, path := range paths {
		if there[i] {
			drift.Want(path, "present", "absent")
		}
	}
	return drift, nil
}

// Apply removes it.
func (f Finish) Apply(ctx context.Context, w step.Writer) error {
	if err := w.Remove(ctx, WorkDir, before(f.DataDir)); err != nil {
		return fmt.Errorf("cannot remove what the restore left: %w", err)
	}
	return nil
}
