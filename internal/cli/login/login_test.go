package login

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"slipway.dev/slipway/internal/cli/output"
	"slipway.dev/slipway/internal/cli/output/outputtest"
	"slipway.dev/slipway/internal/pki"
)

// server is a Slipway server as far as these commands see it.
type server struct {
	*httptest.Server
	ca          *pki.CA
	fingerprint string

	mu sync.Mutex
	// mustChange is the password that must be changed; used is the set-up link that was.
	mustChange, password, link string
	challenge                  string
	seen                       []string
	// noDirectory is what the server answers a login with the directory with; zero sends it there.
	noDirectory int
}

func newServer(t *testing.T) *server {
	t.Helper()
	ca, err := pki.NewCA("slipway", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := ca.Issue(pki.Template{CommonName: "slipway", IPs: []net.IP{net.IPv4(127, 0, 0, 1)}})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(ca.Certificate().Raw)
	s := &server{ca: ca, fingerprint: "sha256:" + hex.EncodeToString(digest[:]), password: "sesame"}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /slipway/ca.crt", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(ca.CertPEM()) })
	mux.HandleFunc("POST /slipway/v1/login", s.login)
	mux.HandleFunc("POST /slipway/v1/me/password", s.change)
	mux.HandleFunc("POST /slipway/v1/logout", s.logout)
	mux.HandleFunc("POST /slipway/v1/setup", s.setup)
	mux.HandleFunc("GET /slipway/v1/oidc/start", s.start)
	mux.HandleFunc("POST /slipway/v1/oidc/exchange", s.exchange)
	mux.HandleFunc("GET /slipway/v1/me", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]string{"identity": "oidc:alice@corp"})
	})
	s.Server = httptest.NewUnstartedServer(mux)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func answer(w http.ResponseWriter, object any) { _ = json.NewEncoder(w).Encode(object) }

func refuse(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	w.WriteHeader(code)
	answer(w, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Code: int32(code), Reason: reason, Message: message})
}

func body(r *http.Request) map[string]any {
	var b map[string]any
	_ = json.NewDecoder(r.Body).Decode(&b)
	return b
}

func (s *server) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, what)
}

func (s *server) login(w http.ResponseWriter, r *http.Request) {
	b := body(r)
	wantsToken, _ := b["token"].(bool)
	switch {
	case b["password"] == s.mustChange && s.mustChange != "" && wantsToken:
		refuse(w, 403, "PasswordMustChange", "change your password first")
	case b["password"] == s.mustChange && s.mustChange != "":
		http.SetCookie(w, &http.Cookie{Name: "__Host-slipway", Value: "forced", Path: "/", Secure: true})
		answer(w, map[string]any{"identity": b["user"], "mustChange": true})
	case b["password"] != s.password:
		refuse(w, 401, metav1.StatusReasonUnauthorized, "wrong user name or password")
	default:
		s.note("login")
		hours, _ := b["expiresInHours"].(float64)
		if hours == 0 {
			hours = 12
		}
		answer(w, map[string]any{"identity": b["user"], "token": "slp_secret", "expires": time.Now().Add(time.Duration(hours) * time.Hour)})
	}
}

func (s *server) change(w http.ResponseWriter, r *http.Request) {
	b := body(r)
	cookie, err := r.Cookie("__Host-slipway")
	if err != nil || cookie.Value != "forced" || r.Header.Get("Origin") != "https://"+r.Host || b["current"] != s.mustChange {
		refuse(w, 401, metav1.StatusReasonUnauthorized, "log in")
		return
	}
	s.password, s.mustChange = b["new"].(string), ""
	http.SetCookie(w, &http.Cookie{Name: "__Host-slipway", Value: "fresh", Path: "/", Secure: true})
	w.WriteHeader(204)
}

func (s *server) logout(w http.ResponseWriter, r *http.Request) {
	if cookie, err := r.Cookie("__Host-slipway"); err == nil {
		s.note("logout session " + cookie.Value)
	} else if r.Header.Get("Authorization") != "Bearer slp_secret" {
		refuse(w, 401, metav1.StatusReasonUnauthorized, "log in")
		return
	} else {
		s.note("logout token")
	}
	w.WriteHeader(204)
}

func (s *server) setup(w http.ResponseWriter, r *http.Request) {
	b := body(r)
	if b["token"] != s.link || s.link == "" {
		refuse(w, 403, metav1.StatusReasonForbidden, "this is not the set-up link that the server printed at its last start")
		return
	}
	s.password = b["password"].(string)
	w.WriteHeader(204)
}

