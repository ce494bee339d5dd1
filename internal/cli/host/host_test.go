package host

import (
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	gossh "golang.org/x/crypto/ssh"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
	"slipway.dev/slipway/internal/cli/output/outputtest"
)

const (
	fingerprint = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"
	hostKey     = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g"
)

// machine is the server's part: it offers a key, and once that is pinned it says how the login went.
func machine(t *testing.T, reason string, facts *v1alpha1.HostFacts) outputtest.Hooks {
	t.Helper()
	say := func(ctx context.Context, server client.Client, object client.Object) {
		host, ok := object.(*v1alpha1.Host)
		if !ok {
			return
		}
		condition := metav1.Condition{Type: v1alpha1.HostReachable, Status: metav1.ConditionFalse, Reason: "HostKeyUnconfirmed",
			Message: "the key is not pinned", LastTransitionTime: metav1.NewTime(outputtest.Now())}
		host.Status.OfferedKey = &v1alpha1.OfferedKey{Key: hostKey, Fingerprint: fingerprint}
		if host.Spec.HostKey != "" {
			host.Status.OfferedKey = nil
			condition.Reason, condition.Message = reason, "the server says so"
			if reason == "Ready" {
				condition.Status, host.Status.Facts, host.Status.InternalAddress = metav1.ConditionTrue, facts, "10.0.0.11"
			}
		}
		meta.SetStatusCondition(&host.Status.Conditions, condition)
		if err := server.Status().Update(ctx, host); err != nil {
			t.Error(err)
		}
	}
	return outputtest.Hooks{Created: say, Patched: say}
}

func someFacts() *v1alpha1.HostFacts {
	return &v1alpha1.HostFacts{Hostname: "w1", OS: v1alpha1.HostOS{ID: "debian", Name: "Debian GNU/Linux 12 (bookworm)"}, Kernel: "6.1.0-31-amd64",
		Architecture: "amd64", CPUs: 4, MemoryBytes: 8 << 30, Memory: "8.0Gi", Disks: []v1alpha1.HostDisk{{Name: "sda", Bytes: 100 << 30}},
		NICs: []v1alpha1.HostNIC{{Name: "eth0", Addresses: []string{"10.0.0.11/24"}}}, FreeBytes: map[string]int64{"/var/lib": 80 << 30},
		CgroupVersion: 2, TimeZone: "Asia/Shanghai", ClockSkewMillis: 12, Swap: true, Firewall: "ufw", SELinux: "Disabled", ResolverOptions: true,
		Tools: []string{"containerd", "tar"}, Virtualization: "kvm"}
}

