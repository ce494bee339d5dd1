package sandbox

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// golden compares with a file in testdata; UPDATE_GOLDEN=1 writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func testHost() hostState {
	return hostState{
		Name: "sandbox-1", Address: netip.MustParseAddr("10.130.0.11"), MachineID: strings.Repeat("0a", 16),
		Disk: defaultDisk, Memory: defaultMemory,
	}
}

func TestLaunchArgs(t *testing.T) {
	cases := map[string]struct {
		reason string
		mode   cgroupMode
		groups []string
	}{
		"v1":      {reason: "the launcher joins a folder in each hierarchy", mode: cgroupV1, groups: []string{"/sys/fs/cgroup/cpu/x/h", "/sys/fs/cgroup/memory/x/h"}},
		"v2":      {reason: "the launcher makes its children in the one folder", mode: cgroupV2, groups: []string{"/sys/fs/cgroup/x/h"}},
		"systemd": {reason: "systemd makes the folder and sets the limit; it replaces variables unless they are escaped", mode: cgroupSystemd},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			id := testIdentity(t, "/nowhere/one/sandbox")
			nspawn := nspawnArgs(id, testHost(), []string{"/dev/kmsg", "/dev/fuse"}, true)
			argv := launchArgs(id, testHost(), tc.mode, tc.groups, nspawn)
			var text strings.Builder
			for _, argument := range argv {
				switch argument {
				case launchScript:
					argument = "(the launch script)"
				case strings.ReplaceAll(launchScript, "$", "$$"):
					argument = "(the launch script, escaped)"
				}
				fmt.Fprintln(&text, argument)
			}
			golden(t, "launch-"+name+".golden", text.String())
		})
	}
}

func TestBaseFiles(t *testing.T) {
	var text strings.Builder
	for _, f := range baseFiles() {
		if f.link != "" {
			fmt.Fprintf(&text, "### %s -> %s\n", f.path, f.link)
			continue
		}
		fmt.Fprintf(&text, "### %s %o\n%s\n", f.path, f.mode, f.data)
	}
	golden(t, "base-files.golden", text.String())
}

func TestSeedArchive(t *testing.T) {
	files := seedFiles(netip.MustParsePrefix("10.130.0.0/24"), testHost(),
		keyPair{private: "HOST PRIVATE\n", public: "HOST PUBLIC"}, keyPair{private: "LOGIN PRIVATE\n", public: "LOGIN PUBLIC"})
	data, err := archive(files)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	reader := tar.NewReader(bytes.NewReader(data))
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "### %s %o %d:%d\n%s\n", header.Name, header.Mode, header.Uid, header.Gid, content)
	}
	golden(t, "seed.golden", text.String())
	if strings.Contains(text.String(), "LOGIN PRIVATE") {
		t.Error("the login key must stay on the machine")
	}
}

func TestRootfsKey(t *testing.T) {
	base := rootfsKey("", "amd64")
	if again := rootfsKey("", "amd64"); again != base {
		t.Errorf("the key is not stable: %s, %s", base, again)
	}
	if rootfsKey("http://mirror.example/debian", "amd64") == base || rootfsKey("", "arm64") == base {
		t.Error("another mirror or architecture must not find the same image")
	}
}

func TestEnsureKeyKeepsAKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), keyFile)
	first, err := ensureKey(path, "c")
	if err != nil {
		t.Fatal(err)
	}
	second, err := ensureKey(path, "c")
	if err != nil {
		t.Fatal(err)
	}
	if first != second || !strings.HasPrefix(first.public, "ssh-ed25519 ") {
		t.Errorf("a second look gives another key: %s, %s", first.public, second.public)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("a private key has mode %o", info.Mode().Perm())
	}
}
