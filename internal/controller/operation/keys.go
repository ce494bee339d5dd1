package operation

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cluster"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/operation"
	"slipway.dev/slipway/internal/pki"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/step/kubeadm"
)

// authorityLife is how long a cluster's certificate authorities are valid, as kubeadm has it.
const authorityLife = 10 * 365 * 24 * time.Hour

// mintKeys makes the keys of a new cluster, once. They exist before any step uses them.
func (r *Reconciler) mintKeys(ctx context.Context, op *v1alpha1.Operation) error {
	key := client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: cluster.KeysName(op.Spec.Cluster)}
	var have corev1.Secret
	err := r.Client.Get(ctx, key, &have)
	if err == nil {
		if !cluster.OwnsKeys(&have, op.Namespace) {
			return fault.NewTerminal("NameTaken", "choose another name: cluster names are unique in the platform",
				fmt.Errorf("cannot create cluster %s: another project plans or has one of that name", op.Spec.Cluster))
		}
		return nil
	}
	if !apierrors.IsNotFound(err) {
		return fault.NewTransient("APIUnreachable", fmt.Errorf("cannot read the keys of cluster %s: %w", op.Spec.Cluster, err))
	}
	data, err := newKeys()
	if err != nil {
		return fmt.Errorf("cannot make the keys of cluster %s: %w", op.Spec.Cluster, err)
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, Labels: map[string]string{
			v1alpha1.LabelCluster: op.Spec.Cluster, cluster.LabelProject: op.Namespace,
		}},
		Type: v1alpha1.SecretTypeKeys, Data: data,
	}
	if err := r.Client.Create(ctx, secret); err != nil && !apierrors.IsAlreadyExists(err) {
		return fault.NewTransient("APIUnreachable", fmt.Errorf("cannot store the keys of cluster %s: %w", op.Spec.Cluster, err))
	}
	return nil
}

func newKeys() (map[string][]byte, error) {
	data := map[string][]byte{}
	for name, files := range map[string][2]string{
		"kubernetes":     {kubeadm.CACert, kubeadm.CAKey},
		"front-proxy-ca": {kubeadm.FrontProxyCert, kubeadm.FrontProxyKey},
		"etcd-ca":        {kubeadm.EtcdCert, kubeadm.EtcdKey},
	} {
		ca, err := pki.NewCA(name, authorityLife)
		if err != nil {
			return nil, err
		}
		data[files[0]], data[files[1]] = ca.CertPEM(), ca.KeyPEM()
	}
	private, public, err := pki.NewServiceAccountKey()
	if err != nil {
		return nil, err
	}
	data[kubeadm.AccountKey], data[kubeadm.AccountPublic] = private, public
	data[kubeadm.Token] = []byte(bootstrapToken())
	data[kubeadm.RegistryToken] = []byte(pki.NewToken())
	return data, nil
}

// bootstrapToken gives 6 and 16 random characters of a-z and 2-7, as kubeadm wants a token.
func bootstrapToken() string {
	b := make([]byte, 14)
	rand.Read(b) // Never fails: the runtime ends the process when there is no randomness.
	text := strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
	return text[:6] + "." + text[6:22]
}

// dropKeys removes the keys of a plan that never became a cluster. Those of a cluster go with it, and those of
// another project are not ours.
func (r *Reconciler) dropKeys(ctx context.Context, op *v1alpha1.Operation) error {
	if c, err := r.cluster(ctx, op); err != nil || c != nil {
		return err
	}
	return cluster.DropKeys(ctx, r.Client, op.Namespace, op.Spec.Cluster)
}

