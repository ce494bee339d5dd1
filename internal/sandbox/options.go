package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
)

const (
	defaultPrefix = "sandbox-"
	defaultDisk   = int64(20) << 30
	defaultMemory = int64(4) << 30
	minDisk       = int64(1) << 30
	minMemory     = int64(128) << 20
	maxHosts      = 200
	sshPort       = 22
	loginUser     = "root"
)

// Options says which hosts Up makes and where.
type Options struct {
	// Dir is the sandbox directory. It belongs to one server data directory; names, bridge and addresses follow
	// from its path. It must not be moved while hosts exist.
	Dir string
	// Hosts is how many hosts there shall be, 1 to 200.
	Hosts int
	// Prefix is what host names start with; a number follows. The default is "sandbox-".
	Prefix string
	// Disk is the size of each host's own ext4 file system in bytes. The file is sparse. At least 1 GiB; the
	// default is 20 GiB. Hosts that exist keep theirs.
	Disk int64
	// Memory is each host's cgroup memory limit in bytes. At least 128 MiB; the default is 4 GiB. Hosts that
	// exist keep theirs.
	Memory int64
	// Users are accounts made on each host besides root; by default there are none. See AddUser.
	Users []User
	// CacheDir keeps the base root file system between runs. The default is $XDG_CACHE_HOME/slipway, else
	// ~/.cache/slipway.
	CacheDir string
	// Mirror is the Debian mirror that the base root file system is made from; empty means Debian's own.
	Mirror string
	// Progress, when set, is told in one line each what is being done. It may be called from several goroutines.
	Progress func(string)
}

// Host is one sandbox host as List and Up see it.
type Host struct {
	// Name is the host name, for example "sandbox-1".
	Name string `json:"name"`
	// Address is the host's IPv4 address on the sandbox bridge.
	Address string `json:"address"`
	// Port is where sshd listens.
	Port int `json:"port"`
	// User is the login that the sandbox key opens.
	User string `json:"user"`
	// HostKey is the host's public SSH key in authorized_keys format, without a line break.
	HostKey string `json:"hostKey"`
	// KeyFile is the path of the private login key (mode 0600), one for the whole sandbox.
	KeyFile string `json:"keyFile"`
	// Disk is the size of the host's file system in bytes.
	Disk int64 `json:"disk"`
	// Memory is the host's memory limit in bytes.
	Memory int64 `json:"memory"`
	// Running says whether the container's process exists; it does not say that sshd answers.
	Running bool `json:"running"`
}

// labelPattern is a DNS label short enough that the container's machine name stays a valid host name.
var labelPattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$`)

// withDefaults fills what was left out.
func (o Options) withDefaults() (Options, error) {
	if o.Prefix == "" {
		o.Prefix = defaultPrefix
	}
	if o.Disk == 0 {
		o.Disk = defaultDisk
	}
	if o.Memory == 0 {
		o.Memory = defaultMemory
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	if o.CacheDir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return o, fmt.Errorf("cannot find a cache directory (set HOME or XDG_CACHE_HOME): %w", err)
		}
		o.CacheDir = filepath.Join(base, "slipway")
	}
	return o, nil
}

// validate says what is wrong with options that already have their defaults.
func (o Options) validate() error {
	var problems []error
	if o.Dir == "" {
		problems = append(problems, errors.New("the sandbox directory is not set"))
	}
	if o.Hosts < 1 || o.Hosts > maxHosts {
		problems = append(problems, fmt.Errorf("%d hosts were asked for, 1 to %d are possible", o.Hosts, maxHosts))
	}
	if name := hostName(o.Prefix, max(o.Hosts, 1)); !labelPattern.MatchString(name) {
		problems = append(problems, fmt.Errorf("%q cannot be a host name: use lower-case letters, digits and '-', 40 characters at most", name))
	}
	if o.Disk < minDisk {
		problems = append(problems, fmt.Errorf("a disk of %d bytes is too small, at least %d are needed", o.Disk, minDisk))
	}
	if o.Memory < minMemory {
		problems = append(problems, fmt.Errorf("a memory limit of %d bytes is too small, at least %d are needed", o.Memory, minMemory))
	}
	for _, user := range o.Users {
		if err := user.validate(); err != nil {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// tools maps each program that a sandbox needs on the machine to the Debian package that brings it.
func tools() map[string]string {
	return map[string]string{
		"systemd-nspawn": "systemd-container",
		"ip":             "iproute2",
		"mkfs.ext4":      "e2fsprogs",
		"resize2fs":      "e2fsprogs",
		"tune2fs":        "e2fsprogs",
		"mount":          "mount",
		"losetup":        "mount",
		"findmnt":        "util-linux",
		"unshare":        "util-linux",
		"tar":            "tar",
		"cp":             "coreutils",
		"find":           "findutils",
	}
}

// checkMachine refuses a machine that cannot run hosts and says what to install.
func checkMachine() error {
	if os.Geteuid() != 0 {
		return errors.New("cannot make sandbox hosts without root: run the command as root or with sudo")
	}
	if err := requireTools(tools()); err != nil {
		return err
	}
	id, err := os.ReadFile("/etc/machine-id")
	if err != nil || strings.TrimSpace(string(id)) == "" {
		return errors.New("cannot make sandbox hosts: /etc/machine-id is missing or empty, make it with: systemd-machine-id-setup")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		return fmt.Errorf("cannot make sandbox hosts without loop devices (modprobe loop): %w", err)
	}
	return nil
}

// requireTools fails with the packages to install when a program is missing.
func requireTools(needed map[string]string) error {
	var missing []string
	packages := map[string]bool{}
	for program, pkg := range needed {
		if _, err := findTool(program); err != nil {
			missing = append(missing, program)
			packages[pkg] = true
		}
	}
	if len(missing) == 0 {
		return nil
	}
	sort.Strings(missing)
	names := make([]string, 0, len(packages))
	for pkg := range packages {
		names = append(names, pkg)
	}
	sort.Strings(names)
	return fmt.Errorf("cannot make sandbox hosts: %s not found, install with: apt-get install %s",
		strings.Join(missing, ", "), strings.Join(names, " "))
}

// findTool looks a program up in PATH and in the sbin folders that a plain user's PATH leaves out.
func findTool(program string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return path, nil
	}
	for _, folder := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		path := filepath.Join(folder, program)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("cannot find program %s", program)
}

// hostName gives the name of the host with this number, counted from 1.
func hostName(prefix string, number int) string {
	return fmt.Sprintf("%s%d", prefix, number)
}
