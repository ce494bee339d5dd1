package sandbox

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHierarchies(t *testing.T) {
	const v1 = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:4 - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
99 31 0:38 / /mnt/elsewhere rw,relatime - cgroup2 cgroup2 rw
`
	cases := map[string]struct {
		reason    string
		mountinfo string
		want      []hierarchy
	}{
		"hybrid": {
			reason:    "each controller is its own tree; other mounts of one do not count",
			mountinfo: v1,
			want:      []hierarchy{{path: "/sys/fs/cgroup/memory"}, {path: "/sys/fs/cgroup/unified", v2: true}},
		},
		"unified": {
			reason:    "one tree, also when it is mounted twice over",
			mountinfo: "25 19 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n26 25 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
			want:      []hierarchy{{path: "/sys/fs/cgroup", v2: true}},
		},
		"none": {reason: "no cgroups, no hosts", mountinfo: "1 1 8:1 / / rw - ext4 /dev/sda rw\n"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, hierarchies(tc.mountinfo), cmp.AllowUnexported(hierarchy{})); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestParseCommandLine(t *testing.T) {
	cases := map[string]struct {
		reason string
		argv   []string
		want   process
		ok     bool
	}{
		"container": {
			reason: "what systemd-nspawn was started with names the host",
			argv:   []string{"systemd-nspawn", "--boot", "--machine=sw-1-a"},
			want:   process{pid: 7, machine: "sw-1-a", nspawn: true}, ok: true,
		},
		"launcher": {
			reason: "the launcher carries the same argument",
			argv:   []string{"/bin/sh", "-c", "script", "x", "--machine=sw-1-a"},
			want:   process{pid: 7, machine: "sw-1-a"}, ok: true,
		},
		"someone who looks": {
			reason: "a search for the name is no host and must not be killed",
			argv:   []string{"grep", "--machine=sw-1-a"},
		},
		"own container of someone else": {
			reason: "without the argument it is none of ours",
			argv:   []string{"systemd-nspawn", "--machine", "sw-1-a"},
		},
		"kernel thread": {reason: "kernel threads have no command line", argv: []string{""}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, ok := parseCommandLine(7, []byte(strings.Join(tc.argv, "\x00")+"\x00"))
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(process{})); diff != "" || ok != tc.ok {
				t.Errorf("%s: %v (-want +got):\n%s", tc.reason, ok, diff)
			}
		})
	}
}

func TestSysctlsComeBack(t *testing.T) {
	root := t.TempDir()
	write := func(name, value string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(value+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("fs/inotify/max_user_instances", "128")
	write("kernel/panic", "0")
	saved, err := saveSysctls(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := raiseInotify(root); err != nil {
		t.Fatal(err)
	}
	write("kernel/panic", "10")
	changed, err := saveSysctls(root)
	if err != nil {
		t.Fatal(err)
	}
	if changed["fs/inotify/max_user_instances"] != "8192" {
		t.Errorf("the inotify limit was not raised: %v", changed)
	}
	saved["../../etc/passwd"] = "never written"
	if err := restoreSysctls(root, saved); err != nil {
		t.Fatal(err)
	}
	now, err := saveSysctls(root)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"fs/inotify/max_user_instances": "128", "kernel/panic": "0"}
	if diff := cmp.Diff(want, now); diff != "" {
		t.Errorf("settings after the sandbox (-want +got):\n%s", diff)
	}
}

func TestStateGivesAddressesOnce(t *testing.T) {
	s := &state{Subnet: netip.MustParsePrefix("10.130.0.0/24")}
	for _, name := range []string{"a", "b", "c"} {
		if _, err := s.add(name, 1, 1); err != nil {
			t.Fatal(err)
		}
	}
	s.Hosts = append(s.Hosts[:1], s.Hosts[2:]...)
	d, err := s.add("d", 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	if want := addressIn(s.Subnet, firstAddress+1); d.Address != want {
		t.Errorf("the freed address %s was not used, got %s", want, d.Address)
	}
	dir := t.TempDir()
	if err := s.write(dir); err != nil {
		t.Fatal(err)
	}
	read, err := readState(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(read.Hosts) != 3 || read.Hosts[2] != d || read.Subnet != s.Subnet {
		t.Errorf("state changed on its way to the file: %+v", read)
	}
	if _, err := read.host("b"); err == nil || !strings.Contains(err.Error(), "sandbox list") {
		t.Errorf("an unknown host must say where to look: %v", err)
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), lockFile)
	release, err := lock(t.Context(), path, true)
	if err != nil {
		t.Fatal(err)
	}
	second, err := lock(t.Context(), path, true)
	if err != nil {
		t.Fatalf("two shared locks must go together: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("the user gave up")
	cancel(reason)
	if _, err := lock(ctx, path, false); !errors.Is(err, reason) {
		t.Errorf("an exclusive lock must wait for shared ones: %v", err)
	}
	if err := errors.Join(release(), second()); err != nil {
		t.Fatal(err)
	}
	exclusive, err := lock(t.Context(), path, false)
	if err != nil {
		t.Fatal(err)
	}
	// What Down does: the file goes while the lock is held, and whoever comes next must make a new one.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	fresh, err := lock(t.Context(), path, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(exclusive(), fresh()); err != nil {
		t.Fatal(err)
	}
}

func TestRemoveFilesLeavesWhatIsNotOurs(t *testing.T) {
	for name, foreign := range map[string]bool{"only ours": false, "with a foreign file": true} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "sandbox")
			if err := os.MkdirAll(filepath.Join(dir, hostsDir, "a", rootDir), 0o700); err != nil {
				t.Fatal(err)
			}
			files := []string{stateFile, lockFile, keyFile, usersFile, ".tmp-sandbox.json-1"}
			if foreign {
				files = append(files, "notes.txt")
			}
			for _, file := range files {
				if err := os.WriteFile(filepath.Join(dir, file), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				if err := removeFiles(dir); err != nil {
					t.Fatal(err)
				}
			}
			if exists(dir) != foreign || exists(filepath.Join(dir, "notes.txt")) != foreign || exists(filepath.Join(dir, stateFile)) {
				t.Errorf("foreign file %v: the wrong things were removed", foreign)
			}
		})
	}
}

func TestPasswordsAreKeptAndDiffer(t *testing.T) {
	dir := t.TempDir()
	first, err := ensurePasswords(t.Context(), dir, []User{{Name: "a"}, {Name: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	second, err := ensurePasswords(t.Context(), dir, []User{{Name: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("a password changed by itself (-want +got):\n%s", diff)
	}
	if first["a"] == first["b"] || len(first["a"]) < 20 {
		t.Errorf("passwords are weak: %v", first)
	}
	info, err := os.Stat(filepath.Join(dir, usersFile))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("passwords have mode %o", info.Mode().Perm())
	}
}
