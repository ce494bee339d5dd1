//go:build acceptance

package e2e

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// TestEndedCertificates cuts the power of a cluster of three control planes and a worker whose certificates are issued for
// minutes, and lets it stay off until they have ended. It is renewed and serves; then it gets certificates that last, while the
// API is written to all the time. No clock is set. `make acceptance` runs it.
func TestEndedCertificates(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Minute)
	defer cancel()
	const validity = 6 * time.Minute
	w := newWorld(t)
	w.startServer(ctx)
	w.run(ctx, "sandbox", "up", "--data-dir", w.data, "--hosts", "4", "--register")
	w.verifyBundle(ctx)
	w.run(ctx, "cluster", "create", "demo", "--kubernetes", w.kubernetes, "--set", "components.certificates.validity="+validity.String(),
		"--control-plane", "sandbox-1,sandbox-2,sandbox-3", "--worker", "sandbox-4", "--virtual-ip", w.virtualIP(ctx))
	w.run(ctx, "cluster", "kubeconfig", "demo", "--break-glass", "--reason", "its API is asked past Slipway", "--output", w.kubeconfig)

	ends := w.lastEnd(ctx, t)
	for _, h := range w.nodeHosts(ctx) {
		w.run(ctx, "sandbox", "kill", h.Name, "--data-dir", w.data)
	}
	t.Logf("every host is off; the last certificate of the control planes ends in %.0f s", time.Until(ends).Seconds())
	if time.Until(ends) > validity {
		t.Fatalf("the certificates are not of minutes: the last ends at %s", ends)
	}
	for _, h := range w.nodeHosts(ctx) {
		w.run(ctx, "wait", "--for=condition=Reachable=false", "--timeout=180s", "host/"+h.Name)
	}
	until(ctx, t, "the end of every certificate", func() bool { return time.Now().After(ends) })
	for _, h := range w.nodeHosts(ctx) {
		w.run(ctx, "sandbox", "start", h.Name, "--data-dir", w.data)
	}
	w.run(ctx, "wait", "--for=condition=Reachable", "--timeout=180s", "hosts", "--all")
	for _, h := range w.nodeHosts(ctx)[:3] {
		if answers(ctx, "https://"+h.Address+":6443/readyz") {
			t.Errorf("%s serves although its certificates have ended", h.Name)
		}
	}

	begun := time.Now()
	w.run(ctx, "cluster", "renew-certs", "demo", "--yes")
	logf(t, begun, "renewed after every certificate had ended")
	w.expectRenewed(ctx, t, begun, validity)

	begun = time.Now()
	w.run(ctx, "cluster", "configure", "demo", "--yes", "--unset", "components.certificates.validity")
	w.probed(ctx, t, "the certificates of a cluster that serves were renewed", func() { w.run(ctx, "cluster", "renew-certs", "demo", "--yes") })
	w.expectRenewed(ctx, t, begun, 365*24*time.Hour)
	w.run(ctx, "cluster", "delete", "demo", "--now", "--yes")
}

// ofControlPlane are the certificates that last as long as the spec says.
const ofControlPlane = "cat /etc/kubernetes/pki/{apiserver,apiserver-kubelet-client,front-proxy-client,apiserver-etcd-client}.crt " +
	"/etc/kubernetes/pki/etcd/{server,peer,healthcheck-client}.crt; " +
	"grep -h client-certificate-data /etc/kubernetes/{admin,super-admin,controller-manager,scheduler}.conf | awk '{print $2}' | while read -r c; do echo \"$c\" | base64 -d; done"

// The certificate with which the kubelet of a control plane logs in: the cluster gives it one of a year as soon as it runs, so it
// is stopped and gets the one of minutes back that kubeadm makes at creation.
const (
	kubeletLogin = "systemctl stop kubelet && rm -f /var/lib/kubelet/pki/kubelet-client-* /etc/kubernetes/kubelet.conf && " +
		"kubeadm init phase kubeconfig kubelet --config /etc/kubernetes/kubeadm.yaml >/dev/null && " +
		"grep client-certificate-data /etc/kubernetes/kubelet.conf | awk '{print $2}' | base64 -d"
	ofKubelet = "cat /var/lib/kubelet/pki/kubelet-client-current.pem"
)

