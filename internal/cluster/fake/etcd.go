// Package fake owns the etcd of a managed cluster that lives in memory: its members and what they say, for tests.
// It must keep the contract that etcdtest states, and holds no keys of Kubernetes.
package fake

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

// Etcd is the membership of an etcd. It implements step.EtcdReader and step.EtcdWriter and is safe for concurrent use.
// The zero value has no member, so nothing answers.
type Etcd struct {
	mu      sync.Mutex
	members []*member
	// last is the newest ID, leader that of the leader, 0 when there is none.
	last, leader uint64
}

type member struct {
	step.EtcdMember
	// runs says that its process runs, lags that it has not read everything yet.
	runs, lags bool
	alarm      string
}

// Form makes the cluster that a list of initial members describes, by Host name and internal address. None runs yet.
func (e *Etcd) Form(addresses map[string]string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.members, e.leader = nil, 0
	for name, address := range addresses {
		e.last++
		e.members = append(e.members, &member{EtcdMember: step.EtcdMember{ID: e.last, Name: name, PeerURLs: []string{step.EtcdPeerURL(address)}}})
	}
	slices.SortFunc(e.members, func(a, b *member) int { return strings.Compare(a.Name, b.Name) })
}

// Wipe forgets everything, as if every data directory were gone.
func (e *Etcd) Wipe() { e.Form(nil) }

// Start runs the member of a host. One that nobody has added ends at once, which is the error.
func (e *Etcd) Start(name, address string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.find(func(m *member) bool { return slices.Contains(m.PeerURLs, step.EtcdPeerURL(address)) })
	if m == nil {
		return fmt.Errorf("etcd on %s ended: it is no member of the cluster", name)
	}
	m.Name, m.ClientURLs, m.runs = name, []string{"https://" + address + ":2379"}, true
	e.elect()
	return nil
}

// Stop ends the process of a member.
func (e *Etcd) Stop(name string) { e.change(name, func(m *member) { m.runs = false }) }

// Lag says whether a member has still to read something.
func (e *Etcd) Lag(name string, lags bool) { e.change(name, func(m *member) { m.lags = lags }) }

// Alarm raises an alarm of a member; "" ends it.
func (e *Etcd) Alarm(name, alarm string) { e.change(name, func(m *member) { m.alarm = alarm }) }

func (e *Etcd) change(name string, do func(*member)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if m := e.find(func(m *member) bool { return m.Name == name }); m != nil {
		do(m)
	}
	e.elect()
}

// EtcdMembers is step.EtcdReader's.
func (e *Etcd) EtcdMembers(context.Context) ([]step.EtcdMember, error) {
	var all []step.EtcdMember
	err := e.ask(func() error {
		for _, m := range e.members {
			all = append(all, m.EtcdMember)
		}
		return nil
	})
	return all, err
}

// EtcdStatus is step.EtcdReader's.
func (e *Etcd) EtcdStatus(_ context.Context, host string) (step.EtcdStatus, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.find(func(m *member) bool { return m.Name == host && m.runs })
	if m == nil {
		return step.EtcdStatus{}, unreachable(fmt.Errorf("cannot reach etcd on %s: connection refused", host))
	}
	status := step.EtcdStatus{Member: m.ID, Leader: e.leader, Version: "3.6.8", Size: 1 << 20, Used: 1 << 19, Committed: 100, Applied: 100, Learner: m.Learner}
	if m.lags {
		status.Committed, status.Applied = 1, 1
	}
	for _, other := range e.members {
		if other.alarm != "" {
			status.Errors = append(status.Errors, fmt.Sprintf("memberID:%d alarm:%s ", other.ID, other.alarm))
		}
	}
	if e.leader == 0 {
		status.Errors = append(status.Errors, "etcdserver: no leader")
	}
	return status, nil
}

// EtcdSnapshot is step.EtcdReader's.
func (e *Etcd) EtcdSnapshot(ctx context.Context, host string) (io.ReadCloser, error) {
	if _, err := e.EtcdStatus(ctx, host); err != nil {
		return nil, err
	}
	data := bytes.Repeat([]byte("page"), 1024)
	sum := sha256.Sum256(data)
	return io.NopCloser(bytes.NewReader(append(data, sum[:]...))), nil
}

