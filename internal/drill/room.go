package drill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"slipway.dev/slipway/internal/fault"
)

// Users that no system gives to anybody: systemd keeps these numbers free. A program of a drill can then neither touch
// what others own nor be touched by them.
const firstUser, users = 1_879_048_192, 1_000_000

// room is a directory in which the programs of one drill run, and all that they see where the server runs as root.
type room struct {
	dir string
	// handle gives the directory a short name for sockets, which Linux limits.
	handle *os.File
	// user runs the programs inside the room; 0 means the server's own, who sees everything that it may.
	user int
	// running holds what must be ended.
	running []*process
}

// newRoom makes one below parent, which must be for the server's eyes alone.
func newRoom(parent string) (_ *room, err error) {
	dir, err := os.MkdirTemp(parent, "drill-")
	if err != nil {
		return nil, err
	}
	r := &room{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	if os.Geteuid() == 0 {
		user := firstUser + rand.IntN(users)
		switch err := os.Chown(dir, user, user); {
		case err == nil:
			r.user = user
		case !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.EPERM):
			return nil, err
			// A container may not know that user: its root is confined already.
		}
	}
	r.handle, err = os.Open(dir)
	return r, err
}

// close ends what runs, the newest first, and removes everything.
func (r *room) close() error {
	var problems []error
	for i := len(r.running) - 1; i >= 0; i-- {
		problems = append(problems, r.running[i].end())
	}
	if r.handle != nil {
		problems = append(problems, r.handle.Close())
	}
	return errors.Join(append(problems, os.RemoveAll(r.dir))...)
}

// inside gives the path of a file as the programs see it.
func (r *room) inside(name string) string {
	if r.user != 0 {
		return "/" + name
	}
	return filepath.Join(r.dir, name)
}

// outside gives the path of a file as the server sees it.
func (r *room) outside(name string) string { return filepath.Join(r.dir, name) }

// socket gives the URL of a socket as the server dials it.
func (r *room) socket(name string) string {
	return fmt.Sprintf("unix:///proc/self/fd/%d/%s", r.handle.Fd(), name)
}

// write puts a file there that the programs can read.
func (r *room) write(name string, content []byte) error {
	if err := os.WriteFile(r.outside(name), content, 0o400); err != nil {
		return err
	}
	return r.own(name)
}

func (r *room) own(name string) error {
	if r.user == 0 {
		return nil
	}
	return os.Chown(r.outside(name), r.user, r.user)
}

// program puts a program there. It stays the server's own: what runs must not change it.
func (r *room) program(name string, fill func(io.Writer) error) (err error) {
	f, err := os.OpenFile(r.outside(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return fill(f)
}

// process is a program that runs.
type process struct {
	name string
	said tail
	kill func() error
	// done is closed when it has ended, and err then says how.
	done chan struct{}
	err  error
}

// start starts a program of the room. It ends with the server, however that ends.
func (r *room) start(name string, arguments ...string) (*process, error) {
	p := &process{name: name, done: make(chan struct{})}
	cmd := exec.Command(r.inside(name), arguments...)
	cmd.Env, cmd.Stdout, cmd.Stderr = []string{}, &p.said, &p.said
	cmd.Dir = r.inside("")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if r.user != 0 {
		cmd.SysProcAttr.Chroot = r.dir
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(r.user), Gid: uint32(r.user)}
	}
	started := make(chan error, 1)
	go func() {
		// The signal at the parent's death is sent when its thread ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fault.NewTerminal("CannotRun", "a server that runs as root needs CAP_SYS_CHROOT, CAP_SETUID and CAP_SETGID for this; the file system of its data directory must not be mounted noexec",
			fmt.Errorf("cannot run %s: %w", name, err))
	}
	p.kill = cmd.Process.Kill
	r.running = append(r.running, p)
	return p, nil
}

// run runs a program to its end.
func (r *room) run(ctx context.Context, name string, arguments ...string) error {
	p, err := r.start(name, arguments...)
	if err != nil {
		return err
	}
	select {
	case <-p.done:
		if p.err != nil {
			return p.ended()
		}
		return nil
	case <-ctx.Done():
		return errors.Join(ctx.Err(), p.end())
	}
}

// end kills the program: nothing that it would still write is needed.
func (p *process) end() error {
	err := p.kill()
	<-p.done
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("cannot end %s: %w", p.name, err)
	}
	return nil
}

// ended says how a program has ended by itself, and what it said last.
func (p *process) ended() error {
	how := "it ended"
	if p.err != nil {
		how = p.err.Error()
	}
	return fmt.Errorf("%s: %s: %s", p.name, how, p.said.last())
}

// tail is an io.Writer that remembers the end of what a program says.
type tail struct {
	mu  sync.Mutex
	end []byte
}

const maxTail = 1200

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = append(t.end, b...)
	if over := len(t.end) - maxTail; over > 0 {
		t.end = append(t.end[:0], t.end[over:]...)
	}
	return len(b), nil
}

// last gives the last three lines in one.
func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(string(bytes.ToValidUTF8(bytes.TrimSpace(t.end), nil)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], "; ")
}