func keyPair(t *testing.T, passphrase string) string {
	t.Helper()
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	block, err := gossh.MarshalPrivateKey(key, "")
	if passphrase != "" {
		block, err = gossh.MarshalPrivateKeyWithPassphrase(key, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	return file(t, "key", string(pem.EncodeToMemory(block)))
}

func file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// left counts what is on the server.
func left(t *testing.T, c client.Client) map[string]int {
	t.Helper()
	var hosts v1alpha1.HostList
	var credentials v1alpha1.CredentialList
	var secrets corev1.SecretList
	for _, list := range []client.ObjectList{&hosts, &credentials, &secrets} {
		if err := c.List(t.Context(), list); err != nil {
			t.Fatal(err)
		}
	}
	return map[string]int{"hosts": len(hosts.Items), "credentials": len(credentials.Items), "secrets": len(secrets.Items)}
}

func TestAdd(t *testing.T) {
	all, none := map[string]int{"hosts": 1, "credentials": 1, "secrets": 1}, map[string]int{"hosts": 0, "credentials": 0, "secrets": 0}
	address := []string{"add", "w1", "--address", "10.0.0.11"}
	key, password := []string{"--user", "root", "--key", keyPair(t, "")}, []string{"--user", "ops", "--password-file", file(t, "password", "s3cret\n")}
	cases := map[string]struct {
		reason   string
		login    string
		args     [][]string
		stdin    string
		terminal bool
		// interrupt is what is on the screen when the command is interrupted.
		interrupt string
		want      output.ExitCode
		left      map[string]int
	}{
		"Terminal":     {reason: "a person compares the key and says yes", login: "Ready", args: [][]string{address, key}, stdin: "y\n", terminal: true, want: output.ExitOK, left: all},
		"No":           {reason: "a key that is not confirmed leaves nothing", login: "Ready", args: [][]string{address, key}, stdin: "\n", terminal: true, want: output.ExitRefused, left: none},
		"Accept":       {reason: "a fingerprint given beforehand asks nothing", login: "Ready", args: [][]string{address, password, {"--accept-host-key", fingerprint}}, want: output.ExitOK, left: all},
		"OtherKey":     {reason: "another key than the one given is refused and leaves nothing", login: "Ready", args: [][]string{address, key, {"--accept-host-key", "SHA256:other"}}, want: output.ExitRefused, left: none},
		"HostKey":      {reason: "a key given beforehand is pinned at once", login: "Ready", args: [][]string{address, key, {"--host-key", hostKey + " root@w1"}}, want: output.ExitOK, left: all},
		"Yes":          {reason: "--yes pins unseen and says so", login: "Ready", args: [][]string{address, key, {"--yes"}}, want: output.ExitOK, left: all},
		"Stdin":        {reason: "a password comes from standard input", login: "Ready", args: [][]string{address, {"--user", "ops", "--password-stdin", "--accept-host-key", fingerprint}}, stdin: "s3cret\n", want: output.ExitOK, left: all},
		"WrongLogin":   {reason: "a refused login says what to check and leaves nothing", login: "LoginRefused", args: [][]string{address, password, {"--accept-host-key", fingerprint}}, want: output.ExitRefused, left: none},
		"Interrupted":  {reason: "a host that does not answer is waited for, and stays once its key is pinned", login: "Unreachable", args: [][]string{address, key, {"--host-key", hostKey}}, interrupt: "not reachable yet", want: output.ExitInterrupted, left: all},
		"InterruptAsk": {reason: "interrupting before the key is pinned leaves nothing", login: "Ready", args: [][]string{address, key}, terminal: true, interrupt: "Is it the same?", want: output.ExitInterrupted, left: none},
		"NoTerminal":   {reason: "nobody can be asked, so a flag is needed", login: "Ready", args: [][]string{address, key}, want: output.ExitUsage, left: none},
		"NoLogin":      {reason: "one way to log in is needed", login: "Ready", args: [][]string{address, {"--user", "root", "--yes"}}, want: output.ExitUsage, left: none},
		"TwoLogins":    {reason: "only one way to log in is possible", login: "Ready", args: [][]string{address, key, password, {"--yes"}}, want: output.ExitUsage, left: none},
		"NoCredential": {reason: "an existing credential must exist", login: "Ready", args: [][]string{address, {"--credential", "none", "--yes"}}, want: output.ExitNotFound, left: none},
		"LockedKey":    {reason: "a locked key needs its passphrase before anything is stored", login: "Ready", args: [][]string{address, {"--user", "root", "--yes", "--key", keyPair(t, "open")}}, want: output.ExitRefused, left: none},
		"PublicKey":    {reason: "a public key is no login", login: "Ready", args: [][]string{address, {"--user", "root", "--yes", "--key", file(t, "key.pub", hostKey)}}, want: output.ExitRefused, left: none},
		"UnknownFlag":  {reason: "an unknown flag is an error of usage", login: "Ready", args: [][]string{address, {"--colour"}}, want: output.ExitUsage, left: none},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := outputtest.New(t, machine(t, tc.login, someFacts()))
			b.Deps.Terminal = tc.terminal
			b.In.WriteString(tc.stdin)
			var args []string
			for _, some := range tc.args {
				args = append(args, some...)
			}
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			b.ErrOut.React = func(text string) {
				if tc.interrupt != "" && strings.Contains(text, tc.interrupt) {
					interrupt()
				}
			}
			if got := b.Run(ctx, New(b.Deps), args...); got != tc.want {
				t.Errorf("%s: exit code %d, want %d\n%s", tc.reason, got, tc.want, b.Everything())
			}
			if diff := cmp.Diff(tc.left, left(t, b.Client)); diff != "" {
				t.Errorf("%s: left on the server (-want +got):\n%s", tc.reason, diff)
			}
			said := b.Everything()
			if strings.Contains(said, "s3cret") {
				t.Error("a secret was printed")
			}
			for _, one := range args {
				if strings.HasPrefix(one, "/") {
					said = strings.ReplaceAll(said, one, "FILE")
				}
			}
			outputtest.Golden(t, "add-"+name, said)
		})
	}
}

func TestAddStores(t *testing.T) {
	b := outputtest.New(t, machine(t, "Ready", someFacts()))
	sudo := file(t, "sudo", "sudo-pass\n")
	code := b.Run(t.Context(), New(b.Deps), "add", "w1", "--address", "10.0.0.11", "--user", "ops", "--password-file", file(t, "p", "login pass\r\n"),
		"--sudo-password-file", sudo, "--accept-host-key", fingerprint, "--region", "r1", "--port", "2222")
	if code != output.ExitOK {
		t.Fatal(b.Everything())
	}
	var host v1alpha1.Host
	var credential v1alpha1.Credential
	var secret corev1.Secret
	for key, object := range map[client.ObjectKey]client.Object{{Name: "w1"}: &host} {
		if err := b.Client.Get(t.Context(), key, object); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Client.Get(t.Context(), client.ObjectKey{Name: host.Spec.Credential}, &credential); err != nil {
		t.Fatal(err)
	}
	if err := b.Client.Get(t.Context(), client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: credential.Spec.SecretName}, &secret); err != nil {
		t.Fatal(err)
	}
	want := v1alpha1.HostSpec{Address: "10.0.0.11", Port: 2222, Credential: "w1", HostKey: hostKey, Region: "r1"}
	if diff := cmp.Diff(want, host.Spec); diff != "" {
		t.Errorf("host (-want +got):\n%s", diff)
	}
	data := map[string][]byte{v1alpha1.SecretKeyPassword: []byte("login pass"), v1alpha1.SecretKeySudoPassword: []byte("sudo-pass")}
	if diff := cmp.Diff(data, secret.Data); diff != "" {
		t.Errorf("secret (-want +got):\n%s", diff)
	}
	if secret.Type != v1alpha1.SecretTypeCredential {
		t.Errorf("the secret has type %s: people may create only %s", secret.Type, v1alpha1.SecretTypeCredential)
	}
	again := b.Run(t.Context(), New(b.Deps), "add", "w1", "--address", "10.0.0.12", "--user", "ops", "--key", keyPair(t, ""), "--yes")
	if again != output.ExitRefused || !strings.Contains(b.ErrOut.String(), "a host of that name exists, at 10.0.0.11") {
		t.Errorf("a second add: exit code %d\n%s", again, b.ErrOut)
	}
	if code := b.Run(t.Context(), New(b.Deps), "remove", "w1"); code != output.ExitOK {
		t.Fatal(b.Everything())
	}
	if diff := cmp.Diff(map[string]int{"hosts": 0, "credentials": 0, "secrets": 0}, left(t, b.Client)); diff != "" {
		t.Errorf("after remove (-want +got):\n%s", diff)
	}
}