// prepare makes or edits the Cluster as an approved plan says and claims its hosts: the create of a claim is the lock.
func (r *Reconciler) prepare(ctx context.Context, op *v1alpha1.Operation, p *plan.Plan) error {
	if err := r.stillLent(ctx, op, p); err != nil {
		return err
	}
	if op.Spec.Wanted != nil && op.Spec.Generation == 0 {
		if err := r.declare(ctx, op); err != nil {
			return err
		}
	}
	uid, err := r.claimant(ctx, op)
	if err != nil {
		return err
	}
	if err := r.order(ctx, op); err != nil {
		return err
	}
	for _, t := range p.Hosts {
		claim := &v1alpha1.HostClaim{
			ObjectMeta: metav1.ObjectMeta{Name: t.Name},
			Spec:       v1alpha1.HostClaimSpec{Namespace: op.Namespace, Cluster: op.Spec.Cluster, ClusterUID: uid},
		}
		err := r.Client.Create(ctx, claim)
		if err == nil {
			continue
		}
		if !apierrors.IsAlreadyExists(err) {
			return fault.NewTransient("APIUnreachable", fmt.Errorf("cannot claim host %s: %w", t.Name, err))
		}
		if err := r.Client.Get(ctx, client.ObjectKeyFromObject(claim), claim); err != nil {
			return fault.NewTransient("APIUnreachable", fmt.Errorf("cannot read the claim of host %s: %w", t.Name, err))
		}
		if claim.Spec.ClusterUID != uid {
			return join(r.unclaim(ctx, op, uid), fault.NewTerminal("HostClaimed", "choose another host, or delete that cluster first",
				fmt.Errorf("cannot claim host %s: %s holds it", t.Name, plan.HolderFor(op.Namespace, claim.Spec))))
		}
	}
	return nil
}

// declare gives the Cluster the spec that a person has approved, and makes it when it does not exist.
func (r *Reconciler) declare(ctx context.Context, op *v1alpha1.Operation) error {
	have, err := r.cluster(ctx, op)
	if err != nil {
		return err
	}
	if have != nil {
		before := have.DeepCopy()
		have.Spec = *op.Spec.Wanted
		// One who edits it meanwhile must see that it was another cluster that the plan was read for.
		if err := r.Client.Patch(ctx, have, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
			return fmt.Errorf("cannot edit cluster %s: %w", have.Name, err)
		}
		return nil
	}
	c := &v1alpha1.Cluster{
		ObjectMeta: metav1.ObjectMeta{Namespace: op.Namespace, Name: op.Spec.Cluster, Annotations: map[string]string{v1alpha1.AnnotationCreatedBy: op.Name}},
		Spec:       *op.Spec.Wanted,
	}
	if who := op.Annotations[v1alpha1.AnnotationRequestedBy]; who != "" {
		c.Annotations[v1alpha1.AnnotationRequestedBy] = who
	}
	if err := r.Client.Create(ctx, c); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("cannot create cluster %s: %w", c.Name, err)
	}
	return nil
}

// stillLent refuses to claim a host that was lent when the plan was made, and is not any more: an old plan that is
// retried must not take it. A host that the cluster holds stays its own.
func (r *Reconciler) stillLent(ctx context.Context, op *v1alpha1.Operation, p *plan.Plan) error {
	grants, err := r.grants(ctx, op.Namespace)
	if err != nil {
		return err
	}
	in := stages.Input{Grants: grants}
	for _, t := range p.Hosts {
		if in.Lends(v1alpha1.GrantHost, t.Name) {
			continue
		}
		var claim v1alpha1.HostClaim
		if err := r.Client.Get(ctx, client.ObjectKey{Name: t.Name}, &claim); client.IgnoreNotFound(err) != nil {
			return fault.NewTransient("APIUnreachable", fmt.Errorf("cannot read the claim of host %s: %w", t.Name, err))
		}
		if claim.Spec.Namespace != op.Namespace || claim.Spec.Cluster != op.Spec.Cluster {
			return fault.NewTerminal("NotLent", "ask a system administrator for a Grant of Host "+t.Name+" in project "+op.Namespace,
				fmt.Errorf("cannot claim host %s: it is not lent to project %s", t.Name, op.Namespace))
		}
	}
	return nil
}

