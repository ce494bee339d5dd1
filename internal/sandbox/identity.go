package sandbox

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
)

// identity is everything whose name must differ between two sandboxes on one machine. All of it follows from
// the directory's path alone, so that Down works even when the directory itself is gone.
type identity struct {
	dir    string
	digest [sha256.Size]byte
}

// identify resolves the directory, which need not exist yet.
func identify(dir string) (identity, error) {
	if dir == "" {
		return identity{}, errors.New("cannot use a sandbox without a directory")
	}
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return identity{}, fmt.Errorf("cannot resolve sandbox directory %s: %w", dir, err)
	}
	resolved, err := resolve(absolute)
	if err != nil {
		return identity{}, fmt.Errorf("cannot resolve sandbox directory %s: %w", dir, err)
	}
	return identity{dir: resolved, digest: sha256.Sum256([]byte(resolved))}, nil
}

// resolve follows symbolic links in the part of the path that exists, so that a path means the same before and
// after the directory is made.
func resolve(path string) (string, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if err == nil {
		return resolved, nil
	}
	if !errors.Is(err, fs.ErrNotExist) || filepath.Dir(path) == path {
		return "", err
	}
	parent, err := resolve(filepath.Dir(path))
	if err != nil {
		return "", err
	}
	return filepath.Join(parent, filepath.Base(path)), nil
}

// short is the part of the digest that names carry.
func (i identity) short() string { return hex.EncodeToString(i.digest[:4]) }

// bridge is the name of the network bridge, 11 characters (Linux allows 15).
func (i identity) bridge() string { return "sw-" + i.short() }

// bridgeMAC is fixed, because a bridge otherwise changes its address when ports come and go.
func (i identity) bridgeMAC() string {
	return fmt.Sprintf("02:%02x:%02x:%02x:%02x:%02x", i.digest[0], i.digest[1], i.digest[2], i.digest[3], i.digest[4])
}

// cgroup is the name of the sandbox's own subtree in each cgroup hierarchy.
func (i identity) cgroup() string { return "slipway-" + i.short() }

// machine is the container's name, unique on the machine where host names are not.
func (i identity) machine(host string) string { return "sw-" + i.short() + "-" + host }

// port is the machine's end of the host's network cable. nspawn shortens a name of more than 15 characters and keeps
// the long one as the link's other name, which ip takes as well.
func (i identity) port(host string) string { return "vb-" + i.machine(host) }

// unit is the transient service that runs a host on a machine with systemd.
func (i identity) unit(host string) string {
	return "slipway-sandbox-" + i.short() + "-" + host + ".service"
}

// chooseSubnet gives the first /24 of this identity that overlaps none of the taken networks. It stays within
// 10.128.0.0 to 10.223.255.255, clear of the usual pod and service networks.
func (i identity) chooseSubnet(taken []netip.Prefix) (netip.Prefix, error) {
	const tries = 64
	start := (int(i.digest[8])<<8 | int(i.digest[9])) % (96 * 256)
	for try := range tries {
		slot := (start + try*257) % (96 * 256)
		subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(128 + slot/256), byte(slot % 256), 0}), 24)
		if !overlapsAny(subnet, taken) {
			return subnet, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("cannot find a free /24 network for the sandbox in %d tries: every one overlaps a route of this machine", tries)
}

// overlapsAny ignores default routes, which overlap everything.
func overlapsAny(subnet netip.Prefix, taken []netip.Prefix) bool {
	for _, other := range taken {
		if other.Bits() > 0 && subnet.Overlaps(other) {
			return true
		}
	}
	return false
}

// addressIn gives the n-th address of a /24.
func addressIn(subnet netip.Prefix, n int) netip.Addr {
	bytes := subnet.Addr().As4()
	bytes[3] = byte(n)
	return netip.AddrFrom4(bytes)
}
