package app

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/internal/host"
	fakehost "slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/pki"
	"slipway.dev/slipway/internal/step"
	"slipway.dev/slipway/internal/step/kubeadm"
	"slipway.dev/slipway/internal/step/kubelet"
)

const kubeletPKI = "/var/lib/kubelet/pki/"

// renewal is an authority with certificates that have ended, that end too early and that were just made.
type renewal struct {
	until                  time.Time
	ca, ended, early, late string
	key                    string
}

//nolint:gochecknoglobals // Made once for all tests, and never changed.
var renewals = sync.OnceValue(func() renewal {
	ca, err := pki.NewCA("kubernetes", 365*24*time.Hour)
	if err != nil {
		panic(err)
	}
	r := renewal{ca: string(ca.CertPEM()), until: time.Now().Add(100 * 24 * time.Hour).UTC().Truncate(time.Second)}
	for validFor, into := range map[time.Duration]*string{time.Nanosecond: &r.ended, time.Hour: &r.early, 200 * 24 * time.Hour: &r.late} {
		leaf, key, err := ca.Issue(pki.Template{CommonName: "leaf", ValidFor: validFor})
		if err != nil {
			panic(err)
		}
		*into, r.key = string(leaf), string(key)
	}
	return r
})

// loginWith is a kubeconfig that logs in with a certificate.
func loginWith(certificate string) string {
	return kubeconfig("https://10.9.0.21:6443") + "users:\n- name: me\n  user:\n    client-certificate-data: " + base64.StdEncoding.EncodeToString([]byte(certificate)) + "\n"
}

func renewCases() map[string]stepCase {
	logins := prefixed(kubernetesDir+"/", ".conf", "admin", "super-admin", "controller-manager", "scheduler")
	certificates := prefixed(pkiFiles, ".crt", leaves()...)
	onControlPlane := func(t *step.Target) { t.ControlPlane = true }
	return map[string]stepCase{
		"renew certificates": {reason: "some have ended, one is gone, the others end too early", step: kubeadm.RenewCertificates{Until: metav1.NewTime(renewals().until)},
			prepare: func(b *bench) { b.renewing(certificates, logins) }, drift: slices.Concat(certificates, logins)},
		"renewed already": {reason: "what is good until then is left alone", step: kubeadm.RenewCertificates{Until: metav1.NewTime(time.Now().Add(30 * time.Minute))},
			prepare: func(b *bench) {
				b.renewing(nil, nil)
				for _, path := range certificates {
					b.write(path, renewals().early)
				}
				for _, path := range logins {
					b.write(path, loginWith(renewals().early))
				}
			}},
		"renew control plane kubelet": {reason: "kubeadm issues it; a serving certificate that is about to end goes too", step: kubeadm.RenewKubelet{}, target: onControlPlane,
			prepare: func(b *bench) {
				b.unit("kubelet.service", kubernetesDir+"/kubelet.conf", true)
				b.write(kubernetesDir+"/kubelet.conf", loginWith(renewals().ended))
				b.write(kubeletPKI+"kubelet-client-current.pem", renewals().ended)
				b.write(kubeletPKI+"kubelet.crt", renewals().early)
				b.write(kubeletPKI+"kubelet.key", renewals().key)
				b.phase(initPhase("kubeconfig kubelet"), func(s *fakehost.State) error {
					return writeAll(s, map[string]string{kubernetesDir + "/kubelet.conf": loginWith(renewals().late)})
				})
			}, drift: []string{kubernetesDir + "/kubelet.conf", kubeletPKI + "kubelet.crt"}},
		"renew worker kubelet": {reason: "it asks for one with the bootstrap token", step: kubeadm.RenewKubelet{},
			prepare: func(b *bench) {
				b.unit("kubelet.service", kubernetesDir+"/bootstrap-kubelet.conf", true)
				b.write(kubernetesDir+"/kubelet.conf", kubeconfig("https://10.9.0.21:6443")+"users:\n- name: me\n  user:\n    client-certificate: "+kubeletPKI+"kubelet-client-current.pem\n")
				b.write(kubeletPKI+"kubelet-client-current.pem", renewals().ended)
				b.write(kubeadm.DiscoveryPath, "endpoint and token")
			}, drift: []string{kubernetesDir + "/kubelet.conf"}, golden: []string{kubernetesDir + "/bootstrap-kubelet.conf"}},
		"kubelet was stopped": {reason: "it runs again, with the certificate that it has", step: kubeadm.RenewKubelet{},
			prepare: func(b *bench) {
				b.unit("kubelet.service", kubernetesDir+"/kubelet.conf", false)
				b.write(kubernetesDir+"/kubelet.conf", loginWith(renewals().late))
			}, drift: []string{"kubelet.service"}},
		"serve certificates": {reason: "what began before the renewal is restarted; a process of the same name outside pods is not", step: kubeadm.ServeCertificates{Port: 6443, ValidSeconds: 3600},
			prepare: func(b *bench) { b.serving(true) }, drift: []string{"etcd", "kube-apiserver", "kube-scheduler"}},
		"serve certificates later": {reason: "one that does not answer is about to start", step: kubeadm.ServeCertificates{Port: 6443, ValidSeconds: 3600},
			prepare: func(b *bench) {
				b.serving(false)
				b.dial = func(context.Context, string, string) (net.Conn, error) { return nil, fmt.Errorf("connection refused") }
			}, event: func(b *bench) { b.serving(false) }},
	}
}

