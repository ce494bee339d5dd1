package kubeadm

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// ServeCertificates restarts the static pods of a control plane that still use certificates from before a renewal: each reads
// some of its files only when it starts.
type ServeCertificates struct {
	// Port is where the API server listens.
	Port int32 `json:"port"`
	// ValidSeconds is how long kubeadm makes certificates valid: it tells when one was made.
	ValidSeconds int64 `json:"validSeconds"`
}

// ID is stored in plans.
func (ServeCertificates) ID() step.ID { return "kubeadm.serve-certificates/v1" }

// Needs tells what must be there.
func (ServeCertificates) Needs() []step.Output { return []step.Output{step.ControlPlaneManifests} }

// selfSignedEarlier is how long before its start a component's own certificate, which is only in its memory, begins to be
// valid. It tells when the process began.
const selfSignedEarlier = time.Hour

// loopbackName makes an API server show the certificate with which it talks to itself.
const loopbackName = "apiserver-loopback-client"

const (
	dialFor = 5 * time.Second
	// kubeVIP reads its kubeconfig once too, and serves nothing that shows when.
	kubeVIP = "kube-vip"
)

// component is a static pod: the short name of its process as the kernel keeps it, its port, and the file that it must have
// been started after.
type component struct {
	name, process string
	port          int32
	// serverName is asked for in the handshake; file holds a certificate, itself or in a kubeconfig.
	serverName, file string
	// serves says that file is what the port serves, read anew for each connection.
	serves bool
}

func (s ServeCertificates) components() []component {
	return []component{
		{"etcd", "etcd", 2379, "localhost", pkiDir + "/etcd/server.crt", true},
		{"kube-apiserver", "kube-apiserver", s.Port, loopbackName, pkiDir + "/apiserver.crt", false},
		{"kube-controller-manager", "kube-controller", 10257, "localhost", Directory + "/controller-manager.conf", false},
		{"kube-scheduler", "kube-scheduler", 10259, "localhost", Directory + "/scheduler.conf", false},
	}
}

// Check asks each port for its certificate, from the host itself. One that does not answer is about to start.
func (s ServeCertificates) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	var drift step.Drift
	var silent []error
	for _, c := range s.components() {
		problem, err := s.problem(ctx, r, c)
		if fault.ClassOf(err) == fault.Waiting {
			silent = append(silent, err)
		} else if err != nil {
			return nil, err
		}
		drift.Want(c.name, problem, "")
	}
	if !drift.Clean() {
		return drift, nil
	}
	return nil, errors.Join(silent...)
}

// problem says which certificates a component uses that are not those of its files, or "".
func (s ServeCertificates) problem(ctx context.Context, r step.Reader, c component) (string, error) {
	wanted, err := readEither(ctx, r, c.file)
	if err != nil {
		return "", err
	}
	if wanted == nil {
		return "", fault.NewTerminal("CertificateMissing", "retry the operation", fmt.Errorf("cannot find a certificate in %s", c.file))
	}
	served, err := handshake(ctx, r, c)
	if err != nil {
		return "", fault.NewWaiting("ComponentStarting", fmt.Errorf("cannot see which certificate %s on %s serves: %w", c.name, r.Target.Name, err))
	}
	if c.serves {
		if served.SerialNumber.Cmp(wanted.SerialNumber) != 0 {
			return "serves a certificate that is not in " + c.file, nil
		}
		return "", nil
	}
	made := wanted.NotAfter.Add(-time.Duration(s.ValidSeconds) * time.Second)
	if began := served.NotBefore.Add(selfSignedEarlier); began.Before(made.Truncate(time.Second)) {
		return "runs since before " + c.file + " was made", nil
	}
	return "", nil
}

func readEither(ctx context.Context, r step.Reader, path string) (*x509.Certificate, error) {
	if strings.HasSuffix(path, ".crt") {
		return readCertificateIfExists(ctx, r, path)
	}
	return clientCertificate(ctx, r, path)
}

// handshake gives the certificate that a component serves. Whether it is to be trusted is not asked: nothing is sent, and the
// certificate is only compared.
func handshake(ctx context.Context, r step.Reader, c component) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, dialFor)
	defer cancel()
	raw, err := r.Dial(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(c.port))))
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	conn := tls.Client(raw, &tls.Config{ServerName: c.serverName, InsecureSkipVerify: true}) //nolint:gosec // See above.
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	certificates := conn.ConnectionState().PeerCertificates
	if len(certificates) == 0 {
		return nil, errors.New("no certificate was shown")
	}
	return certificates[0], nil
}

// Apply ends those processes at once, and kube-vip with them; the kubelet starts their containers again.
func (s ServeCertificates) Apply(ctx context.Context, w step.Writer) error {
	names := []string{kubeVIP}
	for _, c := range s.components() {
		problem, err := s.problem(ctx, w.Reading, c)
		if err != nil && fault.ClassOf(err) != fault.Waiting {
			return err
		}
		if problem != "" {
			names = append(names, c.process)
		}
	}
	if len(names) == 1 {
		return nil
	}
	// Only what runs in a pod: a process of that name may be somebody's own.
	named, err := host.QueryProcesses(ctx, w, names...)
	if err != nil {
		return err
	}
	inPods, err := host.QueryContainerProcesses(ctx, w)
	if err != nil {
		return err
	}
	pods := map[int]bool{}
	for _, p := range inPods {
		pods[p.PID] = true
	}
	argv := []string{"kill", "-TERM"}
	for _, p := range named {
		if pods[p.PID] {
			argv = append(argv, strconv.Itoa(p.PID))
		}
	}
	if len(argv) == 2 {
		return nil
	}
	var ended *host.CommandError
	if _, err := w.Run(ctx, host.Command{Argv: argv}); err != nil && !errors.As(err, &ended) {
		return fmt.Errorf("cannot restart the control plane: %w", err)
	}
	return nil
}
