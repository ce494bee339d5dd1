// Package reset owns the steps that give a host back as it was found.
// It must never fail because something is already gone, and it removes only what a cluster of ours put there.
package reset

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

const (
	kubeadm   = "/usr/local/bin/kubeadm"
	criSocket = "/run/containerd/containerd.sock"
)

// Kubernetes stops everything of Kubernetes on a host: kubelet, pods, container runtime.
type Kubernetes struct{}

// ID is stored in plans.
func (Kubernetes) ID() step.ID { return "reset.kubernetes/v1" }

func units() []string { return []string{"kubelet.service", "containerd.service"} }

// Check asks for units that run or start at boot, container processes, mounts and network namespaces of pods.
func (Kubernetes) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	var drift step.Drift
	states, err := host.QueryUnits(ctx, r, units()...)
	if err != nil {
		return nil, err
	}
	for _, u := range states {
		switch {
		case u.ActiveState != "inactive" && u.ActiveState != "failed":
			drift.Want(u.ID, u.ActiveState, "stopped")
		case u.UnitFileState == "enabled":
			drift.Want(u.ID+" at boot", u.UnitFileState, "disabled")
		}
	}
	shims, err := host.QueryProcesses(ctx, r, "containerd-shim-runc-v2")
	if err != nil {
		return nil, err
	}
	if len(shims) > 0 {
		drift.Want("container processes", fmt.Sprint(len(shims)), "none")
	}
	mounts, err := ourMounts(ctx, r)
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		drift.Want("mount "+m, "mounted", "unmounted")
	}
	namespaces, err := podNamespaces(ctx, r)
	if err != nil {
		return nil, err
	}
	for _, n := range namespaces {
		drift.Want(n, "present", "absent")
	}
	return drift, nil
}

// Apply lets kubeadm reset what it made, stops the units, ends container processes and unmounts what is left.
func (Kubernetes) Apply(ctx context.Context, w step.Writer) error {
	info, err := w.Stat(ctx, kubeadm, criSocket, "/etc/kubernetes")
	if err != nil {
		return fmt.Errorf("cannot look for Kubernetes: %w", err)
	}
	if info[0].Exists && info[1].Exists && info[2].Exists {
		argv := []string{kubeadm, "reset", "--force", "--cri-socket", "unix://" + criSocket}
		if _, err := w.Run(ctx, host.Command{Argv: argv}); err != nil && !isCommandError(err) {
			return fmt.Errorf("cannot reset Kubernetes: %w", err)
		}
	}
	states, err := host.QueryUnits(ctx, w, units()...)
	if err != nil {
		return err
	}
	for _, u := range states {
		if u.LoadState != "loaded" {
			continue
		}
		if _, err := w.Run(ctx, host.Command{Argv: []string{"systemctl", "disable", "--now", u.ID}}); err != nil {
			return fmt.Errorf("cannot stop %s: %w", u.ID, err)
		}
	}
	if err := endContainers(ctx, w); err != nil {
		return err
	}
	mounts, err := ourMounts(ctx, w)
	if err != nil {
		return err
	}
	// The deepest go first.
	slices.Sort(mounts)
	slices.Reverse(mounts)
	for _, m := range mounts {
		if _, err := w.Run(ctx, host.Command{Argv: []string{"umount", "--lazy", m}}); err != nil && !isCommandError(err) {
			return fmt.Errorf("cannot unmount %s: %w", m, err)
		}
	}
	namespaces, err := podNamespaces(ctx, w)
	if err != nil {
		return err
	}
	if err := w.Remove(ctx, namespaces...); err != nil {
		return fmt.Errorf("cannot remove the network namespaces of pods: %w", err)
	}
	return nil
}

// podNamespaces lists the files on which the runtime mounts the network namespaces of pods.
func podNamespaces(ctx context.Context, r host.Reader) ([]string, error) {
	files, err := host.QueryTree(ctx, r, "/run/netns")
	if err != nil {
		return nil, err
	}
	var found []string
	for _, f := range files {
		if strings.HasPrefix(f.Path, "/run/netns/cni-") {
			found = append(found, f.Path)
		}
	}
	return found, nil
}

