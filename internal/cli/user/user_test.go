package user

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
	"slipway.dev/slipway/internal/cli/output/outputtest"
)

const secret = "correct horse battery"

func ann() *v1alpha1.User {
	return &v1alpha1.User{
		ObjectMeta: metav1.ObjectMeta{Name: "ann", UID: "u1", CreationTimestamp: metav1.NewTime(outputtest.Now().Add(-2 * time.Hour))},
		Spec:       v1alpha1.UserSpec{DisplayName: "Ann", Email: "ann@example.org", PlatformRole: v1alpha1.Auditor},
		Status: v1alpha1.UserStatus{Projects: []string{"dev", "ops"}, Conditions: []metav1.Condition{
			{Type: v1alpha1.UserReady, Status: metav1.ConditionFalse, Reason: "PasswordMustChange"}}},
	}
}

func bob() *v1alpha1.User {
	return &v1alpha1.User{ObjectMeta: metav1.ObjectMeta{Name: "oidc-7"}, Spec: v1alpha1.UserSpec{
		Directory: &v1alpha1.DirectoryIdentity{Issuer: "https://id.example.org", Subject: "7", Username: "bob@example.org"}}}
}

// servePasswords answers the route, and keeps what it was sent by user name.
func servePasswords(t *testing.T, b *outputtest.Bench, code int) map[string]string {
	t.Helper()
	sent := map[string]string{}
	b.Mux.HandleFunc("POST /slipway/v1/users/{name}/password", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		sent[r.PathValue("name")] = string(body)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		answer := metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusSuccess}
		if code != http.StatusOK {
			answer.Status, answer.Reason, answer.Code = metav1.StatusFailure, metav1.StatusReasonBadRequest, int32(code)
			answer.Message = "cannot use this password: it is one that everybody knows"
		}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	})
	return sent
}

func TestAdd(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(secret+"\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		reason string
		args   []string
		stdin  string
		code   int
		want   output.ExitCode
		sent   string
		made   bool
	}{
		"stdin":   {reason: "the line end is no part of a password, and it must be changed", args: []string{"--password-stdin", "--role", "system-administrator", "--display-name", "Carl"}, stdin: secret + "\n", code: http.StatusOK, want: output.ExitOK, sent: `{"mustChange":true,"password":"` + secret + `"}`, made: true},
		"file":    {reason: "a password for a program need not be changed", args: []string{"--password-file", file, "--must-change=false"}, code: http.StatusOK, want: output.ExitOK, sent: `{"mustChange":false,"password":"` + secret + `"}`, made: true},
		"none":    {reason: "later is fine", args: []string{"--no-password"}, code: http.StatusOK, want: output.ExitOK, made: true},
		"refused": {reason: "an account without the password that was meant is not left behind", args: []string{"--password-stdin"}, stdin: secret, code: http.StatusBadRequest, want: output.ExitRefused, sent: `{"mustChange":true,"password":"` + secret + `"}`},
		"empty":   {reason: "an empty password is a mistake", args: []string{"--password-stdin"}, stdin: "\n", code: http.StatusOK, want: output.ExitUsage},
		"two":     {reason: "one password", args: []string{"--password-stdin", "--no-password"}, stdin: secret, code: http.StatusOK, want: output.ExitUsage},
		"pipe":    {reason: "nobody can be asked", code: http.StatusOK, want: output.ExitUsage},
		"role":    {reason: "a role is one of two", args: []string{"--no-password", "--role", "root"}, code: http.StatusOK, want: output.ExitUsage},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := outputtest.New(t, outputtest.Hooks{})
			sent := servePasswords(t, b, tc.code)
			b.In.WriteString(tc.stdin)
			if got := b.Run(t.Context(), New(b.Deps), append([]string{"add", "carl"}, tc.args...)...); got != tc.want {
				t.Errorf("%s: exit code %d, want %d", tc.reason, got, tc.want)
			}
			if strings.Contains(b.Everything(), secret) {
				t.Error("the password was printed")
			}
			outputtest.Golden(t, "add-"+name, b.Everything())
			if sent["carl"] != tc.sent {
				t.Errorf("%s: sent %s, want %s", tc.reason, sent["carl"], tc.sent)
			}
			var u v1alpha1.User
			err := b.Client.Get(t.Context(), client.ObjectKey{Name: "carl"}, &u)
			if made := err == nil; made != tc.made {
				t.Errorf("%s: made %t, %v", tc.reason, made, err)
			}
			if name == "stdin" && (u.Spec.PlatformRole != v1alpha1.SystemAdministrator || u.Spec.DisplayName != "Carl") {
				t.Errorf("%s: %+v", tc.reason, u.Spec)
			}
		})
	}
}

