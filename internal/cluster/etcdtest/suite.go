// Package etcdtest owns what every way to talk to a managed cluster's etcd must do, as a suite, and a real etcd for
// tests on loopback. It must never be part of the program.
package etcdtest

import (
	"context"
	"crypto/sha256"
	"io"
	"slices"
	"testing"
	"time"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

// Etcd is both halves.
type Etcd interface {
	step.EtcdReader
	step.EtcdWriter
}

// Env is an etcd with three members, named cp1 to cp3, that run.
type Env struct {
	Etcd Etcd
	// Next is the address of cp4, which has no etcd yet; Start runs it, joining the others.
	Next  string
	Start func(name string)
	// Stop ends the process of a member.
	Stop func(name string)
}

// patience bounds the wait for what a real etcd does by itself. It trusts members that have met five seconds ago.
const patience = time.Minute

// Until asks again until the answer is neither Transient nor Waiting.
func Until(t *testing.T, ask func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		err := ask(ctx)
		if err == nil {
			return
		}
		if class := fault.ClassOf(err); class != fault.Transient && class != fault.Waiting || ctx.Err() != nil {
			t.Fatal(err)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			t.Fatal(err)
		}
	}
}

// Run follows one etcd from three members over four to two, and to the loss of its quorum.
func Run(t *testing.T, setup func(*testing.T) Env) {
	s := &suite{T: t, Env: setup(t)}
	s.members("cp1", "cp2", "cp3")
	s.status()
	s.snapshot()
	s.add()
	s.promote()
	s.move()
	s.remove()
}

type suite struct {
	*testing.T
	Env
}

func (s *suite) list() (all []step.EtcdMember) {
	s.Helper()
	Until(s.T, func(ctx context.Context) (err error) {
		all, err = s.Etcd.EtcdMembers(ctx)
		return err
	})
	slices.SortFunc(all, func(a, b step.EtcdMember) int { return slices.Compare(a.PeerURLs, b.PeerURLs) })
	return all
}

// members wants exactly these voters, started.
func (s *suite) members(names ...string) {
	s.Helper()
	var have []string
	for _, m := range s.list() {
		have = append(have, m.Name)
		if m.Learner || m.ID == 0 || len(m.PeerURLs) != 1 || len(m.ClientURLs) == 0 {
			s.Errorf("a started voter must have its URLs: %+v", m)
		}
	}
	if !slices.Equal(have, names) {
		s.Fatalf("members are %v, want %v", have, names)
	}
}

func (s *suite) named(name string) step.EtcdMember {
	s.Helper()
	for _, m := range s.list() {
		if m.Name == name {
			return m
		}
	}
	s.Fatalf("etcd has no member %s", name)
	return step.EtcdMember{}
}

func (s *suite) wants(err error, class fault.Class, reason string) {
	s.Helper()
	if err == nil || fault.ClassOf(err) != class || fault.ReasonOf(err) != reason {
		s.Errorf("got %v (%s, %s), want %s, %s", err, fault.ClassOf(err), fault.ReasonOf(err), class, reason)
	}
}

// status wants each member to say who it is, and all to follow one leader.
func (s *suite) status() {
	leaders := map[uint64]bool{}
	for _, m := range s.list() {
		status, err := s.Etcd.EtcdStatus(s.Context(), m.Name)
		if err != nil {
			s.Fatal(err)
		}
		if status.Member != m.ID || status.Version == "" || status.Size <= 0 || status.Committed == 0 || status.Learner || len(status.Errors) > 0 {
			s.Errorf("status of %s: %+v", m.Name, status)
		}
		leaders[status.Leader] = true
	}
	if len(leaders) != 1 || leaders[0] {
		s.Errorf("leaders: %v, want one", leaders)
	}
	_, err := s.Etcd.EtcdStatus(s.Context(), "cp4")
	s.wants(err, fault.Transient, step.ReasonEtcdUnreachable)
}

// snapshot wants data that its last bytes are the checksum of.
func (s *suite) snapshot() {
	stream, err := s.Etcd.EtcdSnapshot(s.Context(), "cp2")
	if err != nil {
		s.Fatal(err)
	}
	data, err := io.ReadAll(stream)
	if err != nil || len(data) <= sha256.Size {
		s.Fatalf("%d bytes, %v", len(data), err)
	}
	if err := stream.Close(); err != nil {
		s.Error(err)
	}
	end := len(data) - sha256.Size
	if sum := sha256.Sum256(data[:end]); !slices.Equal(sum[:], data[end:]) {
		s.Error("the snapshot does not end with its checksum")
	}
	_, err = s.Etcd.EtcdSnapshot(s.Context(), "cp4")
	s.wants(err, fault.Transient, step.ReasonEtcdUnreachable)
}

