package sandbox

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// launchScript runs a host until it is shut down, in a mount name space of its own: when the last process is
// gone the kernel takes away the mount and the loop device, however the host ended. nspawn ends with 133 when the
// host wants to reboot. Arguments: image, mount point, cgroup mode, number of cgroup folders, the folders, and
// what systemd-nspawn gets.
//
// Direct I/O keeps each block out of the machine's page cache a second time: bulk writes are twice as fast with it.
//
// A v2 folder that hands controllers to its children must hold no process itself, so the launcher and the
// container each get a child folder. Cgroups of the last boot are removed, as on a machine that reboots.
const launchScript = `set -eu
image=$1 root=$2 mode=$3 count=$4
shift 4
groups=
while [ "$count" -gt 0 ]; do
	groups="$groups $1"
	shift
	count=$((count - 1))
done
if [ "$mode" = systemd ]; then
	own=$(sed -n s/^0:://p /proc/self/cgroup)
	groups="/sys/fs/cgroup$own"
fi
for group in $groups; do
	if [ "$mode" = v1 ]; then
		echo $$ > "$group/cgroup.procs"
		continue
	fi
	mkdir -p "$group/launcher"
	echo $$ > "$group/launcher/cgroup.procs"
	for controller in $(cat "$group/cgroup.controllers"); do
		echo "+$controller" > "$group/cgroup.subtree_control"
	done
done
mount -o loop -- "$image" "$root"
losetup --direct-io=on "$(findmnt -n -o SOURCE -- "$root")" || echo "disk: no direct I/O here"
while :; do
	result=0
	if [ "$mode" = v1 ]; then
		for group in $groups; do
			find "$group" -mindepth 1 -depth -type d -exec rmdir -- '{}' ';'
		done
		systemd-nspawn "$@" || result=$?
	else
		for group in $groups; do
			if [ -d "$group/run" ]; then
				find "$group/run" -depth -type d -exec rmdir -- '{}' ';'
			fi
			mkdir "$group/run"
			sh -c 'echo $$ > "$0/cgroup.procs"; exec systemd-nspawn "$@"' "$group/run" "$@" || result=$?
		done
	fi
	[ "$result" -eq 133 ] || exit "$result"
done
`

// nspawnArgs is how the container of a host is run. devices are machine device files that the host shares.
func nspawnArgs(id identity, h hostState, devices []string, modules bool) []string {
	args := []string{
		"--boot",
		"--directory=" + filepath.Join(id.hostDir(h.Name), rootDir),
		"--machine=" + id.machine(h.Name),
		"--hostname=" + h.Name,
		"--network-bridge=" + id.bridge(),
		"--register=no",
		"--keep-unit",
		"--settings=no",
		"--console=read-only",
		"--capability=all",
		"--system-call-filter=add_key keyctl bpf perf_event_open",
		"--link-journal=no",
		"--resolv-conf=off",
		"--timezone=off",
	}
	for _, device := range devices {
		args = append(args, "--bind="+device)
	}
	if modules {
		args = append(args, "--bind-ro=/lib/modules")
	}
	return args
}

// launchArgs is the whole command that starts a host's launcher.
func launchArgs(id identity, h hostState, mode cgroupMode, groups, nspawn []string) []string {
	dir := id.hostDir(h.Name)
	launcher := []string{
		"unshare", "--mount", "--propagation", "private", "--", "/bin/sh", "-c", launchScript,
		"slipway-sandbox", filepath.Join(dir, imageFile), filepath.Join(dir, rootDir), string(mode), strconv.Itoa(len(groups)),
	}
	launcher = slices.Concat(launcher, groups, nspawn)
	if mode != cgroupSystemd {
		return launcher
	}
	console := filepath.Join(dir, consoleFile)
	service := []string{
		"systemd-run", "--quiet", "--collect", "--unit=" + id.unit(h.Name), "--slice=" + unitSlice,
		"--description=Slipway sandbox host " + h.Name,
		"--property=Type=exec", "--property=Delegate=yes", "--property=KillMode=mixed",
		"--property=MemoryMax=" + strconv.FormatInt(h.Memory, 10), "--property=TasksMax=infinity",
		"--property=StandardOutput=append:" + console, "--property=StandardError=append:" + console, "--",
	}
	for _, argument := range launcher {
		// systemd replaces variables in a service's command line; a doubled sign stands for itself.
		service = append(service, strings.ReplaceAll(argument, "$", "$$"))
	}
	return service
}

// sharedDevices lists the machine's device files that a host gets, where the machine has them.
func sharedDevices() []string {
	var devices []string
	for _, device := range []string{"/dev/kmsg", "/dev/fuse", "/dev/net/tun"} {
		if exists(device) {
			devices = append(devices, device)
		}
	}
	return devices
}

// launch starts a host that does not run. The launcher has a session of its own and outlives this process.
func launch(ctx context.Context, id identity, h hostState) error {
	// A host whose nspawn was killed from outside leaves processes behind that still use its disk.
	if err := powerOff(ctx, id, h.Name); err != nil {
		return err
	}
	mode, found, err := detectCgroups()
	if err != nil {
		return err
	}
	groups, err := makeCgroups(id, h.Name, h.Memory, mode, found)
	if err != nil {
		return err
	}
	argv := launchArgs(id, h, mode, groups, nspawnArgs(id, h, sharedDevices(), exists("/lib/modules")))
	program, err := findTool(argv[0])
	if err != nil {
		return err
	}
	console, err := os.OpenFile(filepath.Join(id.hostDir(h.Name), consoleFile), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("cannot open the console log of host %s: %w", h.Name, err)
	}
	// Not bound to the context: the host must live on when this command ends.
	cmd := exec.Command(program, argv[1:]...)
	cmd.Dir = "/"
	cmd.Env = []string{toolPath, "LC_ALL=C.UTF-8"}
	cmd.Stdout, cmd.Stderr = console, console
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	if closeErr := console.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("cannot start host %s: %w", h.Name, err)
	}
	if mode == cgroupSystemd {
		// systemd-run ends once the service's process runs.
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("cannot start host %s: %w%s", h.Name, err, consoleTail(id, h.Name))
		}
		return nil
	}
	go func() {
		// Only so that no zombie stays; whether the host came up is seen by its SSH server.
		_ = cmd.Wait()
	}()
	return nil
}

// consoleTail gives the end of a host's console as an appendix to an error.
func consoleTail(id identity, host string) string {
	data, err := os.ReadFile(filepath.Join(id.hostDir(host), consoleFile))
	if err != nil {
		return ""
	}
	return lastLines(data[max(0, len(data)-4096):], 5)
}
