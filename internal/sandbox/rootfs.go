package sandbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
)

const (
	suite = "bookworm"
	// recipe is raised when the way the image is made changes without its inputs changing.
	recipe        = "1"
	baseImageSize = "1G"
)

// packages is what a host has besides Debian's minimum: what an organisation's own hosts bring, and no more.
func packages() []string {
	return []string{
		"systemd", "systemd-sysv", "dbus", "openssh-server", "sudo", "iproute2", "iptables", "nftables", "conntrack",
		"ipset", "socat", "ethtool", "kmod", "procps", "tar", "util-linux", "mount",
	}
}

// earlyScript makes the container behave like a machine before any service starts: shared mounts, writable
// sysctls, the parts of /sys that containers expect and, on cgroup v1, writable controllers.
const earlyScript = `#!/bin/sh
set -eu
mount --make-rshared /
mount -o remount,bind,rw /proc/sys
mount -o remount,rw /sys
mkdir -p /run/sandbox-sysfs
mount -t sysfs sysfs /run/sandbox-sysfs
# Private: what systemd mounts below /sys meanwhile must not appear here as well and keep this mount busy.
mount --make-private /run/sandbox-sysfs
for part in module firmware fs/fuse; do
	[ -d "/run/sandbox-sysfs/$part" ] || continue
	mkdir -p "/sys/$part"
	mount --bind "/run/sandbox-sysfs/$part" "/sys/$part"
done
if [ -d /run/sandbox-sysfs/fs/bpf ]; then
	mkdir -p /sys/fs/bpf
	mount -t bpf bpf /sys/fs/bpf
fi
umount --recursive --lazy /run/sandbox-sysfs
rmdir /run/sandbox-sysfs
mount -o remount,ro /sys
if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ]; then
	findmnt -rn -t cgroup,cgroup2 -o TARGET | while read -r controller; do
		mount -o remount,bind,rw "$controller"
	done
fi
`

const earlyUnit = `[Unit]
Description=Make the container behave like a machine
DefaultDependencies=no
Before=sysinit.target systemd-sysctl.service systemd-modules-load.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/lib/sandbox/early

[Install]
WantedBy=sysinit.target
`

const networkUnit = `[Unit]
Description=Give the host its address
DefaultDependencies=no
After=sandbox-early.service systemd-sysctl.service
Wants=network.target
Before=network.target network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
EnvironmentFile=/etc/sandbox/network
ExecStart=/usr/sbin/ip link set dev host0 up
ExecStart=/usr/sbin/ip address replace ${ADDRESS} dev host0
ExecStart=/usr/sbin/ip route replace default via ${GATEWAY} dev host0

[Install]
WantedBy=sysinit.target network-online.target
`

const sshdConfig = `HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
UseDNS no
`

// file is one entry of a root file system: a regular file, or a symbolic link when link is set.
type file struct {
	path string
	data string
	mode fs.FileMode
	link string
}

// baseFiles is what every host has in common beyond its packages.
func baseFiles() []file {
	const units = "etc/systemd/system/"
	files := []file{
		{path: "usr/local/lib/sandbox/early", data: earlyScript, mode: 0o755},
		{path: units + "sandbox-early.service", data: earlyUnit, mode: 0o644},
		{path: units + "sandbox-network.service", data: networkUnit, mode: 0o644},
		{path: units + "sysinit.target.wants/sandbox-early.service", link: "../sandbox-early.service"},
		{path: units + "sysinit.target.wants/sandbox-network.service", link: "../sandbox-network.service"},
		{path: units + "network-online.target.wants/sandbox-network.service", link: "../sandbox-network.service"},
		{path: "etc/ssh/sshd_config.d/00-sandbox.conf", data: sshdConfig, mode: 0o644},
	}
	for _, unit := range []string{
		"apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer",
		"e2scrub_reap.service", "console-getty.service",
	} {
		files = append(files, file{path: units + unit, link: "/dev/null"})
	}
	return files
}

