package host

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"slipway.dev/slipway/api/v1alpha1"
)

// internalAddress gives the address that the cluster uses: spec.internalAddress when the machine has it, else
// the address that spec.address means there, else one of the NIC with the default route, else that of the only
// NIC. It is empty when none can be told.
func internalAddress(h *v1alpha1.Host, f *finding) string {
	all := addresses(f.facts.NICs)
	if h.Spec.InternalAddress != "" {
		return among(all, parse(h.Spec.InternalAddress))
	}
	if found := among(all, append(parse(h.Spec.Address), f.resolved...)); found != "" {
		return found
	}
	// A name that cannot be looked up for once must not move the address of a node.
	if old := h.Status.InternalAddress; f.resolved == nil && parse(h.Spec.Address) == nil && h.Status.ObservedGeneration == h.Generation {
		if found := among(all, parse(old)); found != "" {
			return found
		}
	}
	carrying := slices.DeleteFunc(slices.Clone(f.facts.NICs), func(n v1alpha1.HostNIC) bool { return len(n.Addresses) == 0 })
	for _, nic := range carrying {
		if nic.Name == f.facts.DefaultRouteNIC || len(carrying) == 1 {
			return preferred(addresses([]v1alpha1.HostNIC{nic}))
		}
	}
	return ""
}

func parse(text string) []netip.Addr {
	address, err := netip.ParseAddr(text)
	if err != nil {
		return nil
	}
	return []netip.Addr{address.Unmap()}
}

func addresses(nics []v1alpha1.HostNIC) []netip.Addr {
	var found []netip.Addr
	for _, nic := range nics {
		for _, text := range nic.Addresses {
			if prefix, err := netip.ParsePrefix(text); err == nil {
				found = append(found, prefix.Addr().Unmap())
			}
		}
	}
	return found
}

// among gives the first wanted address that the machine has.
func among(all, wanted []netip.Addr) string {
	return preferred(slices.DeleteFunc(slices.Clone(wanted), func(a netip.Addr) bool { return !slices.Contains(all, a.Unmap()) }))
}

// preferred gives the first IPv4 address, else the first.
func preferred(list []netip.Addr) string {
	for _, a := range list {
		if a.Unmap().Is4() {
			return a.Unmap().String()
		}
	}
	if len(list) == 0 {
		return ""
	}
	return list[0].String()
}

func missingAddress(h *v1alpha1.Host, facts *v1alpha1.HostFacts) string {
	var has []string
	for _, a := range addresses(facts.NICs) {
		has = append(has, a.String())
	}
	list := strings.Join(has, ", ")
	if list == "" {
		list = "none"
	}
	if h.Spec.InternalAddress != "" {
		return fmt.Sprintf("spec.internalAddress %s is on no network card of the machine, whose addresses are %s; set one of those", h.Spec.InternalAddress, list)
	}
	return fmt.Sprintf("cannot tell which address the cluster should use, as %s is on no network card and there is no default route; set spec.internalAddress to one of %s", h.Spec.Address, list)
}

// endpoint gives where a Host's sshd is, the same text for the same place.
func endpoint(h *v1alpha1.Host) string {
	name, port := strings.ToLower(h.Spec.Address), int(h.Spec.Port)
	if address, err := netip.ParseAddr(name); err == nil {
		name = address.Unmap().String()
	}
	if port == 0 {
		port = 22
	}
	return net.JoinHostPort(name, strconv.Itoa(port))
}
