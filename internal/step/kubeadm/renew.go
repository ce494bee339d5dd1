package kubeadm

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// RenewCertificates renews the certificates of a control plane, those in the kubeconfigs of its components among them. It
// needs no API server, and what has expired is no hindrance.
type RenewCertificates struct {
	// Until is the least time until which each must be good, unless its authority ends before.
	Until metav1.Time `json:"until"`
}

// ID is stored in plans.
func (RenewCertificates) ID() step.ID { return "kubeadm.renew-certificates/v1" }

// Needs tells what must be there.
func (RenewCertificates) Needs() []step.Output {
	return []step.Output{step.KubernetesFiles, step.KubeadmConfig}
}

// leafFile is a certificate file below pkiDir, without its suffix, and the authority that signs it.
type leafFile struct{ name, ca string }

func leafFiles() []leafFile {
	return []leafFile{
		{"apiserver", CACert}, {"apiserver-kubelet-client", CACert}, {"front-proxy-client", FrontProxyCert},
		{"apiserver-etcd-client", EtcdCert}, {"etcd/server", EtcdCert}, {"etcd/peer", EtcdCert}, {"etcd/healthcheck-client", EtcdCert},
	}
}

// componentKubeconfigs are those whose client certificates are kubeadm's to renew. The kubelet's is its own.
func componentKubeconfigs() []string {
	return []string{"admin.conf", "super-admin.conf", "controller-manager.conf", "scheduler.conf"}
}

// Check reads when each ends.
func (s RenewCertificates) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	broken, early, err := s.look(ctx, r)
	return slices.Concat(broken, early), err
}

// look tells those that kubeadm could not renew, since it has to make them anew, from those that only end too early.
func (s RenewCertificates) look(ctx context.Context, r host.Reader) (broken, early step.Drift, err error) {
	note := func(path string, leaf, ca *x509.Certificate) {
		want := s.Until.Time
		if ca != nil && ca.NotAfter.Before(want) {
			want = ca.NotAfter
		}
		wanted := "valid until " + want.UTC().Format(time.RFC3339)
		switch {
		case leaf == nil || ca == nil:
			broken.Want(path, "no certificate", wanted)
		case leaf.CheckSignatureFrom(ca) != nil:
			broken.Want(path, "signed by another authority", wanted)
		case leaf.NotAfter.Before(time.Now()):
			broken.Want(path, "ended "+leaf.NotAfter.UTC().Format(time.RFC3339), wanted)
		case leaf.NotAfter.Before(want):
			early.Want(path, "ends "+leaf.NotAfter.UTC().Format(time.RFC3339), wanted)
		}
	}
	authorities := map[string]*x509.Certificate{}
	for _, name := range []string{CACert, FrontProxyCert, EtcdCert} {
		if authorities[name], err = readCertificateIfExists(ctx, r, keyPath(name)); err != nil {
			return nil, nil, err
		}
	}
	for _, f := range leafFiles() {
		path := pkiDir + "/" + f.name + ".crt"
		leaf, err := readCertificateIfExists(ctx, r, path)
		if err != nil {
			return nil, nil, err
		}
		note(path, leaf, authorities[f.ca])
	}
	for _, name := range componentKubeconfigs() {
		path := Directory + "/" + name
		leaf, err := clientCertificate(ctx, r, path)
		if err != nil {
			return nil, nil, err
		}
		note(path, leaf, authorities[CACert])
	}
	return broken, early, nil
}

// Apply removes what kubeadm could not renew and lets it make that anew, lets it renew the rest, and restarts the kubelet: a
// component that failed for hours on a certificate that had ended is then tried at once, and not minutes later.
func (s RenewCertificates) Apply(ctx context.Context, w step.Writer) error {
	broken, early, err := s.look(ctx, w)
	if err != nil || len(broken)+len(early) == 0 {
		return err
	}
	for _, d := range broken {
		paths := []string{d.What}
		if name, found := strings.CutSuffix(d.What, ".crt"); found {
			paths = append(paths, name+".key")
		}
		if err := w.Remove(ctx, paths...); err != nil {
			return fmt.Errorf("cannot remove %s: %w", d.What, err)
		}
	}
	// Cut off after a removal, the next run finds nothing there, which is broken too.
	if len(broken) > 0 {
		if err := runPhase(ctx, w, "init", "certs", "all"); err != nil {
			return err
		}
		if err := runPhase(ctx, w, "init", "kubeconfig", "all"); err != nil {
			return err
		}
	}
	if len(early) > 0 {
		if _, err := w.Run(ctx, host.Command{Argv: []string{Program, "certs", "renew", "all", "--config", ConfigPath}}); err != nil {
			return fmt.Errorf("cannot renew the certificates: %w", err)
		}
	}
	return restartKubelet(ctx, w)
}

func restartKubelet(ctx context.Context, w step.Writer) error {
	if _, err := w.Run(ctx, host.Command{Argv: []string{"systemctl", "restart", "kubelet.service"}}); err != nil {
		return fmt.Errorf("cannot restart the kubelet: %w", err)
	}
	return nil
}

func readCertificateIfExists(ctx context.Context, r host.Reader, path string) (*x509.Certificate, error) {
	b, err := host.ReadIfExists(ctx, r, path)
	if err != nil {
		return nil, err
	}
	return parseCertificate(b), nil
}

// clientCertificate gives the certificate with which a kubeconfig logs in, in it or in the file that it names; nil when there
// is none.
func clientCertificate(ctx context.Context, r host.Reader, path string) (*x509.Certificate, error) {
	b, err := r.ReadFile(ctx, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	config, err := clientcmd.Load(b)
	if err != nil {
		return nil, nil // What cannot be read is as good as none: it is made anew.
	}
	for _, user := range config.AuthInfos {
		switch {
		case len(user.ClientCertificateData) > 0:
			return parseCertificate(user.ClientCertificateData), nil
		case strings.HasPrefix(user.ClientCertificate, "/"):
			return readCertificateIfExists(ctx, r, user.ClientCertificate)
		}
	}
	return nil, nil
}
