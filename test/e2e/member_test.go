package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// memberLooks lets a read-only member of the project into the cluster demo: through Slipway, as that person, to look and
// not to change, and no longer than the membership lasts.
func (w *world) memberLooks(ctx context.Context, t *testing.T) {
	const password = "a horse of 4 colours"
	select {
	case link := <-w.setUp:
		_, secret, _ := strings.Cut(link, "#")
		w.post(ctx, t, "/slipway/v1/setup", map[string]any{"token": secret, "password": password})
	case <-ctx.Done():
		t.Fatal("the server printed no set-up link")
	}
	add := w.command(ctx, "user", "add", "rita", "--password-stdin", "--must-change=false")
	add.Stdin = strings.NewReader(password)
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("cannot add a user: %v\n%s", err, out)
	}
	w.run(ctx, "project", "add-member", "default", "rita", "--role", "ReadOnly")
	answer := w.post(ctx, t, "/slipway/v1/login", map[string]any{"user": "rita", "password": password, "token": true})
	var login struct{ Token string }
	if err := json.Unmarshal(answer, &login); err != nil || login.Token == "" {
		t.Fatalf("the login gave no token: %v", err)
	}
	platform, inside := filepath.Join(w.data, "rita.kubeconfig"), filepath.Join(w.data, "rita-demo.kubeconfig")
	admin, err := os.ReadFile(filepath.Join(w.data, "admin.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	own := regexp.MustCompile(`token: .*`).ReplaceAll(admin, []byte("token: "+login.Token))
	if err := os.WriteFile(platform, own, 0o600); err != nil {
		t.Fatal(err)
	}
	// Her role is there when the project's controller has seen to it.
	until(ctx, t, "rita's kubeconfig", func() bool {
		return exec.CommandContext(ctx, w.slipway, "--kubeconfig", platform, "cluster", "kubeconfig", "demo", "--output", inside).Run() == nil
	})
	pod := strings.Fields(w.kubectlBy(ctx, t, inside, "", "get", "pods", "-n", "kube-system", "-o", "name"))[0]
	w.kubectlBy(ctx, t, inside, "", "get", "nodes,storageclasses")
	for reason, args := range map[string][]string{
		`cannot delete resource "pods"`:  {"delete", "-n", "kube-system", pod},
		`cannot list resource "secrets"`: {"get", "secrets", "-A"},
	} {
		out, err := exec.CommandContext(ctx, w.slipway, append([]string{"--kubeconfig", inside}, args...)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), reason) || !strings.Contains(string(out), `"slipway:rita"`) {
			t.Errorf("%v: %v, want a refusal that says %s of slipway:rita\n%s", args, err, reason, out)
		}
	}
	watch := exec.CommandContext(ctx, w.slipway, "--kubeconfig", inside, "get", "pods", "-n", "kube-system", "--watch")
	seen, err := watch.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := seen.Read(make([]byte, 1)); err != nil {
		t.Fatalf("the watch shows nothing: %v", err)
	}
	begun := time.Now()
	w.run(ctx, "project", "remove-member", "default", "rita")
	if _, err := io.Copy(io.Discard, seen); err != nil {
		t.Error(err)
	}
	// It was cut off, so how it ended says nothing.
	_ = watch.Wait()
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("the watch of a member who is none any more ended after %s", took)
	}
	logf(t, begun, "a member was removed and her watch has ended")
	if out, err := exec.CommandContext(ctx, w.slipway, "--kubeconfig", inside, "get", "nodes").CombinedOutput(); err == nil {
		t.Errorf("who is no member any more still sees the cluster:\n%s", out)
	}
}

// post sends JSON to a path of the server and gives its answer.
func (w *world) post(ctx context.Context, t *testing.T, path string, body any) []byte {
	t.Helper()
	authority, err := os.ReadFile(filepath.Join(w.data, "pki", "gateway.crt"))
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(authority)
	content, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://127.0.0.1"+strings.TrimPrefix(w.listen, "0.0.0.0")+path, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}, DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatalf("cannot post to %s: %v", path, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode >= http.StatusBadRequest {
		t.Fatalf("%s: %s, %v\n%s", path, response.Status, err, answer)
	}
	return answer
}