// start does what server, directory and browser do together.
func (s *server) start(w http.ResponseWriter, r *http.Request) {
	if s.noDirectory != 0 {
		w.WriteHeader(s.noDirectory)
		return
	}
	s.mu.Lock()
	s.challenge = r.URL.Query().Get("challenge")
	s.mu.Unlock()
	http.Redirect(w, r, "http://127.0.0.1:"+r.URL.Query().Get("cli")+"/?code=one-time", http.StatusSeeOther)
}

func (s *server) exchange(w http.ResponseWriter, r *http.Request) {
	b := body(r)
	digest := sha256.Sum256([]byte(b["verifier"].(string)))
	if b["code"] != "one-time" || base64.RawURLEncoding.EncodeToString(digest[:]) != s.challenge {
		refuse(w, 401, metav1.StatusReasonUnauthorized, "the code is not valid")
		return
	}
	answer(w, map[string]any{"id": "x", "token": "slp_secret", "expires": time.Now().Add(time.Hour)})
}

// bench is a terminal with these commands.
type bench struct {
	*outputtest.Bench
	config     Config
	kubeconfig string
	// typed are the passwords that a person types, in turn.
	typed []string
}

func newBench(t *testing.T, terminal bool, typed ...string) *bench {
	b := &bench{Bench: outputtest.New(t, outputtest.Hooks{}), kubeconfig: filepath.Join(t.TempDir(), ".slipway", "kubeconfig"), typed: typed}
	b.Deps.Terminal = terminal
	b.config = Config{Deps: b.Deps, Kubeconfig: func() (string, error) { return b.kubeconfig, nil }, ReadPassword: func(context.Context) (string, error) {
		if len(b.typed) == 0 {
			return "", errors.New("nobody types any more")
		}
		next := b.typed[0]
		b.typed = b.typed[1:]
		return next, nil
	}}
	return b
}

