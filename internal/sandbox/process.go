package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// signalReboot is SIGRTMIN+5, which asks systemd for a clean reboot.
	signalReboot = syscall.Signal(39)
	goneLimit    = 30 * time.Second
	emptyLooks   = 5
)

// process is one process that belongs to a sandbox host, on the machine's side.
type process struct {
	pid     int
	machine string
	nspawn  bool
}

// processes finds the launchers and containers whose machine name starts with the prefix. The command line is
// the record: a file with a process number would be wrong after a crash.
func processes(prefix string) ([]process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("cannot list processes: %w", err)
	}
	var found []process
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		data, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline"))
		if err != nil {
			continue // It ended meanwhile.
		}
		if p, ok := parseCommandLine(pid, data); ok && strings.HasPrefix(p.machine, prefix) {
			found = append(found, p)
		}
	}
	return found, nil
}

// parseCommandLine recognises what launch starts: unshare, which becomes sh, which runs systemd-nspawn.
func parseCommandLine(pid int, data []byte) (process, bool) {
	argv := strings.Split(string(bytes.TrimRight(data, "\x00")), "\x00")
	program := filepath.Base(argv[0])
	if program != "unshare" && program != "sh" && program != "systemd-nspawn" {
		return process{}, false
	}
	for _, argument := range argv[1:] {
		if machine, ok := strings.CutPrefix(argument, "--machine="); ok {
			return process{pid: pid, machine: machine, nspawn: program == "systemd-nspawn"}, true
		}
	}
	return process{}, false
}

// ofHost finds the processes of exactly one host.
func ofHost(id identity, host string) ([]process, error) {
	all, err := processes(id.machine(host))
	return slices.DeleteFunc(all, func(p process) bool { return p.machine != id.machine(host) }), err
}

// isRunning says whether a host has processes. A process that is just being replaced by another program shows no
// command line for an instant, so only several looks in a row say that there is none.
func isRunning(ctx context.Context, id identity, host string) (bool, error) {
	var running bool
	looks := 0
	err := waitUntil(ctx, goneLimit, func() (bool, error) {
		found, err := ofHost(id, host)
		running = len(found) > 0
		looks++
		return running || looks == emptyLooks, err
	})
	return running, err
}

// container gives the nspawn process of a host and the first process inside; zero while there is none.
func container(id identity, host string) (nspawn, leader int, err error) {
	found, err := ofHost(id, host)
	if err != nil {
		return 0, 0, err
	}
	for _, p := range found {
		if !p.nspawn {
			continue
		}
		children, err := childrenOf(p.pid)
		if err != nil {
			return 0, 0, err
		}
		for _, child := range children {
			// While nspawn sets up, its child is still nspawn.
			if !slices.ContainsFunc(found, func(other process) bool { return other.pid == child }) {
				return p.pid, child, nil
			}
		}
	}
	return 0, 0, nil
}

func childrenOf(pid int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("cannot list processes: %w", err)
	}
	var children []int
	for _, entry := range entries {
		child, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if parent, ok := parentOf(child); ok && parent == pid {
			children = append(children, child)
		}
	}
	return children, nil
}

// parentOf reads the fourth field of stat; the second, the name in brackets, may hold anything.
func parentOf(pid int) (int, bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 2 {
		return 0, false
	}
	parent, err := strconv.Atoi(fields[1])
	return parent, err == nil
}

// signal ignores a process that is already gone.
func signal(pid int, sig syscall.Signal) error {
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("cannot signal process %d: %w", pid, err)
	}
	return nil
}

// killAll ends every process of one host, or of all hosts when the name is empty, the hard way. Launchers go
// first, so that none starts its container again. What ran inside a container outlives its nspawn, so it is found
// by its cgroup.
func killAll(ctx context.Context, id identity, host string) error {
	empty := 0
	return waitUntil(ctx, goneLimit, func() (bool, error) {
		victims, err := allProcesses(id, host)
		if err != nil {
			return false, err
		}
		for _, pid := range victims {
			if err := signal(pid, syscall.SIGKILL); err != nil {
				return false, err
			}
		}
		if empty++; len(victims) > 0 {
			empty = 0
		}
		return empty == emptyLooks, nil
	})
}

// allProcesses lists launchers, then nspawn processes, then what their cgroups hold.
func allProcesses(id identity, host string) ([]int, error) {
	found, err := processes(id.machine(host))
	if err != nil {
		return nil, err
	}
	if host != "" {
		found = slices.DeleteFunc(found, func(p process) bool { return p.machine != id.machine(host) })
	}
	var launchers, containers []int
	for _, p := range found {
		if p.nspawn {
			containers = append(containers, p.pid)
		} else {
			launchers = append(launchers, p.pid)
		}
	}
	members, err := cgroupMembers(id, host)
	return slices.Concat(launchers, containers, members), err
}

// waitReleased waits until no loop device uses a file under the folder any more: mounting an image that is still
// mounted elsewhere would destroy it.
func waitReleased(ctx context.Context, folder string) error {
	err := waitUntil(ctx, goneLimit, func() (bool, error) {
		busy, err := loopUses(folder)
		return !busy, err
	})
	if err != nil {
		return fmt.Errorf("cannot wait for the loop devices of %s to be released: %w", folder, err)
	}
	return nil
}

func loopUses(folder string) (bool, error) {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return false, err
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENXIO) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("cannot read %s: %w", file, err)
		}
		if strings.HasPrefix(string(data), folder+"/") {
			return true, nil
		}
	}
	return false, nil
}
