package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// nspawnRunDir is where systemd-nspawn keeps a folder for each container and locks; one that was killed leaves them.
const nspawnRunDir = "/run/systemd/nspawn"

// Down removes every trace of the sandbox: processes, bridge, packet filter rules, cgroups, loop devices, files;
// kernel settings that hosts share with the machine get the values they had before the first host. It works on a
// sandbox that was left half-made, and does nothing where there is none. The cached base root file system stays.
// A step that fails does not keep the others from being done. It needs root.
func Down(ctx context.Context, dir string, progress func(string)) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("cannot remove sandbox hosts without root: run the command as root or with sudo")
	}
	id, err := identify(dir)
	if err != nil {
		return err
	}
	if progress == nil {
		progress = func(string) {}
	}
	if exists(id.dir) {
		unlock, err := lock(ctx, filepath.Join(id.dir, lockFile), false)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, unlock()) }()
	}
	progress("stopping hosts")
	if err := killAll(ctx, id, ""); err != nil {
		return fmt.Errorf("cannot stop the sandbox hosts: %w", err)
	}
	if err := waitReleased(ctx, id.dir); err != nil {
		return err
	}
	progress("removing bridge, cgroups and files")
	return errors.Join(
		removeCgroups(ctx, id, ""),
		removeBridge(ctx, id),
		removeRunFiles(id.machine("")),
		putBackSysctls(id.dir, progress),
		removeFiles(id.dir),
	)
}

// putBackSysctls does without a state that cannot be read: then the values from before are not known.
func putBackSysctls(dir string, progress func(string)) error {
	s, err := readState(dir)
	if err != nil {
		progress("kernel settings stay as they are: " + err.Error())
		return nil
	}
	return restoreSysctls(procSys, s.Sysctls)
}

// removeRunFiles removes what killed containers leave under /run.
func removeRunFiles(machinePrefix string) error {
	folders, err := filepath.Glob(filepath.Join(nspawnRunDir, "*", machinePrefix+"*"))
	if err != nil {
		return err
	}
	for _, folder := range folders {
		if err := os.Remove(folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot remove %s: %w", folder, err)
		}
	}
	locks, err := filepath.Glob(filepath.Join(nspawnRunDir, "locks", "inode-*"))
	if err != nil {
		return err
	}
	for _, path := range locks {
		if err := removeStaleLock(path); err != nil {
			return err
		}
	}
	return nil
}

// removeStaleLock removes a lock file that no process holds, in the way its users expect: while holding it.
func removeStaleLock(path string) error {
	held, err := tryLock(path, false)
	if err != nil {
		return fmt.Errorf("cannot try lock %s: %w", path, err)
	}
	if held == nil {
		return nil
	}
	return errors.Join(removeIfThere(path), held.Close())
}

// removeFiles removes what this package made in the directory, and the directory if nothing else is in it. The
// state goes late and the lock last, so that Down can be cut off and run again.
func removeFiles(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read the sandbox directory: %w", err)
	}
	names := []string{hostsDir, usersFile, usersLock, keyFile}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".tmp-") {
			names = append(names, entry.Name())
		}
	}
	for _, name := range append(names, stateFile, lockFile) {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("cannot remove %s: %w", name, err)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("cannot read the sandbox directory: %w", err)
	}
	if len(left) > 0 {
		return nil
	}
	if err := os.Remove(dir); err != nil {
		return fmt.Errorf("cannot remove the sandbox directory: %w", err)
	}
	return nil
}
