package clusterproxy

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/clientcmd"

	"slipway.dev/slipway/internal/audit"
	"slipway.dev/slipway/internal/auth"
	"slipway.dev/slipway/internal/pki"
)

// TestKubeconfig: it leads through this server by the name the client knows it by, with a token for this cluster alone.
func TestKubeconfig(t *testing.T) {
	for name, tc := range map[string]struct {
		reason, who, path, body string
		code                    int
		life                    time.Duration
		narrow                  bool
	}{
		"plain":        {reason: "a day when nobody says how long, or what there is", who: "alice", path: base, code: 200, life: 24 * time.Hour, narrow: true},
		"hours":        {reason: "as long as asked", who: "oidc:bob@corp", path: base, body: `{"hours":2}`, code: 200, life: 2 * time.Hour},
		"too long":     {reason: "no setting allows so much", who: "alice", path: base, body: `{"hours":9000}`, code: 400},
		"negative":     {reason: "time runs forward", who: "alice", path: base, body: `{"hours":-1}`, code: 400},
		"unknown word": {reason: "a typo is not dropped in silence", who: "alice", path: base, body: `{"hour":2}`, code: 400},
		"no right":     {reason: "RBAC decides", who: "looker", path: base, code: 403},
		"not created":  {reason: "there is nothing to reach yet", who: "alice", path: "/slipway/v1/projects/dev/clusters/new", code: 409},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			code, body := w.ask(tc.who, "POST", tc.path+"/kubeconfig", tc.body)
			if code != tc.code {
				t.Fatalf("%s: %d %s, want %d", tc.reason, code, body, tc.code)
			}
			if code != http.StatusOK {
				if len(w.minted) > 0 {
					t.Errorf("%s: a token was made", tc.reason)
				}
				return
			}
			want := []auth.TokenRequest{{Name: "kubeconfig of demo", Scope: auth.Scope{Cluster: "dev/demo"}, Life: tc.life, Narrow: tc.narrow, From: "127.0.0.1"}}
			if diff := cmp.Diff(want, w.minted); diff != "" {
				t.Errorf("%s: token (-want +got):\n%s", tc.reason, diff)
			}
			config, err := clientcmd.Load([]byte(body))
			if err != nil {
				t.Fatal(err)
			}
			current := config.Contexts[config.CurrentContext]
			cluster, who := config.Clusters[current.Cluster], config.AuthInfos[current.AuthInfo]
			if cluster.Server != w.front.URL+throughIt || string(cluster.CertificateAuthorityData) != "the platform's authority" {
				t.Errorf("%s: it leads to %s", tc.reason, cluster.Server)
			}
			if who.Token != "slp_t2_"+tc.who || len(who.ClientCertificateData) > 0 {
				t.Errorf("%s: the credential is not the person's token: %+v", tc.reason, who)
			}
			if first, _, _ := strings.Cut(body, "\n"); !strings.HasPrefix(first, "# kubeconfig of cluster dev/demo") || !strings.Contains(first, "ends "+time.Now().Add(tc.life).UTC().Format("2006-01-02")) {
				t.Errorf("%s: the first line does not say what it is: %s", tc.reason, first)
			}
			if e := w.log.all(); len(e) != 1 || e[0].Verb != "kubeconfig" || e[0].Detail["token"] != "t2" || strings.Contains(strings.Join([]string{e[0].Detail["token"], e[0].Reason}, " "), "slp_") {
				t.Errorf("%s: on record: %+v", tc.reason, e)
			}
		})
	}
}

// TestBreakGlass: it needs a reason, ends by itself within a day, and all of that is on record.
func TestBreakGlass(t *testing.T) {
	const reason = "the gateway is down, ticket 4711"
	for name, tc := range map[string]struct {
		reason, who, path, body string
		code                    int
		life                    time.Duration
	}{
		"plain":        {reason: "an hour when nobody says how long", who: "alice", path: base, body: `{"reason":"` + reason + `"}`, code: 200, life: time.Hour},
		"a day":        {reason: "a day at most", who: "alice", path: base, body: `{"hours":24,"reason":"` + reason + `"}`, code: 200, life: 24 * time.Hour},
		"longer":       {reason: "it cannot be taken back", who: "alice", path: base, body: `{"hours":25,"reason":"` + reason + `"}`, code: 400},
		"no reason":    {reason: "somebody will ask", who: "alice", path: base, code: 400},
		"short":        {reason: "a word is no reason", who: "alice", path: base, body: `{"reason":"because   "}`, code: 400},
		"long":         {reason: "nor is a book", who: "alice", path: base, body: `{"reason":"` + strings.Repeat("x", 201) + `"}`, code: 400},
		"escape codes": {reason: "whoever reads the log has a terminal", who: "alice", path: base, body: `{"reason":"because \u001b[2J of it"}`, code: 400},
		"no right":     {reason: "RBAC decides", who: "oidc:bob@corp", path: base, body: `{"reason":"` + reason + `"}`, code: 403},
		"not created":  {reason: "there is nothing to reach yet", who: "alice", path: "/slipway/v1/projects/dev/clusters/new", body: `{"reason":"` + reason + `"}`, code: 409},
		"others' keys": {reason: "the keys of that name are another project's", who: "alice", path: "/slipway/v1/projects/ops/clusters/demo", body: `{"reason":"` + reason + `"}`, code: 409},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			before := time.Now()
			code, body := w.ask(tc.who, "POST", tc.path+"/breakglass", tc.body)
			if code != tc.code {
				t.Fatalf("%s: %d %s, want %d", tc.reason, code, body, tc.code)
			}
			e := w.log.all()
			if len(e) != 1 || e[0].Verb != "break-glass" || (e[0].Result == audit.Allowed) != (code == http.StatusOK) {
				t.Fatalf("%s: on record: %+v", tc.reason, e)
			}
			if code != http.StatusOK {
				return
			}
			config, err := clientcmd.Load([]byte(body))
			if err != nil {
				t.Fatal(err)
			}
			current := config.Contexts[config.CurrentContext]
			if current.Cluster != "demo-break-glass" || config.Clusters[current.Cluster].Server != "https://10.9.0.11:6443" {
				t.Errorf("%s: it leads to %s", tc.reason, config.Clusters[current.Cluster].Server)
			}
			leaf, err := pki.ParseCertificate(config.AuthInfos[current.AuthInfo].ClientCertificateData)
			if err != nil {
				t.Fatal(err)
			}
			if err := leaf.CheckSignatureFrom(w.ca.Certificate()); err != nil || leaf.Subject.CommonName != "slipway:alice" || leaf.IsCA {
				t.Errorf("%s: certificate of %s: %v", tc.reason, leaf.Subject, err)
			}
			if leaf.NotAfter.After(time.Now().Add(tc.life)) || leaf.NotAfter.Before(before.Add(tc.life-time.Second)) {
				t.Errorf("%s: it ends at %s", tc.reason, leaf.NotAfter)
			}
			want := map[string]string{"reason": reason, "until": leaf.NotAfter.UTC().Format(time.RFC3339)}
			if diff := cmp.Diff(want, e[0].Detail); diff != "" {
				t.Errorf("%s: on record (-want +got):\n%s", tc.reason, diff)
			}
			if first, _, _ := strings.Cut(body, "\n"); !strings.Contains(first, "BREAK-GLASS") || !strings.Contains(first, want["until"]) {
				t.Errorf("%s: the first line does not say what it is: %s", tc.reason, first)
			}
		})
	}
}
