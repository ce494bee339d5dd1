package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/backup"
	"slipway.dev/slipway/internal/drill"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
	"slipway.dev/slipway/internal/step/kubeadm"
)

// reasonBroughtBack is the reason of the condition Proven when all is well.
const reasonBroughtBack = "BroughtBack"

// Drilled says whether that drill has brought the Backup back.
func (k *Keeper) Drilled(ctx context.Context, ref step.BackupRef, name string) (bool, error) {
	b, _, err := k.find(ctx, ref)
	if err != nil {
		return false, err
	}
	return b.Status.Proven != nil && b.Status.Proven.Operation == name, nil
}

// Drill brings the Backup back aside and records what came of it. What says nothing about the Backup is not recorded.
func (k *Keeper) Drill(ctx context.Context, ref step.BackupRef, name string, programs step.DrillPrograms) error {
	began := time.Now()
	result, err := k.drill(ctx, ref, programs)
	switch {
	case err == nil:
		return k.record(ctx, ref, metav1.Condition{Status: metav1.ConditionTrue, Reason: reasonBroughtBack,
			Message: fmt.Sprintf("%d objects of %d resources were served%s", result.Objects, result.Resources, read(result.Secret))},
			&v1alpha1.BackupProof{At: metav1.Now(), Took: metav1.Duration{Duration: time.Since(began).Round(time.Millisecond)}, Objects: result.Objects,
				Version: k.Version, Operation: name})
	case ctx.Err() != nil || fault.ClassOf(err) != fault.Terminal || !about(err):
		return err
	}
	return errors.Join(err, k.record(ctx, ref, metav1.Condition{Status: metav1.ConditionFalse, Reason: fault.ReasonOf(err), Message: err.Error()}, nil))
}

func read(secret string) string {
	if secret == "" {
		return "; it holds no Secret"
	}
	return "; Secret " + secret + " was read"
}

// about says whether an error is about the Backup itself.
func about(err error) bool {
	switch fault.ReasonOf(err) {
	case step.ReasonBackupDamaged, step.ReasonBackupForeign, step.ReasonBackupMissing, drill.ReasonUnproven:
		return true
	}
	return false
}

func (k *Keeper) drill(ctx context.Context, ref step.BackupRef, programs step.DrillPrograms) (_ drill.Result, err error) {
	opened, err := k.open(ctx, ref)
	if err != nil {
		return drill.Result{}, err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	want := backup.Tally{Revision: opened.Manifest.Revision, Keys: opened.Manifest.TotalKeys, Objects: opened.Manifest.Objects}
	if want.Objects == nil {
		// A file of before they were recorded. The snapshot is what was taken: its digest says so.
		if want, err = backup.Count(ctx, opened.Snapshot); err != nil {
			return drill.Result{}, fault.NewTerminal(drill.ReasonUnproven, "take another backup", err)
		}
	}
	snapshot, err := os.Open(opened.Snapshot)
	if err != nil {
		return drill.Result{}, fmt.Errorf("cannot read the snapshot of backup %s: %w", ref.Name, err)
	}
	defer func() { err = errors.Join(err, snapshot.Close()) }()
	result, err := k.Drills.Run(ctx, drill.Job{
		Programs: drill.Programs{Etcd: digest.Digest(programs.Etcd), APIServer: digest.Digest(programs.APIServer), Etcdutl: digest.Digest(programs.Etcdutl)},
		Snapshot: snapshot, AccountKey: opened.Keys[kubeadm.AccountKey], AccountPublic: opened.Keys[kubeadm.AccountPublic],
		ServiceCIDR: opened.Description.Spec.Network.ServiceCIDR, Want: want,
	})
	if err != nil {
		return result, fmt.Errorf("cannot prove backup %s: %w", ref.Name, err)
	}
	return result, nil
}

// record writes what came of a drill; a proof of nil leaves the last good one.
func (k *Keeper) record(ctx context.Context, ref step.BackupRef, condition metav1.Condition, proof *v1alpha1.BackupProof) error {
	var b v1alpha1.Backup
	if err := k.Client.Get(ctx, client.ObjectKey{Namespace: ref.Project, Name: ref.Name}, &b); err != nil {
		return unreadable("backup "+ref.Name, err)
	}
	before := b.DeepCopy()
	condition.Type, condition.ObservedGeneration = v1alpha1.BackupProven, b.Generation
	meta.SetStatusCondition(&b.Status.Conditions, condition)
	if proof != nil {
		b.Status.Proven = proof
	}
	if err := k.Client.Status().Patch(ctx, &b, client.MergeFrom(before)); err != nil {
		return fault.NewTransient("APIUnreachable", fmt.Errorf("cannot record the drill of backup %s: %w", ref.Name, err))
	}
	return nil
}