// add wants one learner, and no second.
func (s *suite) add() {
	url := step.EtcdPeerURL(s.Next)
	var added step.EtcdMember
	Until(s.T, func(ctx context.Context) (err error) {
		added, err = s.Etcd.AddEtcdLearner(ctx, url)
		return err
	})
	all := s.list()
	if i := slices.IndexFunc(all, func(m step.EtcdMember) bool { return m.ID == added.ID }); i < 0 || !all[i].Learner || all[i].Started() || !slices.Equal(all[i].PeerURLs, []string{url}) {
		s.Fatalf("added %+v, and the members are %+v", added, all)
	}
	_, err := s.Etcd.AddEtcdLearner(s.Context(), url)
	s.wants(err, fault.Terminal, step.ReasonEtcdRefused)
	_, err = s.Etcd.AddEtcdLearner(s.Context(), "https://192.0.2.99:2380")
	s.wants(err, fault.Terminal, step.ReasonEtcdRefused)
}

// promote wants a learner to wait until it has started, and a voter to stay one.
func (s *suite) promote() {
	all := s.list()
	learner := all[slices.IndexFunc(all, func(m step.EtcdMember) bool { return m.Learner })]
	s.wants(s.Etcd.PromoteEtcdMember(s.Context(), learner.ID), fault.Waiting, step.ReasonEtcdNotInSync)
	s.Start("cp4")
	for range 2 {
		Until(s.T, func(ctx context.Context) error { return s.Etcd.PromoteEtcdMember(ctx, learner.ID) })
	}
	s.members("cp1", "cp2", "cp3", "cp4")
	s.wants(s.Etcd.PromoteEtcdMember(s.Context(), 4711), fault.Terminal, step.ReasonEtcdRefused)
}

// move wants the leader where it was asked for.
func (s *suite) move() {
	for _, name := range []string{"cp4", "cp2", "cp2"} {
		to := s.named(name)
		Until(s.T, func(ctx context.Context) error { return s.Etcd.MoveEtcdLeader(ctx, to.ID) })
		status, err := s.Etcd.EtcdStatus(s.Context(), name)
		if err != nil || status.Leader != to.ID {
			s.Errorf("%s must lead: %+v %v", name, status, err)
		}
	}
	s.wants(s.Etcd.MoveEtcdLeader(s.Context(), 4711), fault.Terminal, step.ReasonEtcdRefused)
}

// remove wants members gone, the dead too, and the quorum never at risk.
func (s *suite) remove() {
	gone := s.named("cp4").ID
	for range 2 {
		Until(s.T, func(ctx context.Context) error { return s.Etcd.RemoveEtcdMember(ctx, gone) })
		s.Stop("cp4") // Its program ends by itself; inside a test it does not.
	}
	s.members("cp1", "cp2", "cp3")
	s.Stop("cp3")
	Until(s.T, func(ctx context.Context) error { // Its peers notice after a moment.
		_, err := s.Etcd.EtcdStatus(ctx, "cp3")
		if err == nil {
			return fault.NewWaiting("Stopping", io.ErrNoProgress)
		}
		s.wants(err, fault.Transient, step.ReasonEtcdUnreachable)
		return nil
	})
	s.wants(s.Etcd.RemoveEtcdMember(s.Context(), s.named("cp1").ID), fault.Transient, step.ReasonEtcdUnhealthy)
	s.members("cp1", "cp2", "cp3")
	_, err := s.Etcd.AddEtcdLearner(s.Context(), step.EtcdPeerURL(s.Next))
	s.wants(err, fault.Transient, step.ReasonEtcdUnhealthy)
	dead := s.named("cp3").ID
	Until(s.T, func(ctx context.Context) error { return s.Etcd.RemoveEtcdMember(ctx, dead) })
	s.members("cp1", "cp2")
	s.Stop("cp2")
	_, err = s.Etcd.EtcdMembers(s.Context())
	s.wants(err, fault.Transient, step.ReasonEtcdUnreachable)
}
