package drill

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Sweep ends every process whose program lies below dir: what a server that was killed may have left. It gives how many
// there were.
func Sweep(dir string) (int, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return 0, fmt.Errorf("cannot look for what a drill has left: %w", err)
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	} else if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, fmt.Errorf("cannot look for what a drill has left: %w", err)
	}
	ended := 0
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		killed, err := end(pid, dir)
		if err != nil {
			return ended, fmt.Errorf("cannot end process %d, which a drill has left: %w", pid, err)
		}
		if killed {
			ended++
		}
	}
	return ended, nil
}

// goneAfter bounds the wait for a process that was killed, in milliseconds.
const goneAfter = 10_000

// end kills a process whose program lies below dir, and waits until it has gone.
func end(pid int, dir string) (bool, error) {
	// The handle is taken first: what is looked at is what is killed, whoever has the number later.
	handle, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false, nil // It has gone, or is a thread: nothing of ours.
	}
	defer unix.Close(handle)
	program, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "exe"))
	if err != nil || !strings.HasPrefix(program, dir+"/") {
		return false, nil // It has gone, or is none of ours to see.
	}
	if err := unix.PidfdSendSignal(handle, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return false, err
	}
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(handle), Events: unix.POLLIN}}, goneAfter); err != nil || n == 0 {
		return false, errors.Join(err, errors.New("it was killed and has not gone"))
	}
	return true, nil
}
