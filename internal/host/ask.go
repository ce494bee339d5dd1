package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// ask runs a query and decodes what it printed.
func ask[T any](ctx context.Context, r Reader, q Query, decode func(Result) (T, error)) (T, error) {
	var none T
	result, err := r.Query(ctx, q)
	if err != nil {
		return none, fmt.Errorf("cannot read %s: %w", q.Name(), err)
	}
	return decode(result)
}

// ReadIfExists gives the content of a file, or nil when there is none.
func ReadIfExists(ctx context.Context, r Reader, path string) ([]byte, error) {
	b, err := r.ReadFile(ctx, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	return b, nil
}

// QueryDigests gives the SHA-256 in hexadecimal by path; missing files are left out.
func QueryDigests(ctx context.Context, r Reader, paths ...string) (map[string]string, error) {
	return ask(ctx, r, Digests(paths...), DecodeDigests)
}

// QueryTree gives everything at and below the paths; missing paths are left out.
func QueryTree(ctx context.Context, r Reader, paths ...string) ([]FileInfo, error) {
	return ask(ctx, r, Tree(paths...), DecodeTree)
}

// QueryUnits gives what systemd knows of each unit, in the order asked.
func QueryUnits(ctx context.Context, r Reader, names ...string) ([]Unit, error) {
	return ask(ctx, r, Units(names...), DecodeUnits)
}

// QuerySysctls gives kernel settings by dotted key; unknown keys are left out.
func QuerySysctls(ctx context.Context, r Reader, keys ...string) (map[string]string, error) {
	return ask(ctx, r, Sysctls(keys...), DecodeSysctls)
}

// QueryMounts gives the mounts of a host.
func QueryMounts(ctx context.Context, r Reader) ([]Mount, error) {
	return ask(ctx, r, Mounts(), DecodeMounts)
}

// QueryLinks gives the network links of a host.
func QueryLinks(ctx context.Context, r Reader) ([]Link, error) {
	return ask(ctx, r, Links(), DecodeLinks)
}

// QueryRoutes gives the networks that the main table has a route to; the default route is none.
func QueryRoutes(ctx context.Context, r Reader) ([]netip.Prefix, error) {
	result, err := r.Query(ctx, Routes())
	if err != nil {
		return nil, fmt.Errorf("cannot read the routes: %w", err)
	}
	return DecodeRoutes(result), nil
}

// DecodeRoutes reads the networks of an answer to Routes. Lines that name none are left out.
func DecodeRoutes(r Result) []netip.Prefix {
	var networks []netip.Prefix
	for line := range strings.Lines(string(r.Stdout)) {
		first, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if network, err := netip.ParsePrefix(first); err == nil {
			networks = append(networks, network)
		}
	}
	return networks
}

// QueryProcesses gives the processes of these short names.
func QueryProcesses(ctx context.Context, r Reader, names ...string) ([]Process, error) {
	return ask(ctx, r, Processes(names...), DecodeProcesses)
}

// QueryContainerProcesses gives the processes that belong to a container runtime's shims or run in a pod's cgroup.
func QueryContainerProcesses(ctx context.Context, r Reader) ([]Process, error) {
	return ask(ctx, r, ContainerProcesses(), DecodeProcesses)
}

// QueryListening gives the TCP ports that are listened on, on any address but loopback or on all.
func QueryListening(ctx context.Context, r Reader) (map[int]bool, error) {
	sockets, err := ask(ctx, r, Listening(), DecodeListening)
	if err != nil {
		return nil, err
	}
	ports := map[int]bool{}
	for _, s := range sockets {
		ports[int(s.Port())] = true
	}
	return ports, nil
}

// QueryResolve gives the addresses that the host finds for a name; none when it finds none.
func QueryResolve(ctx context.Context, r Reader, name string) ([]netip.Addr, error) {
	return ask(ctx, r, Resolve(name), DecodeAddresses)
}

// QueryReach says whether the host can open a TCP connection to HOST:PORT within so many seconds, and if not, why.
func QueryReach(ctx context.Context, r Reader, to string, seconds int) (bool, string, error) {
	name, portText, err := net.SplitHostPort(to)
	if err != nil {
		return false, "", fmt.Errorf("cannot read address %q: %w", to, err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return false, "", fmt.Errorf("cannot read address %q: %w", to, err)
	}
	address, err := netip.ParseAddr(name)
	if err != nil {
		found, err := QueryResolve(ctx, r, name)
		if err != nil {
			return false, "", err
		}
		if len(found) == 0 {
			return false, name + " does not resolve", nil
		}
		address = found[0]
	}
	result, err := r.Query(ctx, Reach(address, uint16(port), seconds))
	if err != nil {
		return false, "", fmt.Errorf("cannot try %s: %w", to, err)
	}
	open, detail := DecodeReach(result)
	return open, detail, nil
}

// QueryImages gives the images of containerd's k8s.io namespace by name.
func QueryImages(ctx context.Context, r Reader, ctr, socket string) (map[string]Image, error) {
	return ask(ctx, r, ContainerImages(ctr, socket), DecodeImages)
}

// QueryTables gives the nft tables as "family name".
func QueryTables(ctx context.Context, r Reader) ([]string, error) {
	return ask(ctx, r, NFTables(), func(result Result) ([]string, error) {
		tables := []string{}
		for line := range strings.Lines(string(result.Stdout)) {
			if f := strings.Fields(line); len(f) == 4 && f[0] == "table" && f[3] == "{" {
				tables = append(tables, f[1]+" "+f[2])
			}
		}
		return tables, nil
	})
}

// QueryIPTables gives what iptables-save or ip6tables-save prints; "" when nothing was ever set.
func QueryIPTables(ctx context.Context, r Reader, program string) (string, error) {
	return ask(ctx, r, IPTablesOf(program), func(result Result) (string, error) {
		var kept strings.Builder
		for line := range strings.Lines(string(result.Stdout)) {
			if !strings.HasPrefix(line, "#") {
				kept.WriteString(line)
			}
		}
		return kept.String(), nil
	})
}

// ContainerProcesses asks for processes of containers: shims, and whatever runs in a pod's cgroup. DecodeProcesses reads it.
func ContainerProcesses() Query {
	return newQuery("containerprocesses", `for dir in /proc/[0-9]*; do
	read -r comm 2>/dev/null <"$dir/comm" || continue
	case $comm in
	containerd-shim*) ;;
	*) grep -q -e kubepods -e cri-containerd "$dir/cgroup" 2>/dev/null || continue ;;
	esac
	printf '%s\t%s\n' "${dir#/proc/}" "$comm"
done
exit 0
`)
}

// IPTablesOf asks one program, iptables or ip6tables, for all its rules without counters, as text.
// The legacy tool is asked only when its tables are in use, because asking loads them.
func IPTablesOf(program string) Query {
	q := newQuery("iptablesof", `tool=$1-save
command -v "$tool" >/dev/null || exit 0
case $("$tool" -V 2>/dev/null) in
*nf_tables*) ;;
*) grep -q . "/proc/net/${1%tables}_tables_names" 2>/dev/null || exit 0 ;;
esac
exec "$tool"
`, program)
	q.max = 8 << 20
	return q
}