// endContainers kills what runs in a pod's cgroup or below a shim: a shim that is killed leaves its container behind.
func endContainers(ctx context.Context, w step.Writer) error {
	pids, err := host.QueryContainerProcesses(ctx, w)
	if err != nil {
		return err
	}
	if len(pids) == 0 {
		return nil
	}
	argv := []string{"kill", "-KILL"}
	for _, p := range pids {
		argv = append(argv, fmt.Sprint(p.PID))
	}
	// Some may have ended in between; Check decides.
	if _, err := w.Run(ctx, host.Command{Argv: argv}); err != nil && !isCommandError(err) {
		return fmt.Errorf("cannot end container processes: %w", err)
	}
	return nil
}

func ourMounts(ctx context.Context, r host.Reader) ([]string, error) {
	all, err := host.QueryMounts(ctx, r)
	if err != nil {
		return nil, err
	}
	var ours []string
	for _, m := range all {
		for _, prefix := range []string{"/var/lib/kubelet/", "/run/containerd/", "/run/netns/cni-", "/var/run/netns/cni-"} {
			if strings.HasPrefix(m.Path, prefix) {
				ours = append(ours, m.Path)
			}
		}
	}
	return ours, nil
}

func isCommandError(err error) bool {
	var c *host.CommandError
	return errors.As(err, &c)
}

// Network removes the links, routes and firewall rules of the pod network and of kube-proxy, and the address of the cluster.
type Network struct {
	// Endpoint is the IP that moved among the control planes; "" when there was none.
	Endpoint string `json:"endpoint,omitempty"`
	// PodCIDR is the pod network, to which flannel's host-gw backend makes routes; "" leaves routes alone.
	PodCIDR string `json:"podCIDR,omitempty"`
}

// ID is stored in plans.
func (Network) ID() step.ID { return "reset.network/v1" }

// Check looks for links, tables and chains.
func (n Network) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	var drift step.Drift
	links, err := ourLinks(ctx, r)
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		drift.Want("link "+l, "present", "absent")
	}
	left, err := n.left(ctx, r)
	if err != nil {
		return nil, err
	}
	for _, argv := range left {
		drift.Want(strings.Join(argv[1:], " "), "not done", "done")
	}
	tables, err := newTables(ctx, r)
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		drift.Want("firewall table "+t, "present", "absent")
	}
	for _, program := range []string{"iptables", "ip6tables"} {
		saved, err := host.QueryIPTables(ctx, r, program)
		if err != nil {
			return nil, err
		}
		if withoutChains(saved) != saved {
			drift.Want(program, "has chains of Kubernetes", "has none")
		}
	}
	return drift, nil
}

// left gives the commands that remove the addresses and routes which are still there.
func (n Network) left(ctx context.Context, r host.Reader) ([][]string, error) {
	var commands [][]string
	if endpoint, err := netip.ParseAddr(n.Endpoint); err == nil {
		links, err := host.QueryLinks(ctx, r)
		if err != nil {
			return nil, err
		}
		own := netip.PrefixFrom(endpoint, endpoint.BitLen())
		for _, l := range links {
			if slices.Contains(l.Addresses, own) {
				commands = append(commands, []string{"ip", "address", "delete", own.String(), "dev", l.Name})
			}
		}
	}
	pods, err := netip.ParsePrefix(n.PodCIDR)
	if err != nil {
		return commands, nil
	}
	routes, err := host.QueryRoutes(ctx, r)
	if err != nil {
		return nil, err
	}
	for _, route := range routes {
		if pods.Bits() < route.Bits() && pods.Overlaps(route) {
			commands = append(commands, []string{"ip", "route", "delete", route.String()})
		}
	}
	return commands, nil
}

