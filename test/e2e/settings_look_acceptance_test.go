//go:build acceptance

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// expectChanged looks on the hosts and in the cluster for what changeSettings asked for.
func (w *world) expectChanged(ctx context.Context, t *testing.T, m *mirror) {
	hosts := w.nodeHosts(ctx)
	for _, h := range hosts[:3] {
		flags := w.onHost(ctx, h, "ps -eo args | grep -E '^kube-(apiserver|controller-manager|scheduler) '")
		for row, want := range map[string]string{
			"KUBE-03": " --audit-log-path=/var/log/kubernetes/audit/audit.log", "KUBE-04": " --audit-policy-file=/etc/kubernetes/audit/policy-",
			"KUBE-05": " --audit-log-maxage=14", "KUBE-06": " --audit-log-maxsize=3", "KUBE-07": " --audit-log-maxbackup=5",
			"KUBE-08": " --service-node-port-range=31000-32000",
		} {
			if strings.Count(flags, want) != 1 {
				t.Errorf("%s: the API server of %s runs without %s:\n%s", row, h.Name, want, flags)
			}
		}
		if n := strings.Count(flags, " --v=3"); n != 3 {
			t.Errorf("KUBE-10: %d of three components of %s run with --v=3:\n%s", n, h.Name, flags)
		}
		w.expectAudited(ctx, t, h)
		w.expectServed(t, h, "api.example.org", true)
		w.expectServed(t, h, "198.51.100.7", true)
	}
	if out := w.kubectl(ctx, t, "", "get", "configmap", "-n", "kube-system", "kube-proxy", "-o", "jsonpath={.data}"); !strings.Contains(out, "verbosity: 3") {
		t.Errorf("KUBE-10: kube-proxy has %s", out)
	}
	for _, h := range hosts {
		if out := w.onHost(ctx, h, "getent hosts host1.example.org"); !strings.HasPrefix(out, "192.168.2.2") {
			t.Errorf("CRE-36: host1.example.org is %q on %s", out, h.Name)
		}
		w.expectReserved(ctx, t, h.Name, "350Mi")
		m.expectAsked(ctx, t, w, h)
	}
	w.kubectl(ctx, t, fmt.Sprintf(portManifest, 31080), "apply", "-f", "-")
	out := w.refused(ctx, t, fmt.Sprintf(portManifest, 30500), "--kubeconfig", w.kubeconfig, "apply", "-f", "-")
	if !strings.Contains(out, "31000-32000") {
		t.Errorf("KUBE-08: the refusal of a port does not name the range:\n%s", out)
	}
}

// expectChangedBack looks for what changeBackWithKills has taken back.
func (w *world) expectChangedBack(ctx context.Context, t *testing.T) {
	hosts := w.nodeHosts(ctx)
	for _, h := range hosts[:3] {
		flags := w.onHost(ctx, h, "ps -eo args | grep -E '^kube-(apiserver|controller-manager|scheduler) '")
		for _, gone := range []string{"--audit", "--v=", "--service-node-port-range"} {
			if strings.Contains(flags, gone) {
				t.Errorf("a component of %s still runs with %s:\n%s", h.Name, gone, flags)
			}
		}
		w.expectServed(t, h, "api.example.org", false)
		w.expectServed(t, h, "198.51.100.7", true)
	}
	for _, h := range hosts {
		w.expectReserved(ctx, t, h.Name, "310Mi")
	}
	w.kubectl(ctx, t, fmt.Sprintf(portManifest, 30500), "apply", "-f", "-")
}

const portManifest = `
apiVersion: v1
kind: Service
metadata: {name: port-%[1]d}
spec: {type: NodePort, ports: [{port: 80, nodePort: %[1]d}]}
`