// unclaim gives back what a claim of several hosts got before it failed: nothing was changed on them.
func (r *Reconciler) unclaim(ctx context.Context, op *v1alpha1.Operation, uid string) error {
	claims, err := r.claims(ctx, op)
	if err != nil {
		return err
	}
	for i, c := range claims {
		if c.Spec.ClusterUID != uid || c.Spec.Epoch > 0 {
			continue
		}
		if err := r.Client.Delete(ctx, &claims[i]); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("cannot release host %s: %w", c.Name, err)
		}
	}
	return nil
}

// join keeps the class of the second error when the first is nil.
func join(first, second error) error {
	if first == nil {
		return second
	}
	return fmt.Errorf("%w; %w", second, first)
}

// release gives back the hosts that a delete has cleaned, and marks those that it could not reach.
//
// One that scales or restores gives back hosts only once it has done everything: a retry would clean them again, whoever
// has them then. One that cleans gives back those that it was for.
func (r *Reconciler) release(ctx context.Context, op *v1alpha1.Operation) error {
	if op.Spec.Verb != v1alpha1.VerbDelete && op.Status.Phase != v1alpha1.OperationSucceeded {
		return nil
	}
	if op.Status.Phase == v1alpha1.OperationAborted || op.Status.StartedAt == nil {
		return nil
	}
	claims, err := r.claims(ctx, op)
	if err != nil {
		return err
	}
	for i := range claims {
		c := &claims[i]
		if keeps(op, c.Name) {
			continue
		}
		// One that came later belongs to a new cluster of the same name.
		if c.CreationTimestamp.After(op.Status.StartedAt.Time) {
			continue
		}
		cleaned, err := r.cleaned(ctx, op, c.Name)
		if err != nil {
			return err
		}
		if !cleaned || op.Spec.Verb != v1alpha1.VerbClean && lost(op, c.Name) {
			if c.Annotations[v1alpha1.AnnotationNeedsCleaning] == op.Name {
				continue
			}
			before := c.DeepCopy()
			metav1.SetMetaDataAnnotation(&c.ObjectMeta, v1alpha1.AnnotationNeedsCleaning, op.Name)
			if err := r.Client.Patch(ctx, c, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
				return fmt.Errorf("cannot mark host %s: %w", c.Name, err)
			}
			continue
		}
		if err := r.Client.Delete(ctx, c); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("cannot release host %s: %w", c.Name, err)
		}
	}
	return nil
}

// keeps says whether the cluster has a host when the operation has ended.
func keeps(op *v1alpha1.Operation, host string) bool {
	switch op.Spec.Verb {
	case v1alpha1.VerbScale:
		return slices.Contains(op.Spec.Wanted.AllHosts(), host)
	case v1alpha1.VerbRestore:
		// What it takes out is lost; nothing was cleaned there.
		return op.Spec.Wanted == nil || slices.Contains(op.Spec.Wanted.AllHosts(), host) || !lost(op, host)
	case v1alpha1.VerbClean:
		return !lost(op, host)
	default:
		return false
	}
}

// lost says whether a person has confirmed that a host is gone, so that nothing was cleaned there.
func lost(op *v1alpha1.Operation, host string) bool {
	return op.Spec.Parameters != nil && slices.Contains(op.Spec.Parameters.Lost, host)
}

// cleaned says whether every step of a delete is done on a host.
func (r *Reconciler) cleaned(ctx context.Context, op *v1alpha1.Operation, host string) (bool, error) {
	if op.Status.Phase == v1alpha1.OperationSucceeded {
		return true, nil
	}
	var run v1alpha1.HostRun
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: op.Namespace, Name: operation.HostRunName(op.Name, host)}, &run)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot read the record of host %s: %w", host, err)
	}
	p, err := r.stored(ctx, op)
	if err != nil {
		return false, err
	}
	calls := 0
	for _, s := range p.Stages {
		calls += len(s.Calls)
	}
	for _, s := range run.Status.Steps {
		if s.State == v1alpha1.StepDone {
			calls--
		}
	}
	return calls == 0, nil
}