// rootfsKey changes whenever anything that goes into the base root file system changes.
func rootfsKey(mirror, arch string) string {
	sorted := packages()
	sort.Strings(sorted)
	hash := sha256.New()
	fmt.Fprintf(hash, "%s\n%s\n%s\n%s\n%s\n", recipe, suite, mirror, arch, strings.Join(sorted, ","))
	for _, f := range baseFiles() {
		fmt.Fprintf(hash, "%q %q %o %q\n", f.path, f.data, f.mode, f.link)
	}
	return hex.EncodeToString(hash.Sum(nil))[:16]
}

// baseImage gives the path of the cached base image and makes it first when it is not there. A build that is
// killed leaves only folders that the next build removes.
func baseImage(ctx context.Context, o Options) (string, error) {
	image := filepath.Join(o.CacheDir, "rootfs-"+rootfsKey(o.Mirror, runtime.GOARCH)+".ext4")
	if _, err := os.Stat(image); err == nil {
		return image, nil
	}
	if err := requireTools(map[string]string{"mmdebstrap": "mmdebstrap"}); err != nil {
		return "", err
	}
	if err := os.MkdirAll(o.CacheDir, 0o755); err != nil {
		return "", fmt.Errorf("cannot make the cache directory: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(o.CacheDir, "rootfs.lock"), false)
	if err != nil {
		return "", err
	}
	err = buildOnce(ctx, o, image)
	if unlockErr := unlock(); err == nil {
		err = unlockErr
	}
	if err != nil {
		return "", fmt.Errorf("cannot make the base root file system: %w", err)
	}
	return image, nil
}

// buildOnce runs under the cache's lock, so that whatever looks half-made is left from a killed build.
func buildOnce(ctx context.Context, o Options, image string) (err error) {
	leftovers, err := filepath.Glob(filepath.Join(o.CacheDir, "rootfs-build-*"))
	if err != nil {
		return err
	}
	for _, leftover := range leftovers {
		if err := os.RemoveAll(leftover); err != nil {
			return err
		}
	}
	if _, err := os.Stat(image); err == nil {
		return nil
	}
	work, err := os.MkdirTemp(o.CacheDir, "rootfs-build-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	return buildImage(ctx, o, work, image)
}

func buildImage(ctx context.Context, o Options, work, image string) error {
	root := filepath.Join(work, "root")
	o.Progress("making the base root file system from Debian " + suite + " packages (once)")
	argv := []string{
		"env", "TMPDIR=" + work, "mmdebstrap", "--quiet", "--mode=root", "--format=directory", "--variant=minbase",
		"--include=" + strings.Join(packages(), ","), suite, root,
	}
	if o.Mirror != "" {
		argv = append(argv, o.Mirror)
	}
	if _, err := runConfined(ctx, nil, argv...); err != nil {
		return err
	}
	if err := customise(root); err != nil {
		return err
	}
	made := filepath.Join(work, "image")
	if _, err := run(ctx, nil, "mkfs.ext4", "-q", "-F", "-L", "sandbox", "-m", "1", "-O", "metadata_csum_seed",
		"-E", "lazy_itable_init=1,lazy_journal_init=1", "-d", root, made, baseImageSize); err != nil {
		return err
	}
	if err := syncFile(made); err != nil {
		return err
	}
	return os.Rename(made, image)
}

// customise puts the common files into an unpacked root file system and takes out what must differ per host.
func customise(dir string) (err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	keys, err := fs.Glob(root.FS(), "etc/ssh/ssh_host_*")
	if err != nil {
		return err
	}
	for _, unique := range append(keys, "etc/machine-id", "etc/hostname", "etc/resolv.conf", "var/lib/dbus/machine-id") {
		if err := root.Remove(unique); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, f := range baseFiles() {
		if err := root.MkdirAll(path.Dir(f.path), 0o755); err != nil {
			return err
		}
		if f.link != "" {
			err = root.Symlink(f.link, f.path)
		} else {
			err = root.WriteFile(f.path, []byte(f.data), f.mode)
		}
		if err != nil {
			return fmt.Errorf("cannot write /%s: %w", f.path, err)
		}
	}
	return nil
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