// lastEnd stops the kubelets of the control planes and gives when the last certificate there ends.
func (w *world) lastEnd(ctx context.Context, t *testing.T) time.Time {
	t.Helper()
	var last time.Time
	for _, h := range w.nodeHosts(ctx)[:3] {
		for _, c := range append(w.certificates(ctx, t, h, ofControlPlane), w.certificates(ctx, t, h, kubeletLogin)...) {
			if last.Before(c.NotAfter) {
				last = c.NotAfter
			}
		}
	}
	return last
}

// certificates gives those that a command prints on a host.
func (w *world) certificates(ctx context.Context, t *testing.T, h sandboxHost, command string) []*x509.Certificate {
	t.Helper()
	var all []*x509.Certificate
	rest := []byte(w.onHost(ctx, h, command))
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		t.Fatalf("no certificates on %s", h.Name)
	}
	return all
}

// expectRenewed looks at every certificate of the control planes, and at what is served and used now.
func (w *world) expectRenewed(ctx context.Context, t *testing.T, since time.Time, validity time.Duration) {
	t.Helper()
	client, err := kubernetes.NewForConfig(w.rest(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range w.nodeHosts(ctx) {
		if kubelet := w.certificates(ctx, t, h, ofKubelet)[0]; kubelet.NotAfter.Before(time.Now()) {
			t.Errorf("the kubelet of %s logs in with a certificate that has ended at %s", h.Name, kubelet.NotAfter)
		}
		// It logs in with it: it has told the API server lately that it lives.
		until(ctx, t, "a sign of life from the kubelet of "+h.Name, func() bool {
			lease, err := client.CoordinationV1().Leases("kube-node-lease").Get(ctx, h.Name, metav1.GetOptions{})
			return err == nil && lease.Spec.RenewTime != nil && time.Since(lease.Spec.RenewTime.Time) < 15*time.Second
		})
	}
	for _, h := range w.nodeHosts(ctx)[:3] {
		files := w.certificates(ctx, t, h, ofControlPlane)
		if len(files) != 11 {
			t.Errorf("%s has %d certificates, want 11", h.Name, len(files))
		}
		for _, c := range files {
			if c.NotAfter.Before(since.Add(validity - validity/10)) {
				t.Errorf("%s: %s ends at %s", h.Name, c.Subject, c.NotAfter)
			}
		}
		served, err := w.served(t, h, 6443)
		if err != nil {
			t.Fatalf("the API server of %s: %v", h.Name, err)
		}
		if served.SerialNumber.Cmp(files[0].SerialNumber) != 0 {
			t.Errorf("the API server of %s serves a certificate that ends at %s, not the new one", h.Name, served.NotAfter)
		}
		if etcd, err := w.served(t, h, 2379); err != nil || etcd.SerialNumber.Cmp(files[4].SerialNumber) != 0 {
			t.Errorf("etcd of %s does not serve the new certificate: %v", h.Name, err)
		}
		if kubelet, err := w.served(t, h, 10250); err != nil || kubelet.NotAfter.Before(time.Now().Add(30*24*time.Hour)) {
			t.Errorf("the kubelet of %s serves a certificate that ends soon: %v", h.Name, err)
		}
		// What started with the old certificates would fail by now, or soon; etcd reads its own anew for each connection.
		out := w.onHost(ctx, h, `ps -eo comm=,etimes= | grep -E '^kube-(apiserver|controller|scheduler|vip) '`)
		for line := range strings.Lines(out) {
			name, age, _ := strings.Cut(strings.TrimSpace(line), " ")
			if ran, err := time.ParseDuration(strings.TrimSpace(age) + "s"); err != nil || time.Now().Add(-ran).Before(since.Add(-time.Second)) {
				t.Errorf("%s on %s runs for %s, which is longer than since the renewal began (%v)", name, h.Name, age, err)
			}
		}
	}
	w.kubectl(ctx, t, "", "wait", "--for=condition=Ready", "--timeout=120s", "nodes", "--all")
	w.run(ctx, "wait", "--for=condition=Ready", "--timeout=120s", "cluster/demo")
}
