package backupdir

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/backup/backuptest"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/host/fake"
)

const dir = "/root/backup"

// world is some hosts of clusters.
type world struct {
	hosts fake.Sessions
	epoch int64
	// free says that no cluster holds any.
	free bool
}

func newWorld(names ...string) *world {
	w := &world{hosts: fake.Sessions{}, epoch: 7}
	for _, name := range names {
		w.hosts[name] = fake.New(name, v1alpha1.HostFacts{})
	}
	return w
}

// store gives the store of some hosts.
func (w *world) store(mounted bool, names ...string) *Store {
	return New(v1alpha1.HostDirectoryLocation{Hosts: names, Path: dir, Mounted: mounted}, Deps{Sessions: w.hosts, Fence: func(context.Context, string) (host.Fence, error) {
		if w.free {
			return host.Fence{}, fault.NewTerminal("HostFree", "fix", errors.New("no cluster holds it"))
		}
		return host.Fence{Owner: "home", Epoch: w.epoch}, nil
	}})
}

// mount mounts a share on a host.
func (w *world) mount(t *testing.T, name string) {
	t.Helper()
	w.hosts[name].Do(func(s *fake.State) {
		if err := s.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		s.Mounts = append(s.Mounts, host.Mount{Path: dir, Type: "nfs4", Source: "192.0.2.9:/data", Root: "/"})
	})
}

// files gives the names in the directory on a host.
func (w *world) files(name string) map[string]fs.FileMode {
	found := map[string]fs.FileMode{}
	w.hosts[name].Do(func(s *fake.State) {
		for _, f := range s.Tree(dir) {
			found[strings.TrimPrefix(f.Path, dir)] = f.Mode
		}
	})
	return found
}

func TestStore(t *testing.T) {
	w := newWorld("cp1")
	backuptest.Run(t, w.store(false, "cp1"))
	want := map[string]fs.FileMode{"": fs.ModeDir | 0o700, "/demo-daily-small1": 0o600, "/demo-manual-exact1": 0o600}
	if diff := cmp.Diff(want, w.files("cp1")); diff != "" {
		t.Errorf("left on the host (-want +got):\n%s", diff)
	}
}

func TestStore_Mounted(t *testing.T) {
	w := newWorld("cp1")
	w.mount(t, "cp1")
	backuptest.Run(t, w.store(true, "cp1"))
}

