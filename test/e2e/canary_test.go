package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"slipway.dev/slipway/internal/secret/secrettest"
)

// hunt puts canaries where secrets go, and looks for them everywhere else: in the API, in files at rest, in what was
// printed, in the process list of this machine, which shows the processes of sandbox hosts too, and on the hosts.
type hunt struct {
	w     *world
	t     *testing.T
	known secrettest.Canaries
	begun time.Time

	mu sync.Mutex
	// processes are all command lines and environments that were seen.
	processes map[string]bool
}

// startHunt looks at the processes until the test ends.
func (w *world) startHunt(t *testing.T) *hunt {
	t.Helper()
	h := &hunt{w: w, t: t, known: secrettest.Canaries{}, begun: time.Now(), processes: map[string]bool{}}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for ctx.Err() == nil {
			h.lookAtProcesses()
			select {
			case <-ctx.Done():
			case <-ticker.C:
			}
		}
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	return h
}

func (h *hunt) lookAtProcesses() {
	// A process may end at any moment, so what cannot be read is left out.
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if e.Name()[0] < '0' || e.Name()[0] > '9' {
			continue
		}
		for _, name := range []string{"cmdline", "environ"} {
			content, _ := os.ReadFile(filepath.Join("/proc", e.Name(), name))
			h.mu.Lock()
			h.processes[string(content)] = true
			h.mu.Unlock()
		}
	}
}

// file mints a value and gives the name of a file that holds it, outside of the server's directory.
func (h *hunt) file(name string) string {
	h.t.Helper()
	path := filepath.Join(h.t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(h.known.Mint(name)+"\n"), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// key makes a private key with a passphrase, and gives its file and the public half.
func (h *hunt) key(passphrase string) (path, public string) {
	h.t.Helper()
	open, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		h.t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte(passphrase))
	if err != nil {
		h.t.Fatal(err)
	}
	text := pem.EncodeToMemory(block)
	// The first lines hold the public half.
	h.known.Lines("private key", strings.Join(strings.Split(string(text), "\n")[4:], "\n"))
	path = filepath.Join(h.t.TempDir(), "key")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		h.t.Fatal(err)
	}
	known, err := ssh.NewPublicKey(open)
	if err != nil {
		h.t.Fatal(err)
	}
	return path, string(ssh.MarshalAuthorizedKey(known))
}

// people uses the secrets of those who log in, and of the organisation's directory.
func (h *hunt) people(ctx context.Context) {
	w := h.w
	password := h.known.Mint("password of admin")
	select {
	case link := <-w.setUp:
		_, h.known["set-up link"], _ = strings.Cut(link, "#")
		w.post(ctx, h.t, "/slipway/v1/setup", map[string]any{"token": h.known["set-up link"], "password": password})
	case <-ctx.Done():
		h.t.Fatal("the server printed no set-up link")
	}
	var login struct{ Token string }
	if err := json.Unmarshal(w.post(ctx, h.t, "/slipway/v1/login", map[string]any{"user": "admin", "password": password, "token": true}), &login); err != nil || login.Token == "" {
		h.t.Fatalf("the login gave no token: %v", err)
	}
	h.known["token of a login"] = login.Token
	w.run(ctx, "user", "add", "carol", "--password-file", h.file("password of carol"))
	w.apply(ctx, "apiVersion: v1\nkind: Secret\nmetadata: {name: oidc, namespace: slipway-system}\ntype: slipway.dev/credential\n"+
		"stringData: {clientSecret: "+h.known.Mint("OIDC client secret")+"}\n---\napiVersion: slipway.dev/v1alpha1\nkind: Setting\nmetadata: {name: login}\n"+
		"spec: {login: {oidc: {issuer: \"https://127.0.0.1:1/realm\", clientID: slipway, clientSecretName: oidc}}}\n")
}

// cluster learns what belongs to a cluster: its keys and tokens on the server, and what people get to see of it.
func (h *hunt) cluster(ctx context.Context, name string) {
	var secrets struct {
		Items []struct {
			Metadata struct{ Name string }
			Data     map[string][]byte
		}
	}
	// It is not kept with what was printed: these are the secrets.
	out, err := h.w.command(ctx, "get", "secrets", "-A", "-o", "json").Output()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := json.Unmarshal(out, &secrets); err != nil {
		h.t.Fatal(err)
	}
	for _, s := range secrets.Items {
		for key, value := range s.Data {
			h.learn("Secret "+s.Metadata.Name+" "+key, string(value))
		}
	}
	straight := filepath.Join(h.t.TempDir(), "straight")
	h.w.run(ctx, "cluster", "kubeconfig", name, "--break-glass", "--reason", "to look for it", "--output", straight)
	for _, path := range []string{h.w.kubeconfig, straight} {
		text, err := os.ReadFile(path)
		if err != nil {
			h.t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(token|client-key-data): (\S+)`).FindAllStringSubmatch(string(text), -1) {
			h.known["kubeconfig "+filepath.Base(path)+" "+m[1]] = strings.Trim(m[2], `"`)
		}
	}
}

// learn adds a secret value; certificates and public keys are none.
func (h *hunt) learn(name, value string) {
	if !strings.Contains(value, "-----BEGIN ") {
		if value = strings.TrimSpace(value); len(value) >= 16 {
			h.known[name] = value
		}
		return
	}
	for block, rest := pem.Decode([]byte(value)); block != nil; block, rest = pem.Decode(rest) {
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			h.known.Lines(name, string(pem.EncodeToMemory(block)))
		}
	}
}

func (h *hunt) mustNotBeIn(where, text string) {
	h.t.Helper()
	for _, name := range h.known.Found(text) {
		h.t.Errorf("%s shows %s", where, name)
	}
}

