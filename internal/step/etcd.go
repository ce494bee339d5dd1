package step

import (
	"context"
	"io"
	"net"
)

// The reasons of what an etcd refuses, the same from a real one and from one in a test.
const (
	// ReasonEtcdUnreachable is Transient: no member answers, or the one that was asked does not.
	ReasonEtcdUnreachable = "EtcdUnreachable"
	// ReasonEtcdUnhealthy is Transient: etcd fears for its quorum, or its members met only seconds ago.
	ReasonEtcdUnhealthy = "EtcdUnhealthy"
	// ReasonEtcdNotInSync is Waiting: a learner has not started, or has not read everything yet.
	ReasonEtcdNotInSync = "EtcdNotInSync"
	// ReasonEtcdRefused is Terminal: etcd would answer the same again.
	ReasonEtcdRefused = "EtcdRefused"
	// ReasonEtcdSnapshotDamaged is Transient: a snapshot does not have the checksum that ends it.
	ReasonEtcdSnapshotDamaged = "EtcdSnapshotDamaged"
)

// EtcdMember is one member of a managed cluster's etcd, as the others know it.
type EtcdMember struct {
	ID uint64
	// Name is that of the Host; empty until the member has started for the first time.
	Name string
	// PeerURLs are how other members reach it, ClientURLs how clients do; the latter are empty until it has started.
	PeerURLs, ClientURLs []string
	// Learner says that it has no vote yet.
	Learner bool
}

// Started says whether the member has ever joined.
func (m EtcdMember) Started() bool { return m.Name != "" }

// EtcdPeerURL gives the URL by which members reach the one on the host with that internal address.
func EtcdPeerURL(address string) string { return "https://" + net.JoinHostPort(address, "2380") }

// EtcdStatus is what one member says of itself.
type EtcdStatus struct {
	// Member is its ID, Leader that of the leader it follows: 0 when it knows none.
	Member, Leader uint64
	// Version is that of the program, such as 3.6.8.
	Version string
	// Size is that of the database file and Used the part of it that holds data, both in bytes.
	Size, Used int64
	// Committed and Applied are indexes of the Raft log.
	Committed, Applied uint64
	// Learner says that it has no vote yet.
	Learner bool
	// Errors holds alarms of any member, such as NOSPACE, and what else it finds wrong.
	Errors []string
}

// EtcdReader is the reading half of a managed cluster's etcd. Requests are bounded by themselves.
type EtcdReader interface {
	// EtcdMembers lists the members as the quorum knows them.
	EtcdMembers(ctx context.Context) ([]EtcdMember, error)
	// EtcdStatus asks the member on the named host.
	EtcdStatus(ctx context.Context, host string) (EtcdStatus, error)
	// EtcdSnapshot streams the data of the member on the named host, ended by the SHA-256 of what came before.
	// Read gives an error instead of io.EOF when the two do not match. The caller closes it.
	EtcdSnapshot(ctx context.Context, host string) (io.ReadCloser, error)
}

// EtcdWriter changes the membership of a managed cluster's etcd. A request is sent once: who repeats one looks first.
type EtcdWriter interface {
	// AddEtcdLearner adds a member without a vote. etcd has one learner at most, and refuses while fewer voters are
	// connected than a quorum with one more would need: a dead member is removed first.
	AddEtcdLearner(ctx context.Context, peerURL string) (EtcdMember, error)
	// PromoteEtcdMember gives a learner its vote; a voter is fine. It waits for one that is not in sync.
	PromoteEtcdMember(ctx context.Context, id uint64) error
	// RemoveEtcdMember removes a member; one that is gone is fine. etcd refuses where it sees its quorum in danger.
	RemoveEtcdMember(ctx context.Context, id uint64) error
	// MoveEtcdLeader makes that voter the leader; one that leads already is fine.
	MoveEtcdLeader(ctx context.Context, to uint64) error
}
