package fault

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"time"

	fakehost "slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/step"
)

// dial answers the host's own ports as a control plane does: etcd and the API server with their files, the others, and the
// API server when it is asked as it asks itself, with a certificate that they made when they started.
func (n *node) dial(_ context.Context, _, address string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	name := map[string]string{"2379": "etcd", "6443": "kube-apiserver", "10257": "kube-controller-manager", "10259": "kube-scheduler"}[port]
	var filed, own tls.Certificate
	n.host.Do(func(s *fakehost.State) {
		n.cluster.mu.Lock()
		defer n.cluster.mu.Unlock()
		if !n.runs(s, name) {
			err = errRefused
			return
		}
		own, err = selfSigned(n.processes[name].began)
		if file := map[string]string{"etcd": "etcd/server", "kube-apiserver": "apiserver"}[name]; file != "" {
			certificate, err1 := s.ReadFile(pkiDir + file + ".crt")
			key, err2 := s.ReadFile(pkiDir + file + ".key")
			var err3 error
			filed, err3 = tls.X509KeyPair(certificate, key)
			err = errors.Join(err, err1, err2, err3)
		}
	})
	if err != nil {
		return nil, err
	}
	client, server := net.Pipe()
	go func() {
		conn := tls.Server(server, &tls.Config{GetCertificate: func(asked *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if filed.Certificate == nil || asked.ServerName == "apiserver-loopback-client" {
				return &own, nil
			}
			return &filed, nil
		}})
		_ = conn.Handshake() // Who asks has seen the certificate, or not.
		_ = server.Close()
	}()
	return client, nil
}

// selfSigned is what a component that began then shows.
func selfSigned(began time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: began.Add(-time.Hour), NotAfter: began.Add(aYear)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// shelf is step.BackupWriter in memory: the snapshot by name of the Backup, and which drills have brought one back.
type shelf map[string]string

func drillKey(ref step.BackupRef, drill string) string { return ref.Name + " in drill " + drill }

// Drilled is step.BackupReader's.
func (s shelf) Drilled(_ context.Context, ref step.BackupRef, drill string) (bool, error) {
	return s[drillKey(ref, drill)] != "", nil
}

// Drill is step.BackupWriter's.
func (s shelf) Drill(ctx context.Context, ref step.BackupRef, drill string, programs step.DrillPrograms) error {
	if programs.Etcd == "" || programs.APIServer == "" || programs.Etcdutl == "" {
		return errors.New("a program is missing")
	}
	if err := s.Prove(ctx, ref); err != nil {
		return err
	}
	s[drillKey(ref, drill)] = "brought back"
	return nil
}

// Kept is step.BackupReader's.
func (s shelf) Kept(_ context.Context, ref step.BackupRef) (bool, error) {
	return s[ref.Name] != "", nil
}

// Prove is step.BackupReader's.
func (s shelf) Prove(_ context.Context, ref step.BackupRef) error {
	if s[ref.Name] == "" {
		return errors.New("there is no such backup")
	}
	return nil
}

// Take is step.BackupWriter's.
func (s shelf) Take(_ context.Context, ref step.BackupRef, _ string, snapshot io.Reader) error {
	content, err := io.ReadAll(snapshot)
	s[ref.Name] = string(content)
	return err
}

// Snapshot is step.BackupWriter's.
func (s shelf) Snapshot(ctx context.Context, ref step.BackupRef) (io.ReadCloser, int64, error) {
	return io.NopCloser(strings.NewReader(s[ref.Name])), int64(len(s[ref.Name])), s.Prove(ctx, ref)
}

var _ step.BackupWriter = shelf{}
