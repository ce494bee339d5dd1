package operation

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/plan"
)

// claimAll proves, before any host is touched, that every host of the plan is held by its cluster,
// and claims those that nobody holds. It says whether the run is over.
func (r *run) claimAll() (over bool) {
	for _, w := range r.walks {
		_, err := r.ownClaim(w.target.Name)
		if r.stopped() != nil {
			return true
		}
		if err != nil {
			r.fail(w, nil, "", err)
		}
	}
	return r.isHalted()
}

// ownClaim gives the HostClaim of a host, made now if there is none. One of another cluster is an error.
func (r *run) ownClaim(name string) (*v1alpha1.HostClaim, error) {
	var claim v1alpha1.HostClaim
	err := r.Client.Get(r.ctx, client.ObjectKey{Name: name}, &claim)
	if apierrors.IsNotFound(err) {
		claim = v1alpha1.HostClaim{ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: v1alpha1.HostClaimSpec{Namespace: r.plan.Namespace, Cluster: r.plan.Cluster}}
		if err := r.edge(name, "", BeforeRecord); err != nil {
			return nil, err
		}
		if err = r.Client.Create(r.ctx, &claim); apierrors.IsAlreadyExists(err) {
			err = r.Client.Get(r.ctx, client.ObjectKey{Name: name}, &claim)
		}
		if err == nil {
			err = r.edge(name, "", AfterRecord)
		}
	}
	if err != nil {
		return nil, r.lost(fmt.Errorf("cannot claim host %s: %w", name, err))
	}
	if claim.Spec.Namespace != r.plan.Namespace || claim.Spec.Cluster != r.plan.Cluster {
		return nil, fault.NewTerminal("HostClaimed", "choose another host, or remove this one from that cluster first",
			fmt.Errorf("cannot claim host %s: %s holds it", name, plan.HolderFor(r.plan.Namespace, claim.Spec)))
	}
	return &claim, nil
}

// claim takes the next fence epoch of the host. The epoch is on record before it is used,
// and higher than every epoch that the record or the host remembers.
func (a *attempt) claim(ctx context.Context) error {
	for {
		err := a.claimOnce(ctx)
		if err == nil {
			return nil
		}
		if err := a.pause(ctx, err); err != nil {
			return err
		}
	}
}

func (a *attempt) claimOnce(ctx context.Context) error {
	name := a.target.Name
	session, err := a.Sessions.Session(ctx, name)
	if err != nil {
		return err
	}
	result, err := session.Query(ctx, host.HolderQuery())
	if err != nil {
		return fmt.Errorf("cannot read who holds host %s: %w", name, err)
	}
	holder, err := host.DecodeHolder(result)
	if err != nil {
		return fault.NewTerminal(host.ReasonFenceDamaged, "look at /var/lib/slipway/fence and /run/slipway on the host; a host that lies must go",
			fmt.Errorf("cannot claim host %s: %w", name, err))
	}
	if holder.Owner != "" && holder.Owner != a.Owner {
		return host.OwnedByAnother(name, holder.Owner)
	}
	if err := a.edge(name, "", BeforeClaim); err != nil {
		return err
	}
	epoch, err := a.raise(holder.Epoch)
	if err != nil {
		return err
	}
	if err := a.edge(name, "", AfterClaim); err != nil {
		return err
	}
	a.fence = host.Fence{Owner: a.Owner, Epoch: epoch}
	a.journal.claimed(epoch)
	return nil
}

// raise writes the next epoch into the HostClaim and gives it.
func (a *attempt) raise(seen int64) (int64, error) {
	var epoch int64
	err := a.retryConflicts(func() error {
		claim, err := a.ownClaim(a.target.Name)
		if err != nil {
			return err
		}
		epoch = 1 + max(claim.Spec.Epoch, seen)
		claim.Spec.Epoch = epoch
		return a.Client.Update(a.ctx, claim)
	})
	if err != nil && fault.ReasonOf(err) != "HostClaimed" {
		err = a.lost(fmt.Errorf("cannot record the next epoch of host %s: %w", a.target.Name, err))
	}
	return epoch, err
}

// overtaken says whether another engine has taken the operation over. A host alone cannot say so: where the record
// knows of no newer claim, what it answers is a failure of that host.
func (a *attempt) overtaken(err error) bool {
	if fault.ReasonOf(err) != host.ReasonFencedOff {
		return true
	}
	var claim v1alpha1.HostClaim
	if a.Client.Get(a.ctx, client.ObjectKey{Name: a.target.Name}, &claim) != nil {
		return true // Without the record nobody may go on.
	}
	return claim.Spec.Epoch > a.fence.Epoch || claim.Spec.Namespace != a.plan.Namespace || claim.Spec.Cluster != a.plan.Cluster
}

// lost stops the run: without its record nothing may be done. It gives the reason that the run stopped for.
func (r *run) lost(err error) error {
	r.stop(err)
	return r.stopped()
}

// retryConflicts runs write again, with back-off, while it fails because the object has changed meanwhile.
// It never runs it when the run has stopped.
func (r *run) retryConflicts(write func() error) error {
	backoff := wait.Backoff{Steps: 10, Duration: 10 * time.Millisecond, Factor: 2, Jitter: 0.2, Cap: 2 * time.Second}
	var last error
	err := wait.ExponentialBackoffWithContext(r.ctx, backoff, func(context.Context) (bool, error) {
		if err := r.stopped(); err != nil {
			return false, err
		}
		last = write()
		if apierrors.IsConflict(last) {
			return false, nil
		}
		return true, last
	})
	if err != nil && last != nil && !errors.Is(err, last) {
		return last
	}
	return err
}
