package precheck

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// greetingTime bounds the greeting with whoever answers at the server's address.
const greetingTime = 10 * time.Second

// identity asks for proof that it is the server that the host reaches at the server's address: whoever stands between
// the two would be asked for images.
func (l Look) identity(ctx context.Context, r step.Reader, p *problems) error {
	if l.CA == "" {
		return nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(l.CA)) {
		return fault.NewBug(errors.New("cannot read the server's certificate authority"))
	}
	name, _, err := net.SplitHostPort(r.Target.Platform)
	if err != nil {
		return fmt.Errorf("cannot read address %q: %w", r.Target.Platform, err)
	}
	within, cancel := context.WithTimeout(ctx, greetingTime)
	defer cancel()
	conn, err := r.Dial(within, "tcp", r.Target.Platform)
	if fault.ReasonOf(err) == host.ReasonForwardingRefused && !r.Target.ControlPlane {
		return nil // A worker need not let us through; its runtime refuses another server by itself.
	}
	if err != nil {
		return fmt.Errorf("cannot look at the server from host %s: %w", r.Target.Name, err)
	}
	// What was said is all that is wanted.
	defer func() { _ = conn.Close() }()
	err = tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS12}).HandshakeContext(within)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		p.add("server", "somebody at "+r.Target.Platform+" who cannot prove to be the server: "+host.Clean(err.Error(), 300),
			"the server itself there; find out who answers in its place")
	}
	return nil
}
