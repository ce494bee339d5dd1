package drill

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// This test binary is the program that runs in rooms: it is static, as those of bundles are.
const (
	playLook = "drill-look"
	playWait = "drill-wait"
	playFail = "drill-fail"
)

// TestMain plays a program of a room when it is called as one.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) < 2:
	case os.Args[1] == playLook:
		entries, err := os.ReadDir("/")
		fmt.Println("user", os.Getuid(), "root", len(entries), err, "environment", len(os.Environ()))
		os.Exit(3)
	case os.Args[1] == playFail:
		fmt.Println("one\ntwo\nthree\nfour")
		os.Exit(3)
	case os.Args[1] == playWait:
		fmt.Println("waiting")
		select {}
	}
	os.Exit(m.Run())
}

// furnished gives a room with this program in it.
func furnished(t *testing.T) *room {
	t.Helper()
	r, err := newRoom(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	})
	if err := r.program("player", self); err != nil {
		t.Fatal(err)
	}
	return r
}

func self(w io.Writer) error {
	path, err := os.Executable()
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return errors.Join(err, f.Close())
}

// TestRoom_Confined: a program of a drill sees nothing of the server's machine, and is nobody there.
func TestRoom_Confined(t *testing.T) {
	r := furnished(t)
	err := r.run(t.Context(), "player", playLook)
	if err == nil || !strings.Contains(err.Error(), "environment 0") {
		t.Fatalf("the program says %v", err)
	}
	if os.Geteuid() == 0 {
		if want := fmt.Sprintf("user %d root 1 ", r.user); r.user < firstUser || !strings.Contains(err.Error(), want) {
			t.Errorf("the program says %v, want %q", err, want)
		}
	}
}

func TestRoom_SaysWhyItEnded(t *testing.T) {
	err := furnished(t).run(t.Context(), "player", playFail)
	if err == nil || err.Error() != "player: exit status 3: two; three; four" {
		t.Errorf("the program has ended with %v", err)
	}
}

func TestRoom_LeavesNothing(t *testing.T) {
	r := furnished(t)
	p, err := r.start("player", playWait)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	<-p.done
	if _, err := os.Stat(r.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the room is left: %v", err)
	}
	r.running, r.handle = nil, nil
}

// TestSweep: what a killed server left is ended, and nothing else.
func TestSweep(t *testing.T) {
	scratch, elsewhere := t.TempDir(), t.TempDir()
	start := func(dir string) *exec.Cmd {
		path := filepath.Join(dir, "player")
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(self(f), f.Close()); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(path, playWait)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	ours, theirs := start(scratch), start(elsewhere)
	// A drill removes its programs, and they run on without a name.
	if err := os.Remove(ours.Path); err != nil {
		t.Fatal(err)
	}
	ended, err := Sweep(scratch)
	if err != nil || ended != 1 {
		t.Errorf("ended %d processes: %v", ended, err)
	}
	if err := ours.Wait(); err == nil {
		t.Error("what was left ended by itself")
	}
	if err := theirs.Process.Kill(); err != nil {
		t.Errorf("a process of somebody else was ended: %v", err)
	}
	_ = theirs.Wait() // It was killed.
	if ended, err := Sweep(filepath.Join(scratch, "missing")); err != nil || ended != 0 {
		t.Errorf("where nothing is, %d processes were ended: %v", ended, err)
	}
}