func (b *bench) run(t *testing.T, args ...string) output.ExitCode {
	t.Helper()
	root := &cobra.Command{Use: "slipway", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(New(b.config)...)
	return b.Run(t.Context(), root, args...)
}

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLogin(t *testing.T) {
	cases := map[string]struct {
		reason   string
		terminal bool
		// answers are lines that a person types, typed the passwords.
		answers string
		typed   []string
		args    func(t *testing.T, s *server) []string
		want    output.ExitCode
		says    string
	}{
		"Pipe": {reason: "everything by flags", args: func(t *testing.T, s *server) []string {
			return []string{"--user", "alice", "--password-file", file(t, "sesame\n"), "--ca-fingerprint", s.fingerprint}
		}, says: "as alice until"},
		"Stdin": {reason: "the password comes through a pipe", answers: "sesame\n", args: func(_ *testing.T, s *server) []string {
			return []string{"--user", "alice", "--password-file", "-", "--ca-fingerprint", s.fingerprint}
		}, says: "as alice until"},
		"File": {reason: "the authority is in a file", args: func(t *testing.T, s *server) []string {
			return []string{"--user", "alice", "--password-file", file(t, "sesame"), "--ca-file", file(t, string(s.ca.CertPEM()))}
		}, says: "as alice until"},
		"OpenSSLStyle": {reason: "another program shows the fingerprint in another way", args: func(t *testing.T, s *server) []string {
			return []string{"--user", "alice", "--password-file", file(t, "sesame"), "--ca-fingerprint", colons(s.fingerprint)}
		}, says: "as alice until"},
		"Terminal":   {reason: "a person compares and types", terminal: true, answers: "y\n", typed: []string{"sesame"}, args: func(*testing.T, *server) []string { return []string{"--user", "alice"} }, says: "as alice until"},
		"NotTrusted": {reason: "a person says no", terminal: true, answers: "\n", args: func(*testing.T, *server) []string { return []string{"--user", "alice"} }, want: output.ExitRefused, says: "is not trusted"},
		"UnknownPipe": {reason: "nobody is there to compare", args: func(t *testing.T, _ *server) []string {
			return []string{"--user", "alice", "--password-file", file(t, "sesame")}
		}, want: output.ExitRefused, says: "--ca-fingerprint"},
		"OtherPrint": {reason: "somebody else answers", args: func(t *testing.T, _ *server) []string {
			return []string{"--user", "alice", "--password-file", file(t, "sesame"), "--ca-fingerprint", "sha256:" + strings.Repeat("0", 64)}
		}, want: output.ExitRefused, says: "do not log in"},
		"NoPrint": {reason: "an empty fingerprint is not that of anyone", args: func(t *testing.T, _ *server) []string {
			return []string{"--user", "alice", "--password-file", file(t, "sesame"), "--ca-fingerprint", "sha256:"}
		}, want: output.ExitRefused, says: "do not log in"},
		"OtherFile": {reason: "somebody else answers", args: func(t *testing.T, _ *server) []string {
			return []string{"--user", "alice", "--password-file", file(t, "sesame"), "--ca-file", file(t, otherCA(t))}
		}, want: output.ExitFailed, says: "certificate"},
		"Wrong": {reason: "another password", args: func(t *testing.T, s *server) []string {
			return []string{"--user", "alice", "--password-file", file(t, "wrong"), "--ca-fingerprint", s.fingerprint}
		}, want: output.ExitRefused, says: "wrong user name or password"},
		"NoUser": {reason: "nobody is there to ask", args: func(t *testing.T, s *server) []string {
			return []string{"--password-file", file(t, "sesame"), "--ca-fingerprint", s.fingerprint}
		}, want: output.ExitUsage, says: "--user"},
		"NoPassword": {reason: "nobody is there to ask", args: func(_ *testing.T, s *server) []string {
			return []string{"--user", "alice", "--ca-fingerprint", s.fingerprint}
		}, want: output.ExitUsage, says: "--password-file"},
		"EmptyFile": {reason: "no password", args: func(t *testing.T, s *server) []string {
			return []string{"--user", "alice", "--password-file", file(t, "\n"), "--ca-fingerprint", s.fingerprint}
		}, want: output.ExitRefused, says: "empty"},
		"ForcedPipe": {reason: "nobody is there to choose", args: func(t *testing.T, s *server) []string {
			s.mustChange = "given"
			return []string{"--user", "alice", "--password-file", file(t, "given"), "--ca-fingerprint", s.fingerprint}
		}, want: output.ExitRefused, says: "change your password first"},
		"ForcedFile": {reason: "a program chooses", args: func(t *testing.T, s *server) []string {
			s.mustChange = "given"
			return []string{"--user", "alice", "--password-file", file(t, "given"), "--new-password-file", file(t, "chosen"), "--ca-fingerprint", s.fingerprint}
		}, says: "as alice until"},
		"Forced": {reason: "a person chooses", terminal: true, typed: []string{"given", "chosen", "chosen"}, args: func(_ *testing.T, s *server) []string {
			s.mustChange = "given"
			return []string{"--user", "alice", "--ca-fingerprint", s.fingerprint}
		}, says: "as alice until"},
		"ForcedMistype": {reason: "a person mistypes", terminal: true, typed: []string{"given", "chosen", "chozen"}, args: func(_ *testing.T, s *server) []string {
			s.mustChange = "given"
			return []string{"--user", "alice", "--ca-fingerprint", s.fingerprint}
		}, want: output.ExitRefused, says: "differ"},
		"OIDCUser": {reason: "the browser asks", args: func(*testing.T, *server) []string { return []string{"--oidc", "--user", "alice"} }, want: output.ExitUsage, says: "--oidc"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			b := newBench(t, tc.terminal, tc.typed...)
			b.In.WriteString(tc.answers)
			got := b.run(t, append([]string{"login", s.URL}, tc.args(t, s)...)...)
			if got != tc.want || !strings.Contains(b.ErrOut.String(), tc.says) {
				t.Fatalf("%s: exit code %d: %s", tc.reason, got, b.ErrOut)
			}
			if !tc.terminal && strings.Contains(b.ErrOut.String(), "[y/N]") {
				t.Error("nobody is there to answer the question")
			}
			for _, secret := range []string{"sesame", "given", "chosen", "slp_"} {
				if strings.Contains(b.ErrOut.String()+b.Out.String(), secret) {
					t.Errorf("%q is shown: %s", secret, b.ErrOut)
				}
			}
			if got != output.ExitOK {
				if _, err := os.Stat(b.kubeconfig); err == nil {
					t.Error("a login that failed left a kubeconfig")
				}
				return
			}
			s.checkKubeconfig(t, b.kubeconfig, "alice")
		})
	}
}

