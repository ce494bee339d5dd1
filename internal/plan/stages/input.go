// Package stages owns what the verbs have in common: the rules that hosts must keep, and the stages by which a host becomes
// a node, starts a control plane, joins or leaves. It must never decide which of them a verb needs, nor read anything but
// its input.
package stages

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/step"
)

// Input is everything a plan is made from.
type Input struct {
	Namespace, Name string
	// UID tells the cluster from an earlier one of the same name; it is what hosts are marked with.
	UID  string
	Spec v1alpha1.ClusterSpec
	// Hosts holds the Host object of every host that the spec names and that exists.
	Hosts map[string]v1alpha1.Host
	// Grants say what is lent to the project Namespace; nothing else of Hosts and Bundle is looked at.
	Grants []v1alpha1.GrantSpec
	// Claims holds who has claimed which host.
	Claims map[string]v1alpha1.HostClaimSpec
	// Uncleaned are hosts that the cluster holds only because nobody could clean them yet.
	Uncleaned []string
	// Bundle is what the wanted version's bundle holds; nil when there is none.
	Bundle *bundle.Manifest
	// BundleProblem says why the bundle cannot be used, or is empty.
	BundleProblem string
	// Bundles holds, by version, the usable bundles on the way of an upgrade: from the version that is applied to the
	// wanted one, which may both be among them.
	Bundles map[string]*bundle.Manifest
	// Keep is the backup that an upgrade takes before it changes anything; nil where no location is known for the cluster.
	Keep *Keep
	// Precheck says what each host must have.
	Precheck v1alpha1.PrecheckSetting
	// TimeServers are those that hosts should use; none leaves hosts alone.
	TimeServers []string
	// Platform is the server's HOST:PORT as each host reaches it.
	Platform map[string]string
	// PlatformCA is the certificate authority of the server, PEM.
	PlatformCA string
	// ServerMachineID is /etc/machine-id of the server's own machine.
	ServerMachineID string
	// ServerArchitecture is that of the server's own machine, in Go's words.
	ServerArchitecture string
	// Secret names the Secret in slipway-system that holds the cluster's keys.
	Secret string
	// Systems are the operating systems that are supported.
	Systems []System
	// Applied is the spec that the cluster has now; nil when it does not exist yet.
	Applied *v1alpha1.ClusterSpec
	// Attempted are the specs of changes that began and were not finished: the hosts may be as any of them wanted.
	Attempted []v1alpha1.ClusterSpec
	// Changed holds, by host, the calls of those changes that have changed something there.
	Changed map[string][]string
	// Since is when the operation was asked for.
	Since time.Time
	// Parameters are those of the operation.
	Parameters v1alpha1.OperationParameters
	// Operation is the UID of the operation: what must be done once for each, and not once for all, is marked with it.
	Operation string
	// Backup is the one that the parameters name; nil when there is none.
	Backup *v1alpha1.Backup
	// Place is where that backup, or the one of Keep, is or goes, if that is a directory of hosts.
	Place *Place
}

// Had are the specs by which the hosts may be as they are: the one that is applied, and those of changes that began and were
// not finished. There is none before the cluster is created.
func (in Input) Had() []v1alpha1.ClusterSpec {
	if in.Applied == nil {
		return nil
	}
	return append([]v1alpha1.ClusterSpec{*in.Applied}, in.Attempted...)
}

// Keep names a Backup, in the project of the cluster, and the location where it goes.
type Keep struct{ Name, Location string }

// factsDigest covers what was observed and decided the plan, not what changes by itself.
func factsDigest(in Input, hosts []string) string {
	type facts struct {
		Name, Address, MachineID, Architecture string
		Cgroup                                 int32
		CPUs                                   int32
		Memory                                 int64
	}
	var all []facts
	for _, name := range hosts {
		h := in.Hosts[name]
		f := h.Status.Facts
		if f == nil {
			f = &v1alpha1.HostFacts{}
		}
		all = append(all, facts{name, h.Status.InternalAddress, f.MachineID, f.Architecture, f.CgroupVersion, f.CPUs, f.MemoryBytes})
	}
	b, err := json.Marshal(all)
	if err != nil {
		panic(err) // Plain data always encodes.
	}
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Began is when the operation was asked for, as steps keep it: to the second.
func (in Input) Began() *metav1.Time {
	return &metav1.Time{Time: in.Since.UTC().Truncate(time.Second)}
}

// Target gives a host as a plan holds it. A host that was never seen has a name only.
func (in Input) Target(name string) step.Target {
	h := in.Hosts[name]
	f := h.Status.Facts
	if f == nil {
		f = &v1alpha1.HostFacts{}
	}
	nic := nicOf(f, h.Status.InternalAddress)
	t := step.Target{
		Name: name, Address: h.Status.InternalAddress, Architecture: f.Architecture,
		ControlPlane:     slices.Contains(in.Spec.ControlPlane.Hosts, name),
		CgroupV1:         f.CgroupVersion == 1,
		RestrictOOMScore: !slices.Contains(f.Capabilities, "CAP_SYS_RESOURCE"),
		Platform:         in.Platform[name],
		MTU:              nic.MTU, NIC: nic.Name,
	}
	for _, pool := range in.Spec.WorkerPools {
		if !slices.Contains(pool.Hosts, name) {
			continue
		}
		t.Labels = pool.Labels
		for _, taint := range pool.Taints {
			t.Taints = append(t.Taints, fmt.Sprintf("%s=%s:%s", taint.Key, taint.Value, taint.Effect))
		}
	}
	return t
}

// nicOf gives the NIC that carries an address; an empty one when none does.
func nicOf(f *v1alpha1.HostFacts, address string) v1alpha1.HostNIC {
	for _, nic := range f.NICs {
		for _, a := range nic.Addresses {
			if ip, _, err := net.ParseCIDR(a); err == nil && ip.String() == address {
				return nic
			}
		}
	}
	return v1alpha1.HostNIC{}
}

// Endpoint gives HOST:PORT of the API server.
func Endpoint(spec v1alpha1.ClusterSpec, hosts map[string]v1alpha1.Host) string {
	host := spec.Endpoint.Host
	if host == "" {
		host = hosts[spec.ControlPlane.Hosts[0]].Status.InternalAddress
	}
	return net.JoinHostPort(host, strconv.Itoa(int(spec.Endpoint.Port)))
}
