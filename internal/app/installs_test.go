package app

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/controlplane"
	"slipway.dev/slipway/internal/pki"
)

// window is how many bytes two installations must not have in common.
const window = 16

// TestTwoInstallationsShareNothing starts two fresh servers and compares what they have made: files with keys, serial
// numbers of certificates, tokens and Secrets.
func TestTwoInstallationsShareNothing(t *testing.T) {
	var all [2]map[string][]byte
	var serials [2]map[string]string
	for n := range all {
		i := install(t, ServerOptions{DataDir: t.TempDir(), Version: "1.0.0"})
		all[n], serials[n] = i.material(t)
		if err := i.stop(); err != nil {
			t.Fatal(err)
		}
	}
	if len(all[0]) < 6 || len(all[0]) != len(all[1]) {
		t.Errorf("found %d and %d pieces of key material: %v", len(all[0]), len(all[1]), namesOf(all[0]))
	}
	seen := map[string]string{}
	for name, content := range all[0] {
		for at := 0; at+window <= len(content); at++ {
			seen[string(content[at:at+window])] = name
		}
	}
	for name, content := range all[1] {
		for at := 0; at+window <= len(content); at++ {
			if other, shared := seen[string(content[at:at+window])]; shared {
				t.Errorf("%s of one installation and %s of the other share %q", other, name, content[at:at+window])
				break
			}
		}
	}
	for serial, name := range serials[0] {
		if other, shared := serials[1][serial]; shared {
			t.Errorf("certificates %s and %s have the same serial number", name, other)
		}
	}
	if len(serials[0]) == 0 {
		t.Error("no certificate was found")
	}
	t.Logf("%d pieces of key material, %d windows of %d bytes, %d certificates", len(all[0]), len(seen), window, len(serials[0]))
}

func namesOf(m map[string][]byte) (all []string) {
	for name := range m {
		all = append(all, name)
	}
	return all
}

// secretText is what of a text file is not the same everywhere: base64 and tokens of at least 26 characters.
var secretText = regexp.MustCompile(`[A-Za-z0-9+/=_-]{26,}`)

// material gives the key material of an installation by name, and the serial numbers of its certificates.
func (i *installation) material(t *testing.T) (map[string][]byte, map[string]string) {
	t.Helper()
	found, serials := map[string][]byte{}, map[string]string{}
	take := func(name string, content []byte) {
		if block, rest := pem.Decode(content); block != nil {
			for ; block != nil; block, rest = pem.Decode(rest) {
				if block.Type == "CERTIFICATE" {
					certificate, err := pki.ParseCertificate(pem.EncodeToMemory(block))
					if err != nil {
						t.Fatal(err)
					}
					serials[certificate.SerialNumber.String()] = name
					continue
				}
				key, err := pki.ParseKey(pem.EncodeToMemory(block))
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				// The secret number itself: the rest of the encoding names the curve, which is the same everywhere.
				curve, ok := key.(*ecdsa.PrivateKey)
				if !ok {
					t.Fatalf("%s holds a %T: compare that too", name, key)
				}
				if found[name+" "+block.Type], err = curve.Bytes(); err != nil {
					t.Fatal(err)
				}
			}
			return
		}
		for n, text := range secretText.FindAll(content, -1) {
			if decoded, err := base64.StdEncoding.DecodeString(string(text)); err == nil && len(decoded) >= window {
				text = decoded
			}
			found[fmt.Sprint(name, " ", n)] = text
		}
	}
	for _, folder := range []string{"keys", "pki", "admin.token"} {
		eachFileBelow(t, filepath.Join(i.directory, folder), func(path, text string) { take(filepath.Join(folder, path), []byte(text)) })
	}
	kubeconfig, err := os.ReadFile(filepath.Join(i.directory, AdminKubeconfig))
	if err != nil {
		t.Fatal(err)
	}
	if at := bytes.Index(kubeconfig, []byte("token: ")); at < 0 {
		t.Error("admin.kubeconfig has no token")
	} else {
		take(AdminKubeconfig, kubeconfig[at:])
	}
	var secrets corev1.SecretList
	if err := i.client.List(t.Context(), &secrets); err != nil {
		t.Fatal(err)
	}
	for _, s := range secrets.Items {
		for key, value := range s.Data {
			take(strings.Join([]string{"Secret", s.Namespace, s.Name, key}, " "), value)
		}
	}
	var system corev1.Namespace
	if err := i.client.Get(t.Context(), client.ObjectKey{Name: "slipway-system"}, &system); err != nil {
		t.Fatal(err)
	}
	found["the identity that hosts know"] = []byte(system.UID)
	return found, serials
}

// TestRotateKeys gives an installation a new admin token and a new encryption key with the commands for it: the old
// token opens nothing, nothing needs the old key, and what is stored can be read as before.
func TestRotateKeys(t *testing.T) {
	directory, keys := t.TempDir(), t.TempDir()
	options := ServerOptions{DataDir: directory, EncryptionKeyDir: keys, Version: "1.0.0"}
	first := install(t, options)
	kept := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: "kept"}, Type: v1alpha1.SecretTypeCredential,
		StringData: map[string]string{"password": "still the same"}}
	if err := first.client.Create(t.Context(), kept); err != nil {
		t.Fatal(err)
	}
	if first.run(t, "server", "rotate-key", "--data-dir", directory, "--encryption-key-dir", keys) == 0 {
		t.Error("the key of a server that runs was rotated")
	}
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{{"rotate-admin-token"}, {"rotate-key", "--encryption-key-dir", keys}} {
		if code := first.run(t, append(append([]string{"server"}, command...), "--data-dir", directory)...); code != 0 {
			t.Fatalf("%v ended with %d: %s", command, code, first.said)
		}
	}
	second := install(t, options)
	second.eventually(t, "the old encryption key is gone", func(context.Context) (bool, error) {
		content, err := os.ReadFile(filepath.Join(keys, controlplane.EncryptionFile))
		return err == nil && bytes.Count(content, []byte("secret:")) == 1, err
	})
	var read corev1.Secret
	if err := second.client.Get(t.Context(), client.ObjectKeyFromObject(kept), &read); err != nil || string(read.Data["password"]) != "still the same" {
		t.Errorf("the Secret is %q, %v", read.Data, err)
	}
	old := rest.CopyConfig(second.config)
	old.BearerToken = first.config.BearerToken
	opened, err := client.New(old, client.Options{Scheme: second.client.Scheme()})
	if err == nil {
		err = opened.Get(t.Context(), client.ObjectKeyFromObject(kept), &read)
	}
	if !apierrors.IsUnauthorized(err) {
		t.Errorf("the old admin token got %v", err)
	}
	if err := second.stop(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(second.log.String(), "rotated the encryption key") {
		t.Error("the log does not say that the rotation has ended")
	}
}
