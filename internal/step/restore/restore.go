// Package restore owns the steps that put an etcd snapshot back under a cluster.
// It must never start an etcd that could meet one with the old data: every control plane is stopped before any is started.
package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// Where things are on a host while it is restored.
const (
	// WorkDir holds what a restore brings to the host, and the manifests that it keeps aside.
	WorkDir = step.StateDir + "/restore"
	// Etcdutl is the program that makes a data directory from a snapshot.
	Etcdutl = WorkDir + "/etcdutl"
	// restarted says for which restore the kubelet was started anew.
	restarted = step.StateDir + "/restored"

	aside     = WorkDir + "/manifests"
	manifests = "/etc/kubernetes/manifests"
	kubelet   = "kubelet.service"
)

// The names of static pods, in the order in which they start.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
)

func pods() []string { return []string{Etcd, APIServer, ControllerManager, Scheduler} }

func manifest(dir, pod string) string { return dir + "/" + pod + ".yaml" }

// mark is moved into place together with the data, so that there is no moment at which one of them is there alone.
func mark(member string) string { return member + "/slipway-restore" }

// restored says whether the data directory holds what this restore put there.
func restored(ctx context.Context, r host.Reader, dataDir, restore string) (bool, error) {
	have, err := read(ctx, r, mark(dataDir+"/member"))
	return have == restore, err
}

// read gives the content of a small file, "" when it is missing.
func read(ctx context.Context, r host.Reader, file string) (string, error) {
	b, err := r.ReadFile(ctx, file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("cannot read %s: %w", file, err)
	}
	return string(b), nil
}

// exist says for each path whether something is there.
func exist(ctx context.Context, r host.Reader, paths ...string) ([]bool, error) {
	info, err := r.Stat(ctx, paths...)
	if err != nil {
		return nil, fmt.Errorf("cannot look for %s: %w", paths[0], err)
	}
	there := make([]bool, len(info))
	for i := range info {
		there[i] = info[i].Exists
	}
	return there, nil
}

func run(ctx context.Context, w step.Writer, argv ...string) error {
	if _, err := w.Run(ctx, host.Command{Argv: argv}); err != nil {
		return fmt.Errorf("cannot run %s: %w", path.Base(argv[0]), err)
	}
	return nil
}

func move(ctx context.Context, w step.Writer, from, to string) error {
	if _, err := w.Run(ctx, host.Command{Argv: []string{"mv", "--force", "--no-target-directory", from, to}}); err != nil {
		return fmt.Errorf("cannot move %s to %s: %w", from, to, err)
	}
	return nil
}

// directory makes one for root's eyes alone.
func directory(ctx context.Context, w step.Writer, dir string) error {
	if err := run(ctx, w, "mkdir", "-p", dir); err != nil {
		return err
	}
	return run(ctx, w, "chmod", "0700", dir)
}

// proveLimit and dataLimit bound the steps that read a whole backup.
const (
	proveLimit = 30 * time.Minute
	dataLimit  = time.Hour
)

// Prove is a gate: the backup is read to its end, and fits the cluster, before anything stops.
type Prove struct {
	Backup step.BackupRef `json:"backup"`
}

// ID is stored in plans.
func (Prove) ID() step.ID { return "restore.prove/v1" }

// Deadline bounds the step.
func (Prove) Deadline() time.Duration { return proveLimit }

// Check reads all of it.
func (p Prove) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	return nil, r.Backups.Prove(ctx, p.Backup)
}

// Apply has nothing to do.
func (Prove) Apply(context.Context, step.Writer) error { return nil }