func TestChange(t *testing.T) {
	cases := map[string]struct {
		reason string
		args   []string
		stdin  string
		want   output.ExitCode
		spec   func(*v1alpha1.UserSpec)
		gone   bool
		sent   string
	}{
		"disable":      {reason: "the server ends the rest", args: []string{"disable", "ann"}, spec: func(s *v1alpha1.UserSpec) { s.Disabled = true }},
		"set-role":     {reason: "a role as people write it", args: []string{"set-role", "ann", "systemadministrator"}, spec: func(s *v1alpha1.UserSpec) { s.PlatformRole = v1alpha1.SystemAdministrator }},
		"no-role":      {reason: "none is an ordinary user", args: []string{"set-role", "ann", "none"}, spec: func(s *v1alpha1.UserSpec) { s.PlatformRole = "" }},
		"bad-role":     {reason: "a role is one of two", args: []string{"set-role", "ann", "root"}, want: output.ExitUsage},
		"delete":       {reason: "with everything of theirs", args: []string{"delete", "ann", "--yes"}, gone: true},
		"delete-pipe":  {reason: "nobody can be asked", args: []string{"delete", "ann"}, want: output.ExitUsage},
		"set-password": {reason: "to be changed at the next login", args: []string{"set-password", "ann", "--password-stdin"}, stdin: secret, sent: `{"mustChange":true,"password":"` + secret + `"}`},
		"nobody":       {reason: "a name that is not there has its own code", args: []string{"disable", "nope"}, want: output.ExitNotFound},
		"unknown":      {reason: "an unknown verb is an error of usage", args: []string{"paint"}, want: output.ExitUsage},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := outputtest.New(t, outputtest.Hooks{}, ann())
			sent := servePasswords(t, b, http.StatusOK)
			b.In.WriteString(tc.stdin)
			if got := b.Run(t.Context(), New(b.Deps), tc.args...); got != tc.want {
				t.Errorf("%s: exit code %d, want %d\n%s", tc.reason, got, tc.want, b.Everything())
			}
			want := ann().Spec
			if tc.spec != nil {
				tc.spec(&want)
			}
			var u v1alpha1.User
			err := b.Client.Get(t.Context(), client.ObjectKey{Name: "ann"}, &u)
			if tc.gone {
				if !apierrors.IsNotFound(err) {
					t.Errorf("%s: still there, %v", tc.reason, err)
				}
				return
			}
			if diff := cmp.Diff(want, u.Spec); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			if sent["ann"] != tc.sent {
				t.Errorf("%s: sent %s", tc.reason, sent["ann"])
			}
		})
	}
	t.Run("enable", func(t *testing.T) {
		off := ann()
		off.Spec.Disabled = true
		b := outputtest.New(t, outputtest.Hooks{}, off)
		if got := b.Run(t.Context(), New(b.Deps), "enable", "ann"); got != output.ExitOK {
			t.Error(b.Everything())
		}
		var u v1alpha1.User
		if err := b.Client.Get(t.Context(), client.ObjectKey{Name: "ann"}, &u); err != nil || u.Spec.Disabled {
			t.Errorf("disabled %t, %v", u.Spec.Disabled, err)
		}
	})
}

func TestList(t *testing.T) {
	for name, args := range map[string][]string{"list": {"list"}, "list-wide": {"list", "-o", "wide"}, "list-name": {"list", "-o", "name"}} {
		t.Run(name, func(t *testing.T) {
			b := outputtest.New(t, outputtest.Hooks{}, ann(), bob())
			if got := b.Run(t.Context(), New(b.Deps), args...); got != output.ExitOK {
				t.Errorf("exit code %d", got)
			}
			outputtest.Golden(t, name, b.Everything())
		})
	}
}
