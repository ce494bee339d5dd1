package etcd

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

// RemoveMember removes another control plane from etcd, dead or alive. It runs on one that stays.
type RemoveMember struct {
	// Name is that of the Host to remove, Address its internal address. A member that has either goes.
	Name    string `json:"name"`
	Address string `json:"address"`
}

// ID is stored in plans.
func (RemoveMember) ID() step.ID { return "etcd.remove-member/v1" }

// Check looks for members that have the name or the peer URL.
func (s RemoveMember) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	members, err := list(ctx, r.Cluster)
	if err != nil {
		return nil, err
	}
	var drift step.Drift
	for _, m := range members {
		if s.means(m) {
			drift.Want("etcd member "+called(m), "present", "absent")
		}
	}
	return drift, nil
}

func (s RemoveMember) means(m step.EtcdMember) bool {
	return m.Name == s.Name || at(step.EtcdPeerURL(s.Address))(m)
}

// Apply removes them one by one, after it has asked every other member whether it is well.
func (s RemoveMember) Apply(ctx context.Context, w step.Writer) error {
	members, err := list(ctx, w.Reading.Cluster)
	if err != nil {
		return err
	}
	for _, m := range members {
		if !s.means(m) {
			continue
		}
		if err := s.remove(ctx, w, m, members); err != nil {
			return err
		}
		members = slices.DeleteFunc(slices.Clone(members), func(other step.EtcdMember) bool { return other.ID == m.ID })
	}
	return nil
}

func (s RemoveMember) remove(ctx context.Context, w step.Writer, m step.EtcdMember, members []step.EtcdMember) error {
	if !m.Learner { // What has no vote is never missed.
		successor, err := survivor(ctx, w.Reading.Cluster, m, members)
		if err != nil {
			return err
		}
		if status, answers := well(ctx, w.Reading.Cluster, m); answers && status.Leader == m.ID {
			if err := w.Cluster.MoveEtcdLeader(ctx, successor.ID); err != nil {
				return fmt.Errorf("cannot make %s the leader of etcd before %s goes: %w", successor.Name, called(m), err)
			}
		}
	}
	if err := w.Cluster.RemoveEtcdMember(ctx, m.ID); err != nil {
		return fmt.Errorf("cannot remove member %s from etcd: %w", called(m), err)
	}
	return nil
}

// survivor gives a voter that is well, if there is a quorum of them once leaving has gone.
func survivor(ctx context.Context, r step.EtcdReader, leaving step.EtcdMember, members []step.EtcdMember) (step.EtcdMember, error) {
	var healthy, down []string
	var first step.EtcdMember
	for _, m := range members {
		if m.Learner || m.ID == leaving.ID {
			continue
		}
		if _, ok := well(ctx, r, m); !ok {
			down = append(down, called(m))
			continue
		}
		if len(healthy) == 0 {
			first = m
		}
		healthy = append(healthy, m.Name)
	}
	if voters := len(healthy) + len(down); len(healthy) < voters/2+1 {
		return first, fault.NewTerminal("EtcdQuorumAtRisk", fix(down),
			fmt.Errorf("cannot remove member %s from etcd: %d of the %d members that stay are well, and etcd needs %d", called(leaving), len(healthy), voters, voters/2+1))
	}
	return first, nil
}

func fix(down []string) string {
	if len(down) == 0 {
		return "add another control plane first: the last member of etcd holds the cluster's data"
	}
	return "bring etcd back on " + strings.Join(down, ", ") + ", or remove what is dead first, then retry"
}

// well asks a member how it is. One that does not answer, follows no leader or is another than the cluster knows is not.
func well(ctx context.Context, r step.EtcdReader, m step.EtcdMember) (step.EtcdStatus, bool) {
	if !m.Started() {
		return step.EtcdStatus{}, false
	}
	status, err := r.EtcdStatus(ctx, m.Name)
	// The reason does not matter: what cannot be asked cannot be counted on.
	return status, err == nil && status.Member == m.ID && status.Leader != 0 && !status.Learner
}