func colons(fingerprint string) string {
	digits := strings.ToUpper(strings.TrimPrefix(fingerprint, "sha256:"))
	var pairs []string
	for i := 0; i < len(digits); i += 2 {
		pairs = append(pairs, digits[i:i+2])
	}
	return strings.Join(pairs, ":")
}

func otherCA(t *testing.T) string {
	t.Helper()
	ca, err := pki.NewCA("slipway", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return string(ca.CertPEM())
}

// checkKubeconfig holds that only its owner reads the login, and that it trusts this server and no other.
func (s *server) checkKubeconfig(t *testing.T, path, who string) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %o, want 600", info.Mode().Perm())
	}
	config, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cluster := config.Clusters[config.Contexts[config.CurrentContext].Cluster]
	user := config.AuthInfos[who]
	if user == nil || user.Token != "slp_secret" || cluster.Server != s.URL || cluster.InsecureSkipTLSVerify {
		t.Fatalf("the kubeconfig is %+v %+v", config.AuthInfos, cluster)
	}
	if diff := cmp.Diff(string(s.ca.CertPEM()), string(cluster.CertificateAuthorityData)); diff != "" {
		t.Errorf("the kubeconfig trusts another authority:\n%s", diff)
	}
}

// TestLoginByAnotherName holds that a person learns why an address does not work.
func TestLoginByAnotherName(t *testing.T) {
	s := newServer(t)
	b := newBench(t, false)
	got := b.run(t, "login", strings.Replace(s.URL, "127.0.0.1", "localhost", 1), "--user", "alice", "--password-file", file(t, "sesame"), "--ca-fingerprint", s.fingerprint)
	if got != output.ExitRefused || !strings.Contains(b.ErrOut.String(), "--name localhost") {
		t.Errorf("exit code %d: %s", got, b.ErrOut)
	}
}

// TestForcedChangeLeavesNoSession holds that the session that changed the password is ended.
func TestForcedChangeLeavesNoSession(t *testing.T) {
	s := newServer(t)
	s.mustChange = "given"
	b := newBench(t, false)
	if got := b.run(t, "login", s.URL, "--user", "alice", "--password-file", file(t, "given"), "--new-password-file", file(t, "chosen"), "--ca-fingerprint", s.fingerprint); got != output.ExitOK {
		t.Fatal(b.ErrOut)
	}
	if diff := cmp.Diff([]string{"logout session fresh", "login"}, s.seen); diff != "" {
		t.Error(diff)
	}
}

func TestDirectoryLogin(t *testing.T) {
	s := newServer(t)
	b := newBench(t, false)
	// The browser opens the address that the person is shown, and follows where it leads.
	shown := make(chan string, 1)
	b.ErrOut.React = func(text string) {
		if _, rest, found := strings.Cut(text, "\n  "); found {
			shown <- strings.TrimSpace(rest)
		}
	}
	done := make(chan output.ExitCode, 1)
	go func() { done <- b.run(t, "login", s.URL, "--oidc", "--ca-fingerprint", s.fingerprint) }()
	var address string
	select {
	case address = <-shown:
	case got := <-done:
		t.Fatalf("exit code %d: %s", got, b.ErrOut)
	}
	if u, err := url.Parse(address); err != nil || u.Path != "/slipway/v1/oidc/start" {
		t.Fatalf("the address is %s", address)
	}
	browser, err := s.Client().Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer browser.Body.Close()
	if browser.StatusCode != 200 {
		t.Errorf("the browser sees %s", browser.Status)
	}
	if got := <-done; got != output.ExitOK {
		t.Fatalf("exit code %d: %s", got, b.ErrOut)
	}
	s.checkKubeconfig(t, b.kubeconfig, "oidc:alice@corp")
}

// TestDirectoryLoginWithout: who cannot log in that way hears so at once, and is not sent to a browser.
func TestDirectoryLoginWithout(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		status int
		says   string
	}{
		"none": {reason: "the server has no directory", status: http.StatusNotFound, says: "knows no directory"},
		"down": {reason: "the directory does not answer the server", status: http.StatusServiceUnavailable, says: "503"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.noDirectory = c.status
			b := newBench(t, false)
			if got := b.run(t, "login", s.URL, "--oidc", "--ca-fingerprint", s.fingerprint); got != output.ExitRefused ||
				!strings.Contains(b.ErrOut.String(), c.says) || !strings.Contains(b.ErrOut.String(), "--user") || strings.Contains(b.ErrOut.String(), "Open this address") {
				t.Errorf("%s: exit code %d: %s", c.reason, got, b.ErrOut)
			}
		})
	}
}

