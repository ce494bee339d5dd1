package backup

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/backup"
	"slipway.dev/slipway/internal/cluster"
	"slipway.dev/slipway/internal/drill"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

// Stores gives the store of the BackupLocation of that name.
type Stores func(ctx context.Context, location string) (backup.Store, error)

// Keeper gives steps the backups that the server keeps. It is safe for concurrent use.
type Keeper struct {
	// Client reads from the server, not from a cache.
	Client client.Client
	Stores Stores
	// Scratch is a directory for the server's eyes alone, where snapshots are while they are read.
	Scratch string
	// Drills brings backups back aside; Version is that of this Slipway.
	Drills  Drills
	Version string
}

// Drills runs drills; drill.Runner does.
type Drills interface {
	Run(ctx context.Context, job drill.Job) (drill.Result, error)
}

// Kept says whether the Backup's file was recorded and is in its place. One that is not ordered yet has none.
func (k *Keeper) Kept(ctx context.Context, ref step.BackupRef) (bool, error) {
	b, store, err := k.find(ctx, ref)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil || b.Status.File == nil {
		return false, err
	}
	objects, err := store.List(ctx, b.Name)
	if err != nil {
		return false, err
	}
	for _, o := range objects {
		if o.Name == b.Name && o.Size == b.Status.File.Bytes {
			return true, nil
		}
	}
	return false, nil
}

// Take writes the Backup's file and records it.
func (k *Keeper) Take(ctx context.Context, ref step.BackupRef, etcdVersion string, snapshot io.Reader) (err error) {
	began := time.Now()
	b, store, err := k.find(ctx, ref)
	if err != nil {
		return err
	}
	contents, err := k.describe(ctx, b)
	if err != nil {
		return err
	}
	key, err := identity(ctx, k.Client)
	if err != nil {
		return err
	}
	spooled, tally, err := k.spool(ctx, snapshot)
	if err != nil {
		return fmt.Errorf("cannot take backup %s: %w", b.Name, err)
	}
	defer func() { err = errors.Join(err, spooled.Close()) }()
	contents.Facts.TakenAt, contents.Facts.EtcdVersion, contents.Snapshot = began, etcdVersion, spooled
	contents.Facts.Revision, contents.Facts.TotalKeys, contents.Facts.Objects = tally.Revision, tally.Keys, tally.Objects
	// What a try that was cut off has left was never recorded.
	if err := store.Remove(ctx, b.Name); err != nil {
		return fmt.Errorf("cannot clear the place of backup %s: %w", b.Name, err)
	}
	reader, writer := io.Pipe()
	written := make(chan error, 1)
	go func() {
		_, err := backup.Write(ctx, writer, contents, key.Recipient())
		writer.CloseWithError(err)
		written <- err
	}()
	object, err := store.Put(ctx, b.Name, reader)
	reader.CloseWithError(errors.New("the store stopped reading"))
	if writeErr := <-written; err == nil {
		err = writeErr
	}
	if err != nil {
		return fmt.Errorf("cannot take backup %s: %w", b.Name, err)
	}
	before := b.DeepCopy()
	b.Status.File = &v1alpha1.BackupFile{
		Digest: "sha256:" + object.SHA256, Bytes: object.Size, ClusterUID: contents.Facts.Cluster.UID,
		KubernetesVersion: contents.Facts.KubernetesVersion, EtcdVersion: etcdVersion,
		Revision: tally.Revision, Keys: tally.Keys, Objects: tally.Total(),
		TakenAt: metav1.NewTime(began), Took: metav1.Duration{Duration: time.Since(began).Round(time.Millisecond)},
	}
	if err := k.Client.Status().Patch(ctx, b, client.MergeFrom(before)); err != nil {
		return fault.NewTransient("APIUnreachable", fmt.Errorf("cannot record backup %s: %w", b.Name, err))
	}
	return nil
}

// spooled is a file that is gone once it is closed.
type spooled struct{ *os.File }

