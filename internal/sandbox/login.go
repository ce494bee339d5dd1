package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	readyLimit = 2 * time.Minute
	dialLimit  = 5 * time.Second
)

// waitReady waits until a login with the sandbox key succeeds on a host that shows its own key.
func waitReady(ctx context.Context, id identity, h hostState) error {
	var last error
	err := waitUntil(ctx, readyLimit, func() (bool, error) {
		running, err := isRunning(ctx, id, h.Name)
		if err != nil {
			return false, err
		}
		if !running {
			return false, fmt.Errorf("its container ended%s", consoleTail(id, h.Name))
		}
		client, err := login(ctx, id, h)
		if err != nil {
			last = err
			return false, nil //nolint:nilerr // Not yet; told when the time is over.
		}
		return true, client.Close()
	})
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = errors.Join(err, last)
		}
		return fmt.Errorf("cannot bring up host %s: %w", h.Name, err)
	}
	return nil
}

// login opens an SSH connection as root.
func login(ctx context.Context, id identity, h hostState) (*ssh.Client, error) {
	key, err := loginKey(id.dir)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey([]byte(key.private))
	if err != nil {
		return nil, fmt.Errorf("cannot read the sandbox login key: %w", err)
	}
	pinned, err := hostKeyOf(id, h.Name)
	if err != nil {
		return nil, err
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(pinned))
	if err != nil {
		return nil, fmt.Errorf("cannot read the key of host %s: %w", h.Name, err)
	}
	config := &ssh.ClientConfig{
		User:              loginUser,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback:   ssh.FixedHostKey(public),
		HostKeyAlgorithms: []string{public.Type()},
	}
	dialer := net.Dialer{Timeout: dialLimit}
	address := netip.AddrPortFrom(h.Address, sshPort).String()
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to host %s: %w", h.Name, err)
	}
	// A handshake has no time limit of its own.
	if err := conn.SetDeadline(time.Now().Add(dialLimit)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	transport, channels, requests, err := ssh.NewClientConn(conn, address, config)
	if err != nil {
		return nil, fmt.Errorf("cannot log in to host %s: %w", h.Name, errors.Join(err, ignoreClosed(conn.Close())))
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, errors.Join(err, transport.Close())
	}
	return ssh.NewClient(transport, channels, requests), nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
