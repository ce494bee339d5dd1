package pki

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// ServingCertificate is a server certificate that renews itself: it is minted when first asked for and again
// when a third of its life is left, or when the wanted names have changed. It is safe for concurrent use.
type ServingCertificate struct {
	ca       *CA
	template func() (Template, error)
	now      func() time.Time

	mu      sync.Mutex
	current *tls.Certificate
	names   string
	checked time.Time
}

// recheck is how often the wanted names are looked at again; a handshake does not wait for it more often.
const recheck = 5 * time.Second

// NewServingCertificate gives a serving certificate of the CA. The template function says which names the
// server has now; it is asked again every few seconds at most, and when a
// client reached an address that the certificate lacks: a network card may have come since. Its Usages are replaced by server authentication.
func NewServingCertificate(ca *CA, template func() (Template, error)) *ServingCertificate {
	return &ServingCertificate{ca: ca, template: template, now: time.Now}
}

// GetCertificate gives the current certificate; it is meant for tls.Config.GetCertificate.
// When a new one cannot be minted it keeps giving the old one for as long as that is valid.
func (s *ServingCertificate) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if s.current != nil && now.Sub(s.checked) < recheck && s.covers(hello) {
		return s.current, nil
	}
	s.checked = now
	err := s.renew(now)
	if err != nil && (s.current == nil || now.After(s.current.Leaf.NotAfter)) {
		return nil, err
	}
	return s.current, nil
}

// covers says whether the current certificate is valid for the address that the client reached.
func (s *ServingCertificate) covers(hello *tls.ClientHelloInfo) bool {
	if hello == nil || hello.Conn == nil {
		return true
	}
	local, ok := hello.Conn.LocalAddr().(*net.TCPAddr)
	return !ok || slices.ContainsFunc(s.current.Leaf.IPAddresses, local.IP.Equal)
}

func (s *ServingCertificate) renew(now time.Time) error {
	template, err := s.template()
	if err != nil {
		return fmt.Errorf("cannot find the names to serve as: %w", err)
	}
	names := fmt.Sprint(template.CommonName, template.DNSNames, template.IPs)
	if s.current != nil && names == s.names {
		leaf := s.current.Leaf
		if leaf.NotAfter.Sub(now) > leaf.NotAfter.Sub(leaf.NotBefore)/3 {
			return nil
		}
	}
	template.Usages = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	certPEM, keyPEM, err := s.ca.Issue(template)
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return fmt.Errorf("cannot use serving certificate: %w", err)
	}
	s.current, s.names = &pair, names
	return nil
}

// LocalAddresses gives the addresses of this machine's network interfaces, loopback included and link-local
// ones left out.
func LocalAddresses() ([]net.IP, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("cannot list network interfaces: %w", err)
	}
	var ips []net.IP
	for _, address := range addresses {
		prefix, ok := address.(*net.IPNet)
		if ok && !prefix.IP.IsLinkLocalUnicast() {
			ips = append(ips, prefix.IP)
		}
	}
	return ips, nil
}
