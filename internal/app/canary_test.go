package app

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/bundle/bundletest"
	"slipway.dev/slipway/internal/cluster"
	"slipway.dev/slipway/internal/secret"
	"slipway.dev/slipway/internal/secret/secrettest"
)

// installation is a whole server of its own, and everything that it has said.
type installation struct {
	directory string
	config    *rest.Config
	client    client.Client
	log       *lockedBuffer
	// said is what clients got to read that is no object: errors, and what commands printed.
	said *lockedBuffer
	// setUp is the link that was printed for the first run.
	setUp string
	stop  func() error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// install runs a new server until the test ends or stop is called.
func install(t *testing.T, o ServerOptions) *installation {
	t.Helper()
	i := &installation{directory: o.DataDir, log: &lockedBuffer{}, said: &lockedBuffer{}}
	o.Log = slog.New(slog.NewTextHandler(i.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	o.Listen = "127.0.0.1:0"
	ready, ended := make(chan struct{}), make(chan error, 1)
	// SetUp comes last.
	o.SetUp = func(link string) {
		i.setUp = link
		close(ready)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		ended <- RunServer(ctx, o)
		close(ended)
	}()
	i.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := i.stop(); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("the server did not start: %v", err)
	case <-time.After(2 * time.Minute):
		t.Fatal("the server did not start in time")
	}
	var err error
	if i.config, err = clientcmd.BuildConfigFromFlags("", filepath.Join(i.directory, AdminKubeconfig)); err != nil {
		t.Fatal(err)
	}
	i.config.QPS = -1
	scheme, err := Scheme()
	if err != nil {
		t.Fatal(err)
	}
	if i.client, err = client.New(i.config, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	return i
}

// run runs one command line as on the server's machine.
func (i *installation) run(t *testing.T, args ...string) int {
	t.Helper()
	return Main(t.Context(), append([]string{"--kubeconfig", filepath.Join(i.directory, AdminKubeconfig)}, args...), strings.NewReader(""), i.said, i.said)
}

func mustNotBeIn(t *testing.T, known secrettest.Canaries, where, text string) {
	t.Helper()
	for _, name := range known.Found(text) {
		t.Errorf("%s shows %s", where, name)
	}
}

// TestCanaries puts a value of its own into every field that takes a secret, lets everything go wrong that can, on
// machines that say again whatever they are told, and then looks for the values everywhere.
func TestCanaries(t *testing.T) {
	directory, known := t.TempDir(), secrettest.Canaries{}
	store, err := bundle.Open(filepath.Join(directory, BundleDir))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bundletest.Write(t.Context(), store, bundletest.Options{}); err != nil {
		t.Fatal(err)
	}
	i := install(t, ServerOptions{DataDir: directory, Version: "1.0.0"})
	machines := i.addHosts(t, known)
	i.misuse(t, known)
	i.logIn(t, known)
	i.operate(t, known)
	if len(known) < 20 {
		t.Errorf("only %d canaries are out: %v", len(known), known)
	}

	for name, m := range machines {
		mustNotBeIn(t, known, "the process list of machine "+name, m.commandLines())
		if m.hear("") == "" {
			t.Errorf("machine %s was told nothing, so it had nothing to say again", name)
		}
	}
	mustNotBeIn(t, known, "the process list of the server", ownProcesses(t))
	mustNotBeIn(t, known, "what clients read", i.said.String())
	kinds := i.eachKind(t, func(kind, text string) { mustNotBeIn(t, known, "the API's list of "+kind, text) })
	if kinds < 30 {
		t.Errorf("only %d kinds were looked at", kinds)
	}
	i.mustShowMasks(t)
	if err := i.stop(); err != nil {
		t.Fatal(err)
	}
	mustNotBeIn(t, known, "the server's log", i.log.String())
	admin, err := os.ReadFile(filepath.Join(directory, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	known["admin token"] = strings.TrimSpace(string(admin))
	files := eachFileBelow(t, directory, func(path, text string) {
		if path == "admin.token" || path == AdminKubeconfig {
			return
		}
		mustNotBeIn(t, known, "the file "+path, text)
	})
	if files < 15 {
		t.Errorf("only %d files were looked at", files)
	}
	t.Logf("%d canaries, %d kinds, %d files, %d bytes of log", len(known), kinds, files, len(i.log.String()))
}

// credential makes the Secret and the Credential of one host.
func (i *installation) credential(t *testing.T, name, user string, kind v1alpha1.CredentialType, data map[string]string) {
	t.Helper()
	for _, o := range []client.Object{
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: name}, Type: v1alpha1.SecretTypeCredential, StringData: data},
		&v1alpha1.Credential{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.CredentialSpec{User: user, Type: kind, SecretName: name}},
	} {
		if err := i.client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
}

// addHosts adds one host for each way to log in and to fail.
func (i *installation) addHosts(t *testing.T, known secrettest.Canaries) map[string]*machine {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	passphrase := known.Mint("passphrase")
	block, err := ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	key := string(pem.EncodeToMemory(block))
	known.Lines("private key", strings.Join(strings.Split(key, "\n")[2:], "\n"))
	i.credential(t, "talks", "ops", v1alpha1.CredentialPassword, map[string]string{"password": known.Mint("password"), "sudoPassword": known.Mint("sudo password")})
	i.credential(t, "refuses", "ops", v1alpha1.CredentialPassword, map[string]string{"password": known.Mint("refused password")})
	i.credential(t, "keyed", "ops", v1alpha1.CredentialPrivateKey, map[string]string{"privateKey": key, "passphrase": passphrase, "sudoPassword": known.Mint("sudo password of the keyed")})
	i.credential(t, "dead", "root", v1alpha1.CredentialPassword, map[string]string{"password": known.Mint("password of the dead")})
	i.credential(t, "garbage", "root", v1alpha1.CredentialPrivateKey, map[string]string{"privateKey": "not a key but " + known.Mint("garbage key"), "passphrase": known.Mint("garbage passphrase")})
	i.credential(t, "locked", "root", v1alpha1.CredentialPrivateKey, map[string]string{"privateKey": key, "passphrase": known.Mint("wrong passphrase")})
	machines := map[string]*machine{"talks": newMachine(t, "talks", false), "keyed": newMachine(t, "keyed", false),
		"refuses": newMachine(t, "refuses", true), "added": newMachine(t, "added", true)}
	machines["keyed"].address = "198.51.100.11"
	for name, spec := range map[string]v1alpha1.HostSpec{
		"talks":   {Port: int32(machines["talks"].port), HostKey: machines["talks"].hostKey()},
		"keyed":   {Port: int32(machines["keyed"].port), HostKey: machines["keyed"].hostKey()},
		"refuses": {Port: int32(machines["refuses"].port), HostKey: machines["refuses"].hostKey()},
		"dead":    {Port: 1, HostKey: machines["talks"].hostKey()},
		"garbage": {Port: int32(machines["refuses"].port), HostKey: machines["refuses"].hostKey()},
		"locked":  {Port: int32(machines["keyed"].port), HostKey: machines["keyed"].hostKey()},
	} {
		spec.Address, spec.Credential = "127.0.0.1", name
		if err := i.client.Create(t.Context(), &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}); err != nil {
			t.Fatal(err)
		}
	}
	// The command line reads its secrets from files and takes everything back when the host cannot be reached.
	password, sudo := filepath.Join(t.TempDir(), "password"), filepath.Join(t.TempDir(), "sudo")
	for path, name := range map[string]string{password: "password of the command line", sudo: "sudo password of the command line"} {
		if err := os.WriteFile(path, []byte(known.Mint(name)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	added := machines["added"]
	if code := i.run(t, "host", "add", "added", "--address", "127.0.0.1", "--port", strconv.Itoa(added.port), "--user", "ops", "--password-file", password,
		"--sudo-password-file", sudo, "--host-key", added.hostKey(), "--timeout", "20s"); code == 0 {
		t.Error("a host that refuses the login was added")
	}
	for name, want := range map[string]metav1.ConditionStatus{"talks": "True", "keyed": "True", "refuses": "False", "dead": "False", "garbage": "False", "locked": "False"} {
		i.eventually(t, "host "+name+" is "+string(want), func(ctx context.Context) (bool, error) {
			var h v1alpha1.Host
			if err := i.client.Get(ctx, client.ObjectKey{Name: name}, &h); err != nil {
				return false, err
			}
			for _, c := range h.Status.Conditions {
				if c.Type == v1alpha1.HostReachable && c.Status == want {
					return true, nil
				}
			}
			return false, nil
		})
	}
	return machines
}

func (i *installation) eventually(t *testing.T, what string, condition func(context.Context) (bool, error)) {
	t.Helper()
	if err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, 3*time.Minute, true, condition); err != nil {
		t.Fatalf("%s: %v\n%s", what, err, i.log)
	}
}

// misuse puts secrets where they do not belong and asks for what nobody may have; the errors are kept.
func (i *installation) misuse(t *testing.T, known secrettest.Canaries) {
	t.Helper()
	value := known.Mint("misplaced")
	secrets := func(name string) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: name}, Type: v1alpha1.SecretTypeCredential, StringData: map[string]string{"password": value}}
	}
	bad := secrets("bad")
	bad.StringData["no such key!"] = value
	fixed := secrets("fixed")
	fixed.Immutable = new(true)
	changed := secrets("fixed")
	changed.Immutable, changed.StringData["password"] = new(true), known.Mint("changed")
	typed := secrets("typed")
	typed.Type = corev1.SecretTypeTLS
	for _, err := range []error{
		i.client.Create(t.Context(), bad),
		i.client.Create(t.Context(), fixed),
		i.client.Create(t.Context(), secrets("fixed")),
		i.client.Update(t.Context(), changed),
		i.client.Create(t.Context(), typed),
	} {
		fmt.Fprintln(i.said, apierrors.ReasonForError(err))
		if err != nil {
			fmt.Fprintln(i.said, err)
		}
	}
	// The answer to a patch that does not fit repeats the Secret. Only the admin token may patch one, and read it; what
	// the server notes of the request must not hold it all the same.
	for kind, body := range map[types.PatchType]string{types.StrategicMergePatchType: `{"stringData":["` + value + `"]}`, types.MergePatchType: `{"data":{"password":"` + value + `"}}`} {
		if err := i.client.Patch(t.Context(), secrets("fixed"), client.RawPatch(kind, []byte(body))); err == nil {
			t.Errorf("a patch that does not fit was taken: %s", kind)
		}
	}
}

// operate creates, plans and deletes clusters on hosts that fail.
func (i *installation) operate(t *testing.T, known secrettest.Canaries) {
	t.Helper()
	i.eventually(t, "the bundle is verified", func(ctx context.Context) (bool, error) {
		var b v1alpha1.Bundle
		if err := i.client.Get(ctx, client.ObjectKey{Name: "v1.36.3"}, &b); err != nil {
			return false, client.IgnoreNotFound(err)
		}
		for _, c := range b.Status.Conditions {
			if c.Type == v1alpha1.BundleVerified && c.Status == metav1.ConditionTrue {
				return true, nil
			}
		}
		return false, nil
	})
	i.run(t, "cluster", "plan", "planned", "--kubernetes", "v1.36.3", "--control-plane", "keyed", "--timeout", "1m")
	for name, hosts := range map[string][]string{"fails": {"talks"}, "refused": {"refuses", "dead", "garbage"}} {
		args := []string{"cluster", "create", name, "--kubernetes", "v1.36.3", "--control-plane", hosts[0], "--timeout", "2m"}
		for _, worker := range hosts[1:] {
			args = append(args, "--worker", worker)
		}
		if code := i.run(t, args...); code == 0 {
			t.Errorf("cluster %s was created on machines that do nothing", name)
		}
		i.keys(t, known, name)
	}
	for _, args := range [][]string{{"operation", "list"}, {"host", "list", "-o", "wide"}, {"get", "hosts,clusters,operations,hostruns,credentials,events", "-A", "-o", "yaml"}, {"describe", "hosts"}} {
		i.run(t, args...)
	}
	var operations v1alpha1.OperationList
	if err := i.client.List(t.Context(), &operations); err != nil {
		t.Fatal(err)
	}
	for _, op := range operations.Items {
		i.run(t, "operation", "show", op.Name)
		i.run(t, "operation", "logs", op.Name)
	}
	for _, name := range []string{"fails", "refused"} {
		i.run(t, "cluster", "delete", name, "--yes", "--timeout", "2m")
	}
}

// keys adds what the server has minted for a cluster.
func (i *installation) keys(t *testing.T, known secrettest.Canaries, name string) {
	t.Helper()
	var keys corev1.Secret
	err := i.client.Get(t.Context(), client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: cluster.KeysName(name)}, &keys)
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	for key, value := range keys.Data {
		switch text := string(value); {
		case strings.Contains(text, "PRIVATE KEY"):
			known.Lines(name+" "+key, text)
		case !strings.Contains(text, "-----"):
			known[name+" "+key] = text
		}
	}
}

// mustShowMasks fails when nothing was masked: then the machines' echo did not come to where it is looked for.
func (i *installation) mustShowMasks(t *testing.T) {
	t.Helper()
	var logs string
	eachFileBelow(t, filepath.Join(i.directory, "blobs"), func(_, text string) { logs += text })
	for where, text := range map[string]string{"the operations' logs": logs, "what commands printed": i.said.String()} {
		if !strings.Contains(text, secret.Mask) {
			t.Errorf("%s hold no mask: %.2000s", where, text)
		}
	}
}

// eachKind gives every kind's list as JSON, but that of Secrets.
func (i *installation) eachKind(t *testing.T, look func(kind, text string)) int {
	t.Helper()
	discover, err := discovery.NewDiscoveryClientForConfig(i.config)
	if err != nil {
		t.Fatal(err)
	}
	lists, err := discover.ServerPreferredResources()
	if err != nil {
		t.Fatal(err)
	}
	kinds := 0
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, resource := range list.APIResources {
			if resource.Name == "secrets" || !strings.Contains(resource.Verbs.String(), "list") {
				continue
			}
			objects := &unstructured.UnstructuredList{}
			objects.SetGroupVersionKind(version.WithKind(resource.Kind + "List"))
			if err := i.client.List(t.Context(), objects); err != nil {
				t.Fatalf("cannot list %s: %v", resource.Name, err)
			}
			text, err := objects.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			look(resource.Name, string(text))
			kinds++
		}
	}
	return kinds
}

// ownProcesses gives the command lines and environments of this process and its children.
func ownProcesses(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		status, err := os.ReadFile(filepath.Join("/proc", e.Name(), "status"))
		if err != nil {
			continue // It has ended.
		}
		if pid != os.Getpid() && !strings.Contains(string(status), fmt.Sprintf("PPid:\t%d\n", os.Getpid())) {
			continue
		}
		for _, name := range []string{"cmdline", "environ"} {
			content, err := os.ReadFile(filepath.Join("/proc", e.Name(), name))
			if err != nil {
				continue
			}
			all.Write(content)
		}
	}
	if all.Len() == 0 {
		t.Error("not even this process was found")
	}
	return all.String()
}

// eachFileBelow gives the content of every file and says how many there are.
func eachFileBelow(t *testing.T, directory string, look func(path, text string)) int {
	t.Helper()
	files := 0
	err := filepath.WalkDir(directory, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(directory, path)
		files++
		look(relative, string(content))
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return files
}
