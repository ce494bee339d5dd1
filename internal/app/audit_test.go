package app

import (
	"context"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/audit"
)

// TestAuditTrail holds that everything which records is wired to one log: the API, the gateway, the logins to hosts,
// the operations and the log itself, and that commands read and prove it.
func TestAuditTrail(t *testing.T) {
	i := install(t, ServerOptions{DataDir: t.TempDir(), Version: "1.0.0"})
	m := newMachine(t, "talks", false)
	i.credential(t, "talks", "ops", v1alpha1.CredentialPassword, map[string]string{"password": "audit-canary"})
	for _, o := range []client.Object{
		&v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: "talks"}, Spec: v1alpha1.HostSpec{Address: "127.0.0.1", Credential: "talks", Port: int32(m.port), HostKey: m.hostKey()}},
		&v1alpha1.Setting{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.SettingRetention}, Spec: v1alpha1.SettingSpec{Retention: &v1alpha1.RetentionSetting{AuditDays: 30}}},
		&v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "demo"}, Spec: v1alpha1.ClusterSpec{
			Kubernetes: v1alpha1.KubernetesSpec{Version: "v1.36.3"}, ControlPlane: v1alpha1.ControlPlaneSpec{Hosts: []string{"talks"}}}},
	} {
		if err := i.client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := auditDays(i.client)(t.Context()); err != nil || n != 30 {
		t.Errorf("the log is kept for %d days, %v", n, err)
	}
	nobody, err := rest.HTTPClientFor(rest.AnonymousClientConfig(i.config))
	if err != nil {
		t.Fatal(err)
	}
	response, err := nobody.Get(i.config.Host + "/api/v1/secrets")
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusUnauthorized {
		t.Errorf("status %d", response.StatusCode)
	}
	for what, args := range map[string][]string{
		"who made the host":   {"--actor", "admin", "--verb", "create", "--object", "hosts talks", "--contains", "admin-token", "--result", "Allowed"},
		"who was sent away":   {"--verb", "get", "--object", "/api/v1/secrets", "--result", "Refused", "--people"},
		"use of a credential": {"--actor", audit.Server, "--verb", "use-credential", "--object", "credentials talks", "--contains", "look at the host"},
		"the operation":       {"--verb", "operation", "--project", "default", "--contains", "Failed"},
		"the start":           {"--verb", "start", "--contains", "1.0.0"},
	} {
		i.eventually(t, "a line that says "+what, func(context.Context) (bool, error) {
			before := len(i.said.String())
			if code := i.run(t, append([]string{"audit", "list", "-o", "json"}, args...)...); code != 0 {
				t.Fatalf("audit list: exit code %d\n%s", code, i.said)
			}
			return strings.Contains(i.said.String()[before:], `"seq"`), nil
		})
	}
	if code := i.run(t, "audit", "export"); code != 0 || !strings.Contains(i.said.String(), "lines; head ") {
		t.Errorf("audit export: exit code %d", code)
	}
	if code := i.run(t, "audit", "verify", "--data-dir", i.directory); code != 0 || !strings.Contains(i.said.String(), "every line was written by the server") {
		t.Errorf("audit verify: exit code %d\n%s", code, i.said)
	}
	if err := i.stop(); err != nil {
		t.Fatal(err)
	}
	trail, err := openAudit(i.directory, "1.0.1", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer trail.Close()
	stops := 0
	if _, err := trail.Search(t.Context(), audit.Query{Verb: "stop"}, func([]byte) error { stops++; return nil }); err != nil || stops != 1 {
		t.Errorf("a clean stop leaves %d lines, %v", stops, err)
	}
	if old, err := filepath.Glob(filepath.Join(i.directory, "audit", "audit.log*")); err != nil || len(old) > 0 {
		t.Errorf("the API server still writes a log of its own: %v, %v", old, err)
	}
	if _, err := trail.Search(t.Context(), audit.Query{Contains: "audit-canary"}, func(line []byte) error {
		t.Errorf("the log holds a secret: %s", line)
		return nil
	}); err != nil {
		t.Error(err)
	}
}
