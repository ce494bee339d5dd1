package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/pki"
	"slipway.dev/slipway/internal/step"
)

const (
	// etcdAddress is where kubeadm lets etcd listen on each control plane.
	etcdAddress = "127.0.0.1:2379"
	// lookTimeout bounds one look at one member.
	lookTimeout = 5 * time.Second
)

// EtcdMembers lists the members as the quorum knows them.
func (c *Connection) EtcdMembers(ctx context.Context) ([]step.EtcdMember, error) {
	var members []step.EtcdMember
	err := c.onMember(ctx, func(ctx context.Context, etcd *clientv3.Client) error {
		response, err := etcd.MemberList(ctx)
		if err != nil {
			return err
		}
		for _, m := range response.Members {
			members = append(members, member(m))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot list the members of etcd: %w", err)
	}
	return members, nil
}

// EtcdStatus asks the member on the named host.
func (c *Connection) EtcdStatus(ctx context.Context, host string) (step.EtcdStatus, error) {
	var status step.EtcdStatus
	err := c.onHost(ctx, host, lookTimeout, func(ctx context.Context, etcd *clientv3.Client) error {
		response, err := etcd.Status(ctx, etcd.Endpoints()[0])
		if err != nil {
			return err
		}
		status = step.EtcdStatus{
			Member: response.Header.MemberId, Leader: response.Leader, Version: response.Version,
			Size: response.DbSize, Used: response.DbSizeInUse, Committed: response.RaftIndex, Applied: response.RaftAppliedIndex,
			Learner: response.IsLearner, Errors: response.Errors,
		}
		return nil
	})
	return status, err
}

// AddEtcdLearner adds a member without a vote.
func (c *Connection) AddEtcdLearner(ctx context.Context, peerURL string) (step.EtcdMember, error) {
	var added step.EtcdMember
	err := c.onMember(ctx, func(ctx context.Context, etcd *clientv3.Client) error {
		response, err := etcd.MemberAddAsLearner(ctx, []string{peerURL})
		if err == nil {
			added = member(response.Member)
		}
		return err
	})
	if err != nil {
		return added, fmt.Errorf("cannot add %s to etcd: %w", peerURL, err)
	}
	return added, nil
}

// PromoteEtcdMember gives a learner its vote; a voter is fine.
func (c *Connection) PromoteEtcdMember(ctx context.Context, id uint64) error {
	err := c.onMember(ctx, func(ctx context.Context, etcd *clientv3.Client) error {
		_, err := etcd.MemberPromote(ctx, id)
		return unlessVoter(err)
	})
	if err != nil {
		return fmt.Errorf("cannot promote member %x of etcd: %w", id, err)
	}
	return nil
}

// RemoveEtcdMember removes a member; one that is gone is fine.
func (c *Connection) RemoveEtcdMember(ctx context.Context, id uint64) error {
	err := c.onMember(ctx, func(ctx context.Context, etcd *clientv3.Client) error {
		_, err := etcd.MemberRemove(ctx, id)
		return unlessGone(err)
	})
	if err != nil {
		return fmt.Errorf("cannot remove member %x from etcd: %w", id, err)
	}
	return nil
}

// MoveEtcdLeader makes that voter the leader. Only the leader itself can be asked, which may be a host that the cluster
// no longer names because it is about to go.
func (c *Connection) MoveEtcdLeader(ctx context.Context, to uint64) error {
	leader := ""
	err := c.onMember(ctx, func(ctx context.Context, etcd *clientv3.Client) error {
		status, err := etcd.Status(ctx, etcd.Endpoints()[0])
		if err != nil {
			return err
		}
		response, err := etcd.MemberList(ctx)
		if err != nil {
			return err
		}
		for _, m := range response.Members {
			if m.ID == status.Leader {
				leader = m.Name
			}
		}
		return nil
	})
	if err == nil && leader == "" {
		err = fault.NewTransient(step.ReasonEtcdUnhealthy, errors.New("its leader is no member"))
	}
	if err == nil {
		err = c.onHost(ctx, leader, requestTimeout, func(ctx context.Context, etcd *clientv3.Client) error {
			_, err := etcd.MoveLeader(ctx, to)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("cannot make member %x the leader of etcd: %w", to, err)
	}
	return nil
}

func member(m *etcdserverpb.Member) step.EtcdMember {
	return step.EtcdMember{ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, Learner: m.IsLearner}
}

// etcdRequest is one request to one member.
type etcdRequest func(context.Context, *clientv3.Client) error

// onMember sends a request to the first voter that answers and follows a leader. It is sent only once, as nobody knows
// what became of one whose answer was lost.
func (c *Connection) onMember(ctx context.Context, request etcdRequest) error {
	address, err := c.locateEtcd(ctx)
	if err != nil {
		return err
	}
	var failures []error
	for _, host := range address.Hosts {
		status, err := c.EtcdStatus(ctx, host)
		if err == nil && status.Leader != 0 && !status.Learner {
			return c.onHost(ctx, host, requestTimeout, request)
		}
		if err == nil {
			err = fault.NewTransient(step.ReasonEtcdUnreachable, fmt.Errorf("etcd on %s follows leader %x, learner %t: %v", host, status.Leader, status.Learner, status.Errors))
		}
		failures = append(failures, err)
	}
	err = fmt.Errorf("no member of etcd can take the request: %w", errors.Join(failures...))
	if slices.ContainsFunc(failures, func(err error) bool { return fault.ClassOf(err) == fault.Transient }) {
		return fault.NewTransient(step.ReasonEtcdUnreachable, err)
	}
	return err
}

// onHost sends a request to the member on one host and classes what comes of it.
func (c *Connection) onHost(ctx context.Context, host string, limit time.Duration, request etcdRequest) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer in %s", limit))
	defer cancel()
	ctx, cut := context.WithCancelCause(ctx)
	defer cut(nil)
	etcd, err := c.etcd(ctx, host, cut)
	if err != nil {
		return err
	}
	defer closeEtcd(etcd)
	if err := request(ctx, etcd); err != nil {
		return fmt.Errorf("cannot ask etcd on %s: %w", host, etcdFault(ctx, err))
	}
	return nil
}

// locateEtcd finds the control planes anew: their number changes while a connection lives.
func (c *Connection) locateEtcd(ctx context.Context) (Address, error) {
	address, err := c.access.locate(ctx, c.namespace, c.name)
	if err != nil {
		return address, fmt.Errorf("cannot find cluster %s/%s: %w", c.namespace, c.name, err)
	}
	if len(address.Hosts) == 0 {
		return address, fmt.Errorf("cannot ask etcd of cluster %s/%s: it has no control plane", c.namespace, c.name)
	}
	return address, nil
}

// etcd gives a client of the member on one host, for requests under ctx. It dials when it is used, and calls cut when
// that fails: gRPC would try until the deadline, and then know no reason. The caller closes the client.
func (c *Connection) etcd(ctx context.Context, host string, cut context.CancelCauseFunc) (*clientv3.Client, error) {
	config, err := c.etcdTLS(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot ask etcd on %s: %w", host, err)
	}
	// kubeadm puts the node's name into the certificate: it proves that this very host answers.
	config.ServerName = host
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		conn, err := c.dialEtcd(ctx, host)
		if err != nil {
			cut(err)
		}
		return conn, err
	}
	etcd, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"https://" + host}, Context: ctx, Logger: zap.NewNop(),
		DialOptions:     []grpc.DialOption{grpc.WithContextDialer(dial), grpc.WithTransportCredentials(handshake{credentials.NewTLS(config), cut})},
		MaxUnaryRetries: 1, // once: the engine tries again
	})
	if err != nil {
		return nil, fmt.Errorf("cannot ask etcd on %s: %w", host, err)
	}
	return etcd, nil
}

