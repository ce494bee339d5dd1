package auth

import (
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAdminTokenIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		reason, content string
		mode            fs.FileMode
		want            string
	}{
		"Word":     {"a word is guessed", "secret\n", 0o600, "6 bytes"},
		"Empty":    {"an empty token is in every request without one", "\n", 0o600, "it is empty"},
		"OneByte":  {"the same letter is no token", strings.Repeat("a", 52), 0o600, "not random"},
		"Example":  {"the token of the documentation is everybody's", "slipway-example-token-never-use-it", 0o600, "example"},
		"Readable": {"everyone on this machine is the administrator", "KHVQ6Z2TQYD3LPA7M4XN5RWBUC", 0o644, "chmod 600"},
	} {
		t.Run(name, func(t *testing.T) {
			directory := t.TempDir()
			path := filepath.Join(directory, adminTokenFile)
			if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, c.mode); err != nil {
				t.Fatal(err)
			}
			_, err := LoadAdminToken(directory)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("LoadAdminToken() = %v, want %q and the path: %s", err, c.want, c.reason)
			}
			if err != nil && len(c.content) > 10 && strings.Contains(err.Error(), c.content) {
				t.Errorf("the error shows the token: %v", err)
			}
		})
	}
}

func TestRotateAdminToken(t *testing.T) {
	directory := t.TempDir()
	old, err := LoadAdminToken(directory)
	if err != nil {
		t.Fatal(err)
	}
	if err := RotateAdminToken(directory); err != nil {
		t.Fatal(err)
	}
	rotated, err := LoadAdminToken(directory)
	if err != nil {
		t.Fatal(err)
	}
	request := &http.Request{Header: http.Header{"Authorization": {"Bearer " + old.Token()}}}
	if _, ok, err := rotated.Authenticate(request); ok || err != nil {
		t.Errorf("the old token still opens: %v %v", ok, err)
	}
	request.Header.Set("Authorization", "Bearer "+rotated.Token())
	if _, ok, err := rotated.Authenticate(request); !ok || err != nil {
		t.Errorf("the new token does not open: %v %v", ok, err)
	}
}