// TestStore_MountAway: what is not mounted is neither written to nor taken for empty.
func TestStore_MountAway(t *testing.T) {
	w := newWorld("cp1")
	w.mount(t, "cp1")
	s := w.store(true, "cp1")
	if _, err := s.Put(t.Context(), "demo-manual-a1", strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	w.hosts["cp1"].Do(func(state *fake.State) { state.Mounts = nil })
	_, put := s.Put(t.Context(), "demo-manual-b1", strings.NewReader("x"))
	_, get := s.Get(t.Context(), "demo-manual-a1")
	_, list := s.List(t.Context(), "")
	for verb, err := range map[string]error{"put": put, "get": get, "list": list, "remove": s.Remove(t.Context(), "demo-manual-a1"), "test": s.Test(t.Context())} {
		if fault.ReasonOf(err) != "NotMounted" || fault.FixOf(err) == "" {
			t.Errorf("%s: %v, want that nothing is mounted and what to do", verb, err)
		}
	}
	if _, there := w.files("cp1")["/demo-manual-b1"]; there {
		t.Error("a backup went to the host's own disk")
	}
}

// TestStore_SeveralHosts: the first that can be used serves, and hosts with other directories are found out.
func TestStore_SeveralHosts(t *testing.T) {
	w := newWorld("cp1", "cp2", "cp3")
	w.mount(t, "cp2")
	w.mount(t, "cp3")
	s := w.store(true, "cp1", "cp2", "cp3")
	w.hosts["cp1"].PowerOff()
	if _, err := s.Put(t.Context(), "demo-manual-a1", strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	if _, there := w.files("cp2")["/demo-manual-a1"]; !there {
		t.Errorf("cp2 has %v, want the backup", w.files("cp2"))
	}
	if err := s.Test(t.Context()); fault.ReasonOf(err) != "NotShared" || !strings.Contains(err.Error(), "host cp3 does not see") {
		t.Errorf("cp2 and cp3 have other directories, and the test says %v", err)
	}
	if err := w.store(true, "cp1", "cp2").Test(t.Context()); err != nil {
		t.Errorf("a host that is away fails the test: %v", err)
	}
	w.hosts["cp1"].PowerOn()
	if err := w.store(true, "cp2", "cp1").Test(t.Context()); fault.ReasonOf(err) != "NotMounted" || !strings.Contains(err.Error(), "on host cp1") {
		t.Errorf("cp1 has nothing mounted, and the test says %v", err)
	}
	if diff := cmp.Diff(map[string]fs.FileMode{"": fs.ModeDir | 0o755, "/demo-manual-a1": 0o600}, w.files("cp2")); diff != "" {
		t.Errorf("the tests left something (-want +got):\n%s", diff)
	}
}

// TestStore_Fence: nothing changes a host that no cluster holds, one of another installation, or one that was claimed anew.
func TestStore_Fence(t *testing.T) {
	w := newWorld("cp1")
	s := w.store(false, "cp1")
	if _, err := s.Put(t.Context(), "demo-manual-a1", strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	w.epoch = 6
	_, err := s.Put(t.Context(), "demo-manual-b1", strings.NewReader("x"))
	if fault.ClassOf(err) != fault.Transient || fault.ReasonOf(err) != host.ReasonBusy {
		t.Errorf("behind a newer claim: %v, want that it is tried again", err)
	}
	w.free = true
	before := w.hosts["cp1"].Writes()
	_, err = s.Put(t.Context(), "demo-manual-b1", strings.NewReader("x"))
	if fault.ReasonOf(err) != "HostFree" || fault.ReasonOf(s.Remove(t.Context(), "demo-manual-a1")) != "HostFree" {
		t.Errorf("on a host that nobody holds: %v", err)
	}
	if r, err := s.Get(t.Context(), "demo-manual-a1"); err != nil {
		t.Errorf("what is there cannot be read: %v", err)
	} else if err := r.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Remove(t.Context(), "demo-manual-gone1"); err != nil {
		t.Errorf("what somebody has removed by hand is not gone: %v", err)
	}
	if after := w.hosts["cp1"].Writes(); after != before {
		t.Errorf("%d writes on a host that nobody holds", after-before)
	}
}

// TestStore_HostRemoved: what a host kept that Slipway does not know any more is gone with it.
func TestStore_HostRemoved(t *testing.T) {
	s := newWorld().store(false)
	if err := s.Remove(t.Context(), "demo-manual-a1"); err != nil {
		t.Errorf("a backup on it cannot be let go: %v", err)
	}
	if _, err := s.Get(t.Context(), "demo-manual-a1"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "is lost") {
		t.Errorf("got %v, want that it is lost", err)
	}
	if _, err := s.Put(t.Context(), "demo-manual-a1", strings.NewReader("x")); fault.ReasonOf(err) != "HostGone" {
		t.Errorf("got %v, want that the host is gone", err)
	}
}

// TestStore_Cut: whatever is cut, nothing is taken for a backup that is none, and nothing is left.
func TestStore_Cut(t *testing.T) {
	content := backuptest.Noise(1, 5000)
	for _, program := range []string{"mkdir", "write-file", "dd", "mv", "sync"} {
		for _, at := range []fake.Point{fake.BeforeCommand, fake.InOutput, fake.BeforeExitCode} {
			w := newWorld("cp1")
			s := w.store(false, "cp1")
			w.hosts["cp1"].Inject(fake.Fault{At: at, Match: func(argv []string) bool { return argv[0] == program }})
			_, err := s.Put(t.Context(), "demo-manual-a1", bytes.NewReader(content))
			if fault.ClassOf(err) != fault.Transient {
				t.Errorf("%s cut at %d: %v, want that it is tried again", program, at, err)
			}
			if files := w.files("cp1"); len(files) > 1 {
				t.Errorf("%s cut at %d leaves %v", program, at, files)
			}
			if _, err := s.Put(t.Context(), "demo-manual-a1", bytes.NewReader(content)); err != nil {
				t.Errorf("%s cut at %d: the next try fails: %v", program, at, err)
			}
		}
	}
}

// TestStore_Cutoff: dd takes a stream that was cut off for one that ended, and the digest tells.
func TestStore_Cutoff(t *testing.T) {
	w := newWorld("cp1")
	w.hosts["cp1"].Handle("dd", func(s *fake.State, c fake.Call) host.Result {
		if err := s.WriteFile(strings.TrimPrefix(c.Argv[1], "of="), c.Stdin[:len(c.Stdin)/2], 0o600); err != nil {
			return fake.Fail(1, err.Error())
		}
		return host.Result{}
	})
	_, err := w.store(false, "cp1").Put(t.Context(), "demo-manual-a1", strings.NewReader("whole"))
	if fault.ReasonOf(err) != "StoreCorrupts" || len(w.files("cp1")) != 1 {
		t.Errorf("got %v and %v, want that it is noticed and nothing left", err, w.files("cp1"))
	}
}

// TestStore_LostWhileRead: a host that goes away while a backup is read is no end of the backup.
func TestStore_LostWhileRead(t *testing.T) {
	w := newWorld("cp1")
	s := w.store(false, "cp1")
	if _, err := s.Put(t.Context(), "demo-manual-a1", bytes.NewReader(backuptest.Noise(1, host.MaxFile+1))); err != nil {
		t.Fatal(err)
	}
	r, err := s.Get(t.Context(), "demo-manual-a1")
	if err != nil {
		t.Fatal(err)
	}
	w.hosts["cp1"].PowerOff()
	if n, err := io.Copy(io.Discard, r); n != host.MaxFile || fault.ReasonOf(err) != host.ReasonUnreachable {
		t.Errorf("got %d bytes and %v, want the first part and that the host is away", n, err)
	}
}

// TestStore_Explains: what people can mend is said with what to do.
func TestStore_Explains(t *testing.T) {
	for text, want := range map[string]string{
		"dd: error writing: No space left on device":              "Full",
		"dd: failed to open: Permission denied":                   "NotAllowed",
		"dd: failed to open: Read-only file system":               "ReadOnly",
		"dd: closing output file: Disk quota exceeded":            "Full",
		"dd: something else that nobody has ever thought of here": "Failed",
	} {
		w := newWorld("cp1")
		w.hosts["cp1"].Handle("dd", func(*fake.State, fake.Call) host.Result { return fake.Fail(1, text) })
		_, err := w.store(false, "cp1").Put(t.Context(), "demo-manual-a1", strings.NewReader("x"))
		if err == nil || fault.ReasonOf(err) != want || want != "Failed" && fault.FixOf(err) == "" || !strings.Contains(err.Error(), "directory "+dir+" of cp1") {
			t.Errorf("%s: %q: %v", text, fault.ReasonOf(err), err)
		}
	}
}

// TestStore_Abandoned: what a crash left goes with a later backup; what is being written stays.
func TestStore_Abandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("cp1")
		leave := func(name string) {
			w.hosts["cp1"].Do(func(s *fake.State) {
				if err := s.WriteFile(dir+"/"+name, []byte("x"), 0o600); err != nil {
					t.Fatal(err)
				}
			})
		}
		leave(".new-OLD")
		<-time.After(abandoned + time.Hour)
		leave(".new-YOUNG")
		leave("notes.txt")
		if _, err := w.store(false, "cp1").Put(t.Context(), "demo-manual-a1", strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
		files := w.files("cp1")
		if _, old := files["/.new-OLD"]; old || len(files) != 4 {
			t.Errorf("there are %v", files)
		}
	})
}
