package etcd

import (
	"context"
	"fmt"
	"strings"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

// Healthy is a gate: it waits until etcd has as many voters as it should and all of them are well.
type Healthy struct {
	// Members is how many voters there must be.
	Members int `json:"members"`
	// Before says which change of the host's own membership comes next: Joining or Leaving; "" for none. Once that has
	// happened the gate was passed, and a run that resumes behind it does not wait for what was before.
	Before Membership `json:"before,omitempty"`
}

// Membership is a change of whether a host is a member of etcd.
type Membership string

// The changes of a membership.
const (
	Joining Membership = "join"
	Leaving Membership = "leave"
)

// passed says whether the change behind the gate has begun.
func (s Healthy) passed(members []step.EtcdMember, address string) bool {
	is := find(members, at(step.EtcdPeerURL(address))) != nil
	return s.Before == Joining && is || s.Before == Leaving && !is
}

// ID is stored in plans.
func (Healthy) ID() step.ID { return "etcd.healthy/v1" }

// Check asks every member: each answers, all follow one leader, none has an alarm.
func (s Healthy) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	members, err := list(ctx, r.Cluster)
	if err != nil {
		return nil, err
	}
	if s.passed(members, r.Target.Address) {
		return nil, nil
	}
	for _, m := range members {
		if m.Learner {
			return nil, unhealthy("member %s of etcd has no vote yet", called(m))
		}
	}
	if len(members) != s.Members {
		return nil, unhealthy("etcd has %d members, not %d: %s", len(members), s.Members, names(members))
	}
	var leader uint64
	for _, m := range members {
		if !m.Started() {
			return nil, unhealthy("member %s of etcd has not started yet", called(m))
		}
		status, err := r.Cluster.EtcdStatus(ctx, m.Name)
		switch {
		case fault.ClassOf(err) == fault.Transient:
			return nil, unhealthy("member %s of etcd does not answer: %w", m.Name, err)
		case err != nil:
			return nil, fmt.Errorf("cannot ask member %s of etcd: %w", m.Name, err)
		case status.Member != m.ID:
			return nil, unhealthy("etcd on %s is member %x, and the others know %x", m.Name, status.Member, m.ID)
		case len(status.Errors) > 0:
			return nil, unhealthy("member %s of etcd reports: %s", m.Name, strings.Join(status.Errors, "; "))
		case status.Leader == 0 || leader != 0 && status.Leader != leader:
			return nil, unhealthy("member %s of etcd follows leader %x, others %x", m.Name, status.Leader, leader)
		}
		leader = status.Leader
	}
	return nil, nil
}

// Apply has nothing to do: etcd works by itself.
func (Healthy) Apply(context.Context, step.Writer) error { return nil }

func unhealthy(format string, args ...any) error {
	return fault.NewWaiting("EtcdNotHealthy", fmt.Errorf(format, args...))
}

func names(members []step.EtcdMember) string {
	var all []string
	for _, m := range members {
		all = append(all, called(m))
	}
	return strings.Join(all, ", ")
}
