package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// virtualIP gives an address of the sandbox's network that no host has.
func (w *world) virtualIP(ctx context.Context) string {
	w.t.Helper()
	return addressBeside(w.sandboxHosts(ctx)[0], 200)
}

// addressBeside gives an address in the network of a host. The machine itself has the first one.
func addressBeside(h sandboxHost, last byte) string {
	bytes := netip.MustParseAddr(h.Address).As4()
	bytes[3] = last
	return netip.AddrFrom4(bytes).String()
}

// comeAndGo brings two control planes in with a kill of the server, cuts the power of the one that has the
// cluster's address, and takes both and a worker out again by an edit of the Cluster.
func (w *world) comeAndGo(ctx context.Context, t *testing.T, before map[string]state) {
	begun := time.Now()
	w.run(ctx, "cluster", "scale", "demo", "--add-control-plane", "sandbox-4", "--add-control-plane", "sandbox-5", "--yes", "--no-wait")
	until(ctx, t, "step promote-member", func() bool { return w.stepBegun(ctx, "promote-member") })
	w.endServer(syscall.SIGKILL)
	w.startServer(ctx)
	w.appliedControlPlanes(ctx, t, "sandbox-1", "sandbox-4", "sandbox-5")
	w.kubectl(ctx, t, "", "wait", "--for=condition=Ready", "--timeout=60s", "nodes", "--all")
	if nodes := strings.Fields(w.kubectl(ctx, t, "", "get", "nodes", "-o", "name")); len(nodes) != 5 {
		t.Errorf("the cluster has nodes %v, want five", nodes)
	}
	logf(t, begun, "two control planes joined with a kill")

	holder := w.kubectl(ctx, t, "", "get", "lease", "-n", "kube-system", "plndr-cp-lock", "-o", "jsonpath={.spec.holderIdentity}")
	w.run(ctx, "sandbox", "kill", holder, "--data-dir", w.data)
	cut := time.Now()
	until(ctx, t, "the cluster's address", func() bool { return answers(ctx, "https://"+w.virtualIP(ctx)+":6443/readyz") })
	logf(t, cut, "the address of the cluster answers after a power cut of %s", holder)
	w.run(ctx, "sandbox", "start", holder, "--data-dir", w.data)
	at := slices.IndexFunc(w.sandboxHosts(ctx), func(h sandboxHost) bool { return h.Name == holder })
	own := "https://" + w.sandboxHosts(ctx)[at].Address + ":6443/readyz"
	until(ctx, t, "the API server of "+holder, func() bool { return answers(ctx, own) })
	w.run(ctx, "wait", "--for=condition=Reachable", "--timeout=120s", "host/"+holder)
	w.kubectl(ctx, t, "", "wait", "--for=condition=Ready", "--timeout=180s", "node/"+holder)

	begun = time.Now()
	w.run(ctx, "patch", "cluster", "demo", "--type=json", "-p",
		`[{"op":"replace","path":"/spec/controlPlane/hosts","value":["sandbox-1"]},{"op":"replace","path":"/spec/workerPools/0/hosts","value":["sandbox-2"]}]`)
	w.appliedControlPlanes(ctx, t, "sandbox-1")
	logf(t, begun, "two control planes and a worker left")
	if nodes := w.kubectl(ctx, t, "", "get", "nodes", "-o", "name"); nodes != "node/sandbox-1\nnode/sandbox-2\n" {
		t.Errorf("the cluster has nodes %q", nodes)
	}
	// Sandbox hosts share one kernel, and the kubelets of those that stay set these for all.
	sharedKernel := cmpopts.IgnoreSliceElements(func(line string) bool {
		return strings.HasPrefix(line, "kernel.") || strings.HasPrefix(line, "vm.")
	})
	after := w.hosts(ctx)
	for _, name := range []string{"sandbox-3", "sandbox-4", "sandbox-5"} {
		if diff := cmp.Diff(before[name], after[name], sharedKernel); diff != "" {
			t.Errorf("host %s differs from before it joined (-before +after):\n%s", name, diff)
		}
		if holder := w.run(ctx, "get", "host", name, "-o", "jsonpath={.status.holder}"); holder != "" {
			t.Errorf("host %s is still held: %s", name, holder)
		}
	}
	w.run(ctx, "cluster", "scale", "demo", "--add-worker", "sandbox-3", "--yes")
	w.kubectl(ctx, t, "", "wait", "--for=condition=Ready", "--timeout=60s", "node/sandbox-3")
	if labelled := w.kubectl(ctx, t, "", "get", "node", "sandbox-3", "-o", "jsonpath={.metadata.labels.tier}"); labelled != "web" {
		t.Errorf("a worker that came back has the label %q of its pool", labelled)
	}
}

// appliedControlPlanes waits until the cluster is as its spec says, with these control planes; a change that failed ends
// the test.
func (w *world) appliedControlPlanes(ctx context.Context, t *testing.T, want ...string) {
	t.Helper()
	until(ctx, t, fmt.Sprintf("control planes %v", want), func() bool {
		var status struct {
			Applied    struct{ ControlPlane struct{ Hosts []string } }
			Conditions []struct{ Type, Status, Reason, Message string }
		}
		if err := json.Unmarshal([]byte(w.run(ctx, "get", "cluster", "demo", "-o", "jsonpath={.status}")), &status); err != nil {
			t.Fatal(err)
		}
		for _, c := range status.Conditions {
			if c.Type == "UpToDate" && (c.Reason == "Failed" || c.Reason == "Partial") {
				t.Fatalf("the change failed: %s", c.Message)
			}
		}
		return cmp.Equal(status.Applied.ControlPlane.Hosts, want)
	})
}

// answers asks an API server whether it is ready, from outside the cluster and past Slipway.
func answers(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return err == nil && string(body) == "ok"
}