func TestLook(t *testing.T) {
	reachable := &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: "cp1", CreationTimestamp: metav1.NewTime(outputtest.Now().Add(-3600e9))},
		Spec: v1alpha1.HostSpec{Address: "203.0.113.9", Port: 22, Credential: "c"},
		Status: v1alpha1.HostStatus{Facts: someFacts(), Holder: &v1alpha1.HostHolder{Cluster: "default/demo"}, Conditions: []metav1.Condition{
			{Type: v1alpha1.HostReachable, Status: metav1.ConditionTrue, Reason: "Ready", Message: "login works"}}}}
	refused := &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: "w1"}, Spec: v1alpha1.HostSpec{Address: "10.0.0.12", Credential: "c"},
		Status: v1alpha1.HostStatus{Conditions: []metav1.Condition{
			{Type: v1alpha1.HostReachable, Status: metav1.ConditionFalse, Reason: "LoginRefused", Message: "cannot log in to host w1: the login was refused"}}}}
	cases := map[string]struct {
		reason string
		args   []string
		want   output.ExitCode
	}{
		"check":         {reason: "facts and hints of a host that is well", args: []string{"check", "cp1"}, want: output.ExitOK},
		"check-refused": {reason: "a host that cannot be reached fails the check", args: []string{"check", "w1"}, want: output.ExitFailed},
		"check-none":    {reason: "a name that is not there has its own code", args: []string{"check", "w9"}, want: output.ExitNotFound},
		"list":          {reason: "one line a host", args: []string{"list"}, want: output.ExitOK},
		"list-wide":     {reason: "more of each", args: []string{"list", "-o", "wide"}, want: output.ExitOK},
		"list-name":     {reason: "for programs", args: []string{"list", "-o", "name"}, want: output.ExitOK},
		"list-yaml":     {reason: "for programs", args: []string{"list", "-o", "yaml"}, want: output.ExitOK},
		"list-xml":      {reason: "an unknown format is an error of usage", args: []string{"list", "-o", "xml"}, want: output.ExitUsage},
		"remove-held":   {reason: "a host that a cluster holds stays", args: []string{"remove", "cp1"}, want: output.ExitRefused},
		"unknown":       {reason: "an unknown verb is an error of usage", args: []string{"paint"}, want: output.ExitUsage},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := outputtest.New(t, outputtest.Hooks{}, reachable.DeepCopy(), refused.DeepCopy())
			if got := b.Run(t.Context(), New(b.Deps), tc.args...); got != tc.want {
				t.Errorf("%s: exit code %d, want %d", tc.reason, got, tc.want)
			}
			outputtest.Golden(t, name, b.Everything())
		})
	}
}

func TestUnderRoot(t *testing.T) {
	b := outputtest.New(t, machine(t, "Ready", someFacts()))
	root := &cobra.Command{Use: "slipway", SilenceErrors: true, SilenceUsage: true}
	genericclioptions.NewConfigFlags(true).AddFlags(root.PersistentFlags())
	root.AddCommand(New(b.Deps))
	code := b.Run(t.Context(), root, "host", "add", "w1", "--address", "10.0.0.11", "--user", "ops", "--key", keyPair(t, ""), "--host-key", hostKey)
	var credential v1alpha1.Credential
	if err := b.Client.Get(t.Context(), client.ObjectKey{Name: "w1"}, &credential); code != output.ExitOK || err != nil {
		t.Fatalf("exit code %d, %v\n%s", code, err, b.Everything())
	}
	if credential.Spec.User != "ops" || credential.Spec.Type != v1alpha1.CredentialPrivateKey {
		t.Errorf("--user is the login's, not the kubeconfig's: %+v", credential.Spec)
	}
}