// Close closes and removes it.
func (s spooled) Close() error { return errors.Join(s.File.Close(), os.Remove(s.Name())) }

// spool puts a snapshot into scratch and counts what it holds. The source fails when it is not whole.
func (k *Keeper) spool(ctx context.Context, snapshot io.Reader) (_ spooled, _ backup.Tally, err error) {
	// CreateTemp makes files of mode 600.
	f, err := os.CreateTemp(k.Scratch, "taken-*.db")
	if err != nil {
		return spooled{}, backup.Tally{}, err
	}
	file := spooled{f}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	if _, err := io.Copy(f, snapshot); err != nil {
		return file, backup.Tally{}, fmt.Errorf("cannot read the snapshot of etcd: %w", err)
	}
	tally, err := backup.Count(ctx, f.Name())
	if err != nil {
		return file, backup.Tally{}, err
	}
	_, err = f.Seek(0, io.SeekStart)
	return file, tally, err
}

// describe gives everything about the cluster that a backup holds, beside etcd's data.
func (k *Keeper) describe(ctx context.Context, b *v1alpha1.Backup) (backup.Contents, error) {
	var none backup.Contents
	c, keys, err := k.cluster(ctx, b)
	if err != nil {
		return none, err
	}
	if c.Status.Applied == nil {
		return none, fault.NewTerminal("NotCreated", "create the cluster first", fmt.Errorf("cannot back up cluster %s: it is not created yet", c.Name))
	}
	actor := b.Annotations[v1alpha1.AnnotationRequestedBy]
	if b.Spec.Schedule != "" {
		actor = "schedule " + b.Spec.Schedule
	}
	contents := backup.Contents{
		Facts: backup.Facts{Cluster: backup.Cluster{Namespace: c.Namespace, Name: c.Name, UID: string(c.UID)},
			KubernetesVersion: c.Status.Applied.Kubernetes.Version, Actor: actor, Reason: b.Spec.Description},
		Description: backup.Description{Spec: *c.Status.Applied}, Keys: keys,
	}
	for _, name := range c.Status.Applied.ControlPlane.Hosts {
		var h v1alpha1.Host
		if err := k.Client.Get(ctx, client.ObjectKey{Name: name}, &h); err != nil {
			return none, fault.NewTransient("APIUnreachable", fmt.Errorf("cannot read host %s: %w", name, err))
		}
		contents.Description.ControlPlanes = append(contents.Description.ControlPlanes,
			backup.Host{Name: name, Address: h.Spec.Address, InternalAddress: h.Status.InternalAddress})
	}
	return contents, nil
}

// cluster gives the cluster of a Backup, and its keys.
func (k *Keeper) cluster(ctx context.Context, b *v1alpha1.Backup) (*v1alpha1.Cluster, map[string][]byte, error) {
	var c v1alpha1.Cluster
	if err := k.Client.Get(ctx, client.ObjectKey{Namespace: b.Namespace, Name: b.Spec.Cluster}, &c); err != nil {
		return nil, nil, unreadable("cluster "+b.Spec.Cluster, err)
	}
	var keys corev1.Secret
	if err := k.Client.Get(ctx, client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: cluster.KeysName(c.Name)}, &keys); err != nil {
		return nil, nil, unreadable("the keys of cluster "+c.Name, err)
	}
	return &c, keys.Data, nil
}

// Prove reads the whole file of the Backup.
func (k *Keeper) Prove(ctx context.Context, ref step.BackupRef) error {
	opened, err := k.open(ctx, ref)
	if err != nil {
		return err
	}
	return opened.Close()
}

// Snapshot proves the Backup and gives the etcd snapshot in it.
func (k *Keeper) Snapshot(ctx context.Context, ref step.BackupRef) (_ io.ReadCloser, _ int64, err error) {
	opened, err := k.open(ctx, ref)
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, opened.Close())
		}
	}()
	f, err := os.Open(opened.Snapshot)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read the snapshot of backup %s: %w", ref.Name, err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("cannot read the snapshot of backup %s: %w", ref.Name, err), f.Close())
	}
	return &snapshot{File: f, opened: opened}, info.Size(), nil
}