// objects looks at every kind of the API but Secrets, and at what the commands show of operations.
func (h *hunt) objects(ctx context.Context) {
	h.t.Helper()
	kinds := strings.Fields(h.w.run(ctx, "api-resources", "--verbs=list", "-o", "name"))
	var open []string
	for _, kind := range kinds {
		if kind != "secrets" {
			open = append(open, kind)
		}
	}
	all := h.w.run(ctx, "get", strings.Join(open, ","), "-A", "-o", "json")
	h.mustNotBeIn("the API", all)
	if len(open) < 20 || !strings.Contains(all, `"kind": "Operation"`) {
		h.t.Errorf("only %d kinds were looked at, in %d bytes", len(open), len(all))
	}
	for _, op := range strings.Fields(h.w.run(ctx, "get", "operations", "-o", "jsonpath={.items[*].metadata.name}")) {
		h.w.run(ctx, "operation", "show", op)
		h.w.run(ctx, "operation", "logs", op)
	}
}

// onHost looks at every file that was written on the host since the beginning, and at the host's own journal.
func (h *hunt) onHost(ctx context.Context, host sandboxHost) {
	h.t.Helper()
	cmd := h.w.sshCommand(ctx, host, "journalctl --sync; find / /run /tmp -xdev -type f -newerct '"+h.begun.UTC().Format("2006-01-02 15:04:05 UTC")+
		"' ! -path '/proc/*' ! -path '/sys/*' -print0 | tar --create --null --files-from=- --file=- 2>/dev/null")
	// Files that change while they are packed make tar complain; what counts is that there are some.
	out, err := cmd.Output()
	if err != nil && len(out) == 0 {
		h.t.Fatalf("cannot read the files of %s: %v", host.Name, err)
	}
	files, archive := 0, tar.NewReader(bytes.NewReader(out))
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			h.t.Fatalf("cannot read the files of %s: %v", host.Name, err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			h.t.Fatalf("cannot read the files of %s: %v", host.Name, err)
		}
		files++
		h.mustNotBeIn(host.Name+" file "+header.Name, string(content))
	}
	// A user was made, so there are some at least.
	if files < 5 {
		h.t.Errorf("only %d files of %s were looked at", files, host.Name)
	}
	h.mustNotBeIn("the journal of "+host.Name, h.w.onHost(ctx, host, "journalctl --output=export"))
}

// end stops the server and looks at all it leaves, and at what was seen on the way.
func (h *hunt) end() {
	h.t.Helper()
	begun, w := time.Now(), h.w
	w.stopServer()
	h.mustNotBeIn("what commands printed", w.said.String())
	h.mu.Lock()
	var processes strings.Builder
	for text := range h.processes {
		processes.WriteString(text)
		processes.WriteByte('\n')
	}
	h.mu.Unlock()
	h.mustNotBeIn("the process list", processes.String())
	for what, sign := range map[string]string{"the server": "server\x00--data-dir\x00" + w.data, "sudo on a host": "slipway-password-", "the cluster": "kube-apiserver\x00"} {
		if !strings.Contains(processes.String(), sign) {
			h.t.Errorf("the process list was not seen with %s", what)
		}
	}
	// The server's own keys may lie nowhere but in their own files.
	own := func(path string) bool {
		top, _, _ := strings.Cut(path, "/")
		return top == "keys" || top == "pki" || path == "admin.token" || path == "admin.kubeconfig"
	}
	files := map[string]string{}
	err := filepath.WalkDir(w.data, func(path string, d fs.DirEntry, err error) error {
		relative, _ := filepath.Rel(w.data, path)
		switch {
		case err != nil:
			return err
		case d.IsDir() && relative == "sandbox":
			return filepath.SkipDir // The hosts, which are looked at from inside.
		case !d.Type().IsRegular() || path == w.kubeconfig:
			return nil
		}
		content, err := os.ReadFile(path)
		files[relative] = string(content)
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	for path, content := range files {
		if own(path) && !strings.HasSuffix(path, ".crt") && path != "admin.kubeconfig" {
			h.learn("the server's own "+path, content)
		}
	}
	seen, size := map[string]bool{}, 0
	for path, content := range files {
		top, _, _ := strings.Cut(path, "/")
		seen[top], seen[filepath.Base(path)], seen[filepath.Ext(path)] = true, true, true
		size += len(content)
		if !own(path) {
			h.mustNotBeIn("the server's file "+path, content)
		}
	}
	for _, want := range []string{"etcd", "audit", "server.log", "plan.json", ".jsonl", ".wal"} {
		if !seen[want] {
			h.t.Errorf("no %s was looked at", want)
		}
	}
	if len(h.known) < 40 {
		h.t.Errorf("only %d canaries are out", len(h.known))
	}
	logf(h.t, begun, "%d canaries, %d command lines and environments, %d files, %d MiB", len(h.known), len(h.processes), len(files), size>>20)
}

// give runs a command on a host with input, which no process list shows.
func (w *world) give(ctx context.Context, h sandboxHost, input, command string) {
	w.t.Helper()
	cmd := w.sshCommand(ctx, h, command)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("%s on %s: %v\n%s", command, h.Name, err, out)
	}
}

func (w *world) sshCommand(ctx context.Context, h sandboxHost, command string) *exec.Cmd {
	return exec.CommandContext(ctx, "ssh", "-i", h.KeyFile, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		// A sshd that reads its configuration anew does not listen for a moment.
		"-o", "LogLevel=ERROR", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-o", "ConnectionAttempts=5", "root@"+h.Address, command)
}