// renewing gives the host certificates that have ended and kubeadm, which keeps what is there and renews what has not.
func (b *bench) renewing(certificates, logins []string) {
	r := renewals()
	b.unit("kubelet.service", "/var/lib/kubelet/config.yaml", true)
	for _, ca := range []string{"ca", "front-proxy-ca", "etcd/ca"} {
		b.write(pkiFiles+ca+".crt", r.ca)
	}
	for i, path := range certificates {
		b.write(path, []string{r.ended, r.early}[i%2])
		b.write(strings.TrimSuffix(path, ".crt")+".key", "old")
	}
	for i, path := range logins {
		if i > 0 {
			b.write(path, loginWith([]string{r.ended, r.early}[i%2]))
		}
	}
	fresh := map[string]string{}
	for _, path := range certificates {
		fresh[path], fresh[strings.TrimSuffix(path, ".crt")+".key"] = r.late, r.key
	}
	made := map[string]string{}
	for _, path := range logins {
		made[path] = loginWith(r.late)
	}
	b.host.Handle("/usr/local/bin/kubeadm", func(s *fakehost.State, c fakehost.Call) host.Result {
		switch strings.Join(c.Argv[1:], " ") {
		case initPhase("certs all"):
			return done(writeAll(s, fresh))
		case initPhase("kubeconfig all"):
			return done(writeAll(s, made))
		case "certs renew all --config /etc/kubernetes/kubeadm.yaml":
			for _, files := range []map[string]string{fresh, made} {
				for path, content := range files {
					if err := s.WriteFile(path, []byte(content), 0o600); err != nil {
						return done(err)
					}
				}
			}
			return host.Result{}
		default:
			return fakehost.Fail(1, "kubeadm: unexpected "+strings.Join(c.Argv, " "))
		}
	})
}

// shown are the certificates of processes that began an hour ago and just now, and what etcd's files hold.
type shown struct {
	old, young, etcd tls.Certificate
	etcdPEM          string
}

//nolint:gochecknoglobals // Made once for all tests, and never changed.
var showing = sync.OnceValue(func() shown {
	make := func(began time.Time) tls.Certificate {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(began.Unix()), NotBefore: began.Add(-time.Hour), NotAfter: began.Add(24 * time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			panic(err)
		}
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	}
	etcd, err := tls.X509KeyPair([]byte(renewals().late), []byte(renewals().key))
	if err != nil {
		etcd = tls.Certificate{}
	}
	return shown{old: make(time.Now().Add(-time.Hour)), young: make(time.Now().Add(time.Minute)), etcd: etcd, etcdPEM: renewals().late}
})

