package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const pollInterval = 50 * time.Millisecond

// takenNetworks lists every IPv4 network this machine has a route to.
func takenNetworks(ctx context.Context) ([]netip.Prefix, error) {
	output, err := run(ctx, nil, "ip", "-json", "-4", "route", "show", "table", "all")
	if err != nil {
		return nil, err
	}
	return parseRoutes(output)
}

// parseRoutes reads `ip -json route`; a destination is a network, a single address or "default".
func parseRoutes(output []byte) ([]netip.Prefix, error) {
	var routes []struct {
		Destination string `json:"dst"`
	}
	if err := json.Unmarshal(output, &routes); err != nil {
		return nil, fmt.Errorf("cannot read the machine's routes: %w", err)
	}
	var networks []netip.Prefix
	for _, route := range routes {
		if prefix, err := netip.ParsePrefix(route.Destination); err == nil {
			networks = append(networks, prefix)
		} else if address, err := netip.ParseAddr(route.Destination); err == nil {
			networks = append(networks, netip.PrefixFrom(address, address.BitLen()))
		}
	}
	return networks, nil
}

// ensureBridge makes the bridge, gives the machine the first address on it and opens the machine's own packet
// filter for it where there is one.
func ensureBridge(ctx context.Context, id identity, subnet netip.Prefix) error {
	bridge := id.bridge()
	if !bridgeExists(bridge) {
		if _, err := run(ctx, nil, "ip", "link", "add", "name", bridge, "address", id.bridgeMAC(), "type", "bridge", "forward_delay", "0"); err != nil && !bridgeExists(bridge) {
			return fmt.Errorf("cannot make bridge %s: %w", bridge, err)
		}
	}
	address := netip.PrefixFrom(addressIn(subnet, 1), subnet.Bits()).String()
	for _, argv := range [][]string{
		{"ip", "link", "set", "dev", bridge, "alias", aliasOf(id.dir)},
		{"ip", "address", "replace", address, "dev", bridge},
		{"ip", "link", "set", "dev", bridge, "up"},
	} {
		if _, err := run(ctx, nil, argv...); err != nil {
			return fmt.Errorf("cannot set up bridge %s: %w", bridge, err)
		}
	}
	return openFilter(ctx, bridge)
}

// aliasOf says in `ip link` whose bridge it is; Linux allows 255 characters.
func aliasOf(dir string) string {
	alias := "slipway sandbox " + dir
	return alias[:min(len(alias), 250)]
}

func bridgeExists(bridge string) bool {
	_, err := os.Stat(filepath.Join("/sys/class/net", bridge))
	return err == nil
}

// removeBridge removes the bridge with what is left of its hosts' ports. The kernel drops a port only with the host's
// network, and dying connections of a cluster can hold that for minutes.
func removeBridge(ctx context.Context, id identity) error {
	bridge := id.bridge()
	if err := closeFilter(ctx, bridge); err != nil {
		return err
	}
	if !bridgeExists(bridge) {
		return nil
	}
	ports, err := os.ReadDir(filepath.Join("/sys/class/net", bridge, "brif"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot list the ports of bridge %s: %w", bridge, err)
	}
	for _, port := range ports {
		if err := removePort(ctx, port.Name()); err != nil {
			return err
		}
	}
	if _, err := run(ctx, nil, "ip", "link", "delete", "dev", bridge, "type", "bridge"); err != nil {
		return fmt.Errorf("cannot remove bridge %s: %w", bridge, err)
	}
	return nil
}

// removePort removes one end of a cable to a host by its name or other name, the other end with it. That the port
// is gone already is well.
func removePort(ctx context.Context, port string) error {
	_, err := run(ctx, nil, "ip", "link", "delete", "dev", port)
	if err == nil {
		return nil
	}
	if _, gone := run(ctx, nil, "ip", "link", "show", "dev", port); gone != nil {
		return nil //nolint:nilerr // What was asked for holds.
	}
	return fmt.Errorf("cannot remove network port %s: %w", port, err)
}

// filterRules are what a machine with a packet filter of its own needs, so that hosts reach each other and the
// machine. Bridged packets pass the FORWARD chain when br_netfilter is loaded.
func filterRules(bridge string) [][]string {
	return [][]string{
		{"FORWARD", "-i", bridge, "-o", bridge, "-m", "comment", "--comment", "slipway sandbox", "-j", "ACCEPT"},
		{"INPUT", "-i", bridge, "-m", "comment", "--comment", "slipway sandbox", "-j", "ACCEPT"},
	}
}

// openFilter adds a rule only to a chain that has rules or a policy that could drop; an unused filter stays unused.
func openFilter(ctx context.Context, bridge string) error {
	if _, err := findTool("iptables"); err != nil {
		return nil //nolint:nilerr // A machine without iptables has no chain of its to open.
	}
	for _, rule := range filterRules(bridge) {
		chain, err := run(ctx, nil, "iptables", "-w", "-S", rule[0])
		if err != nil {
			return fmt.Errorf("cannot read chain %s: %w", rule[0], err)
		}
		if !guarded(string(chain)) || hasRule(ctx, rule) {
			continue
		}
		if _, err := run(ctx, nil, append([]string{"iptables", "-w", "-I"}, rule...)...); err != nil {
			return fmt.Errorf("cannot open chain %s for bridge %s: %w", rule[0], bridge, err)
		}
	}
	return nil
}

func closeFilter(ctx context.Context, bridge string) error {
	if _, err := findTool("iptables"); err != nil {
		return nil //nolint:nilerr // Without iptables no rule was ever added.
	}
	for _, rule := range filterRules(bridge) {
		for hasRule(ctx, rule) {
			if _, err := run(ctx, nil, append([]string{"iptables", "-w", "-D"}, rule...)...); err != nil {
				return fmt.Errorf("cannot remove the rule for bridge %s: %w", bridge, err)
			}
		}
	}
	return nil
}

func hasRule(ctx context.Context, rule []string) bool {
	_, err := run(ctx, nil, append([]string{"iptables", "-w", "-C"}, rule...)...)
	return err == nil
}

// guarded says whether a chain, as `iptables -S` prints it, could drop anything.
func guarded(chain string) bool {
	for line := range strings.Lines(chain) {
		line = strings.TrimSpace(line)
		if line != "" && (!strings.HasPrefix(line, "-P ") || !strings.HasSuffix(line, " ACCEPT")) {
			return true
		}
	}
	return false
}

// waitUntil asks again and again, for facts of the kernel that announce themselves to nobody.
func waitUntil(ctx context.Context, limit time.Duration, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		ok, err := done()
		if err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}
