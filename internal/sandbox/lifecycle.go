package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	stopLimit   = time.Minute
	rebootLimit = 2 * time.Minute
)

// withHost runs work on one host while nobody else works on it and nobody makes or removes the sandbox.
func withHost(ctx context.Context, dir, host string, work func(identity, *state, hostState) error) error {
	if os.Geteuid() != 0 {
		return errors.New("cannot work on sandbox hosts without root: run the command as root or with sudo")
	}
	id, err := identify(dir)
	if err != nil {
		return err
	}
	if !exists(id.dir) {
		return fmt.Errorf("cannot find a sandbox in %s: make one with `slipway sandbox up`", id.dir)
	}
	unlock, err := lock(ctx, filepath.Join(id.dir, lockFile), true)
	if err != nil {
		return err
	}
	s, err := readState(id.dir)
	if err != nil {
		return errors.Join(err, unlock())
	}
	h, err := s.host(host)
	if err != nil {
		return errors.Join(err, unlock())
	}
	unlockHost, err := lock(ctx, filepath.Join(id.hostDir(host), lockFile), false)
	if err != nil {
		return errors.Join(err, unlock())
	}
	return errors.Join(work(id, s, h), unlockHost(), unlock())
}

// Start boots a stopped host and waits until it answers a login by SSH. A running host is only waited for.
func Start(ctx context.Context, dir, name string) error {
	return withHost(ctx, dir, name, func(id identity, s *state, h hostState) error {
		running, err := isRunning(ctx, id, name)
		if err != nil {
			return err
		}
		if !running {
			if !exists(filepath.Join(id.hostDir(name), imageFile)) {
				return fmt.Errorf("cannot start host %s: it was never finished, run `slipway sandbox up` again", name)
			}
			if err := ensureBridge(ctx, id, s.Subnet); err != nil {
				return err
			}
			if err := launch(ctx, id, h); err != nil {
				return err
			}
		}
		return waitReady(ctx, id, h)
	})
}

// Stop shuts a host down cleanly and waits until it is off; after a minute it is killed. A stopped host stays so.
func Stop(ctx context.Context, dir, name string) error {
	return withHost(ctx, dir, name, func(id identity, _ *state, _ hostState) error {
		asked := 0
		err := waitUntil(ctx, stopLimit, func() (bool, error) {
			nspawn, _, err := container(id, name)
			if err != nil {
				return false, err
			}
			if nspawn != 0 && nspawn != asked {
				asked = nspawn
				if err := signal(nspawn, syscall.SIGTERM); err != nil {
					return false, err
				}
			}
			running, err := isRunning(ctx, id, name)
			return !running, err
		})
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("cannot stop host %s: %w", name, err)
		}
		return powerOff(ctx, id, name)
	})
}

// Kill ends a host as a power loss does, without any notice to what runs in it, and waits until it is off. What a
// host wrote without fsync is kept all the same, because the machine's page cache lives on.
func Kill(ctx context.Context, dir, name string) error {
	return withHost(ctx, dir, name, func(id identity, _ *state, _ hostState) error {
		return powerOff(ctx, id, name)
	})
}

// powerOff makes sure that nothing of a host runs, its disk is free and its network port gone: dying connections of
// the host's pods can hold a port for minutes, and a host with the same name could not start beside it.
func powerOff(ctx context.Context, id identity, name string) error {
	if err := killAll(ctx, id, name); err != nil {
		return fmt.Errorf("cannot kill host %s: %w", name, err)
	}
	if err := waitReleased(ctx, id.hostDir(name)); err != nil {
		return err
	}
	if err := removePort(ctx, id.port(name)); err != nil {
		return err
	}
	return removeCgroups(ctx, id, name)
}

// Reboot reboots a running host cleanly and waits until it answers a login by SSH again.
func Reboot(ctx context.Context, dir, name string) error {
	return withHost(ctx, dir, name, func(id identity, _ *state, h hostState) error {
		_, before, err := container(id, name)
		if err != nil {
			return err
		}
		if before == 0 {
			return fmt.Errorf("cannot reboot host %s: it does not run, start it with `slipway sandbox start %s`", name, name)
		}
		if err := signal(before, signalReboot); err != nil {
			return err
		}
		err = waitUntil(ctx, rebootLimit, func() (bool, error) {
			_, now, err := container(id, name)
			if err != nil {
				return false, err
			}
			running, err := isRunning(ctx, id, name)
			if err == nil && !running {
				err = fmt.Errorf("its container ended%s", consoleTail(id, name))
			}
			return now != 0 && now != before, err
		})
		if err != nil {
			return fmt.Errorf("cannot reboot host %s: %w", name, err)
		}
		return waitReady(ctx, id, h)
	})
}
