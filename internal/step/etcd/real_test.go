package etcd

import (
	"context"
	"testing"

	"slipway.dev/slipway/internal/cluster/etcdtest"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

// hosts runs steps on the hosts of a real etcd.
type hosts struct {
	*testing.T
	*etcdtest.Real
}

func (r hosts) reader(host string) step.Reader {
	return step.Reader{Target: step.Target{Name: host, Address: r.Addresses[host]}, Cluster: connection{EtcdReader: r.Connection}}
}

func (r hosts) writer(host string) step.Writer {
	read := r.reader(host)
	return step.Writer{Target: read.Target, Cluster: connection{EtcdReader: r.Connection, EtcdWriter: r.Connection}, Reading: read}
}

// done does what the engine does: Check and Apply, again while they say Transient or Waiting, until Check is clean.
func (r hosts) done(host string, s step.Step) {
	r.Helper()
	etcdtest.Until(r.T, func(ctx context.Context) error {
		drift, err := s.Check(ctx, r.reader(host))
		if err != nil || drift.Clean() {
			return err
		}
		if err := s.Apply(ctx, r.writer(host)); err != nil {
			return err
		}
		if drift, err = s.Check(ctx, r.reader(host)); err == nil && !drift.Clean() {
			r.Errorf("%s changed nothing: %v", s.ID(), drift)
		}
		return err
	})
}

// TestReal follows one real etcd: a fourth member comes although an earlier try left a learner, the leader leaves, one
// dies and goes, and nothing more may go.
func TestReal(t *testing.T) {
	r := hosts{t, etcdtest.StartReal(t)}
	r.done("cp1", Healthy{Members: 3})
	etcdtest.Until(t, func(ctx context.Context) error {
		_, err := r.Connection.AddEtcdLearner(ctx, step.EtcdPeerURL("192.0.2.99"))
		return err
	})
	r.done("cp4", AddMember{})
	if _, err := (PromoteMember{}).Check(t.Context(), r.reader("cp4")); fault.ClassOf(err) != fault.Waiting {
		t.Errorf("a member that has not started: %v, want Waiting", err)
	}
	r.Join("cp4")
	r.done("cp4", PromoteMember{})
	r.done("cp1", Healthy{Members: 4})

	status, err := r.Connection.EtcdStatus(t.Context(), "cp1")
	if err != nil {
		t.Fatal(err)
	}
	members, err := r.Connection.EtcdMembers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	leader := find(members, func(m step.EtcdMember) bool { return m.ID == status.Leader }).Name
	r.Retire(leader)
	r.done(other(leader), RemoveMember{Name: leader, Address: r.Addresses[leader]})
	r.Stop(leader)
	r.done(other(leader), Healthy{Members: 3})

	dead := other(leader)
	stays := other(leader, dead)
	r.Stop(dead)
	if _, err := (Healthy{Members: 3}).Check(t.Context(), r.reader(stays)); fault.ClassOf(err) == "" || err == nil {
		t.Errorf("%s is dead, and etcd passes for healthy", dead)
	}
	last := other(leader, dead, stays)
	err = RemoveMember{Name: last, Address: r.Addresses[last]}.Apply(t.Context(), r.writer(stays))
	if fault.ReasonOf(err) != "EtcdQuorumAtRisk" {
		t.Errorf("removing %s while %s is dead: %v, want a refusal", last, dead, err)
	}
	r.done(stays, RemoveMember{Name: dead, Address: r.Addresses[dead]})
	r.done(stays, Healthy{Members: 2})
}

// other gives a host that none of the named is.
func other(not ...string) string {
	for _, name := range []string{"cp1", "cp2", "cp3", "cp4"} {
		free := true
		for _, n := range not {
			free = free && n != name
		}
		if free {
			return name
		}
	}
	return ""
}
