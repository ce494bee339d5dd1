package etcd

import (
	"context"
	"fmt"

	"slipway.dev/slipway/internal/step"
)

// MoveLeader makes another member lead before this one goes away for a moment: so nobody waits for an election. It does
// nothing for a member that leads nobody.
type MoveLeader struct{}

// ID is stored in plans.
func (MoveLeader) ID() step.ID { return "etcd.move-leader/v1" }

// Passes says that the lead may come back at any time.
func (MoveLeader) Passes() {}

// Check asks the host's member who leads.
func (MoveLeader) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	m, err := own(ctx, r)
	if err != nil {
		return nil, err
	}
	status, err := r.Cluster.EtcdStatus(ctx, r.Target.Name)
	if err != nil {
		return nil, fmt.Errorf("cannot ask member %s of etcd who leads: %w", called(m), err)
	}
	to, err := successor(ctx, r, m.ID)
	if err != nil {
		return nil, err
	}
	var drift step.Drift
	if status.Leader == m.ID && to != nil {
		drift.Want("leader of etcd", called(m), called(*to))
	}
	return drift, nil
}

// Apply asks for the next leader.
func (MoveLeader) Apply(ctx context.Context, w step.Writer) error {
	m, err := own(ctx, w.Reading)
	if err != nil {
		return err
	}
	to, err := successor(ctx, w.Reading, m.ID)
	if to == nil || err != nil {
		return err
	}
	if err := w.Cluster.MoveEtcdLeader(ctx, to.ID); err != nil {
		return fmt.Errorf("cannot make %s lead etcd: %w", called(*to), err)
	}
	return nil
}

// successor gives a voter other than one, nil when there is none.
func successor(ctx context.Context, r step.Reader, other uint64) (*step.EtcdMember, error) {
	members, err := list(ctx, r.Cluster)
	if err != nil {
		return nil, err
	}
	return find(members, func(m step.EtcdMember) bool { return m.ID != other && m.Started() && !m.Learner }), nil
}
