//go:build acceptance

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// TestUpgrade takes a cluster of three control planes and two workers over two minor versions in one operation, while a
// workload of two replicas is asked for an answer and the API is written to all the time. `make acceptance` runs it.
func TestUpgrade(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Minute)
	defer cancel()
	const from, to = "v1.35.4", "v1.37.1"
	w := newWorld(t)
	w.startServer(ctx)
	w.run(ctx, "sandbox", "up", "--data-dir", w.data, "--hosts", "5", "--register")
	for _, version := range []string{from, "v1.36.3", to} {
		w.run(ctx, "wait", "--for=create", "--timeout=1m", "bundle/"+version)
		w.run(ctx, "wait", "--for=condition=Verified", "--timeout=10m", "bundle/"+version)
	}
	w.run(ctx, "cluster", "create", "demo", "--kubernetes", from, "--control-plane", "sandbox-1,sandbox-2,sandbox-3",
		"--worker", "sandbox-4", "--worker", "sandbox-5", "--virtual-ip", w.virtualIP(ctx))
	w.run(ctx, "cluster", "kubeconfig", "demo", "--break-glass", "--reason", "its API is asked past Slipway", "--output", w.kubeconfig)
	w.kubectl(ctx, t, fmt.Sprintf(workloadManifest, w.image(ctx, t, "coredns")), "apply", "-f", "-")
	w.kubectl(ctx, t, "", "wait", "--for=condition=Available", "--timeout=120s", "deployment/web")

	begun := time.Now()
	probing, stop := context.WithCancel(ctx)
	defer stop()
	service, writes := w.probeService(probing, t), w.probeWrites(probing, t)
	w.run(ctx, "cluster", "upgrade", "demo", "--to", to, "--yes")
	logf(t, begun, "three control planes and two workers upgraded from %s to %s", from, to)
	stop()
	answered, written := <-service, <-writes

	t.Logf("the Service: %s", answered)
	t.Logf("writes to the API: %s", written)
	if answered.failed > 0 || answered.done == 0 {
		t.Errorf("requests to the workload failed: %s", answered)
	}
	if written.done == 0 {
		t.Errorf("the API was never written to: %s", written)
	}
	versions := w.kubectl(ctx, t, "", "get", "nodes", "-o", "jsonpath={.items[*].status.nodeInfo.kubeletVersion}")
	if want := strings.TrimSpace(strings.Repeat(to+" ", 5)); versions != want {
		t.Errorf("the kubelets have versions %q, want %q", versions, want)
	}
	w.kubectl(ctx, t, "", "wait", "--for=condition=Ready", "--timeout=60s", "nodes", "--all")
	w.kubectl(ctx, t, "", "wait", "--for=condition=Available", "--timeout=60s", "-n", "kube-system", "deployment/coredns")
	w.run(ctx, "cluster", "delete", "demo", "--now", "--yes")
}

// workloadManifest is two replicas that are never on one node, which a budget keeps from being away together.
const workloadManifest = `
apiVersion: v1
kind: ConfigMap
metadata: {name: web}
data:
  Corefile: |
    .:1053 {
      health :8080
      whoami
    }
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: web}}}
      containers:
      - name: web
        image: %s
        args: [-conf, /etc/coredns/Corefile]
        readinessProbe: {httpGet: {path: /health, port: 8080}, periodSeconds: 1}
        lifecycle: {preStop: {sleep: {seconds: 5}}}
        volumeMounts: [{name: config, mountPath: /etc/coredns}]
      volumes: [{name: config, configMap: {name: web}}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {minAvailable: 1, selector: {matchLabels: {app: web}}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
`

// probed is what a prober has seen.
type probed struct {
	done, failed int
	// longest is the longest time between two that were done.
	longest time.Duration
	// why tells of the failures, each with its time; only of the first of many.
	why []string
}

func (p probed) String() string {
	text := fmt.Sprintf("%d done, %d failed, at most %.2f s between two that were done", p.done, p.failed, p.longest.Seconds())
	return strings.Join(append([]string{text}, p.why...), "\n  ")
}

// probe asks again and again, at most 20 times a second, until its context ends, and then tells.
func probe(ctx context.Context, ask func(context.Context) error) <-chan probed {
	told := make(chan probed, 1)
	go func() {
		var p probed
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for last := time.Now(); ; {
			asking, cancel := context.WithTimeout(ctx, 5*time.Second)
			err := ask(asking)
			cancel()
			switch {
			case ctx.Err() != nil:
				told <- p
				return
			case err != nil:
				if p.failed++; p.failed <= 50 {
					p.why = append(p.why, fmt.Sprintf("%s: %v", time.Now().Format("15:04:05.0"), err))
				}
			default:
				p.done++
				p.longest = max(p.longest, time.Since(last))
				last = time.Now()
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	}()
	return told
}

// probeService asks the workload through the node port of each host in turn, with a connection of its own each time. It
// begins when each host has answered once.
func (w *world) probeService(ctx context.Context, t *testing.T) <-chan probed {
	t.Helper()
	hosts := w.sandboxHosts(ctx)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	ask := func(ctx context.Context, address string) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+":30080/health", nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, response.Body)
		return errors.Join(err, response.Body.Close())
	}
	begin, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, h := range hosts {
		until(begin, t, "the node port of "+h.Name, func() bool { return ask(begin, h.Address) == nil })
	}
	turn := 0
	return probe(ctx, func(ctx context.Context) error {
		turn++
		return ask(ctx, hosts[turn%len(hosts)].Address)
	})
}

// rest gives how the API of the cluster demo is asked, past Slipway: at one of its API servers, or "" for its own address.
func (w *world) rest(t *testing.T, server string) *rest.Config {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags(server, w.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	return config
}

// probeWrites writes to the API of the cluster demo, at the cluster's own address.
func (w *world) probeWrites(ctx context.Context, t *testing.T) <-chan probed {
	t.Helper()
	client, err := kubernetes.NewForConfig(w.rest(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	maps := client.CoreV1().ConfigMaps(metav1.NamespaceDefault)
	_, err = maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "probe"}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	return probe(ctx, func(ctx context.Context) error {
		patch := fmt.Appendf(nil, `{"data":{"at":"%d"}}`, time.Now().UnixNano())
		_, err := maps.Patch(ctx, "probe", types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	})
}