// Apply removes them.
func (n Network) Apply(ctx context.Context, w step.Writer) error {
	left, err := n.left(ctx, w)
	if err != nil {
		return err
	}
	for _, argv := range left {
		if _, err := w.Run(ctx, host.Command{Argv: argv}); err != nil && !isCommandError(err) {
			return fmt.Errorf("cannot run %s: %w", strings.Join(argv, " "), err)
		}
	}
	links, err := ourLinks(ctx, w)
	if err != nil {
		return err
	}
	for _, l := range links {
		if _, err := w.Run(ctx, host.Command{Argv: []string{"ip", "link", "delete", l}}); err != nil && !isCommandError(err) {
			return fmt.Errorf("cannot delete link %s: %w", l, err)
		}
	}
	for _, program := range []string{"iptables", "ip6tables"} {
		saved, err := host.QueryIPTables(ctx, w, program)
		if err != nil {
			return err
		}
		if kept := withoutChains(saved); kept != saved {
			c := host.Command{Argv: []string{program + "-restore"}, Stdin: strings.NewReader(kept)}
			if _, err := w.Run(ctx, c); err != nil {
				return fmt.Errorf("cannot remove the rules of Kubernetes with %s-restore: %w", program, err)
			}
		}
	}
	tables, err := newTables(ctx, w)
	if err != nil {
		return err
	}
	for _, t := range tables {
		if _, err := w.Run(ctx, host.Command{Argv: append([]string{"nft", "delete", "table"}, strings.Fields(t)...)}); err != nil && !isCommandError(err) {
			return fmt.Errorf("cannot delete firewall table %s: %w", t, err)
		}
	}
	return nil
}

func ourLinks(ctx context.Context, r host.Reader) ([]string, error) {
	veth := regexp.MustCompile(`^veth[0-9a-f]{8}$`) // As the CNI bridge plugin names them.
	all, err := host.QueryLinks(ctx, r)
	if err != nil {
		return nil, err
	}
	var ours []string
	for _, l := range all {
		// A veth goes with its pod's namespace; one whose namespace was lost is removed here.
		if l.Name == "cni0" || l.Name == "flannel.1" || (l.Kind == "veth" && veth.MatchString(l.Name)) {
			ours = append(ours, l.Name)
		}
	}
	return ours, nil
}

// newTables lists the nft tables of kube-proxy and iptables that were not there before the host joined its cluster.
// Without a record only kube-proxy's own tables are known to be ours; a table of another name is somebody else's.
func newTables(ctx context.Context, r host.Reader) ([]string, error) {
	now, err := host.QueryTables(ctx, r)
	if err != nil {
		return nil, err
	}
	record, err := host.ReadIfExists(ctx, r, step.BeforeTables)
	if err != nil {
		return nil, err
	}
	before := strings.Split(string(record), "\n")
	var tables []string
	for _, t := range now {
		if strings.HasSuffix(t, " kube-proxy") || (record != nil && ofIPTables(t) && !slices.Contains(before, t)) {
			tables = append(tables, t)
		}
	}
	return tables, nil
}

// ofIPTables says whether iptables' nft back end makes a table of that name.
func ofIPTables(table string) bool {
	family, name, _ := strings.Cut(table, " ")
	return slices.Contains([]string{"ip", "ip6"}, family) && slices.Contains([]string{"filter", "nat", "mangle", "raw", "security"}, name)
}

// withoutChains takes every chain of Kubernetes, flannel and the CNI plugins, and every rule that leads to one, out of an
// iptables dump. A comment that only names one is no reason.
func withoutChains(saved string) string {
	lines := strings.Split(saved, "\n")
	return strings.Join(slices.DeleteFunc(lines, func(line string) bool {
		words := strings.Fields(line)
		for i, word := range words {
			switch {
			case i == 0 && strings.HasPrefix(word, ":") && isOurChain(word[1:]):
				return true
			case i > 0 && slices.Contains([]string{"-A", "-j", "-g"}, words[i-1]) && isOurChain(word):
				return true
			}
		}
		return false
	}), "\n")
}

func isOurChain(name string) bool {
	return slices.ContainsFunc([]string{"KUBE-", "FLANNEL-", "CNI-"}, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}
