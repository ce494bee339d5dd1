package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ServerName is in the certificate of every API server that kubeadm makes.
const ServerName = serverName

// servedTimeout bounds one look at a certificate.
const servedTimeout = 5 * time.Second

// ControlPlanes names the hosts of the control plane, and the port of each API server.
func (c *Connection) ControlPlanes(ctx context.Context) ([]string, int32, error) {
	if err := c.open(ctx); err != nil {
		return nil, 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.address.Hosts), c.address.Port, nil
}

// Served says when the certificate ends that is served at HOST:PORT, as the named host sees it. Nothing is sent there, so who
// serves it is not proven.
func (c *Connection) Served(ctx context.Context, host, address, serverName string) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, servedTimeout)
	defer cancel()
	session, err := c.access.sessions.Session(ctx, host)
	if err != nil {
		return time.Time{}, fmt.Errorf("cannot reach host %s: %w", host, err)
	}
	raw, err := session.DialContext(ctx, "tcp", address)
	if err != nil {
		return time.Time{}, fmt.Errorf("cannot reach %s from host %s: %w", address, host, err)
	}
	defer raw.Close()
	conn := tls.Client(raw, &tls.Config{ServerName: serverName, InsecureSkipVerify: true}) //nolint:gosec // See above.
	if err := conn.HandshakeContext(ctx); err != nil {
		return time.Time{}, fmt.Errorf("cannot see the certificate at %s on host %s: %w", address, host, err)
	}
	certificates := conn.ConnectionState().PeerCertificates
	if len(certificates) == 0 {
		return time.Time{}, errors.New("cannot see a certificate at " + address + " on host " + host)
	}
	return certificates[0].NotAfter, nil
}
