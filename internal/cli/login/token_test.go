package login

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/internal/cli/output"
)

func TestToken(t *testing.T) {
	ends := time.Date(2030, 1, 2, 3, 4, 0, 0, time.UTC)
	b := newBench(t, false)
	var asked map[string]any
	var revoked string
	const longer = "a token lives no longer than the login that asks for it"
	b.Mux.HandleFunc("POST /slipway/v1/me/tokens", func(w http.ResponseWriter, r *http.Request) {
		if asked = body(r); asked["expiresInHours"] == 9999.0 {
			refuse(w, 403, metav1.StatusReasonForbidden, longer)
			return
		}
		answer(w, token{ID: "abc", Name: "ci", Expires: ends, Token: "slp_abc_SECRET"})
	})
	b.Mux.HandleFunc("GET /slipway/v1/me/tokens", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"items": []token{
			{ID: "abc", Name: "ci\x1b[2J", Scope: scope{Projects: []string{"dev", "prod"}, ReadOnly: true}, Expires: ends, From: "192.0.2.7", Current: true},
			{ID: "def", Name: "kubeconfig of blue", Scope: scope{Cluster: "dev/blue"}, Expires: ends},
			{ID: "ghi", Name: "all", Expires: ends},
		}})
	})
	b.Mux.HandleFunc("DELETE /slipway/v1/me/tokens/{name}", func(w http.ResponseWriter, r *http.Request) {
		if revoked = r.PathValue("name"); revoked == "none" {
			refuse(w, 404, metav1.StatusReasonNotFound, "tokens.slipway.dev \"none\" not found")
			return
		}
		w.WriteHeader(204)
	})

	if got := b.run(t, "token", "create", "ci", "--read-only", "-p", "dev", "-p", "prod", "--expires", "36h"); got != output.ExitOK {
		t.Fatal(b.ErrOut)
	}
	want := map[string]any{"name": "ci", "expiresInHours": 36.0, "scope": map[string]any{"readOnly": true, "projects": []any{"dev", "prod"}}}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Error(diff)
	}
	if b.Out.String() != "slp_abc_SECRET\n" || strings.Contains(b.ErrOut.String(), "SECRET") {
		t.Errorf("out: %q, err: %q", b.Out, b.ErrOut)
	}

	if got := b.run(t, "token", "list"); got != output.ExitOK {
		t.Fatal(b.ErrOut)
	}
	for _, part := range []string{"abc", "projects dev,prod, read-only", "inside cluster dev/blue", "everything you may", "2030-01-02 03:04Z"} {
		if !strings.Contains(b.Out.String(), part) {
			t.Errorf("no %q in\n%s", part, b.Out)
		}
	}
	if strings.Contains(b.Out.String(), "\x1b") {
		t.Error("a name steers the terminal")
	}

	if got := b.run(t, "token", "revoke", "abc"); got != output.ExitOK || revoked != "abc" {
		t.Errorf("revoked %q: %d %s", revoked, got, b.ErrOut)
	}
	if got := b.run(t, "token", "revoke", "none"); got != output.ExitNotFound {
		t.Errorf("a token that is not there: exit code %d: %s", got, b.ErrOut)
	}
	if got := b.run(t, "token", "create", "long", "--expires", "9999h"); got != output.ExitRefused || !strings.Contains(b.ErrOut.String(), longer) || strings.Contains(b.ErrOut.String(), "right that is named") {
		t.Errorf("more than is allowed: exit code %d: %s", got, b.ErrOut)
	}
	if got := b.run(t, "token", "create", "x", "--cluster", "dev/blue", "--project", "dev"); got != output.ExitUsage {
		t.Errorf("limits that contradict each other: exit code %d", got)
	}
}

func TestPasswd(t *testing.T) {
	cases := map[string]struct {
		reason   string
		terminal bool
		typed    []string
		args     func(t *testing.T) []string
		want     output.ExitCode
	}{
		"Terminal": {reason: "a person types", terminal: true, typed: []string{"old", "new", "new"}},
		"Files": {reason: "a program", args: func(t *testing.T) []string {
			return []string{"--password-file", file(t, "old"), "--new-password-file", file(t, "new")}
		}},
		"Wrong":   {reason: "the server says why", terminal: true, typed: []string{"odl", "new", "new"}, want: output.ExitRefused},
		"Mistype": {reason: "a person mistypes", terminal: true, typed: []string{"old", "new", "wen"}, want: output.ExitRefused},
		"Pipe":    {reason: "nobody is there to ask", want: output.ExitUsage},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, tc.terminal, tc.typed...)
			b.Mux.HandleFunc("POST /slipway/v1/me/password", func(w http.ResponseWriter, r *http.Request) {
				if diff := cmp.Diff(map[string]any{"current": "old", "new": "new"}, body(r)); diff != "" {
					refuse(w, 403, metav1.StatusReasonForbidden, "the current password is wrong")
					return
				}
				w.WriteHeader(204)
			})
			var args []string
			if tc.args != nil {
				args = tc.args(t)
			}
			if got := b.run(t, append([]string{"passwd"}, args...)...); got != tc.want {
				t.Errorf("%s: exit code %d: %s", tc.reason, got, b.ErrOut)
			}
		})
	}
}