func TestLogout(t *testing.T) {
	s := newServer(t)
	b := newBench(t, false)
	if got := b.run(t, "logout"); got != output.ExitOK || !strings.Contains(b.ErrOut.String(), "nobody") {
		t.Errorf("with no login: %d %s", got, b.ErrOut)
	}
	if got := b.run(t, "login", s.URL, "--user", "alice", "--password-file", file(t, "sesame"), "--ca-fingerprint", s.fingerprint); got != output.ExitOK {
		t.Fatal(b.ErrOut)
	}
	if got := b.run(t, "logout"); got != output.ExitOK {
		t.Fatal(b.ErrOut)
	}
	if _, err := os.Stat(b.kubeconfig); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the login is still on this machine: %v", err)
	}
	if diff := cmp.Diff([]string{"login", "logout token"}, s.seen); diff != "" {
		t.Error(diff)
	}
}

// TestLogoutKeepsWhatItCannotEnd holds that a login is not forgotten while the server still takes it.
func TestLogoutKeepsWhatItCannotEnd(t *testing.T) {
	s := newServer(t)
	b := newBench(t, false)
	if got := b.run(t, "login", s.URL, "--user", "alice", "--password-file", file(t, "sesame"), "--ca-fingerprint", s.fingerprint); got != output.ExitOK {
		t.Fatal(b.ErrOut)
	}
	s.Close()
	if got := b.run(t, "logout"); got == output.ExitOK {
		t.Error("logout without a server succeeds")
	}
	if _, err := os.Stat(b.kubeconfig); err != nil {
		t.Error(err)
	}
}

func TestSetup(t *testing.T) {
	const link = "/slipway/setup#ONETIME"
	cases := map[string]struct {
		reason   string
		terminal bool
		answers  string
		typed    []string
		link     string
		args     func(t *testing.T, s *server) []string
		want     output.ExitCode
		says     string
	}{
		"Pipe": {reason: "everything by flags", link: link, args: func(t *testing.T, s *server) []string {
			return []string{"--password-file", file(t, "sesame"), "--ca-fingerprint", s.fingerprint}
		}, says: "slipway login"},
		"Terminal": {reason: "a person compares and chooses", terminal: true, answers: "yes\n", typed: []string{"sesame", "sesame"}, link: link, says: "slipway login"},
		"Mistype":  {reason: "a person mistypes", terminal: true, answers: "yes\n", typed: []string{"sesame", "rihgt"}, link: link, want: output.ExitRefused, says: "differ"},
		"Used": {reason: "the server says why", link: "/slipway/setup#OTHER", args: func(t *testing.T, s *server) []string {
			return []string{"--password-file", file(t, "sesame"), "--ca-fingerprint", s.fingerprint}
		}, want: output.ExitRefused, says: "not the set-up link"},
		"Cut": {reason: "a shell took the end for a comment", link: "/slipway/setup", want: output.ExitUsage, says: "#"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.link = "ONETIME"
			b := newBench(t, tc.terminal, tc.typed...)
			b.In.WriteString(tc.answers)
			args := []string{"setup", s.URL + tc.link}
			if tc.args != nil {
				args = append(args, tc.args(t, s)...)
			}
			if got := b.run(t, args...); got != tc.want || !strings.Contains(b.ErrOut.String(), tc.says) {
				t.Errorf("%s: exit code %d: %s", tc.reason, got, b.ErrOut)
			}
			if shown := b.ErrOut.String() + b.Out.String(); strings.Contains(shown, "ONETIME") || strings.Contains(shown, "sesame") {
				t.Errorf("a secret is shown: %s", shown)
			}
		})
	}
}

func TestServerAddress(t *testing.T) {
	for text, want := range map[string]string{
		"https://slipway.example:8443": "https://slipway.example:8443", "slipway.example:8443": "https://slipway.example:8443",
		"https://slipway.example/": "https://slipway.example", "https://[2001:db8::7]:443/x": "https://[2001:db8::7]:443",
		"http://slipway.example": "", "https://": "", "https://alice:secret@slipway.example": "", "ftp://x": "",
	} {
		got, err := serverAddress(text)
		if want == "" {
			if err == nil || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: %v, %v", text, got, err)
			}
			continue
		}
		if err != nil || got.String() != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}
