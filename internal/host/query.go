package host

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"slipway.dev/slipway/internal/fault"
)

// Query is one of the read-only looks at a host that this package declares. Its zero value is refused.
type Query struct {
	name   string
	script string
	args   []string
	max    int
	err    error
}

// newQuery makes a query of a fixed script, which sees args as its positional parameters.
func newQuery(name, script string, args ...string) Query {
	return Query{name: name, script: script, args: args, max: MaxOutput}
}

// program makes a query of one program with arguments.
func program(name string, argv ...string) Query { return newQuery(name, execScript, argv...) }

const execScript = `exec "$@"`

// Name is the query's kind, such as digests.
func (q Query) Name() string { return q.name }

// Args gives the query's parameters, for sessions that answer from memory.
func (q Query) Args() []string { return slices.Clone(q.args) }

// MaxOutput is how many bytes of standard output are kept.
func (q Query) MaxOutput() int { return q.max }

// Err says why the query cannot be run, such as a relative path; nil when it can.
func (q Query) Err() error {
	if q.name == "" {
		return fault.NewBug(fmt.Errorf("cannot run an empty query"))
	}
	if q.err != nil {
		return fmt.Errorf("cannot query %s: %w", q.name, q.err)
	}
	return nil
}

// Argv gives the argv that runs the query on a host.
func (q Query) Argv() []string {
	return append([]string{"sh", "-c", environment + q.script, q.name}, q.args...)
}

// Failure gives the error of a query that left r; nil when its program ended with 0.
func (q Query) Failure(r Result) error {
	if r.ExitCode == 0 {
		return nil
	}
	argv := q.args
	if q.script != execScript {
		argv = append([]string{q.name}, q.args...)
	}
	return &CommandError{Argv: argv, Result: r}
}

func checkPaths(paths []string) error {
	for _, p := range paths {
		if p == "/" {
			continue
		}
		if err := checkPath(p); err != nil {
			return err
		}
	}
	return nil
}

// keepExisting drops the positional parameters for which test -X fails.
const keepExisting = `i=$#
while [ "$i" -gt 0 ]; do
	p=$1 i=$((i - 1))
	shift
	if [ %s ]; then set -- "$@" "$p"; fi
done
[ $# -gt 0 ] || exit 0
`

const findFormat = `%y\0%m\0%U\0%G\0%s\0%p\0%l\0`

// Digests asks for the SHA-256 of each regular file; missing ones are left out. DecodeDigests reads it.
func Digests(paths ...string) Query {
	q := newQuery("digests", fmt.Sprintf(keepExisting, `-f "$p"`)+`exec sha256sum -z -- "$@"`, paths...)
	q.err = checkPaths(paths)
	return q
}

// Stats asks what is at each path without following links, for Reader.Stat; DecodeStats reads it.
func Stats(paths ...string) Query {
	q := newQuery("stats", fmt.Sprintf(keepExisting, `-e "$p" ] || [ -L "$p"`)+
		`exec find "$@" -maxdepth 0 -printf '`+findFormat+`'`, paths...)
	q.err = checkPaths(paths)
	return q
}

// Tree asks for everything at and below each path on its own file system; missing paths are left out.
// DecodeTree reads it. It is meant to compare a host before and after, and to find leftovers.
func Tree(paths ...string) Query {
	q := newQuery("tree", fmt.Sprintf(keepExisting, `-e "$p" ] || [ -L "$p"`)+
		`exec find "$@" -ignore_readdir_race -xdev -printf '`+findFormat+`'`, paths...)
	q.max = 32 << 20
	q.err = checkPaths(paths)
	return q
}

// Units asks systemd about each unit, known or not; DecodeUnits reads it, in the order asked.
func Units(names ...string) Query {
	q := program("units", append([]string{"systemctl", "show", "-p",
		"Id,LoadState,ActiveState,SubState,UnitFileState,MainPID,Result,ExecMainStatus", "--"}, names...)...)
	if len(names) == 0 {
		q.err = fault.NewBug(fmt.Errorf("no unit is named"))
	}
	return q
}

// Journal asks for the last lines of a unit's journal, as text.
func Journal(unit string, lines int) Query {
	return program("journal", "journalctl", "--no-pager", "-o", "short-iso", "-n", strconv.Itoa(max(lines, 1)), "-u", unit)
}

// The kernel answers only the first read of many settings, so the shell's own read, which takes one byte
// at a time, would see one digit.
const sysctlScript = `for key do
	file=/proc/sys/$(printf '%s' "$key" | tr ./ /.)
	[ -f "$file" ] && value=$(cat "$file" 2>/dev/null) || continue
	printf '%s\t%s\n' "$key" "$(printf '%s' "$value" | tr '\n' ' ')"
done
exit 0
`

// Sysctls asks for kernel settings by dotted key; unknown keys are left out. DecodeSysctls reads it.
func Sysctls(keys ...string) Query {
	q := newQuery("sysctls", sysctlScript, keys...)
	for _, k := range keys {
		if !sysctlPattern.MatchString(k) || strings.Contains(k, "..") || strings.Contains(k, "//") {
			q.err = fault.NewBug(fmt.Errorf("%q is no sysctl key", k))
		}
	}
	return q
}

var sysctlPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_./:-]*$`)

// Modules asks which kernel modules are loaded; DecodeModules reads it.
func Modules() Query { return newQuery("modules", `[ ! -e /proc/modules ] || exec cat /proc/modules`) }

// Mounts asks for the mounts as init sees them; DecodeMounts reads it.
func Mounts() Query {
	q := program("mounts", "cat", "/proc/1/mountinfo")
	q.max = 8 << 20
	return q
}

// Listening asks which TCP addresses are listened on; DecodeListening reads it.
func Listening() Query {
	return newQuery("listening", `cd /proc/net || exit
set -- tcp
[ ! -e tcp6 ] || set -- tcp tcp6
grep -h ' 0A ' "$@" || [ $? -eq 1 ]
`)
}

// Processes asks for the processes with one of the given short names (at most 15 bytes each counts, as
// the kernel keeps them); DecodeProcesses reads it.
func Processes(names ...string) Query {
	args := make([]string, 0, len(names))
	for _, n := range names {
		args = append(args, n[:min(len(n), 15)])
	}
	return newQuery("processes", `for dir in /proc/[0-9]*; do
	read -r comm 2>/dev/null <"$dir/comm" || continue
	for name do
		if [ "$comm" = "$name" ]; then printf '%s\t%s\n' "${dir#/proc/}" "$comm"; fi
	done
done
exit 0
`, args...)
}

// Links asks for the network links with their addresses; DecodeLinks reads it.
func Links() Query { return program("links", "ip", "-json", "-details", "addr", "show") }

// Routes asks for the IPv4 and IPv6 routes of the main table, as text.
func Routes() Query {
	return newQuery("routes", `ip -4 route show table main; ip -6 route show table main 2>/dev/null || exit 0`)
}

// NFTables asks for the nftables rule set without counters, as text; empty when the host has no nft.
func NFTables() Query {
	q := newQuery("nftables", `command -v nft >/dev/null || exit 0; exec nft -s list ruleset`)
	q.max = 8 << 20
	return q
}

// IPTables asks for the iptables rules of both families; DecodeRules reads it. It is empty when the host
// has no iptables. The legacy tool is asked only when its tables are in use, because asking loads them.
func IPTables() Query {
	q := newQuery("iptables", `for family in ip ip6; do
	tool=${family}tables-save
	command -v "$tool" >/dev/null || continue
	case $("$tool" -V 2>/dev/null) in
	*nf_tables*) ;;
	*) grep -q . "/proc/net/${family}_tables_names" 2>/dev/null || continue ;;
	esac
	"$tool" || exit
done
`)
	q.max = 8 << 20
	return q
}

// Resolve asks the host's resolver for a name; DecodeAddresses reads it. An unknown name gives no address.
func Resolve(name string) Query {
	return newQuery("resolve", `getent ahosts -- "$1" || [ $? -eq 2 ]`, name)
}

// Reach asks whether the host can open a TCP connection to an address within so many whole seconds; DecodeReach reads it.
func Reach(addr netip.Addr, port uint16, seconds int) Query {
	q := newQuery("reach", `timeout "$3" bash -c 'exec 3<>"/dev/tcp/$1/$2"' reach "$1" "$2" 2>&1
case $? in
0) echo open ;;
124) echo "no answer within $3 s" ;;
esac
`, addr.String(), strconv.Itoa(int(port)), strconv.Itoa(seconds))
	if !addr.IsValid() || port == 0 || seconds < 1 {
		q.err = fault.NewBug(fmt.Errorf("%s port %d is no address", addr, port))
	}
	return q
}

// ContainerImages asks containerd for its images in the k8s.io namespace, by the path of ctr and of
// containerd's socket; DecodeImages reads it.
func ContainerImages(ctr, socket string) Query {
	q := program("images", ctr, "--address", socket, "--namespace", "k8s.io", "images", "ls")
	q.max = 8 << 20
	q.err = checkPaths([]string{ctr, socket})
	return q
}

// VersionFlag is how a program is asked for its version.
type VersionFlag string

// The ways to ask for a version.
const (
	// VersionDashed is "--version": kubelet, containerd, runc, crictl, etcd.
	VersionDashed VersionFlag = "--version"
	// VersionWord is "version": etcdctl, flanneld.
	VersionWord VersionFlag = "version"
	// VersionShort is "version -o short": kubeadm.
	VersionShort VersionFlag = "version -o short"
)

// Version asks a program, by path, for its version, as text.
func Version(path string, flag VersionFlag) Query {
	q := program("version", append([]string{path}, strings.Fields(string(flag))...)...)
	q.err = checkPath(path)
	if !slices.Contains([]VersionFlag{VersionDashed, VersionWord, VersionShort}, flag) {
		q.err = fault.NewBug(fmt.Errorf("%q is no way to ask for a version", flag))
	}
	return q
}

// BootID asks for the identity of the current boot, as text: another one means the host was rebooted.
func BootID() Query { return program("bootid", "cat", "/proc/sys/kernel/random/boot_id") }

// HolderQuery asks what the host remembers of its fence; DecodeHolder reads it.
func HolderQuery() Query { return HolderQueryAt(DefaultFencePlace()) }

// HolderQueryAt is HolderQuery for a fence kept elsewhere; only tests need it.
func HolderQueryAt(place FencePlace) Query {
	return newQuery("holder", `if [ -e "$1/holder" ]; then printf 'holder '; head -c 200 "$1/holder"; fi
if [ -e "$2/epoch" ]; then printf 'epoch '; head -c 200 "$2/epoch"; fi
`, place.State, place.Runtime)
}
