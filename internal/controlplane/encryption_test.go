package controlplane

import (
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
)

// TestEncryptionKeyIsRefused holds what a server does not start with. Whatever the file holds, it stays as it is.
func TestEncryptionKeyIsRefused(t *testing.T) {
	example := func(key string) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			ring := keyRing{{Name: "key1", Secret: base64.StdEncoding.EncodeToString([]byte(key))}}
			if err := ring.write(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	content := func(text string) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	cases := map[string]struct {
		reason string
		change func(*testing.T, string)
		want   string
	}{
		"Missing": {reason: "a new key over old data would hide that the right one is lost", change: func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}, want: "is missing; put it back from a backup"},
		"Empty":         {reason: "the disk was full", change: content(""), want: "it is empty"},
		"Garbage":       {reason: "another file took its place", change: content("[\x00"), want: "not an EncryptionConfiguration"},
		"Short":         {reason: "16 bytes are too few", change: example("this is password"), want: "16 bytes"},
		"Long":          {reason: "secretbox takes 32 bytes", change: example("0Aq9Zx8Sw7Cd6Ev5Fr4Bg3Th2Ny1Jm-longer"), want: "not 32"},
		"OneByte":       {reason: "32 times the same byte is no key", change: example(strings.Repeat("\x00", 32)), want: "not random"},
		"Kubernetes":    {reason: "the key of Kubernetes' documentation is everybody's", change: example("abcdefghijklmnopqrstuvwxyz123456"), want: "example"},
		"Slipway":       {reason: "so is that of our own", change: example("slipway-example-key-never-use-it"), want: "example"},
		"WorldReadable": {reason: "everyone on this machine has the key", change: func(t *testing.T, path string) { chmodTo(t, path, 0o644) }, want: "chmod 600"},
		"GroupReadable": {reason: "so has everyone in the group", change: func(t *testing.T, path string) { chmodTo(t, path, 0o640) }, want: "chmod 600"},
		"OpenDirectory": {reason: "others could put another key there", change: func(t *testing.T, path string) { chmodTo(t, filepath.Dir(path), 0o777) }, want: "chmod 700"},
		"PlainText": {reason: "Secrets must not be stored as they are", change: content("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n" +
			"resources: [{resources: [secrets], providers: [{identity: {}}]}]\n"), want: "secretbox and nothing else"},
		"NoKeys": {reason: "a list without keys", change: content("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n" +
			"resources: [{resources: [secrets], providers: [{secretbox: {keys: []}}]}]\n"), want: "0 keys"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			directory := t.TempDir()
			f, err := loadFiles(directory, "")
			if err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Join(directory, "etcd", "member"), 0o700); err != nil {
				t.Fatal(err)
			}
			if again, err := loadFiles(directory, ""); err != nil || again.keys[0] != f.keys[0] {
				t.Fatalf("the second start has another key: %v", err)
			}
			tc.change(t, f.encryption)
			before, _ := os.ReadFile(f.encryption)
			_, err = Start(t.Context(), Config{DataDir: directory})
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), filepath.Dir(f.encryption)) {
				t.Errorf("%s: %v, want %q and the path", tc.reason, err, tc.want)
			}
			if after, _ := os.ReadFile(f.encryption); string(after) != string(before) {
				t.Errorf("%s: the refused file was changed", tc.reason)
			}
		})
	}
}

func chmodTo(t *testing.T, path string, mode fs.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestServiceAccountKeyIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		reason, content string
		mode            fs.FileMode
		want            string
	}{
		"Readable": {reason: "whoever reads it makes tokens", mode: 0o644, want: "chmod 600"},
		"Garbage":  {reason: "it would end the API server with less to say", content: "none", mode: 0o600, want: "cannot find a PEM private key"},
	} {
		t.Run(name, func(t *testing.T) {
			directory := t.TempDir()
			f, err := loadFiles(directory, "")
			if err != nil {
				t.Fatal(err)
			}
			if tc.content != "" {
				if err := os.WriteFile(f.serviceAccountKey, []byte(tc.content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			chmodTo(t, f.serviceAccountKey, tc.mode)
			if _, err := Start(t.Context(), Config{DataDir: directory}); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: %v, want %q", tc.reason, err, tc.want)
			}
		})
	}
}

// TestEncryptionKeyDir holds that a key elsewhere is found there, and that one that was left behind is named.
func TestEncryptionKeyDir(t *testing.T) {
	directory, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "mounted")
	f, err := loadFiles(directory, elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	if f.encryption != filepath.Join(elsewhere, EncryptionFile) {
		t.Errorf("the key is in %s", f.encryption)
	}
	if _, err := os.Stat(keyFile(directory, "")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key lies in the data directory too: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(directory, "etcd", "member"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := loadFiles(directory, ""); err == nil || !strings.Contains(err.Error(), "--encryption-key-dir") {
		t.Errorf("without the flag the start does not name it: %v", err)
	}
	if err := os.Rename(f.encryption, keyFile(directory, "")); err != nil {
		t.Fatal(err)
	}
	if _, err := loadFiles(directory, elsewhere); err == nil || !strings.Contains(err.Error(), "move "+keyFile(directory, "")) {
		t.Errorf("with the flag and the key in the usual place the start does not say so: %v", err)
	}
}

func TestRotateKeyIsRefused(t *testing.T) {
	if _, err := RotateKey(filepath.Join(t.TempDir(), "wrong"), ""); err == nil || !strings.Contains(err.Error(), "no server has run there") {
		t.Errorf("a wrong directory gave %v", err)
	}
	directory := t.TempDir()
	f, err := loadFiles(directory, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(directory, "version"), []byte("1.0.0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	lock, err := openDataDir(directory)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := RotateKey(directory, ""); err == nil || !strings.Contains(err.Error(), "another server uses it") {
		t.Errorf("a running server did not stop the rotation: %v", err)
	}
	if err := lock.release(); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(filepath.Dir(f.encryption), "."+EncryptionFile+".123")
	if err := os.WriteFile(left, []byte("half of a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := RotateKey(directory, ""); err != nil {
		t.Fatal(err)
	}
	ring, err := readKeyRing(f.encryption)
	if err != nil || len(ring) != 2 || ring[1] != f.keys[0] || ring[0] == f.keys[0] || ring[0].Name == ring[1].Name {
		t.Errorf("the new key is not in front of the old one: %v %v", names(ring), err)
	}
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a crash left of the key file is still there: %v", err)
	}
	if _, err := RotateKey(directory, ""); err == nil || !strings.Contains(err.Error(), "has not ended") {
		t.Errorf("a third key was made: %v", err)
	}
}

func names(ring []apiserverv1.Key) (all []string) {
	for _, key := range ring {
		all = append(all, key.Name)
	}
	return all
}
