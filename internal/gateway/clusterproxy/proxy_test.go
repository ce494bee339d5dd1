package clusterproxy

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/internal/audit"
)

// TestIdentity: whatever a client claims, the cluster sees the person, in the group that RBAC gives, and nothing else.
func TestIdentity(t *testing.T) {
	w := newWorld(t)
	administrator := http.Header{"Impersonate-User": {"slipway:alice"}, "Impersonate-Group": {"slipway:administrators"}}
	viewer := http.Header{"Impersonate-User": {"slipway:oidc:bob@corp"}, "Impersonate-Group": {"slipway:viewers", "slipway:oidc:devs", "slipway:oidc:system:masters"}}
	for name, tc := range map[string]struct {
		reason, who, headers string
		want                 http.Header
	}{
		"administrator":     {reason: "who may administer is an administrator there", who: "alice", want: administrator},
		"viewer":            {reason: "directory groups go along behind a prefix, and no group of the platform does", who: "oidc:bob@corp", want: viewer},
		"read-only token":   {reason: "a token that only reads gives no more than that", who: "looker", want: http.Header{"Impersonate-User": {"slipway:looker"}, "Impersonate-Group": {"slipway:viewers"}}},
		"impersonate":       {reason: "nobody becomes someone else", who: "oidc:bob@corp", headers: "Impersonate-User: root\r\nImpersonate-Group: system:masters\r\nImpersonate-Uid: 0\r\nImpersonate-Extra-Scopes: all\r\n", want: viewer},
		"spelling":          {reason: "spelling does not help", who: "oidc:bob@corp", headers: "iMPERSONATE-gROUP: system:masters\r\nImpersonate_User: root\r\nimpersonate_group: system:masters\r\nIMPERSONATE-EXTRA-a: b\r\n", want: viewer},
		"hop by hop":        {reason: "Connection cannot take away what is set last", who: "oidc:bob@corp", headers: "Connection: Impersonate-User, Impersonate-Group\r\n", want: viewer},
		"front proxy":       {reason: "nobody is a front proxy", who: "oidc:bob@corp", headers: "X-Remote-User: root\r\nX-Remote-Group: system:masters\r\nX_Remote_Extra-A: b\r\n", want: viewer},
		"cookie":            {reason: "cookies stay here", who: "oidc:bob@corp", headers: "Cookie: __Host-slipway=a\r\nProxy-Authorization: Basic x\r\n", want: viewer},
		"forwarded":         {reason: "nobody invents where they come from", who: "oidc:bob@corp", headers: "X-Forwarded-For: 10.9.9.9\r\nX_Forwarded_Host: h\r\nForwarded: for=10.9.9.9\r\n", want: viewer},
		"trailer":           {reason: "a trailer makes no claim", who: "oidc:bob@corp", headers: "Trailer: Impersonate-User\r\n", want: viewer},
		"second credential": {reason: "a second credential is no way in", who: "alice", headers: "Authorization: Bearer root\r\n"},
		"upgrade": {reason: "an upgrade is cleaned too", who: "oidc:bob@corp", want: viewer,
			headers: "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nImpersonate-User: root\r\nX-Remote-User: root\r\n"},
		"websocket bearer": {reason: "a token in a protocol's name goes no further", who: "oidc:bob@corp", want: viewer,
			headers: "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.cm9vdA, v5.channel.k8s.io\r\n"},
		"stranger": {reason: "without the right to look there is no way in", who: "mallory"},
	} {
		t.Run(name, func(t *testing.T) {
			w.set(func() { w.last = nil })
			w.raw("GET " + throughIt + "/api/v1/pods HTTP/1.1\r\nHost: platform.test\r\nAuthorization: Bearer " + tc.who + "\r\n" + tc.headers + "\r\n")
			got := w.seen()
			if tc.want == nil {
				if got != nil {
					t.Fatalf("%s: the request reached the cluster", tc.reason)
				}
				return
			}
			if got == nil {
				t.Fatalf("%s: the request did not reach the cluster", tc.reason)
			}
			if diff := cmp.Diff(tc.want, claims(got.Header)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			if subject := got.TLS.PeerCertificates[0].Subject; subject.CommonName != "slipway" {
				t.Errorf("%s: the connection is of %s", tc.reason, subject)
			}
			if from := got.Header.Values("X-Forwarded-For"); !slices.Equal(from, []string{"127.0.0.1"}) {
				t.Errorf("%s: X-Forwarded-For is %q", tc.reason, from)
			}
		})
	}
}

// claims gives every header that could say who a request is from.
func claims(header http.Header) http.Header {
	found := http.Header{}
	for name, values := range header {
		spelled := strings.ReplaceAll(strings.ToLower(name), "_", "-")
		for _, part := range []string{"impersonate", "x-remote", "authorization", "cookie", "trailer", "forwarded-host"} {
			if strings.Contains(spelled, part) && name != "X-Forwarded-Host" {
				found[name] = values
			}
		}
		if strings.Contains(strings.Join(values, ","), "bearer") {
			found[name] = values
		}
	}
	return found
}

// TestPath: below proxy/ the path is the client's, byte by byte, and above it nothing can be reached.
func TestPath(t *testing.T) {
	w := newWorld(t)
	for name, tc := range map[string]struct {
		reason, sent, want string
		code               int
	}{
		"plain":           {reason: "the usual", sent: throughIt + "/api/v1/pods?limit=5", want: "/api/v1/pods?limit=5", code: 200},
		"root":            {reason: "the list of paths", sent: throughIt + "/", want: "/", code: 200},
		"escaped slash":   {reason: "a slash in a name stays in it", sent: throughIt + "/api/v1/namespaces/a%2fb/pods", want: "/api/v1/namespaces/a%2fb/pods", code: 200},
		"escaped dots":    {reason: "escaped dots are for the cluster to judge", sent: throughIt + "/%2e%2e/%2E%2e/api", want: "/%2e%2e/%2E%2e/api", code: 200},
		"escaped percent": {reason: "nothing is unescaped twice", sent: throughIt + "/a%252fb", want: "/a%252fb", code: 200},
		"dots":            {reason: "plain dots lead to another path of this server, and the client is told so", sent: throughIt + "/../../../../../../api/v1/secrets", code: 307},
		"double slash":    {reason: "as are two slashes", sent: throughIt + "//api", code: 307},
		"cluster of dots": {reason: "a name cannot lead elsewhere", sent: "/slipway/v1/projects/dev/clusters/%2e%2e/proxy/api", code: 404},
		"project escaped": {reason: "nor can a project", sent: "/slipway/v1/projects/dev%2fx/clusters/demo/proxy/api", code: 404},
		"other host":      {reason: "a path that looks like an address stays a path", sent: throughIt + "/%2f%2fevil.test/", want: "/%2f%2fevil.test/", code: 200},
	} {
		t.Run(name, func(t *testing.T) {
			w.set(func() { w.last = nil })
			response, _, _ := w.raw("GET " + tc.sent + " HTTP/1.1\r\nHost: platform.test\r\nAuthorization: Bearer alice\r\n\r\n")
			got := w.seen()
			if response.StatusCode != tc.code {
				t.Errorf("%s: %s, want %d", tc.reason, response.Status, tc.code)
			}
			switch {
			case tc.want == "" && got != nil:
				t.Errorf("%s: the cluster saw %s", tc.reason, got.RequestURI)
			case tc.want != "" && (got == nil || got.RequestURI != tc.want || got.Host != "kubernetes.default.svc:6443"):
				t.Errorf("%s: the cluster saw %+v, want %s", tc.reason, got, tc.want)
			}
		})
	}
}

// TestUpgrade: exec and port-forward talk both ways, and are on record from their first moment.
func TestUpgrade(t *testing.T) {
	for name, tc := range map[string]struct{ method, protocol string }{
		"SPDY": {"POST", "SPDY/3.1"}, "WebSocket": {"GET", "websocket"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.answer = func(response http.ResponseWriter, r *http.Request) {
				conn, buffer, err := http.NewResponseController(response).Hijack()
				if err != nil {
					http.Error(response, err.Error(), http.StatusInternalServerError)
					return
				}
				defer conn.Close()
				fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nX-Stream-Protocol-Version: v4\r\n\r\n", r.Header.Get("Upgrade"))
				for {
					line, err := buffer.ReadString('\n')
					if err != nil {
						return
					}
					fmt.Fprint(conn, "echo "+line)
				}
			}
			response, reader, conn := w.raw(tc.method + " " + throughIt + "/api/v1/namespaces/a/pods/b/exec?command=sh HTTP/1.1\r\nHost: platform.test\r\n" +
				"Authorization: Bearer alice\r\nConnection: Upgrade\r\nUpgrade: " + tc.protocol + "\r\n\r\n")
			if response.StatusCode != http.StatusSwitchingProtocols || response.Header.Get("X-Stream-Protocol-Version") != "v4" {
				t.Fatalf("no upgrade: %+v", response)
			}
			for i := range 2 {
				fmt.Fprintf(conn, "line %d\n", i)
				if line, err := reader.ReadString('\n'); err != nil || line != fmt.Sprintf("echo line %d\n", i) {
					t.Fatalf("got %q, %v", line, err)
				}
			}
			want := []audit.Event{{Verb: "cluster-proxy", Actor: "alice", Via: "token:t1", From: "127.0.0.1", Object: "clusters/proxy dev/demo", Project: "dev", Code: 101, Result: audit.Allowed,
				Detail: map[string]string{"method": tc.method, "path": "/api/v1/namespaces/a/pods/b/exec"}}}
			if diff := cmp.Diff(want, w.log.all()); diff != "" {
				t.Errorf("on record while it goes on (-want +got):\n%s", diff)
			}
		})
	}
}

