package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/crypto/ssh"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
)

// DialContext opens a TCP connection from the host. The network must be tcp; deadlines work.
func (s *Session) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	fail := func(err error) (net.Conn, error) {
		return nil, s.lost(fmt.Sprintf("cannot connect to %s from host %s", address, s.target.Name), host.ReasonUnreachable, err)
	}
	if err := splitPort(address); network != "tcp" || err != nil {
		return fail(fault.NewBug(errors.Join(fmt.Errorf("%s %s is no TCP address", network, address), err)))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, openTimeout, errors.New("no answer from the host"))
	defer cancel()
	remote, err := s.client.DialContext(ctx, network, address)
	var refused *ssh.OpenChannelError
	switch {
	case errors.As(err, &refused) && refused.Reason == ssh.Prohibited:
		return fail(fault.NewTerminal(ReasonForwardingRefused, "set AllowTcpForwarding to local or yes in the sshd_config of the host", clean(err)))
	case ctx.Err() != nil:
		if err == nil {
			err = remote.Close()
		}
		return fail(errors.Join(context.Cause(ctx), clean(err)))
	case err != nil:
		return fail(clean(err))
	}
	s.active.Add(1)
	return s.pipe(remote, address), nil
}

// pipe gives the channel the deadlines that SSH channels lack.
func (s *Session) pipe(remote net.Conn, address string) net.Conn {
	near, far := net.Pipe()
	finish := make(chan struct{}, 2)
	carry := func(to, from net.Conn) {
		// Either end may close at any time; the other end then sees the end of the stream.
		_, _ = io.Copy(to, from)
		finish <- struct{}{}
	}
	go carry(far, remote)
	go carry(remote, far)
	go func() {
		<-finish
		_, _ = far.Close(), remote.Close()
		<-finish
		s.touch()
		s.active.Add(-1)
	}()
	return &conn{Conn: near, address: address}
}

// conn says where the connection leads, for logs.
type conn struct {
	net.Conn
	address string
}

// RemoteAddr gives the address as seen from the host.
func (c *conn) RemoteAddr() net.Addr { return remoteAddr(c.address) }

type remoteAddr string

// Network is always tcp.
func (remoteAddr) Network() string { return "tcp" }

// String is HOST:PORT.
func (a remoteAddr) String() string { return string(a) }
