package auth

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAdminToken(t *testing.T) {
	directory := t.TempDir()
	admin, err := LoadAdminToken(directory)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadAdminToken(directory)
	if err != nil {
		t.Fatal(err)
	}
	if again.Token() != admin.Token() {
		t.Error("the token changed between two starts")
	}
	other, err := LoadAdminToken(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if other.Token() == admin.Token() {
		t.Error("two installations share a token")
	}
	info, err := os.Stat(filepath.Join(directory, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %o, want 600", info.Mode().Perm())
	}
	cases := map[string]struct {
		reason  string
		headers []string
		want    bool
	}{
		"Right":     {reason: "the token is the admin", headers: []string{"Bearer " + admin.Token()}, want: true},
		"LowerCase": {reason: "the scheme's case does not matter", headers: []string{"bearer " + admin.Token()}, want: true},
		"None":      {reason: "no header is nobody"},
		"Wrong":     {reason: "another installation's token is nobody", headers: []string{"Bearer " + other.Token()}},
		"Prefix":    {reason: "a part of the token is nobody", headers: []string{"Bearer " + admin.Token()[:51]}},
		"Empty":     {reason: "an empty token is nobody", headers: []string{"Bearer "}},
		"Basic":     {reason: "another scheme is nobody", headers: []string{"Basic " + admin.Token()}},
		"Twice":     {reason: "two headers are ambiguous", headers: []string{"Bearer " + admin.Token(), "Bearer x"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			who, ok, err := admin.Authenticate(&http.Request{Header: http.Header{"Authorization": tc.headers}})
			if err != nil || ok != tc.want {
				t.Fatalf("%s: Authenticate() = %v, %v", tc.reason, ok, err)
			}
			if !ok {
				return
			}
			if diff := cmp.Diff([]string{"system:masters", "system:authenticated"}, who.GetGroups()); diff != "" || who.GetName() != "admin" {
				t.Errorf("%s: %s %s", tc.reason, who.GetName(), diff)
			}
		})
	}
}

func TestShortTokenIsRefused(t *testing.T) {
	directory := t.TempDir()
	if err := os.WriteFile(filepath.Join(directory, "admin.token"), []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadAdminToken(directory); err == nil {
		t.Error("a short token was taken")
	}
}