// snapshot is gone once it is closed.
type snapshot struct {
	*os.File
	opened *backup.Opened
}

// Close closes and removes it.
func (s *snapshot) Close() error { return errors.Join(s.File.Close(), s.opened.Close()) }

// open proves that the file is the one that was recorded, that it is whole, and that it fits the cluster as it is now.
func (k *Keeper) open(ctx context.Context, ref step.BackupRef) (_ *backup.Opened, err error) {
	b, store, err := k.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	if b.Status.File == nil {
		return nil, fault.NewTerminal(step.ReasonBackupMissing, "choose a backup that is Completed", fmt.Errorf("cannot use backup %s: it has no file", b.Name))
	}
	key, err := identity(ctx, k.Client)
	if err != nil {
		return nil, err
	}
	file, err := store.Get(ctx, b.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.NewTerminal(step.ReasonBackupMissing, "choose another backup", fmt.Errorf("cannot use backup %s: its file is gone from location %s", b.Name, b.Spec.Location))
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if closeErr := file.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("cannot close backup %s: %w", b.Name, closeErr)
		}
	}()
	sum := sha256.New()
	opened, err := backup.Open(ctx, io.TeeReader(file, sum), k.Scratch, key)
	if err != nil {
		if fault.ClassOf(err) == fault.Transient || ctx.Err() != nil {
			return nil, err
		}
		return nil, damaged(b, err)
	}
	err = k.fits(ctx, b, opened, "sha256:"+hex.EncodeToString(sum.Sum(nil)))
	if err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	return opened, nil
}

func damaged(b *v1alpha1.Backup, err error) error {
	return fault.NewTerminal(step.ReasonBackupDamaged, "choose another backup; nothing was stopped for this one", fmt.Errorf("cannot use backup %s: %w", b.Name, err))
}

// fits compares what was proven with what was recorded and with the cluster.
func (k *Keeper) fits(ctx context.Context, b *v1alpha1.Backup, o *backup.Opened, digest string) error {
	if digest != b.Status.File.Digest {
		return damaged(b, errors.New("it is another file than the one that was written"))
	}
	c, keys, err := k.cluster(ctx, b)
	if err != nil {
		return err
	}
	if o.Manifest.Cluster.UID != string(c.UID) {
		return fault.NewTerminal(step.ReasonBackupForeign, "choose a backup of this cluster",
			fmt.Errorf("cannot use backup %s: it is of an earlier cluster %s", b.Name, c.Name))
	}
	for name, value := range keys {
		// Tokens are Slipway's own and may be others by now.
		if strings.HasSuffix(name, "-token") || subtle.ConstantTimeCompare(value, o.Keys[name]) == 1 {
			continue
		}
		return fault.NewTerminal(step.ReasonBackupForeign, "choose a backup that was taken after the keys were changed",
			fmt.Errorf("cannot use backup %s: the cluster has another %s by now", b.Name, name))
	}
	return nil
}

// find gives a Backup and the store that its file is in.
func (k *Keeper) find(ctx context.Context, ref step.BackupRef) (*v1alpha1.Backup, backup.Store, error) {
	var b v1alpha1.Backup
	if err := k.Client.Get(ctx, client.ObjectKey{Namespace: ref.Project, Name: ref.Name}, &b); err != nil {
		return nil, nil, unreadable("backup "+ref.Name, err)
	}
	store, err := k.Stores(ctx, b.Spec.Location)
	return &b, store, err
}

func unreadable(what string, err error) error {
	err = fmt.Errorf("cannot read %s: %w", what, err)
	if client.IgnoreNotFound(err) == nil {
		return fault.NewTerminal("NotFound", "", err)
	}
	return fault.NewTransient("APIUnreachable", err)
}