// serving gives the host a control plane whose processes are from before the renewal of an hour's certificates, except the
// controller manager.
func (b *bench) serving(old bool) {
	now := time.Now()
	ca, err := pki.NewCA("kubernetes", time.Hour)
	if err != nil {
		b.t.Fatal(err)
	}
	hour := servedHour(ca, now)
	b.write(pkiFiles+"etcd/server.crt", hour.pem)
	b.write(pkiFiles+"apiserver.crt", hour.pem)
	for _, name := range []string{"controller-manager", "scheduler"} {
		b.write(kubernetesDir+"/"+name+".conf", loginWith(hour.pem))
	}
	ports := map[string]int{"2379": 11, "6443": 12, "10257": 13, "10259": 14}
	b.host.Do(func(s *fakehost.State) {
		s.Processes = []host.Process{{PID: 99, Name: "etcd"}}
		s.Containers = nil
		if old {
			s.Containers = []host.Process{{PID: 11, Name: "etcd"}, {PID: 12, Name: "kube-apiserver"}, {PID: 14, Name: "kube-scheduler"}, {PID: 15, Name: "kube-vip"}, {PID: 16, Name: "coredns"}}
		}
	})
	b.dial = func(_ context.Context, _, address string) (net.Conn, error) {
		ip, port, err := net.SplitHostPort(address)
		if err != nil || ip != "127.0.0.1" {
			return nil, fmt.Errorf("%s is not on the host itself", address)
		}
		certificate := showing().young
		if port == "2379" {
			certificate = hour.key
		}
		b.host.Do(func(s *fakehost.State) {
			if slices.ContainsFunc(s.Containers, func(p host.Process) bool { return p.PID == ports[port] }) {
				certificate = showing().old
			}
		})
		near, far := net.Pipe()
		go func() {
			server := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{certificate}})
			if server.Handshake() == nil {
				server.Close()
			}
		}()
		return near, nil
	}
}

// anHour is a certificate of an hour from now on.
type anHour struct {
	pem string
	key tls.Certificate
}

//nolint:gochecknoglobals // Made once for all tests, and never changed.
var madeHour sync.Once

//nolint:gochecknoglobals // See above.
var theHour anHour

func servedHour(ca *pki.CA, _ time.Time) anHour {
	madeHour.Do(func() {
		leaf, key, err := ca.Issue(pki.Template{CommonName: "leaf", ValidFor: time.Hour})
		if err != nil {
			panic(err)
		}
		pair, err := tls.X509KeyPair(leaf, key)
		if err != nil {
			panic(err)
		}
		theHour = anHour{string(leaf), pair}
	})
	return theHour
}

func stopCases() map[string]stepCase {
	running := func(b *bench) {
		b.unit("containerd.service", containerdConfig, true)
		b.unit("kubelet.service", "/var/lib/kubelet/config.yaml", true)
		b.host.Do(func(s *fakehost.State) {
			s.Containers = []host.Process{{PID: 7, Name: "containerd-shim"}, {PID: 8, Name: "etcd"}, {PID: 9, Name: "kube-apiserver"}}
		})
		b.host.Handle("/usr/local/bin/crictl", playCrictl)
	}
	return map[string]stepCase{
		"stop": {reason: "units, containers and runtime, now and at boot", step: kubelet.Stop{}, prepare: running,
			drift: []string{"containerd.service", "kubelet.service", "container processes"}},
		"stop but etcd": {reason: "other control planes may still write", step: kubelet.Stop{KeepEtcd: true}, prepare: running,
			drift: []string{"kubelet.service", "control plane processes"}},
		"stop a bare host": {reason: "where creating failed early there is nothing", step: kubelet.Stop{}},
		"start": {reason: "runtime and kubelet, now and at boot", step: kubelet.Start{}, prepare: func(b *bench) {
			b.unit("containerd.service", containerdConfig, false)
			b.unit("kubelet.service", "/var/lib/kubelet/config.yaml", false)
		}, drift: []string{"containerd.service", "containerd.service at boot", "kubelet.service", "kubelet.service at boot"}},
	}
}

// playCrictl lists and stops what runs: shims are pods.
func playCrictl(s *fakehost.State, c fakehost.Call) host.Result {
	words := c.Argv[3:]
	shim := func(p host.Process) bool { return strings.HasPrefix(p.Name, "containerd-shim") }
	switch words[0] {
	case "ps", "pods":
		var found []string
		for _, p := range s.Containers {
			if shim(p) == (words[0] == "pods") && (!slices.Contains(words, "^etcd$") || p.Name == "etcd") {
				found = append(found, fmt.Sprint(p.PID))
			}
		}
		return host.Result{Stdout: []byte(strings.Join(found, "\n"))}
	case "stop", "stopp":
		s.Containers = slices.DeleteFunc(s.Containers, func(p host.Process) bool { return slices.Contains(words[1:], fmt.Sprint(p.PID)) })
		return host.Result{}
	default:
		return fakehost.Fail(1, "crictl: unexpected "+words[0])
	}
}
