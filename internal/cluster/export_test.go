package cluster

import (
	"context"
	"crypto/sha256"
	"io"
)

// EtcdCertificate gives the client certificate for etcd, for tests.
func (c *Connection) EtcdCertificate() []byte { return c.etcdConfig.Certificates[0].Certificate[0] }

// Checked gives a stream through the check of its last bytes, for tests.
func Checked(ctx context.Context, stream io.ReadCloser) io.ReadCloser {
	return &snapshot{ctx: ctx, stream: stream, host: "cp1", sum: sha256.New(), cancel: func(error) {}, done: func() {}}
}
