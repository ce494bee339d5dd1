package host

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Mount is one mount of a host.
type Mount struct {
	// Path is the mount point.
	Path string
	// Type is the kind of file system, such as ext4, tmpfs or overlay.
	Type string
	// Source is the device or other source.
	Source string
	// Root is the directory of the file system that is mounted; other than "/" for a bind mount.
	Root string
	// Options are those of the mount, such as ro and nosuid.
	Options []string
}

// DecodeMounts gives the mounts in the order they were made.
func DecodeMounts(r Result) ([]Mount, error) {
	if err := complete("mounts", r); err != nil {
		return nil, err
	}
	var mounts []Mount
	for line := range strings.Lines(string(r.Stdout)) {
		before, after, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		head, tail := strings.Fields(before), strings.Fields(after)
		if !ok || len(head) < 6 || len(tail) < 2 {
			return nil, fmt.Errorf("cannot read mounts: %q is no line of mountinfo", Clean(line, 100))
		}
		mounts = append(mounts, Mount{Path: unescape(head[4]), Root: unescape(head[3]), Options: strings.Split(head[5], ","),
			Type: tail[0], Source: unescape(tail[1])})
	}
	return mounts, nil
}

// unescape undoes the kernel's \ooo escapes.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// DecodeListening gives the TCP addresses that are listened on, without duplicates, by port.
func DecodeListening(r Result) ([]netip.AddrPort, error) {
	if err := complete("listening ports", r); err != nil {
		return nil, err
	}
	var found []netip.AddrPort
	for line := range strings.Lines(string(r.Stdout)) {
		fields := strings.Fields(line)
		if len(fields) < 4 || fields[3] != "0A" {
			return nil, fmt.Errorf("cannot read listening ports: %q is no listening socket", Clean(line, 100))
		}
		address, err := decodeSocket(fields[1])
		if err != nil {
			return nil, fmt.Errorf("cannot read listening ports: %w", err)
		}
		found = append(found, address)
	}
	slices.SortFunc(found, func(a, b netip.AddrPort) int {
		if a.Port() != b.Port() {
			return int(a.Port()) - int(b.Port())
		}
		return a.Addr().Compare(b.Addr())
	})
	return slices.Compact(found), nil
}

// decodeSocket reads the kernel's HEXADDRESS:HEXPORT, whose address is made of little-endian words.
func decodeSocket(s string) (netip.AddrPort, error) {
	text, portText, _ := strings.Cut(s, ":")
	raw, err := hex.DecodeString(text)
	port, portErr := strconv.ParseUint(portText, 16, 16)
	if err != nil || portErr != nil || (len(raw) != 4 && len(raw) != 16) {
		return netip.AddrPort{}, fmt.Errorf("%q is no socket address", Clean(s, 100))
	}
	for i := 0; i < len(raw); i += 4 {
		slices.Reverse(raw[i : i+4])
	}
	address, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(address.Unmap(), uint16(port)), nil
}

// Link is one network link with its addresses.
type Link struct {
	Name string
	// Kind is veth, bridge, vxlan and so on; empty for a physical card.
	Kind string
	MAC  string
	MTU  int
	// Up says that the link is switched on.
	Up        bool
	Addresses []netip.Prefix
}

// DecodeLinks gives the network links in the kernel's order.
func DecodeLinks(r Result) ([]Link, error) {
	if err := complete("links", r); err != nil {
		return nil, err
	}
	var raw []struct {
		Name     string   `json:"ifname"`
		MAC      string   `json:"address"`
		MTU      int      `json:"mtu"`
		Flags    []string `json:"flags"`
		LinkInfo struct {
			Kind string `json:"info_kind"`
		} `json:"linkinfo"`
		Addresses []struct {
			Local  string `json:"local"`
			Prefix int    `json:"prefixlen"`
		} `json:"addr_info"`
	}
	if err := json.Unmarshal(r.Stdout, &raw); err != nil {
		return nil, fmt.Errorf("cannot read links: %w", err)
	}
	var links []Link
	for _, l := range raw {
		if l.Name == "" {
			continue
		}
		link := Link{Name: Clean(l.Name, 64), Kind: Clean(l.LinkInfo.Kind, 64), MAC: Clean(l.MAC, 64), MTU: l.MTU, Up: slices.Contains(l.Flags, "UP")}
		for _, a := range l.Addresses {
			address, err := netip.ParseAddr(a.Local)
			if err != nil {
				return nil, fmt.Errorf("cannot read links: %q is no address", Clean(a.Local, 100))
			}
			link.Addresses = append(link.Addresses, netip.PrefixFrom(address, a.Prefix))
		}
		links = append(links, link)
	}
	return links, nil
}

// DecodeRules gives the lines of iptables-save that say something: no comments, no counters.
func DecodeRules(r Result) ([]string, error) {
	if err := complete("firewall rules", r); err != nil {
		return nil, err
	}
	var rules []string
	for line := range strings.SplitSeq(string(r.Stdout), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		if line[0] == ':' {
			line, _, _ = strings.Cut(line, " [")
		}
		rules = append(rules, line)
	}
	return rules, nil
}

// DecodeAddresses gives the addresses that a name resolves to, without duplicates, in the resolver's order.
func DecodeAddresses(r Result) ([]netip.Addr, error) {
	if err := complete("addresses", r); err != nil {
		return nil, err
	}
	var found []netip.Addr
	for line := range strings.Lines(string(r.Stdout)) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		address, err := netip.ParseAddr(fields[0])
		if err != nil {
			return nil, fmt.Errorf("cannot read addresses: %q is none", Clean(fields[0], 100))
		}
		// A zone is any text, and says nothing outside of the host.
		if address = address.Unmap().WithZone(""); !slices.Contains(found, address) {
			found = append(found, address)
		}
	}
	return found, nil
}

// DecodeReach says whether the connection opened; if not, detail says what happened instead.
func DecodeReach(r Result) (open bool, detail string) {
	last := lastLine(r.Stdout)
	if last == "open" {
		return true, ""
	}
	if i := strings.LastIndex(last, ": "); i >= 0 {
		last = last[i+2:]
	}
	return false, Clean(last, 200)
}