// expectAudited writes through the API server of a host: its audit log grows by that, with the content that the policy asks for.
func (w *world) expectAudited(ctx context.Context, t *testing.T, h sandboxHost) {
	t.Helper()
	const log = "/var/log/kubernetes/audit/audit.log"
	client, err := kubernetes.NewForConfig(w.rest(t, "https://"+h.Address+":6443"))
	if err != nil {
		t.Fatal(err)
	}
	before := w.onHost(ctx, h, "grep -c 'written by way of "+h.Name+"' "+log+" || true")
	patch := []byte(`{"data":{"note":"written by way of ` + h.Name + `"}}`)
	if _, err := client.CoreV1().ConfigMaps(metav1.NamespaceDefault).Patch(ctx, "probe", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	out := w.onHost(ctx, h, "grep 'written by way of "+h.Name+"' "+log+" | grep '\"level\":\"Request\"' | wc -l; cat "+log+" | grep -vc configmaps || true")
	if strings.TrimSpace(before) != "0" || out != "1\n0\n" {
		t.Errorf("KUBE-03: %s had %s records of a write in its log, then %q with its content and others", h.Name, before, out)
	}
}

// expectServed asks the API server of a host for its certificate, and says whether that is good for a name.
func (w *world) expectServed(t *testing.T, h sandboxHost, name string, good bool) {
	t.Helper()
	leaf, err := w.served(t, h, 6443)
	if err != nil {
		t.Fatal(err)
	}
	if err := leaf.VerifyHostname(name); (err == nil) != good {
		t.Errorf("CRE-34, CRE-35: the certificate of the API server of %s, good for %s: want %v, got %v", h.Name, name, good, err)
	}
}

// served gives the certificate that a port of a host serves. That of the API server must be the cluster's own.
func (w *world) served(t *testing.T, h sandboxHost, port int) (*x509.Certificate, error) {
	t.Helper()
	config, err := rest.TLSConfigFor(w.rest(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	config.InsecureSkipVerify = port != 6443
	conn, err := tls.Dial("tcp", net.JoinHostPort(h.Address, fmt.Sprint(port)), config)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0], nil
}

// expectReserved compares what a node has with what pods may have of it: what is reserved, and 100Mi below which pods are evicted.
func (w *world) expectReserved(ctx context.Context, t *testing.T, node, reserved string) {
	t.Helper()
	out := w.kubectl(ctx, t, "", "get", "node", node, "-o", "jsonpath={.status.capacity.memory} {.status.allocatable.memory}")
	capacity, allocatable, _ := strings.Cut(out, " ")
	left := resource.MustParse(capacity)
	left.Sub(resource.MustParse(reserved))
	left.Sub(resource.MustParse("100Mi"))
	if left.Cmp(resource.MustParse(allocatable)) != 0 {
		t.Errorf("KUBE-11: of %s on %s pods may have %s, want %s", capacity, node, allocatable, left.String())
	}
}

// mirror is a registry of the test's own, which has no image and notes who asks.
type mirror struct {
	url string
	mu  sync.Mutex
	// asked is what each address has asked for.
	asked map[string][]string
}

// startMirror serves where the hosts reach it.
func (w *world) startMirror(ctx context.Context, t *testing.T) *mirror {
	t.Helper()
	listener, err := net.Listen("tcp", addressBeside(w.sandboxHosts(ctx)[0], 1)+":0")
	if err != nil {
		t.Fatal(err)
	}
	m := &mirror{url: "http://" + listener.Addr().String(), asked: map[string][]string{}}
	server := &http.Server{Handler: http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		from, _, err := net.SplitHostPort(request.RemoteAddr)
		if err != nil {
			t.Errorf("cannot tell who asks the mirror: %v", err)
		}
		m.mu.Lock()
		m.asked[from] = append(m.asked[from], request.URL.String())
		m.mu.Unlock()
		http.NotFound(answer, request)
	})}
	go func() { _ = server.Serve(listener) }() // It always ends with an error: that it was closed.
	t.Cleanup(func() { _ = server.Close() })
	return m
}

// expectAsked lets a host pull an image that nobody has: it must ask the mirror.
func (m *mirror) expectAsked(ctx context.Context, t *testing.T, w *world, h sandboxHost) {
	t.Helper()
	if out, err := w.ssh(ctx, h, "crictl pull docker.io/library/of-the-mirror:1"); err == nil {
		t.Errorf("RT-08: %s has pulled what nobody has: %s", h.Name, out)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if asked := strings.Join(m.asked[h.Address], "\n"); !strings.Contains(asked, "/v2/library/of-the-mirror/manifests/1?ns=docker.io") {
		t.Errorf("RT-08: %s has asked the mirror of docker.io only %q", h.Name, asked)
	}
}
