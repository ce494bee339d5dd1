package sandbox

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	stateFile = "sandbox.json"
	lockFile  = "lock"
	keyFile   = "id_ed25519"
	usersFile = "users.json"
	usersLock = "users.lock"
	hostsDir  = "hosts"
	// firstAddress leaves .1 to the machine and a few more to be given by hand.
	firstAddress = 11
	lockRetry    = 100 * time.Millisecond
)

// state is what cannot be derived from the directory's path. It is written before anything it names is made.
type state struct {
	Subnet netip.Prefix `json:"subnet"`
	Hosts  []hostState  `json:"hosts"`
	// Sysctls holds the machine's settings from before the first host, for Down to put back.
	Sysctls map[string]string `json:"sysctls,omitempty"`
}

type hostState struct {
	Name      string     `json:"name"`
	Address   netip.Addr `json:"address"`
	MachineID string     `json:"machineID"`
	Disk      int64      `json:"disk"`
	Memory    int64      `json:"memory"`
}

// hostDir is where one host's disk image, keys and console log are.
func (i identity) hostDir(host string) string { return filepath.Join(i.dir, hostsDir, host) }

// readState gives an empty state when there is none.
func readState(dir string) (*state, error) {
	data, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return &state{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read sandbox state: %w", err)
	}
	var s state
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("cannot read sandbox state %s (remove the sandbox with `slipway sandbox down`): %w",
			filepath.Join(dir, stateFile), err)
	}
	return &s, nil
}

// write replaces the state in one step.
func (s *state) write(dir string) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot encode sandbox state: %w", err)
	}
	if err := writeFile(filepath.Join(dir, stateFile), append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("cannot write sandbox state: %w", err)
	}
	return nil
}

// host finds a host by name.
func (s *state) host(name string) (hostState, error) {
	for _, h := range s.Hosts {
		if h.Name == name {
			return h, nil
		}
	}
	return hostState{}, fmt.Errorf("cannot find sandbox host %q: `slipway sandbox list` shows those there are", name)
}

// add gives a new host the lowest free address.
func (s *state) add(name string, disk, memory int64) (hostState, error) {
	used := map[netip.Addr]bool{}
	for _, h := range s.Hosts {
		used[h.Address] = true
	}
	for n := firstAddress; n < 255; n++ {
		address := addressIn(s.Subnet, n)
		if used[address] {
			continue
		}
		id := make([]byte, 16)
		if _, err := rand.Read(id); err != nil {
			return hostState{}, fmt.Errorf("cannot make a machine id: %w", err)
		}
		h := hostState{Name: name, Address: address, MachineID: hex.EncodeToString(id), Disk: disk, Memory: memory}
		s.Hosts = append(s.Hosts, h)
		return h, nil
	}
	return hostState{}, fmt.Errorf("cannot give host %s an address: %s is full", name, s.Subnet)
}

// writeFile writes beside the target and renames, so that a reader never sees half a file.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), ".tmp-"+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	_, err = temporary.Write(data)
	if err == nil {
		err = temporary.Chmod(mode)
	}
	if err == nil {
		err = temporary.Sync()
	}
	if closeErr := temporary.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return errors.Join(err, removeIfThere(temporary.Name()))
	}
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// lock waits until no other command works on the file's sandbox and gives the function that lets go. The kernel
// lets go by itself when the process dies.
//
// A shared lock keeps out exclusive ones only.
func lock(ctx context.Context, path string, shared bool) (func() error, error) {
	ticker := time.NewTicker(lockRetry)
	defer ticker.Stop()
	for {
		file, err := tryLock(path, shared)
		if err != nil {
			return nil, fmt.Errorf("cannot lock %s: %w", path, err)
		}
		if file != nil {
			return file.Close, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("cannot lock %s, another command holds it: %w", path, context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

// tryLock gives nil without an error when someone else has the lock.
func tryLock(path string, shared bool) (*os.File, error) {
	how := syscall.LOCK_EX
	if shared {
		how = syscall.LOCK_SH
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), how|syscall.LOCK_NB); err != nil {
		closeErr := file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, closeErr
		}
		return nil, errors.Join(err, closeErr)
	}
	// Down removes the lock file while it holds the lock: then what was locked here is no longer the lock.
	held, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	current, err := os.Stat(path)
	if err != nil || !os.SameFile(held, current) {
		return nil, file.Close()
	}
	return file, nil
}
