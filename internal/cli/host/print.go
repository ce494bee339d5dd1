package host

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

func printList(deps output.Deps, connection *output.Connection, format output.Format, list *v1alpha1.HostList) error {
	out := deps.Streams.Out
	if format.Machine() {
		return output.PrintList(out, format, list, connection.Client.Scheme())
	}
	if len(list.Items) == 0 {
		_, err := fmt.Fprintln(deps.Streams.ErrOut, "No hosts. Add one: slipway host add NAME --address A --user U --key FILE")
		return err
	}
	wide := format == output.FormatWide
	heading := []string{"NAME", "ADDRESS", "REACHABLE", "REASON", "CLUSTER", "CPUS", "MEMORY", "OS"}
	if wide {
		heading = append(heading, "INTERNAL", "REGION", "ARCH", "KERNEL", "SKEW")
	}
	rows := [][]string{append(heading, "AGE")}
	for i := range list.Items {
		rows = append(rows, row(&list.Items[i], wide, output.Age(deps.Clock(), list.Items[i].CreationTimestamp)))
	}
	return output.Table(out, "", rows...)
}

func row(host *v1alpha1.Host, wide bool, age string) []string {
	status, reason := "Unknown", ""
	if c := meta.FindStatusCondition(host.Status.Conditions, v1alpha1.HostReachable); c != nil {
		status, reason = string(c.Status), c.Reason
	}
	cells := []string{host.Name, host.Spec.Address, status, reason, holder(host), "", "", ""}
	facts := host.Status.Facts
	if facts != nil {
		cells[5], cells[6], cells[7] = strconv.Itoa(int(facts.CPUs)), facts.Memory, facts.OS.Name
	}
	if wide {
		cells = append(cells, host.Status.InternalAddress, host.Spec.Region)
		if facts != nil {
			cells = append(cells, facts.Architecture, facts.Kernel, skew(facts))
		} else {
			cells = append(cells, "", "", "")
		}
	}
	return append(cells, age)
}

func holder(host *v1alpha1.Host) string {
	if host.Status.Holder == nil {
		return ""
	}
	return host.Status.Holder.Cluster
}

func skew(facts *v1alpha1.HostFacts) string { return fmt.Sprintf("%dms", facts.ClockSkewMillis) }

// printHost prints conditions and facts, then the hints that follow from them.
func printHost(deps output.Deps, host *v1alpha1.Host) error {
	out := deps.Streams.Out
	head := [][]string{
		{"name:", host.Name},
		{"address:", fmt.Sprintf("%s port %d", host.Spec.Address, port(host))},
		{"internal address:", host.Status.InternalAddress},
		{"cluster:", holder(host)},
	}
	if key := host.Status.OfferedKey; key != nil {
		head = append(head, []string{"offered key:", key.Fingerprint + " (not pinned)"})
	}
	if host.Status.Facts != nil {
		head = append(head, facts(host.Status.Facts)...)
	}
	if err := output.Table(out, "", head...); err != nil {
		return err
	}
	if len(host.Status.Conditions) > 0 {
		if _, err := fmt.Fprintln(out); err != nil {
			return err
		}
		if err := output.Table(out, "", conditions(host.Status.Conditions)...); err != nil {
			return err
		}
	}
	return printHints(deps, host)
}

func conditions(all []metav1.Condition) [][]string {
	rows := [][]string{{"CONDITION", "STATUS", "REASON", "MESSAGE"}}
	for _, c := range all {
		rows = append(rows, []string{c.Type, string(c.Status), c.Reason, c.Message})
	}
	return rows
}

func facts(f *v1alpha1.HostFacts) [][]string {
	disks := make([]string, len(f.Disks))
	for i, d := range f.Disks {
		disks[i] = d.Name + " " + bytesText(d.Bytes)
	}
	nics := make([]string, len(f.NICs))
	for i, n := range f.NICs {
		nics[i] = strings.TrimSpace(n.Name + " " + strings.Join(n.Addresses, " "))
	}
	rows := [][]string{
		{"hostname:", f.Hostname},
		{"system:", fmt.Sprintf("%s, kernel %s, %s", f.OS.Name, f.Kernel, f.Architecture)},
		{"CPUs:", strconv.Itoa(int(f.CPUs))},
		{"memory:", f.Memory},
		{"disks:", strings.Join(disks, ", ")},
		{"network:", strings.Join(nics, ", ")},
	}
	if free, ok := f.FreeBytes["/var/lib"]; ok {
		rows = append(rows, []string{"free in /var/lib:", bytesText(free)})
	}
	return append(rows,
		[]string{"cgroup version:", strconv.Itoa(int(f.CgroupVersion))},
		[]string{"time:", fmt.Sprintf("%s, %s from the server's clock", f.TimeZone, skew(f))},
		[]string{"SELinux:", f.SELinux},
		[]string{"firewall:", f.Firewall},
		[]string{"virtualization:", f.Virtualization})
}

func bytesText(b int64) string {
	const gib = 1 << 30
	if b >= gib {
		return fmt.Sprintf("%.1fGi", float64(b)/gib)
	}
	return resource.NewQuantity(b, resource.BinarySI).String()
}

// printHints prints what is advised about a host, one line each.
func printHints(deps output.Deps, host *v1alpha1.Host) error {
	for _, hint := range hints(host) {
		if _, err := fmt.Fprintln(deps.Streams.ErrOut, output.Line(hint)); err != nil {
			return err
		}
	}
	return nil
}

// hints says what is advised from an address and facts.
func hints(host *v1alpha1.Host) []string {
	var all []string
	if a, err := netip.ParseAddr(host.Spec.Address); err == nil && a.IsGlobalUnicast() && !a.IsPrivate() {
		all = append(all, "warning: "+host.Spec.Address+" is a public address; an intranet address is advised")
	}
	if c := meta.FindStatusCondition(host.Status.Conditions, v1alpha1.HostUnique); c != nil && c.Status == metav1.ConditionFalse {
		all = append(all, "warning: this machine seems to be another host already: "+output.Line(c.Message))
	}
	f := host.Status.Facts
	if f == nil {
		return all
	}
	var there []string
	for _, tool := range f.Tools {
		switch tool {
		case "containerd", "dockerd", "kubelet", "kubeadm", "crio", "k3s", "rke2":
			there = append(there, tool)
		}
	}
	if len(there) > 0 {
		all = append(all, "warning: "+strings.Join(there, ", ")+" found; a newly installed machine is advised")
	}
	if f.ResolverOptions {
		all = append(all, "warning: /etc/resolv.conf has an active options line; comment it out")
	}
	if f.Swap {
		all = append(all, "hint: swap is on; it stays as it is unless the cluster is created with --disable-swap")
	}
	if f.Firewall != "" {
		all = append(all, "hint: "+f.Firewall+" is active; it stays as it is unless the cluster is created with --disable-firewall")
	}
	if strings.EqualFold(f.SELinux, "Enforcing") {
		all = append(all, "hint: SELinux is enforcing; it stays as it is unless the cluster is created with --permissive-selinux")
	}
	return all
}
