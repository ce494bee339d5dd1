// Package bundle owns the Bundle objects: one for each bundle of the store, verified, with what it holds.
// It must never change the store, nor what people say in the spec of a Bundle.
package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/host"
)

// Store is what the controller needs of the bundle store; *bundle.Store is one.
type Store interface {
	List(ctx context.Context) ([]bundle.Entry, error)
	Get(ctx context.Context, name string) (*bundle.Manifest, error)
	Verify(ctx context.Context, name string, progress bundle.Progress) error
	Blob(ctx context.Context, d digest.Digest) (io.ReadSeekCloser, int64, error)
	Watch(ctx context.Context) (<-chan struct{}, error)
}

var _ Store = (*bundle.Store)(nil)

// Deps is what the controller works with.
type Deps struct {
	// Client reads from the cache and writes to the API.
	Client client.Client
	// Store is the directory with the bundles.
	Store Store
	// Log takes results of verification.
	Log *slog.Logger
}

// The reasons of the condition Verified.
const (
	ReasonVerified   = "Verified"
	ReasonVerifying  = "Verifying"
	ReasonDamaged    = "Damaged"
	ReasonMissing    = "Missing"
	ReasonUnreadable = "Unreadable"
)

const (
	// annotationStamp holds the stamp of the blobs that were verified.
	annotationStamp = "slipway.dev/verified-files"
	// recheck is how often sizes and times of the blobs are compared with those that were verified.
	recheck = 10 * time.Minute
	// maxMessage bounds the message of a condition, in bytes.
	maxMessage = 1024
)

// Reconciler keeps one Bundle object right.
type Reconciler struct {
	client   client.Client
	store    Store
	verifier *verifier
	log      *slog.Logger
}

// New makes a reconciler that verifies nothing until Setup's source, or a test, starts its verifier.
func New(d Deps) *Reconciler {
	return &Reconciler{client: d.Client, store: d.Store, log: d.Log, verifier: newVerifier(d)}
}

// Reconcile makes the Bundle object of a name say what the store holds under it.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	entry, held, err := find(ctx, r.store, request.Name)
	if err != nil {
		return reconcile.Result{}, err
	}
	if !held {
		r.verifier.forget(request.Name)
	}
	b := &v1alpha1.Bundle{}
	err = r.client.Get(ctx, request.NamespacedName, b)
	switch {
	case apierrors.IsNotFound(err) && !held:
		return reconcile.Result{}, nil
	case apierrors.IsNotFound(err):
		return reconcile.Result{}, r.create(ctx, request.Name)
	case err != nil:
		return reconcile.Result{}, fmt.Errorf("cannot read Bundle %s: %w", request.Name, err)
	}
	if !b.DeletionTimestamp.IsZero() {
		return reconcile.Result{}, nil
	}
	if !held {
		return reconcile.Result{}, r.write(ctx, b, missing(b))
	}
	return reconcile.Result{RequeueAfter: recheck}, r.update(ctx, b, entry)
}

// create makes the object; the event of that brings the status.
func (r *Reconciler) create(ctx context.Context, name string) error {
	enabled := true
	b := &v1alpha1.Bundle{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.BundleSpec{Enabled: &enabled}}
	err := r.client.Create(ctx, b)
	switch {
	case err == nil, apierrors.IsAlreadyExists(err):
		return nil
	case apierrors.IsInvalid(err):
		// The store allows names that the API does not; trying again does not help.
		return reconcile.TerminalError(fmt.Errorf("cannot create Bundle %s: %w", name, err))
	}
	return fmt.Errorf("cannot create Bundle %s: %w", name, err)
}

// update has the bundle verified when its blobs are not those that were, and writes what it holds.
func (r *Reconciler) update(ctx context.Context, b *v1alpha1.Bundle, entry bundle.Entry) error {
	files, err := walk(ctx, r.store, entry.Digest)
	if err != nil {
		return fmt.Errorf("cannot look at the blobs of bundle %s: %w", b.Name, err)
	}
	next := *b.Status.DeepCopy()
	next.ObservedGeneration = b.Generation
	next.Digest, next.Bytes = entry.Digest.String(), files.bytes
	manifest, err := r.store.Get(ctx, b.Name)
	switch {
	case err == nil:
		describe(&next, manifest)
	case ctx.Err() != nil:
		return err
	}
	if remembered(b, entry.Digest, files.stamp) {
		setVerified(&next, b.Generation, metav1.ConditionTrue, ReasonVerified, verifiedMessage)
		return r.write(ctx, b, next)
	}
	r.judge(&next, b, entry, files.stamp)
	if err := r.write(ctx, b, next); err != nil || !isVerified(next.Conditions) {
		return err
	}
	return r.remember(ctx, b, files.stamp)
}

