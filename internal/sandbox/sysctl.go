package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// inotifyInstances is enough for every container runtime and kubelet of a few dozen hosts, which share one root
// user and so one limit.
const inotifyInstances = 8192

// sharedSysctls are the kernel settings that hosts share with the machine and that Kubernetes nodes change.
func sharedSysctls() []string {
	return []string{
		"fs/inotify/max_user_instances", "fs/inotify/max_user_watches", "kernel/keys/root_maxbytes",
		"kernel/keys/root_maxkeys", "kernel/panic", "kernel/panic_on_oops", "vm/max_map_count",
		"vm/overcommit_memory", "vm/panic_on_oom",
	}
}

// saveSysctls reads the settings as they are under root, which is /proc/sys outside of tests.
func saveSysctls(root string) (map[string]string, error) {
	saved := map[string]string{}
	for _, name := range sharedSysctls() {
		data, err := os.ReadFile(filepath.Join(root, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read sysctl %s: %w", name, err)
		}
		saved[name] = strings.TrimSpace(string(data))
	}
	return saved, nil
}

// raiseInotify lifts the one limit that several hosts on a machine reach at once.
func raiseInotify(root string) error {
	path := filepath.Join(root, "fs/inotify/max_user_instances")
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("cannot read the inotify limit: %w", err)
	}
	have, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return fmt.Errorf("cannot read the inotify limit: %w", err)
	}
	if have >= inotifyInstances {
		return nil
	}
	if err := os.WriteFile(path, []byte(strconv.Itoa(inotifyInstances)), 0o644); err != nil {
		return fmt.Errorf("cannot raise the inotify limit: %w", err)
	}
	return nil
}

// restoreSysctls puts back what differs from what was saved.
func restoreSysctls(root string, saved map[string]string) error {
	now, err := saveSysctls(root)
	if err != nil {
		return err
	}
	var problems []error
	for name, value := range saved {
		if !slices.Contains(sharedSysctls(), name) || now[name] == value {
			continue
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(value), 0o644); err != nil {
			problems = append(problems, fmt.Errorf("cannot put back sysctl %s: %w", name, err))
		}
	}
	return errors.Join(problems...)
}
