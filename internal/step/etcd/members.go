// Package etcd owns the steps that change who is a member of a cluster's etcd, and the gate that wants all of them well.
// It must never take a member away that the quorum needs, nor touch the data of one.
package etcd

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

// AddMember adds the host, a new control plane, to etcd without a vote. It removes what an earlier try left, as etcd
// takes one learner at most: a plan adds one host at a time.
type AddMember struct{}

// ID is stored in plans.
func (AddMember) ID() step.ID { return "etcd.add-member/v1" }

// Gives tells what later steps find.
func (AddMember) Gives() []step.Output { return []step.Output{step.EtcdMembership} }

// Check looks for a member with the host's peer URL, with a vote or without.
func (AddMember) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	members, err := list(ctx, r.Cluster)
	if err != nil {
		return nil, err
	}
	var drift step.Drift
	if url := step.EtcdPeerURL(r.Target.Address); find(members, at(url)) == nil {
		drift.Want("etcd member "+url, "", "present")
	}
	return drift, nil
}

// Apply removes learners and members that never started, and adds the host.
func (AddMember) Apply(ctx context.Context, w step.Writer) error {
	members, err := list(ctx, w.Reading.Cluster)
	if err != nil {
		return err
	}
	url := step.EtcdPeerURL(w.Target.Address)
	if find(members, at(url)) != nil {
		return nil
	}
	for _, m := range members {
		if !m.Learner && m.Started() {
			continue
		}
		if err := w.Cluster.RemoveEtcdMember(ctx, m.ID); err != nil {
			return fmt.Errorf("cannot remove the stray member %s of etcd: %w", called(m), err)
		}
	}
	if _, err := w.Cluster.AddEtcdLearner(ctx, url); err != nil {
		return fmt.Errorf("cannot add host %s to etcd: %w", w.Target.Name, err)
	}
	return nil
}

// PromoteMember gives the host's member its vote, as soon as it has read everything.
type PromoteMember struct{}

// ID is stored in plans.
func (PromoteMember) ID() step.ID { return "etcd.promote-member/v1" }

// Needs tells what must be there.
func (PromoteMember) Needs() []step.Output { return []step.Output{step.EtcdMembership} }

// Check looks whether the host's member has its vote, and waits for one that has not started.
func (PromoteMember) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	m, err := own(ctx, r)
	if err != nil {
		return nil, err
	}
	var drift step.Drift
	if !m.Learner {
		return drift, nil
	}
	if !m.Started() {
		return nil, fault.NewWaiting("EtcdMemberNotStarted", fmt.Errorf("etcd on %s has not joined the others yet", r.Target.Name))
	}
	if _, err := r.Cluster.EtcdStatus(ctx, r.Target.Name); fault.ReasonOf(err) == step.ReasonEtcdUnreachable {
		return nil, fault.NewWaiting("EtcdMemberNotStarted", fmt.Errorf("etcd on %s does not answer yet: %w", r.Target.Name, err))
	} else if err != nil {
		return nil, err
	}
	drift.Want("etcd member "+called(m), "learner", "voter")
	return drift, nil
}

// Apply asks for the vote. etcd refuses while the member is behind, which is Waiting.
func (PromoteMember) Apply(ctx context.Context, w step.Writer) error {
	m, err := own(ctx, w.Reading)
	if err != nil {
		return err
	}
	if err := w.Cluster.PromoteEtcdMember(ctx, m.ID); err != nil {
		return fmt.Errorf("cannot give host %s its vote in etcd: %w", w.Target.Name, err)
	}
	return nil
}

// own gives the member of the host.
func own(ctx context.Context, r step.Reader) (step.EtcdMember, error) {
	members, err := list(ctx, r.Cluster)
	if err != nil {
		return step.EtcdMember{}, err
	}
	m := find(members, at(step.EtcdPeerURL(r.Target.Address)))
	if m == nil {
		return step.EtcdMember{}, fault.NewTerminal("EtcdMemberMissing", "retry the operation from its start: the member is added anew",
			fmt.Errorf("host %s is no member of etcd", r.Target.Name))
	}
	return *m, nil
}

func list(ctx context.Context, r step.EtcdReader) ([]step.EtcdMember, error) {
	members, err := r.EtcdMembers(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot read the members of etcd: %w", err)
	}
	return members, nil
}

// at matches the member that is reached by url.
func at(url string) func(step.EtcdMember) bool {
	return func(m step.EtcdMember) bool { return slices.Contains(m.PeerURLs, url) }
}

func find(members []step.EtcdMember, match func(step.EtcdMember) bool) *step.EtcdMember {
	if i := slices.IndexFunc(members, match); i >= 0 {
		return &members[i]
	}
	return nil
}

// called names a member: one that has never started has no name.
func called(m step.EtcdMember) string {
	if m.Started() {
		return m.Name
	}
	return strings.Join(m.PeerURLs, ",")
}
