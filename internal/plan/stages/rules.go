package stages

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/step/precheck"
)

// System is an operating system that is supported, and what it must bring.
type System struct {
	// ID is the os-release ID.
	ID string `json:"id"`
	// Versions are values of VERSION_ID, or their beginning up to a dot.
	Versions []string `json:"versions"`
	// KernelMin is the oldest kernel release.
	KernelMin string `json:"kernelMin"`
	// Tools must all be there; of each list in AnyOf, one.
	Tools []string   `json:"tools"`
	AnyOf [][]string `json:"anyOf"`
}

// Check gives every rule that the input breaks; fresh are the hosts that are to become nodes.
func (in Input) Check(fresh []string) []precheck.Finding {
	c := checker{in: in.lent(), fresh: fresh}
	c.bundle()
	c.ownNetworks()
	c.majority()
	c.endpoint()
	c.settings()
	for _, name := range fresh {
		h, known := c.in.Hosts[name]
		if !known {
			c.notLent(name, v1alpha1.GrantHost, name)
			continue
		}
		if c.reachable(h) {
			c.machine(h)
			c.software(h)
			c.networks(h)
		}
	}
	c.together()
	return c.findings
}

type checker struct {
	in       Input
	fresh    []string
	findings []precheck.Finding
}

func (c *checker) add(host, rule, found, needed string) {
	c.findings = append(c.findings, precheck.Finding{Host: host, Rule: rule, Found: found, Needed: needed})
}

func (c *checker) bundle() {
	first := c.in.Spec.ControlPlane.Hosts[0]
	if version := c.in.Spec.Kubernetes.Version; !c.in.Lends(v1alpha1.GrantBundle, version) {
		c.notLent(first, v1alpha1.GrantBundle, version)
		return
	}
	if c.in.BundleProblem != "" || c.in.Bundle == nil {
		c.add(first, "bundle", cmp.Or(c.in.BundleProblem, "none"), "a verified, enabled Bundle "+c.in.Spec.Kubernetes.Version)
		return
	}
	for _, name := range c.fresh {
		h, known := c.in.Hosts[name]
		if !known || h.Status.Facts == nil {
			continue
		}
		arch := h.Status.Facts.Architecture
		if !slices.Contains(c.in.Bundle.Architectures, arch) {
			c.add(name, "architecture", arch, "one of the bundle's: "+strings.Join(c.in.Bundle.Architectures, ", "))
			continue
		}
		for _, role := range roles(c.in.Spec) {
			if _, ok := c.in.Bundle.Image(role, arch); !ok {
				c.add(name, "bundle", "no image for "+role+" on "+arch, "a complete bundle")
			}
		}
	}
}

// roles names the images that a cluster of this spec needs.
func roles(spec v1alpha1.ClusterSpec) []string {
	needed := []string{bundle.RoleKubeAPIServer, bundle.RoleKubeControllerManager, bundle.RoleKubeScheduler,
		bundle.RoleKubeProxy, bundle.RoleEtcd, bundle.RoleCoreDNS, bundle.RolePause, bundle.RoleFlannel}
	if spec.Endpoint.Provider == v1alpha1.EndpointKubeVIP {
		needed = append(needed, bundle.RoleKubeVIP)
	}
	return needed
}

// majority refuses a new cluster with an even number of control planes: one more than an odd number loses no more of them.
// A cluster that runs may have one for a while, on its way to another.
func (c *checker) majority() {
	if hosts := c.in.Spec.ControlPlane.Hosts; c.in.Applied == nil && len(hosts)%2 == 0 {
		c.add(hosts[0], "control-plane", fmt.Sprintf("%d control planes", len(hosts)), "one, three or five: etcd needs a majority")
	}
}

// endpoint checks that the address that moves among the control planes can be on each of them.
func (c *checker) endpoint() {
	if c.in.Spec.Endpoint.Provider != v1alpha1.EndpointKubeVIP {
		return
	}
	address, err := netip.ParseAddr(c.in.Spec.Endpoint.Host)
	if err != nil {
		c.add(c.in.Spec.ControlPlane.Hosts[0], "endpoint", c.in.Spec.Endpoint.Host, "a free IP in the network of the control planes")
		return
	}
	for _, name := range c.in.Spec.AllHosts() {
		h, known := c.in.Hosts[name]
		if !known || h.Status.Facts == nil {
			continue
		}
		if h.Status.InternalAddress == address.String() {
			c.add(name, "endpoint", "the endpoint "+address.String()+" is the host's own address", "a free IP in the network of the control planes")
		}
		if !slices.Contains(c.in.Spec.ControlPlane.Hosts, name) {
			continue
		}
		nic := nicOf(h.Status.Facts, h.Status.InternalAddress)
		if !slices.ContainsFunc(nic.Addresses, func(a string) bool { p, err := netip.ParsePrefix(a); return err == nil && p.Contains(address) }) {
			c.add(name, "endpoint", fmt.Sprintf("%s is not in the network of %s", address, h.Status.InternalAddress), "an endpoint in the network that all control planes share")
		}
	}
}

