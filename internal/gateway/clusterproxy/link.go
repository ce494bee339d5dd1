package clusterproxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"slipway.dev/slipway/api/v1alpha1"
)

const (
	// dialTime is how long it may take to reach a control plane.
	dialTime = 20 * time.Second
	// pingAfter is the silence after which a connection is asked whether it lives, and pingTime how long it may take.
	pingAfter, pingTime = 30 * time.Second, 15 * time.Second
	// idleTime is how long an unused connection is kept.
	idleTime = 90 * time.Second
	// headerBytes is the largest header that a cluster may answer with.
	headerBytes = 1 << 20
)

// link is the way to one cluster, with Slipway's own certificate.
type link struct {
	uid         types.UID
	certificate []byte
	target      *url.URL
	// plain multiplexes requests; upgrades has a connection for each.
	plain, upgrades *http.Transport
}

// link gives the way to a cluster, anew when the cluster or the certificate is another than before.
func (h *handler) link(ctx context.Context, c *v1alpha1.Cluster) (*link, error) {
	config, err := h.Config(ctx, c.Namespace, c.Name)
	if err != nil {
		return nil, err
	}
	key := c.Namespace + "/" + c.Name
	h.mu.Lock()
	known := h.links[key]
	h.mu.Unlock()
	if known != nil && known.uid == c.UID && bytes.Equal(known.certificate, config.CertData) {
		return known, nil
	}
	if _, err := h.keys(ctx, c); err != nil {
		return nil, err
	}
	made, err := newLink(config)
	if err != nil {
		return nil, err
	}
	made.uid = c.UID
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(key)
	h.links[key] = made
	return made, nil
}

// forget drops the way to a cluster that is gone.
func (h *handler) forget(project, name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(project + "/" + name)
}

// drop closes what is not in use; the rest closes when it ends. The caller holds mu.
func (h *handler) drop(key string) {
	if l := h.links[key]; l != nil {
		l.plain.CloseIdleConnections()
		l.upgrades.CloseIdleConnections()
		delete(h.links, key)
	}
}

// newLink makes transports of its own: those of client-go are kept for ever when they dial in their own way.
func newLink(config *rest.Config) (*link, error) {
	target, err := url.Parse(config.Host)
	if err != nil {
		return nil, fmt.Errorf("cannot use address %s: %w", config.Host, err)
	}
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, fmt.Errorf("cannot use the certificate of Slipway: %w", err)
	}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTime)
		defer cancel()
		return config.Dial(ctx, network, address)
	}
	transport := func(protocols ...string) *http.Transport {
		own := tlsConfig.Clone()
		own.NextProtos = protocols
		return &http.Transport{
			TLSClientConfig: own, DialContext: dial, TLSHandshakeTimeout: dialTime, IdleConnTimeout: idleTime,
			DisableCompression: true, MaxResponseHeaderBytes: headerBytes,
		}
	}
	l := &link{certificate: config.CertData, target: target, plain: transport("h2", "http/1.1"), upgrades: transport("http/1.1")}
	l.plain.ForceAttemptHTTP2 = true
	l.plain.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTime}
	l.upgrades.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	return l, nil
}
