package kubeadm

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"
	"time"

	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// The keys of a cluster's Secret: its certificate authorities and the service-account key, as PEM,
// named like the files that kubeadm reads below /etc/kubernetes/pki, with "-" for "/".
const (
	CACert         = "ca.crt"
	CAKey          = "ca.key"
	FrontProxyCert = "front-proxy-ca.crt"
	FrontProxyKey  = "front-proxy-ca.key"
	EtcdCert       = "etcd-ca.crt"
	EtcdKey        = "etcd-ca.key"
	AccountPublic  = "sa.pub"
	AccountKey     = "sa.key"
	// Token is the bootstrap token.
	Token = "bootstrap-token"
	// RegistryToken lets the cluster's hosts read bundles.
	RegistryToken = "registry-token"
)

func keyFiles() []string {
	return []string{CACert, CAKey, FrontProxyCert, FrontProxyKey, EtcdCert, EtcdKey, AccountPublic, AccountKey}
}

// InstallKeys puts the cluster's certificate authorities and service-account key on a control plane.
type InstallKeys struct {
	// Secret names the Secret in slipway-system that holds them.
	Secret string `json:"secret"`
}

// ID is stored in plans.
func (InstallKeys) ID() step.ID { return "kubeadm.install-keys/v1" }

// Check compares every file.
func (k InstallKeys) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	var drift step.Drift
	for _, name := range keyFiles() {
		f, err := k.file(ctx, r.Secrets, name)
		if err != nil {
			return nil, err
		}
		if err := drift.WantFile(ctx, r, keyPath(name), f); err != nil {
			return nil, err
		}
	}
	return drift, nil
}

// Apply writes every file.
func (k InstallKeys) Apply(ctx context.Context, w step.Writer) error {
	for _, name := range keyFiles() {
		f, err := k.file(ctx, w.Secrets, name)
		if err != nil {
			return err
		}
		if err := w.WriteFile(ctx, keyPath(name), f); err != nil {
			return fmt.Errorf("cannot write %s: %w", keyPath(name), err)
		}
	}
	return nil
}

func (k InstallKeys) file(ctx context.Context, secrets step.Secrets, name string) (host.File, error) {
	value, err := secrets.Secret(ctx, step.SecretRef{Name: k.Secret, Key: name})
	if err != nil {
		return host.File{}, fmt.Errorf("cannot read the cluster's %s: %w", name, err)
	}
	f := host.File{Content: value, Mode: 0o600}
	if strings.HasSuffix(name, ".crt") || strings.HasSuffix(name, ".pub") {
		f.Mode = 0o644
	}
	return f, nil
}

func keyPath(name string) string {
	if rest, ok := strings.CutPrefix(name, "etcd-"); ok {
		return pkiDir + "/etcd/" + rest
	}
	return pkiDir + "/" + name
}

// Certificates makes the certificates of a control plane.
type Certificates struct {
	// SANs must all be in the API server's certificate.
	SANs []string `json:"sans"`
	// Unwanted are those that it was valid for and must not be any more.
	Unwanted []string `json:"unwanted,omitempty"`
}

// ID is stored in plans.
func (Certificates) ID() step.ID { return "kubeadm.certificates/v1" }

// Needs tells what must be there.
func (Certificates) Needs() []step.Output {
	return []step.Output{step.KubernetesFiles, step.KubeadmConfig}
}

// Check reads each certificate: it must be there, signed by its authority, and valid for a day more, or a tenth of its life.
func (c Certificates) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	var drift step.Drift
	for _, leaf := range leafFiles() {
		path := pkiDir + "/" + leaf.name + ".crt"
		problem, err := certificateProblem(ctx, r, path, keyPath(leaf.ca))
		if err != nil {
			return nil, err
		}
		drift.Want(path, problem, "")
	}
	if !drift.Clean() {
		return wantValid(drift), nil
	}
	leaf, err := readCertificate(ctx, r, pkiDir+"/apiserver.crt")
	if err != nil {
		return nil, err
	}
	for _, san := range c.SANs {
		if !covers(leaf, san) {
			drift.Want(pkiDir+"/apiserver.crt", "does not name "+san, "names "+san)
		}
	}
	for _, san := range c.Unwanted {
		if covers(leaf, san) {
			drift.Want(pkiDir+"/apiserver.crt", "names "+san, "does not name "+san)
		}
	}
	return drift, nil
}

func wantValid(d step.Drift) step.Drift {
	for i := range d {
		d[i].Want = "a valid certificate"
	}
	return d
}

// Apply removes what is not valid, since kubeadm keeps what it finds, and lets kubeadm make the rest.
func (c Certificates) Apply(ctx context.Context, w step.Writer) error {
	drift, err := c.Check(ctx, w.Reading)
	if err != nil {
		return err
	}
	for _, d := range drift {
		key := strings.TrimSuffix(d.What, ".crt") + ".key"
		if err := w.Remove(ctx, d.What, key); err != nil {
			return fmt.Errorf("cannot remove %s: %w", d.What, err)
		}
	}
	return runPhase(ctx, w, "init", "certs", "all")
}

func runPhase(ctx context.Context, w step.Writer, command string, phase ...string) error {
	return runPhaseWith(ctx, w, ConfigPath, command, phase...)
}

func runPhaseWith(ctx context.Context, w step.Writer, config, command string, phase ...string) error {
	argv := slices.Concat([]string{Program, command, "phase"}, phase, []string{"--config", config})
	if _, err := w.Run(ctx, host.Command{Argv: argv}); err != nil {
		return fmt.Errorf("cannot run kubeadm's phase %s: %w", strings.Join(phase, " "), err)
	}
	return nil
}

// certificateProblem says what is wrong with the certificate at path, or "".
func certificateProblem(ctx context.Context, r step.Reader, path, caPath string) (string, error) {
	leaf, err := readCertificate(ctx, r, path)
	if errors.Is(err, fs.ErrNotExist) {
		return "missing", nil
	}
	if err != nil {
		return "", err
	}
	if leaf == nil {
		return "unreadable", nil
	}
	ca, err := readCertificate(ctx, r, caPath)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if ca == nil {
		return "without its authority", nil
	}
	if err := leaf.CheckSignatureFrom(ca); err != nil {
		return "signed by another authority", nil
	}
	// A certificate that was asked to be good for minutes is good.
	if time.Until(leaf.NotAfter) < min(24*time.Hour, leaf.NotAfter.Sub(leaf.NotBefore)/10) {
		return "expires " + leaf.NotAfter.Format(time.RFC3339), nil
	}
	return "", nil
}

// readCertificate gives nil when the file holds no certificate.
func readCertificate(ctx context.Context, r host.Reader, path string) (*x509.Certificate, error) {
	b, err := r.ReadFile(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	return parseCertificate(b), nil
}

func parseCertificate(b []byte) *x509.Certificate {
	block, _ := pem.Decode(b)
	if block == nil {
		return nil
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	return c
}

func covers(leaf *x509.Certificate, san string) bool {
	if ip := net.ParseIP(san); ip != nil {
		return slices.ContainsFunc(leaf.IPAddresses, ip.Equal)
	}
	return slices.Contains(leaf.DNSNames, san)
}