func (c *checker) reachable(h v1alpha1.Host) bool {
	if claim, claimed := c.in.Claims[h.Name]; claimed && claim.ClusterUID != c.in.UID {
		c.add(h.Name, "claim", "held by "+plan.HolderFor(c.in.Namespace, claim), "a free host")
		return false
	}
	if found := c.in.Unreachable(h.Name); found != "" {
		c.add(h.Name, "reachable", found, "a host that Slipway can log in to")
		return false
	}
	return true
}

// Unreachable says why a host cannot be worked on, or "".
func (in Input) Unreachable(name string) string {
	h := in.Hosts[name]
	found := "not seen yet"
	for _, condition := range h.Status.Conditions {
		if condition.Type == v1alpha1.HostReachable && condition.Status == "True" && h.Status.Facts != nil && h.Status.InternalAddress != "" {
			return ""
		}
	}
	for _, condition := range h.Status.Conditions {
		// Unique names other hosts, which may belong to others.
		if condition.Status != "True" && condition.Type != v1alpha1.HostUnique {
			return condition.Message
		}
	}
	return found
}

func (c *checker) machine(h v1alpha1.Host) {
	f, name := h.Status.Facts, h.Name
	minimum := minimumsOf(c.in.Precheck)
	least := minimum.worker
	if slices.Contains(c.in.Spec.ControlPlane.Hosts, name) {
		least = minimum.controlPlane
	}
	if f.CPUs < least.cpus {
		c.add(name, "cpu", fmt.Sprint(f.CPUs), fmt.Sprint(least.cpus))
	}
	if f.MemoryBytes < least.memory {
		c.add(name, "memory", host.FormatBytes(f.MemoryBytes), host.FormatBytes(least.memory))
	}
	for _, path := range []string{"/var/lib", "/usr"} {
		if free, known := f.FreeBytes[path]; known && free < minimum.free {
			c.add(name, "disk", fmt.Sprintf("%s free on %s", host.FormatBytes(free), path), host.FormatBytes(minimum.free))
		}
	}
	if c.in.ServerMachineID != "" && f.MachineID == c.in.ServerMachineID {
		c.add(name, "server", "the machine Slipway's server runs on", "another machine: a node must not share it")
	}
	if skew := max(f.ClockSkewMillis, -f.ClockSkewMillis); skew > minimum.skew {
		c.add(name, "clock", fmt.Sprintf("%.1f s off the server's clock", float64(f.ClockSkewMillis)/1000),
			fmt.Sprintf("at most %.1f s; set Setting ntp or the host's time service", float64(minimum.skew)/1000))
	}
}

func (c *checker) software(h v1alpha1.Host) {
	f, name, setup := h.Status.Facts, h.Name, c.in.Spec.HostSetup
	i := slices.IndexFunc(c.in.Systems, func(s System) bool { return s.supports(f.OS) })
	if i < 0 {
		c.add(name, "os", f.OS.Name, "a supported operating system: "+systemNames(c.in.Systems))
	} else {
		c.system(h, c.in.Systems[i])
	}
	if f.Swap && !setup.DisableSwap {
		c.add(name, "swap", "on", "off; or set hostSetup.disableSwap")
	}
	if f.Firewall != "" && !setup.DisableFirewall {
		c.add(name, "firewall", f.Firewall+" is active", "none; or set hostSetup.disableFirewall")
	}
	if f.SELinux == "Enforcing" && !setup.PermissiveSELinux {
		c.add(name, "selinux", "enforcing", "permissive or disabled; or set hostSetup.permissiveSELinux")
	}
	for _, feature := range []string{"overlay", "vxlan", "bridge"} {
		if !slices.Contains(f.KernelFeatures, feature) {
			c.add(name, "kernel", "no "+feature, "a kernel with "+feature)
		}
	}
	if c.in.Spec.Network.KubeProxyMode == "nftables" && !slices.Contains(f.KernelFeatures, "nf_tables") {
		c.add(name, "kernel", "no nf_tables", "a kernel with nf_tables, or kubeProxyMode iptables")
	}
}