// TestWatch: events come one by one, and a person who becomes less than they were is cut off, while others go on.
func TestWatch(t *testing.T) {
	w := newWorld(t)
	// An event for each person comes when the test says so.
	release := map[string]chan struct{}{"slipway:alice": make(chan struct{}, 1), "slipway:oidc:bob@corp": make(chan struct{}, 1), "slipway:looker": make(chan struct{}, 1)}
	w.answer = func(response http.ResponseWriter, r *http.Request) {
		who := r.Header.Get("Impersonate-User")
		for i := 0; ; i++ {
			fmt.Fprintf(response, "%s %d\n", who, i)
			if err := http.NewResponseController(response).Flush(); err != nil {
				return
			}
			select {
			case <-release[who]:
			case <-r.Context().Done():
				return
			}
		}
	}
	watches := map[string]*bufio.Scanner{}
	for _, who := range []string{"alice", "oidc:bob@corp", "looker"} {
		response := w.open(who, "GET", throughIt+"/api/v1/pods?watch=true", "")
		defer response.Body.Close()
		watches[who] = bufio.NewScanner(response.Body)
		for i := range 2 {
			if !watches[who].Scan() || watches[who].Text() != fmt.Sprintf("slipway:%s %d", who, i) {
				t.Fatalf("event %d of %s did not come: %q", i, who, watches[who].Text())
			}
			if i == 0 {
				release["slipway:"+who] <- struct{}{}
			}
		}
	}
	w.long.Recheck(t.Context())
	w.set(func() {
		w.may["alice"] = []string{"view"}
		w.may["oidc:bob@corp"] = []string{"create kubeconfig"}
		w.may["looker"] = []string{"view"}
	})
	w.long.Recheck(t.Context())
	if watches["alice"].Scan() {
		t.Errorf("who administers no longer still watches as an administrator: %q", watches["alice"].Text())
	}
	if watches["oidc:bob@corp"].Scan() {
		t.Errorf("who may not look any more still does: %q", watches["oidc:bob@corp"].Text())
	}
	release["slipway:looker"] <- struct{}{}
	if !watches["looker"].Scan() {
		t.Errorf("the watch of another person ended: %v", watches["looker"].Err())
	}
}

