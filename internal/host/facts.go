package host

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"slipway.dev/slipway/api/v1alpha1"
)

const (
	maxItems     = 64
	maxAddresses = 32
	maxText      = 253
)

// facts collects what the host says, within bounds: a host may lie, but cannot make us hold or store much.
type facts struct {
	v1alpha1.HostFacts
	begin, end int64
	routes     []route
	physical   map[string]bool
}

type route struct {
	nic    string
	family int64
	metric int64
}

// DecodeFacts gives the facts from the result of a FactsQuery that was sent at sent and answered at
// received, by our clock. It fails when the answer is cut off or its basics are missing; text that makes
// no sense is left out.
func DecodeFacts(r Result, sent, received time.Time) (v1alpha1.HostFacts, error) {
	if err := complete("facts", r); err != nil {
		return v1alpha1.HostFacts{}, err
	}
	f := facts{physical: map[string]bool{}}
	for line := range strings.Lines(string(r.Stdout)) {
		key, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		fields := strings.Split(rest, "\t")
		for i := range fields {
			fields[i] = Clean(fields[i], maxText)
		}
		f.add(key, fields)
	}
	return f.finish(sent, received)
}

func (f *facts) finish(sent, received time.Time) (v1alpha1.HostFacts, error) {
	if f.begin == 0 || f.end < f.begin || f.Kernel == "" || f.Architecture == "" || f.MemoryBytes == 0 || f.CPUs == 0 {
		return v1alpha1.HostFacts{}, fmt.Errorf("cannot read facts: the answer has no clock, kernel, architecture, processors or memory")
	}
	// The two stamps on the host take the run time of the script out of the round trip.
	skew := time.Unix(0, f.begin).Sub(sent)/2 + time.Unix(0, f.end).Sub(received)/2
	f.ClockSkewMillis = skew.Milliseconds()
	f.Memory = FormatBytes(f.MemoryBytes)
	f.NICs = slices.DeleteFunc(f.NICs, func(n v1alpha1.HostNIC) bool {
		return !f.physical[n.Name] && len(n.Addresses) == 0
	})
	f.NICs = f.NICs[:min(len(f.NICs), maxItems)]
	if len(f.routes) > 0 {
		f.DefaultRouteNIC = slices.MinFunc(f.routes, func(a, b route) int {
			return cmp.Or(cmp.Compare(a.family, b.family), cmp.Compare(a.metric, b.metric))
		}).nic
	}
	slices.SortFunc(f.Disks, func(a, b v1alpha1.HostDisk) int { return cmp.Compare(a.Name, b.Name) })
	f.Tools = sorted(f.Tools)
	f.KernelFeatures = sorted(f.KernelFeatures)
	return f.HostFacts, nil
}

func sorted(s []string) []string {
	slices.Sort(s)
	return slices.Compact(s)
}

// add takes one line; fields always has at least one element.
func (f *facts) add(key string, fields []string) {
	value := fields[0]
	texts := map[string]*string{"hostname": &f.Hostname, "kernel": &f.Kernel, "machineid": &f.MachineID,
		"timezone": &f.TimeZone, "firewall": &f.Firewall, "selinux": &f.SELinux, "virtualization": &f.Virtualization}
	if p, ok := texts[key]; ok {
		*p = value
		return
	}
	switch key {
	case "begin":
		f.begin = number(value, math.MaxInt64)
	case "end":
		f.end = number(value, math.MaxInt64)
	case "machine":
		f.Architecture = architecture(value)
	case "os":
		f.os(value)
	case "cpus":
		f.CPUs = int32(number(value, 1<<16))
	case "memtotal":
		f.limitMemory(number(value, 1<<50) << 10)
	case "memlimit":
		f.limitMemory(number(value, 1<<60))
	case "cgroup":
		f.CgroupVersion = int32(number(value, 2))
	case "capabilities":
		f.Capabilities = capabilities(value)
	case "swap":
		f.Swap = true
	case "resolver":
		f.ResolverOptions = true
	case "feature":
		f.KernelFeatures = appendBounded(f.KernelFeatures, value)
	case "tool":
		f.Tools = appendBounded(f.Tools, value)
	default:
		f.addDevice(key, fields)
	}
}

func (f *facts) addDevice(key string, fields []string) {
	switch {
	case key == "disk" && len(fields) == 3 && len(f.Disks) < maxItems:
		if size := number(fields[1], 1<<50); size > 0 && fields[0] != "" {
			f.Disks = append(f.Disks, v1alpha1.HostDisk{Name: fields[0], Bytes: size * 512, Rotational: fields[2] == "1"})
		}
	case key == "nic" && len(fields) == 4 && len(f.NICs) < 4096:
		if fields[0] == "" || virtual(fields[0]) {
			return
		}
		f.physical[fields[0]] = fields[3] == "1"
		f.NICs = append(f.NICs, v1alpha1.HostNIC{Name: fields[0], MAC: fields[1], MTU: int32(number(fields[2], 1<<20))})
	case key == "route" && len(fields) == 2:
		f.route(number(fields[0], 6), strings.Fields(fields[1]))
	case key == "address" && len(fields) == 2:
		f.address(fields[0], fields[1])
	case key == "free" && len(fields) == 3:
		blocks, size := number(fields[1], 1<<50), number(fields[2], 1<<24)
		if slices.Contains([]string{"/", "/var/lib", "/usr", "/etc"}, fields[0]) && (size == 0 || blocks <= math.MaxInt64/size) {
			if f.FreeBytes == nil {
				f.FreeBytes = map[string]int64{}
			}
			f.FreeBytes[fields[0]] = blocks * size
		}
	}
}

