package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	procSys = "/proc/sys"
	// hostsAtOnce bounds how many hosts are made and booted at the same time.
	hostsAtOnce = 8
)

// Up makes the sandbox what the options say and waits until every host answers a login by SSH: it adds hosts that
// are missing and starts those that are stopped; running hosts stay as they are. It gives the hosts the options
// name, in order. It may be killed at any time and run again. It needs root.
func Up(ctx context.Context, options Options) ([]Host, error) {
	o, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("cannot make sandbox hosts: %w", err)
	}
	if err := checkMachine(); err != nil {
		return nil, err
	}
	id, err := identify(o.Dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(id.dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the sandbox directory: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(id.dir, lockFile), false)
	if err != nil {
		return nil, err
	}
	hosts, err := up(ctx, id, o)
	return hosts, errors.Join(err, unlock())
}

func up(ctx context.Context, id identity, o Options) ([]Host, error) {
	s, wanted, err := planHosts(ctx, id, o)
	if err != nil {
		return nil, err
	}
	if _, err := loginKey(id.dir); err != nil {
		return nil, err
	}
	passwords, err := ensurePasswords(ctx, id.dir, o.Users)
	if err != nil {
		return nil, err
	}
	if err := raiseInotify(procSys); err != nil {
		return nil, err
	}
	if err := ensureBridge(ctx, id, s.Subnet); err != nil {
		return nil, err
	}
	var base string
	for _, h := range wanted {
		if base == "" && !exists(filepath.Join(id.hostDir(h.Name), imageFile)) {
			if base, err = baseImage(ctx, o); err != nil {
				return nil, err
			}
		}
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(hostsAtOnce)
	for _, h := range wanted {
		group.Go(func() error { return raise(groupCtx, id, s, h, base, o, passwords) })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return describe(id, wanted)
}

// planHosts writes down which hosts there shall be before any of them is made.
func planHosts(ctx context.Context, id identity, o Options) (*state, []hostState, error) {
	s, err := readState(id.dir)
	if err != nil {
		return nil, nil, err
	}
	if !s.Subnet.IsValid() {
		taken, err := takenNetworks(ctx)
		if err != nil {
			return nil, nil, err
		}
		if s.Subnet, err = id.chooseSubnet(taken); err != nil {
			return nil, nil, err
		}
	}
	if s.Sysctls == nil {
		if s.Sysctls, err = saveSysctls(procSys); err != nil {
			return nil, nil, err
		}
	}
	var wanted []hostState
	for number := 1; number <= o.Hosts; number++ {
		name := hostName(o.Prefix, number)
		h, err := s.host(name)
		if err != nil {
			if h, err = s.add(name, o.Disk, o.Memory); err != nil {
				return nil, nil, err
			}
		}
		wanted = append(wanted, h)
	}
	return s, wanted, s.write(id.dir)
}

// raise brings one host from whatever it is to running.
func raise(ctx context.Context, id identity, s *state, h hostState, base string, o Options, passwords map[string]string) error {
	started := time.Now()
	running, err := isRunning(ctx, id, h.Name)
	if err != nil {
		return err
	}
	if !running {
		if err := makeDisk(ctx, id, s, h, base); err != nil {
			return fmt.Errorf("cannot make the disk of host %s: %w", h.Name, err)
		}
		o.Progress("starting host " + h.Name)
		if err := launch(ctx, id, h); err != nil {
			return err
		}
	}
	if err := waitReady(ctx, id, h); err != nil {
		return err
	}
	for _, user := range o.Users {
		if err := addUser(ctx, id, h, user, passwords[user.Name]); err != nil {
			return err
		}
	}
	if running {
		o.Progress(fmt.Sprintf("host %s runs already at %s", h.Name, h.Address))
	} else {
		o.Progress(fmt.Sprintf("host %s answers at %s after %s", h.Name, h.Address, time.Since(started).Round(100*time.Millisecond)))
	}
	return nil
}

// List gives every host of the sandbox, also those that are stopped; none when there is no sandbox.
func List(dir string) ([]Host, error) {
	id, err := identify(dir)
	if err != nil {
		return nil, err
	}
	s, err := readState(id.dir)
	if err != nil {
		return nil, err
	}
	return describe(id, s.Hosts)
}

func describe(id identity, states []hostState) ([]Host, error) {
	hosts := make([]Host, 0, len(states))
	for _, h := range states {
		running, err := ofHost(id, h.Name)
		if err != nil {
			return nil, err
		}
		key, err := hostKeyOf(id, h.Name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		hosts = append(hosts, Host{
			Name: h.Name, Address: h.Address.String(), Port: sshPort, User: loginUser, HostKey: key,
			KeyFile: filepath.Join(id.dir, keyFile), Disk: h.Disk, Memory: h.Memory, Running: len(running) > 0,
		})
	}
	return hosts, nil
}

// hostKeyOf reads a host's public key without making one.
func hostKeyOf(id identity, host string) (string, error) {
	path := filepath.Join(id.hostDir(host), hostKeyFile)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("cannot read the key of host %s: %w", host, err)
	}
	pair, err := ensureKey(path, host)
	return pair.public, err
}