// TestAnswer: what a cluster answers cannot act on the platform's origin, nor lead to the platform's API.
func TestAnswer(t *testing.T) {
	w := newWorld(t)
	w.answer = func(response http.ResponseWriter, r *http.Request) {
		maps.Copy(response.Header(), http.Header{
			"Set-Cookie": {"__Host-slipway=x"}, "Clear-Site-Data": {`"*"`}, "Alt-Svc": {`h2="evil.test:443"`}, "Access-Control-Allow-Origin": {"*"},
			"Content-Security-Policy": {"default-src *"}, "X-Frame-Options": {"ALLOWALL"}, "Content-Type": {"text/html"}, "Location": {"/api/v1/x?y=1"},
		})
		response.WriteHeader(http.StatusFound)
	}
	response, _, _ := w.raw("GET " + throughIt + "/page HTTP/1.1\r\nHost: platform.test\r\nAuthorization: Bearer alice\r\n\r\n")
	for name, want := range map[string]string{
		"Set-Cookie": "", "Clear-Site-Data": "", "Alt-Svc": "", "Access-Control-Allow-Origin": "", "X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff",
		"Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'", "Location": throughIt + "/api/v1/x?y=1",
	} {
		if got := response.Header.Values(name); strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// TestAudit: what changes a cluster is on record, also when it is refused or breaks off; what only looks is not.
func TestAudit(t *testing.T) {
	w := newWorld(t)
	w.answer = func(response http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/broken" {
			response.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(response, "abc")
			return
		}
		if r.Method == http.MethodDelete {
			response.WriteHeader(http.StatusConflict)
		}
	}
	for _, read := range []string{"GET", "HEAD", "OPTIONS"} {
		if code, body := w.ask("alice", read, throughIt+"/api", ""); code != http.StatusOK {
			t.Fatalf("%s: %d %s", read, code, body)
		}
	}
	for _, change := range []string{"POST", "PUT", "PATCH", "DELETE"} {
		w.ask("alice", change, throughIt+"/api/v1/pods?secret=x", "{}")
	}
	w.ask("mallory", "DELETE", throughIt+"/api/v1/pods", "")
	response := w.open("alice", "POST", throughIt+"/broken", "")
	if _, err := io.ReadAll(response.Body); err == nil {
		t.Error("an answer that broke off looks whole")
	}
	response.Body.Close()
	var got []string
	for _, e := range w.log.all() {
		got = append(got, fmt.Sprintf("%s %s %s %s %s %d %s", e.Actor, e.Verb, e.Object, e.Detail["method"], e.Detail["path"], e.Code, e.Result))
	}
	want := []string{
		"alice cluster-proxy clusters/proxy dev/demo POST /api/v1/pods 200 Allowed", "alice cluster-proxy clusters/proxy dev/demo PUT /api/v1/pods 200 Allowed",
		"alice cluster-proxy clusters/proxy dev/demo PATCH /api/v1/pods 200 Allowed", "alice cluster-proxy clusters/proxy dev/demo DELETE /api/v1/pods 409 Failed",
		"mallory cluster-proxy clusters/proxy dev/demo   403 Refused", "alice cluster-proxy clusters/proxy dev/demo POST /broken 200 Allowed",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("on record (-want +got):\n%s", diff)
	}
}

// TestAway: a cluster that cannot be reached says so, and what to do.
func TestAway(t *testing.T) {
	for name, tc := range map[string]struct {
		reason, path, body string
		prepare            func(*world)
		code               int
		says               string
	}{
		"no cluster":      {reason: "it is gone", path: "/slipway/v1/projects/dev/clusters/none/proxy/api", code: 404, says: `none\" not found`},
		"not created":     {reason: "it has no API server yet", path: "/slipway/v1/projects/dev/clusters/new/proxy/api", code: 409, says: "slipway cluster status new -p dev"},
		"keys of another": {reason: "a cluster of the same name in another project is not this one", path: "/slipway/v1/projects/ops/clusters/demo/proxy/api", code: 409, says: "no keys of cluster demo"},
		"no host": {reason: "no control plane answers", path: throughIt + "/api", code: 503, says: "slipway cluster status demo -p dev",
			prepare: func(w *world) { w.host.SetDialer(nil) }},
		"large body": {reason: "bodies have a limit", path: throughIt + "/api", body: strings.Repeat("x", 9<<20), code: 413, says: "larger than",
			prepare: func(w *world) {
				w.answer = func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }
			}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if tc.prepare != nil {
				tc.prepare(w)
			}
			code, body := w.ask("alice", "POST", tc.path, tc.body)
			if code != tc.code || !strings.Contains(body, tc.says) || !strings.Contains(body, `"kind":"Status"`) {
				t.Errorf("%s: %d %s, want %d and %q", tc.reason, code, body, tc.code, tc.says)
			}
		})
	}
}