// AddEtcdLearner is step.EtcdWriter's.
func (e *Etcd) AddEtcdLearner(_ context.Context, peerURL string) (step.EtcdMember, error) {
	var added step.EtcdMember
	err := e.ask(func() error {
		voters, run := e.voters()
		switch {
		case voters > 1 && run < (voters+1)/2+1:
			return unhealthy()
		case e.find(func(m *member) bool { return slices.Contains(m.PeerURLs, peerURL) }) != nil:
			return refused("etcdserver: Peer URLs already exists")
		case e.find(func(m *member) bool { return m.Learner }) != nil:
			return refused("etcdserver: too many learner members in cluster")
		}
		e.last++
		added = step.EtcdMember{ID: e.last, PeerURLs: []string{peerURL}, Learner: true}
		e.members = append(e.members, &member{EtcdMember: added})
		return nil
	})
	return added, err
}

// PromoteEtcdMember is step.EtcdWriter's.
func (e *Etcd) PromoteEtcdMember(_ context.Context, id uint64) error {
	return e.ask(func() error {
		m := e.find(func(m *member) bool { return m.ID == id })
		switch {
		case m == nil:
			return refused("etcdserver: member not found")
		case m.Learner && (!m.runs || m.lags):
			return fault.NewWaiting(step.ReasonEtcdNotInSync, errors.New("etcdserver: can only promote a learner member which is in sync with leader"))
		}
		m.Learner = false
		return nil
	})
}

// RemoveEtcdMember is step.EtcdWriter's.
func (e *Etcd) RemoveEtcdMember(_ context.Context, id uint64) error {
	return e.ask(func() error {
		i := slices.IndexFunc(e.members, func(m *member) bool { return m.ID == id })
		if i < 0 {
			return nil
		}
		voters, run := e.voters()
		if m := e.members[i]; !m.Learner && m.runs && run-1 < 1+(voters-1)/2 && voters > 1 {
			return unhealthy()
		} else if !m.Learner && voters == 1 {
			return refused("etcdserver: re-configuration failed due to not enough started members")
		}
		e.members = slices.Delete(e.members, i, i+1)
		e.elect()
		return nil
	})
}

// MoveEtcdLeader is step.EtcdWriter's.
func (e *Etcd) MoveEtcdLeader(_ context.Context, to uint64) error {
	return e.ask(func() error {
		if e.find(func(m *member) bool { return m.ID == to && !m.Learner && m.runs }) == nil {
			return refused("etcdserver: bad leader transferee")
		}
		e.leader = to
		return nil
	})
}

// ask runs a request that needs the quorum.
func (e *Etcd) ask(request func() error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.leader == 0 {
		return unreachable(errors.New("no member of etcd can take the request"))
	}
	return request()
}

// elect keeps the leader, or makes the first voter that runs the leader, if the voters that run are a quorum.
func (e *Etcd) elect() {
	fit := func(m *member) bool { return m.runs && !m.Learner }
	voters, run := e.voters()
	switch {
	case run < voters/2+1:
		e.leader = 0
	case e.find(func(m *member) bool { return fit(m) && m.ID == e.leader }) == nil:
		e.leader = e.find(fit).ID
	}
}

// voters counts the members that have a vote, and those of them that run.
func (e *Etcd) voters() (all, run int) {
	for _, m := range e.members {
		if m.Learner {
			continue
		}
		all++
		if m.runs {
			run++
		}
	}
	return all, run
}

func (e *Etcd) find(match func(*member) bool) *member {
	if i := slices.IndexFunc(e.members, match); i >= 0 {
		return e.members[i]
	}
	return nil
}

func unreachable(err error) error { return fault.NewTransient(step.ReasonEtcdUnreachable, err) }

func unhealthy() error {
	return fault.NewTransient(step.ReasonEtcdUnhealthy, errors.New("etcdserver: unhealthy cluster"))
}

func refused(text string) error {
	return fault.NewTerminal(step.ReasonEtcdRefused, "look at the log of etcd on the control planes, then retry", errors.New(text))
}