// system checks what the operating system must bring.
func (c *checker) system(h v1alpha1.Host, s System) {
	f := h.Status.Facts
	if olderKernel(f.Kernel, s.KernelMin) {
		c.add(h.Name, "kernel", f.Kernel, s.KernelMin+" or newer")
	}
	for _, tool := range s.Tools {
		if !slices.Contains(f.Tools, tool) {
			c.add(h.Name, "tool", "no "+tool, tool+" installed")
		}
	}
	for _, any := range s.AnyOf {
		if !slices.ContainsFunc(any, func(tool string) bool { return slices.Contains(f.Tools, tool) }) {
			c.add(h.Name, "tool", "none of "+strings.Join(any, ", "), "one of them installed")
		}
	}
}

// ownNetworks checks the cluster's two networks against each other.
func (c *checker) ownNetworks() {
	pods, podErr := netip.ParsePrefix(c.in.Spec.Network.PodCIDR)
	services, serviceErr := netip.ParsePrefix(c.in.Spec.Network.ServiceCIDR)
	if podErr == nil && serviceErr == nil && pods.Overlaps(services) {
		c.add(c.in.Spec.ControlPlane.Hosts[0], "network", fmt.Sprintf("the pod network %s overlaps the service network %s", pods, services),
			"networks that do not overlap")
	}
}

func (c *checker) networks(h v1alpha1.Host) {
	pods, podErr := netip.ParsePrefix(c.in.Spec.Network.PodCIDR)
	services, serviceErr := netip.ParsePrefix(c.in.Spec.Network.ServiceCIDR)
	if podErr != nil || serviceErr != nil {
		c.add(h.Name, "network", c.in.Spec.Network.PodCIDR+" and "+c.in.Spec.Network.ServiceCIDR, "two networks in CIDR form")
		return
	}
	for _, nic := range h.Status.Facts.NICs {
		for _, address := range nic.Addresses {
			own, err := netip.ParsePrefix(address)
			if err != nil {
				continue
			}
			if own.Overlaps(pods) {
				c.add(h.Name, "network", fmt.Sprintf("%s on %s overlaps the pod network %s", own.Masked(), nic.Name, pods), "networks that do not overlap")
			}
			if own.Overlaps(services) {
				c.add(h.Name, "network", fmt.Sprintf("%s on %s overlaps the service network %s", own.Masked(), nic.Name, services), "networks that do not overlap")
			}
		}
	}
}

// together checks what hosts must have in common, and what they must not share.
func (c *checker) together() {
	first := map[string]string{}
	// Those that are nodes already set what the others must have.
	names := slices.DeleteFunc(c.in.Spec.AllHosts(), func(name string) bool { return slices.Contains(c.fresh, name) })
	names = append(names, c.fresh...)
	for _, name := range names {
		h, known := c.in.Hosts[name]
		if !known || h.Status.Facts == nil {
			continue
		}
		for _, same := range []struct{ rule, value string }{{"region", h.Spec.Region}, {"time-zone", h.Status.Facts.TimeZone}} {
			if have, seen := first[same.rule]; !seen {
				first[same.rule] = same.value
			} else if have != same.value {
				c.add(name, same.rule, fmt.Sprintf("%q", same.value), fmt.Sprintf("%q, as on %s", have, names[0]))
			}
		}
		for _, unique := range []struct{ rule, value string }{{"machine-id", h.Status.Facts.MachineID}, {"address", h.Status.InternalAddress}} {
			key := unique.rule + unique.value
			if other, seen := first[key]; seen {
				c.add(name, unique.rule, unique.value+", as on "+other, "a machine of its own")
			}
			first[key] = name
		}
		if name == c.in.Name {
			c.add(name, "name", "the cluster has the name of a host", "another cluster name")
		}
	}
}

func (s System) supports(os v1alpha1.HostOS) bool {
	return s.ID == os.ID && slices.ContainsFunc(s.Versions, func(v string) bool {
		return v == os.Version || strings.HasPrefix(os.Version, v+".")
	})
}

func systemNames(systems []System) string {
	var names []string
	for _, s := range systems {
		names = append(names, s.ID+" "+strings.Join(s.Versions, "/"))
	}
	return strings.Join(names, ", ")
}

// olderKernel compares the leading numbers of two kernel releases.
func olderKernel(have, least string) bool {
	split := func(release string) []int {
		var numbers []int
		for _, f := range strings.FieldsFunc(release, func(r rune) bool { return r == '.' || r == '-' }) {
			n, err := strconv.Atoi(f)
			if err != nil {
				break
			}
			numbers = append(numbers, n)
		}
		return numbers
	}
	return slices.Compare(split(have), split(least)) < 0
}

func isIP(s string) bool { return net.ParseIP(s) != nil }

func sshAddress(h v1alpha1.Host) string {
	port := h.Spec.Port
	if port == 0 {
		port = 22
	}
	return net.JoinHostPort(h.Status.InternalAddress, strconv.Itoa(int(port)))
}