const verifiedMessage = "every blob was read and matches its digest"

// judge sets the condition Verified from what the verifier knows, and has it work when it knows nothing.
func (r *Reconciler) judge(next *v1alpha1.BundleStatus, b *v1alpha1.Bundle, entry bundle.Entry, stamp string) {
	known, err := r.verifier.ask(b.Name, job{digest: entry.Digest, stamp: stamp})
	var damaged *bundle.VerifyError
	switch {
	case !known:
		setVerified(next, b.Generation, metav1.ConditionUnknown, ReasonVerifying, "every blob is being read")
	case err == nil:
		setVerified(next, b.Generation, metav1.ConditionTrue, ReasonVerified, verifiedMessage)
	case errors.As(err, &damaged):
		setVerified(next, b.Generation, metav1.ConditionFalse, ReasonDamaged, damaged.Error())
	default:
		setVerified(next, b.Generation, metav1.ConditionFalse, ReasonUnreadable, err.Error()+"; check the disk that holds the bundle store")
	}
}

// remember keeps the stamp of verified blobs, so that a restarted server need not read them all again.
func (r *Reconciler) remember(ctx context.Context, b *v1alpha1.Bundle, stamp string) error {
	if b.Annotations[annotationStamp] == stamp {
		return nil
	}
	before := b.DeepCopy()
	metav1.SetMetaDataAnnotation(&b.ObjectMeta, annotationStamp, stamp)
	if err := client.IgnoreNotFound(r.client.Patch(ctx, b, client.MergeFrom(before))); err != nil {
		return fmt.Errorf("cannot note what was verified of Bundle %s: %w", b.Name, err)
	}
	return nil
}

// remembered says that exactly these blobs were verified before.
func remembered(b *v1alpha1.Bundle, d digest.Digest, stamp string) bool {
	return isVerified(b.Status.Conditions) && b.Status.Digest == d.String() && b.Annotations[annotationStamp] == stamp
}

func isVerified(conditions []metav1.Condition) bool {
	return meta.IsStatusConditionTrue(conditions, v1alpha1.BundleVerified)
}

// missing is the status of a bundle that the store holds no more.
func missing(b *v1alpha1.Bundle) v1alpha1.BundleStatus {
	next := *b.Status.DeepCopy()
	next.ObservedGeneration = b.Generation
	setVerified(&next, b.Generation, metav1.ConditionFalse, ReasonMissing,
		"the bundle store does not hold it; build or import it again, or delete this Bundle")
	return next
}

func setVerified(s *v1alpha1.BundleStatus, generation int64, status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&s.Conditions, metav1.Condition{Type: v1alpha1.BundleVerified, Status: status,
		ObservedGeneration: generation, Reason: reason, Message: host.Shorten(message, maxMessage)})
}

// describe copies what people ask of a bundle from its manifest.
func describe(s *v1alpha1.BundleStatus, m *bundle.Manifest) {
	s.KubernetesVersion = m.KubernetesVersion
	s.Architectures = slices.Clone(m.Architectures)
	s.Components = maps.Clone(m.Components)
	s.Images = nil
	for _, image := range m.Images {
		s.Images = append(s.Images, image.Name)
	}
	slices.Sort(s.Images)
	s.Images = slices.Compact(s.Images)
}

func (r *Reconciler) write(ctx context.Context, b *v1alpha1.Bundle, next v1alpha1.BundleStatus) error {
	if equality.Semantic.DeepEqual(b.Status, next) {
		return nil
	}
	now := meta.FindStatusCondition(next.Conditions, v1alpha1.BundleVerified)
	old := meta.FindStatusCondition(b.Status.Conditions, v1alpha1.BundleVerified)
	if old == nil || old.Reason != now.Reason {
		r.log.Info("bundle changed", "bundle", b.Name, "verified", now.Status, "reason", now.Reason, "message", now.Message)
	}
	before := b.DeepCopy()
	b.Status = next
	if err := client.IgnoreNotFound(r.client.Status().Patch(ctx, b, client.MergeFrom(before))); err != nil {
		return fmt.Errorf("cannot write the status of Bundle %s: %w", b.Name, err)
	}
	return nil
}

func find(ctx context.Context, s Store, name string) (bundle.Entry, bool, error) {
	entries, err := s.List(ctx)
	if err != nil {
		return bundle.Entry{}, false, err
	}
	i := slices.IndexFunc(entries, func(e bundle.Entry) bool { return e.Name == name })
	if i < 0 {
		return bundle.Entry{}, false, nil
	}
	return entries[i], true, nil
}