func (c *Connection) dialEtcd(ctx context.Context, host string) (net.Conn, error) {
	session, err := c.access.sessions.Session(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("cannot reach host %s: %w", host, err)
	}
	conn, err := session.DialContext(ctx, "tcp", etcdAddress)
	if err != nil {
		return nil, fmt.Errorf("cannot reach etcd on %s: %w", host, err)
	}
	return conn, nil
}

// handshake is TLS that tells why it failed.
type handshake struct {
	credentials.TransportCredentials
	cut context.CancelCauseFunc
}

// ClientHandshake is that of TLS.
func (h handshake) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secure, info, err := h.TransportCredentials.ClientHandshake(ctx, authority, conn)
	if err != nil {
		h.cut(fmt.Errorf("cannot trust who answers: %w", err))
	}
	return secure, info, err
}

// Clone keeps whom it tells.
func (h handshake) Clone() credentials.TransportCredentials {
	return handshake{h.TransportCredentials.Clone(), h.cut}
}

// closeEtcd ends a client's connections. By then every answer has come, so nothing is lost when that fails.
func closeEtcd(etcd *clientv3.Client) { _ = etcd.Close() }

// etcdTLS gives a configuration with a client certificate that is good for half an hour at least.
func (c *Connection) etcdTLS(ctx context.Context) (*tls.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.etcdConfig != nil && time.Since(c.etcdMade) < certificateLife/2 {
		return c.etcdConfig.Clone(), nil
	}
	address, err := c.locateEtcd(ctx)
	if err != nil {
		return nil, err
	}
	caCert, err := c.access.secrets.Secret(ctx, address.EtcdCACert)
	if err != nil {
		return nil, fmt.Errorf("cannot read its certificate authority: %w", err)
	}
	caKey, err := c.access.secrets.Secret(ctx, address.EtcdCAKey)
	if err != nil {
		return nil, fmt.Errorf("cannot read its certificate authority: %w", err)
	}
	ca, err := pki.ParseCA(caCert, caKey)
	if err != nil {
		return nil, fmt.Errorf("cannot use its certificate authority: %w", err)
	}
	certPEM, keyPEM, err := ca.Issue(pki.Template{CommonName: "slipway", Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, ValidFor: certificateLife})
	if err != nil {
		return nil, fmt.Errorf("cannot issue a client certificate: %w", err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("cannot use a client certificate: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate())
	c.etcdConfig, c.etcdMade = &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, time.Now()
	return c.etcdConfig.Clone(), nil
}
