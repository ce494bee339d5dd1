package cluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

// silence is how long a snapshot may give nothing while somebody reads it.
const silence = 30 * time.Second

var errSilent = fmt.Errorf("it gave nothing for %s", silence)

// EtcdSnapshot streams the data of the member on the named host. It lives as long as ctx; the caller closes it.
func (c *Connection) EtcdSnapshot(ctx context.Context, host string) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	etcd, err := c.etcd(ctx, host, cancel)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	timer := time.AfterFunc(silence, func() { cancel(errSilent) })
	response, err := etcd.SnapshotWithVersion(ctx)
	timer.Stop()
	if err != nil {
		err = fmt.Errorf("cannot take a snapshot of etcd on %s: %w", host, etcdFault(ctx, err))
		closeEtcd(etcd)
		cancel(nil)
		return nil, err
	}
	return &snapshot{ctx: ctx, stream: response.Snapshot, host: host, sum: sha256.New(), cancel: cancel, done: func() {
		closeEtcd(etcd)
		cancel(nil)
	}}, nil
}

// snapshot compares what it passes on with the checksum that ends it.
type snapshot struct {
	ctx    context.Context // that of the stream, whose end must be explained
	stream io.ReadCloser
	host   string
	// sum is over all but the last bytes, which are in tail.
	sum    hash.Hash
	tail   []byte
	cancel context.CancelCauseFunc
	done   func()
}

// Read gives the next bytes. It gives io.EOF only when the checksum is right.
func (s *snapshot) Read(p []byte) (int, error) {
	timer := time.AfterFunc(silence, func() { s.cancel(errSilent) })
	n, err := s.stream.Read(p)
	timer.Stop()
	s.tail = append(s.tail, p[:n]...)
	if before := len(s.tail) - sha256.Size; before > 0 {
		s.sum.Write(s.tail[:before]) // A hash never fails.
		s.tail = append(s.tail[:0], s.tail[before:]...)
	}
	switch {
	case errors.Is(err, io.EOF) && !bytes.Equal(s.sum.Sum(nil), s.tail):
		return n, fault.NewTransient(step.ReasonEtcdSnapshotDamaged, fmt.Errorf("cannot use the snapshot of etcd on %s: its checksum is wrong", s.host))
	case err == nil, errors.Is(err, io.EOF):
		return n, err
	default:
		return n, fmt.Errorf("cannot read the snapshot of etcd on %s: %w", s.host, etcdFault(s.ctx, err))
	}
}

// Close ends the stream.
func (s *snapshot) Close() error {
	defer s.done()
	return s.stream.Close()
}
