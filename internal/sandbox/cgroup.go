package sandbox

import (
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

// cgroupMode is how this machine arranges cgroups, which decides how a host is started.
type cgroupMode string

const (
	// cgroupV1 is a machine with v1 controllers, hybrid or not: a subtree in each hierarchy is made by hand.
	cgroupV1 cgroupMode = "v1"
	// cgroupV2 is a machine with the one v2 hierarchy and no systemd: a subtree is made by hand.
	cgroupV2 cgroupMode = "v2"
	// cgroupSystemd is v2 with systemd, which owns the tree: it runs each host as a service with delegation.
	cgroupSystemd cgroupMode = "systemd"
)

// unitSlice is where systemd puts the services of hosts.
const unitSlice = "machine.slice"

// hierarchy is one mounted cgroup file system.
type hierarchy struct {
	path string
	v2   bool
}

// hierarchies reads a mountinfo file; only what is mounted whole under /sys/fs/cgroup counts.
func hierarchies(mountinfo string) []hierarchy {
	var found []hierarchy
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(kind) == 0 || (kind[0] != "cgroup" && kind[0] != "cgroup2") {
			continue
		}
		path := fields[4]
		known := slices.ContainsFunc(found, func(h hierarchy) bool { return h.path == path })
		if !known && (path == "/sys/fs/cgroup" || strings.HasPrefix(path, "/sys/fs/cgroup/")) {
			found = append(found, hierarchy{path: path, v2: kind[0] == "cgroup2"})
		}
	}
	return found
}

// detectCgroups says how this machine arranges cgroups and where.
func detectCgroups() (cgroupMode, []hierarchy, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", nil, fmt.Errorf("cannot read the machine's mounts: %w", err)
	}
	found := hierarchies(string(data))
	if len(found) == 0 {
		return "", nil, errors.New("cannot make sandbox hosts: no cgroup file system is mounted under /sys/fs/cgroup")
	}
	if !slices.ContainsFunc(found, func(h hierarchy) bool { return !h.v2 }) {
		if _, err := os.Stat("/run/systemd/system"); err == nil {
			return cgroupSystemd, found, nil
		}
		return cgroupV2, found, nil
	}
	return cgroupV1, found, nil
}

// makeCgroups makes a host's subtree in each hierarchy, sets the memory limit and gives the folders.
func makeCgroups(id identity, host string, memory int64, mode cgroupMode, found []hierarchy) ([]string, error) {
	if mode == cgroupSystemd {
		return nil, nil
	}
	var folders []string
	for _, h := range found {
		parent := filepath.Join(h.path, id.cgroup())
		folder := filepath.Join(parent, host)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, fmt.Errorf("cannot make a cgroup for host %s: %w", host, err)
		}
		var err error
		if mode == cgroupV2 {
			err = errors.Join(delegate(h.path), delegate(parent), setCgroup(folder, "memory.max", strconv.FormatInt(memory, 10)))
		} else {
			err = prepareV1(h.path, parent, folder, memory)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot set up the cgroup of host %s: %w", host, err)
		}
		folders = append(folders, folder)
	}
	return folders, nil
}

// prepareV1 does what each controller needs before a process can join.
func prepareV1(root, parent, folder string, memory int64) error {
	if exists(filepath.Join(root, "cpuset.cpus")) {
		for _, child := range []string{parent, folder} {
			for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
				value, err := os.ReadFile(filepath.Join(root, name))
				if err != nil {
					return err
				}
				if err := setCgroup(child, name, strings.TrimSpace(string(value))); err != nil {
					return err
				}
			}
			if err := setCgroup(child, "cgroup.clone_children", "1"); err != nil {
				return err
			}
		}
	}
	if exists(filepath.Join(folder, "memory.limit_in_bytes")) {
		return setCgroup(folder, "memory.limit_in_bytes", strconv.FormatInt(memory, 10))
	}
	return nil
}

// delegate turns every controller that a v2 folder has on for its children.
func delegate(folder string) error {
	have, err := os.ReadFile(filepath.Join(folder, "cgroup.controllers"))
	if err != nil {
		return err
	}
	on, err := os.ReadFile(filepath.Join(folder, "cgroup.subtree_control"))
	if err != nil {
		return err
	}
	for _, controller := range strings.Fields(string(have)) {
		if slices.Contains(strings.Fields(string(on)), controller) {
			continue
		}
		if err := setCgroup(folder, "cgroup.subtree_control", "+"+controller); err != nil {
			return err
		}
	}
	return nil
}

func setCgroup(folder, name, value string) error {
	return os.WriteFile(filepath.Join(folder, name), []byte(value), 0o644)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// removeCgroups removes the sandbox's subtree, or one host's part of it, from every hierarchy.
func removeCgroups(ctx context.Context, id identity, host string) error {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("cannot read the machine's mounts: %w", err)
	}
	for _, h := range hierarchies(string(data)) {
		folder := filepath.Join(h.path, id.cgroup(), host)
		// A cgroup stays busy for a moment after its last process is gone.
		var last error
		err := waitUntil(ctx, 10*time.Second, func() (bool, error) {
			last = removeTree(folder)
			return last == nil, nil
		})
		if err != nil {
			return fmt.Errorf("cannot remove cgroup %s: %w", folder, errors.Join(err, last))
		}
	}
	return nil
}

// cgroupMembers lists the processes in the cgroups of one host, or of all hosts when the name is empty.
func cgroupMembers(id identity, host string) ([]int, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("cannot read the machine's mounts: %w", err)
	}
	pattern := host
	if host == "" {
		pattern = "*"
	}
	var folders []string
	for _, h := range hierarchies(string(data)) {
		units, err := filepath.Glob(filepath.Join(h.path, unitSlice, id.unit(pattern)))
		if err != nil {
			return nil, err
		}
		folders = append(append(folders, units...), filepath.Join(h.path, id.cgroup(), host))
	}
	var members []int
	for _, folder := range folders {
		if members, err = appendMembers(members, folder); err != nil {
			return nil, err
		}
	}
	slices.Sort(members)
	return slices.Compact(members), nil
}

// appendMembers adds the processes of a cgroup folder and of all below it. Folders may go while it reads.
func appendMembers(members []int, folder string) ([]int, error) {
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return ignoreGone(err)
		}
		data, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		if err != nil {
			return ignoreGone(err)
		}
		for _, field := range strings.Fields(string(data)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return fmt.Errorf("cannot read the processes of cgroup %s: %w", path, err)
			}
			// Zero is a process of another PID name space, which the kernel lists so.
			if pid > 0 {
				members = append(members, pid)
			}
		}
		return nil
	})
	return members, err
}

// ignoreGone lets a cgroup vanish while it is read; a threaded one lists no processes.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.EOPNOTSUPP) {
		return nil
	}
	return err
}

// removeTree removes folders from the leaves up; the files in a cgroup folder go with it.
func removeTree(folder string) error {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeTree(filepath.Join(folder, entry.Name())); err != nil {
				return err
			}
		}
	}
	return removeIfThere(folder)
}
