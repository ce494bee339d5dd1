package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"slipway.dev/slipway/internal/pki"
)

const (
	caYears      = 10
	servingDays  = 90
	drainTime    = 2 * time.Second
	headerTime   = 10 * time.Second
	idleTime     = 2 * time.Minute
	headerBytes  = 64 << 10
	streamsLimit = 250
	pingTime     = 30 * time.Second
)

// PortConfig says where to listen and as whom.
type PortConfig struct {
	// Address is host:port; an empty host means every interface, port 0 any free port.
	Address string
	// DataDir holds the installation's own CA in pki/gateway.pem; people get pki/gateway.crt.
	DataDir string
	// Certificate is the organisation's own certificate, served for the names in it; the zero value means none.
	// Clients that connect by address, or by another name, get the installation's own.
	Certificate pki.CertificateFiles
	// Names are further DNS names or IP addresses people reach this port by.
	Names []string
	// MoreNames gives names and addresses that may change while the port is open; nil means none.
	MoreNames func() []string
	// Logger receives what goes wrong. Nil means silence.
	Logger *slog.Logger
}

// Port is an open TLS port with this installation's own certificate, which renews itself, and perhaps one more.
type Port struct {
	listener net.Listener
	ca       *pki.CA
	own      *pki.ServingCertificate
	// files is nil without a certificate of the organisation.
	files  *pki.FileCertificate
	logger *slog.Logger
}

// Listen opens the port, so that a taken address is known before anything else starts. Serve it or Close it.
func Listen(ctx context.Context, config PortConfig) (*Port, error) {
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	ca, err := pki.LoadOrCreateCA(filepath.Join(config.DataDir, "pki"), "gateway", "slipway", caYears*365*24*time.Hour)
	if err != nil {
		return nil, fmt.Errorf("cannot open port: %w", err)
	}
	host, _, err := net.SplitHostPort(config.Address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %q: %w; give host:port", config.Address, err)
	}
	serving := pki.NewServingCertificate(ca, func() (pki.Template, error) {
		names := config.Names
		if config.MoreNames != nil {
			names = slices.Concat(names, config.MoreNames())
		}
		return servingNames(host, names)
	})
	if _, err := serving.GetCertificate(nil); err != nil {
		return nil, fmt.Errorf("cannot open port: %w", err)
	}
	var files *pki.FileCertificate
	if config.Certificate != (pki.CertificateFiles{}) {
		report := func(err error) { config.Logger.Error("cannot renew the organisation's certificate", "err", err) }
		if files, err = pki.LoadFileCertificate(config.Certificate, report); err != nil {
			return nil, fmt.Errorf("cannot open port: %w", err)
		}
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", config.Address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", config.Address, err)
	}
	return &Port{listener: newBounded(listener, connectionsMost, connectionsEach), ca: ca, own: serving, files: files, logger: config.Logger}, nil
}

// certificate gives the organisation's certificate to who asks for a name in it, and else our own: hosts connect by
// address, and keep trusting the CA that they were given whatever the organisation does with its certificate.
func (p *Port) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if p.files != nil {
		if certificate := p.files.For(hello.ServerName); certificate != nil {
			return certificate, nil
		}
	}
	return p.own.GetCertificate(hello)
}

// Addr gives the address that is really listened on.
func (p *Port) Addr() net.Addr { return p.listener.Addr() }

// CACert gives the PEM certificates that clients must trust: the installation's own CA, and the root of the
// organisation's certificate when there is one.
func (p *Port) CACert() []byte {
	if p.files == nil {
		return p.ca.CertPEM()
	}
	return slices.Concat(p.ca.CertPEM(), p.files.RootsPEM())
}

// URL gives the address for a client on this machine: an unspecified host becomes 127.0.0.1.
func (p *Port) URL() string {
	host, port, err := net.SplitHostPort(p.Addr().String())
	if err != nil {
		return "https://" + p.Addr().String()
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "https://" + net.JoinHostPort(host, port)
}

// Close closes a port that was not served.
func (p *Port) Close() error { return p.listener.Close() }

// Serve answers with the handler until the context ends, then lets running requests finish for two seconds
// and cuts the rest, watches among them. It gives nil after a plain end.
func (p *Port) Serve(ctx context.Context, handler http.Handler) error {
	server := &http.Server{
		Handler:           handler,
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: p.certificate},
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    headerBytes,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: streamsLimit, SendPingTimeout: pingTime, PingTimeout: pingTime, WriteByteTimeout: writeTime},
		ErrorLog:          log.New(debugWriter{p.logger}, "", 0),
	}
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(p.listener, "", "") }()
	select {
	case err := <-served:
		return fmt.Errorf("cannot serve %s: %w", p.Addr(), err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if err := server.Shutdown(drain); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("cannot close %s: %w", p.Addr(), err)
	}
	if err := server.Close(); err != nil {
		return fmt.Errorf("cannot close %s: %w", p.Addr(), err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("cannot close %s: %w", p.Addr(), err)
	}
	return nil
}

// servingNames gives every name and address the port may be reached by.
func servingNames(host string, names []string) (pki.Template, error) {
	ips, err := pki.LocalAddresses()
	if err != nil {
		return pki.Template{}, err
	}
	template := pki.Template{
		CommonName: "slipway",
		DNSNames:   []string{"localhost"},
		IPs:        append(ips, net.IPv4(127, 0, 0, 1), net.IPv6loopback),
		ValidFor:   servingDays * 24 * time.Hour,
	}
	for _, name := range append([]string{host}, names...) {
		ip := net.ParseIP(name)
		switch {
		case name == "" || ip != nil && ip.IsUnspecified():
		case ip != nil:
			template.IPs = append(template.IPs, ip)
		default:
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	slices.Sort(template.DNSNames)
	template.DNSNames = slices.Compact(template.DNSNames)
	slices.SortFunc(template.IPs, func(a, b net.IP) int { return slices.Compare(a.To16(), b.To16()) })
	template.IPs = slices.CompactFunc(template.IPs, net.IP.Equal)
	return template, nil
}