func appendBounded(list []string, s string) []string {
	if s == "" || len(list) >= 2*maxItems {
		return list
	}
	return append(list, s)
}

// number reads a decimal number from 0 to limit; anything else is 0.
func number(s string, limit int64) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > limit {
		return 0
	}
	return n
}

func (f *facts) limitMemory(bytes int64) {
	if bytes > 0 && (f.MemoryBytes == 0 || bytes < f.MemoryBytes) {
		f.MemoryBytes = bytes
	}
}

func architecture(machine string) string {
	switch machine {
	case "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	}
	return machine
}

// os reads one assignment of os-release, whose value may be quoted.
func (f *facts) os(line string) {
	key, value, _ := strings.Cut(line, "=")
	value = strings.TrimSpace(value)
	if len(value) >= 2 && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0] {
		value = strings.TrimSpace(value[1 : len(value)-1])
	}
	switch key {
	case "ID":
		f.OS.ID = value
	case "VERSION_ID":
		f.OS.Version = value
	case "PRETTY_NAME":
		f.OS.Name = value
	}
}

// virtual tells links that container networks and hypervisors make from the machine's own.
func virtual(nic string) bool {
	if slices.Contains([]string{"lo", "cni0", "docker0", "nodelocaldns", "kube-ipvs0", "kube-bridge", "tunl0", "sit0", "ip6tnl0", "gre0", "erspan0", "ovs-system"}, nic) {
		return true
	}
	if suffix, ok := strings.CutPrefix(nic, "br-"); ok && len(suffix) == 12 && strings.Trim(suffix, "0123456789abcdef") == "" {
		return true // a network of Docker
	}
	return slices.ContainsFunc([]string{"veth", "flannel.", "flannel-", "cali", "vxlan.calico", "vxlan-v6.calico", "cilium", "lxc", "virbr", "vnet", "vb-", "ifb", "kube-"}, func(prefix string) bool {
		return strings.HasPrefix(nic, prefix)
	})
}

func (f *facts) address(nic, cidr string) {
	prefix, err := netip.ParsePrefix(cidr)
	if err != nil || prefix.Addr().IsLinkLocalUnicast() || prefix.Addr().IsLoopback() {
		return
	}
	i := slices.IndexFunc(f.NICs, func(n v1alpha1.HostNIC) bool { return n.Name == nic })
	if i >= 0 && len(f.NICs[i].Addresses) < maxAddresses {
		f.NICs[i].Addresses = append(f.NICs[i].Addresses, prefix.String())
	}
}

// route reads a default route as ip prints it; a missing metric is 0, which wins. IPv4 wins over IPv6.
func (f *facts) route(family int64, words []string) {
	r := route{family: family}
	for i := 0; i+1 < len(words); i++ {
		switch words[i] {
		case "dev":
			r.nic = words[i+1]
		case "metric":
			r.metric = number(words[i+1], math.MaxInt32)
		}
	}
	if r.nic != "" && len(f.routes) < maxItems {
		f.routes = append(f.routes, r)
	}
}

// capabilities names the bits that deploying Kubernetes may need.
func capabilities(mask string) []string {
	bits, err := strconv.ParseUint(mask, 16, 64)
	if err != nil {
		return nil
	}
	var names []string
	for name, bit := range map[string]int{"CAP_CHOWN": 0, "CAP_DAC_OVERRIDE": 1, "CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13,
		"CAP_SYS_MODULE": 16, "CAP_SYS_CHROOT": 18, "CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21, "CAP_SYS_BOOT": 22,
		"CAP_SYS_RESOURCE": 24, "CAP_SYS_TIME": 25, "CAP_MKNOD": 27, "CAP_SYSLOG": 34, "CAP_PERFMON": 38, "CAP_BPF": 39} {
		if bits&(1<<bit) != 0 {
			names = append(names, name)
		}
	}
	return sorted(names)
}

// FormatBytes prints a size for people, with one digit after the point below 10: 3.9Gi, 16Gi, 512Mi.
func FormatBytes(n int64) string {
	units := []string{"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	text := strconv.FormatFloat(v, 'f', 1, 64)
	if v >= 10 {
		text = strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strings.TrimSuffix(text, ".0") + units[i]
}
