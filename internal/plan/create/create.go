// Package create plans a new cluster: it turns the wanted spec and what is known of the hosts into a plan.
// It must never read anything but its input.
package create

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/bundle"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/step"
	"slipway.dev/slipway/internal/step/precheck"
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
	// Bundle is what the wanted version's bundle holds; nil when there is none.
	Bundle *bundle.Manifest
	// BundleProblem says why the bundle cannot be used, or is empty.
	BundleProblem string
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
	// Secret names the Secret in slipway-system that holds the cluster's keys.
	Secret string
	// Systems are the operating systems that are supported.
	Systems []System
}

// Plan gives the plan, or a Terminal error that lists every rule the input breaks.
func Plan(in Input) (*plan.Plan, error) {
	if err := precheck.Refusal(check(in)); err != nil {
		return nil, err
	}
	b := builder{in: in}
	b.plan = &plan.Plan{
		Format: plan.Format, Verb: v1alpha1.VerbCreate, Namespace: in.Namespace, Cluster: in.Name,
		Summary: fmt.Sprintf("create cluster %s: Kubernetes %s, %d control plane, %d workers",
			in.Name, in.Spec.Kubernetes.Version, len(in.Spec.ControlPlane.Hosts), len(in.Spec.WorkerHosts())),
		Facts: factsDigest(in), Hosts: targets(in),
	}
	b.stages()
	if b.err != nil {
		return nil, b.err
	}
	if err := b.plan.Validate(); err != nil {
		return nil, err
	}
	return b.plan, nil
}

// factsDigest covers what was observed and decided the plan, not what changes by itself.
func factsDigest(in Input) string {
	type facts struct {
		Name, Address, MachineID, Architecture string
		Cgroup                                 int32
		CPUs                                   int32
		Memory                                 int64
	}
	var all []facts
	for _, name := range in.Spec.AllHosts() {
		h := in.Hosts[name]
		f := h.Status.Facts
		all = append(all, facts{name, h.Status.InternalAddress, f.MachineID, f.Architecture, f.CgroupVersion, f.CPUs, f.MemoryBytes})
	}
	b, err := json.Marshal(all)
	if err != nil {
		panic(err) // Plain data always encodes.
	}
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func targets(in Input) []step.Target {
	var all []step.Target
	add := func(name string, controlPlane bool, pool *v1alpha1.WorkerPool) {
		h := in.Hosts[name]
		f := h.Status.Facts
		t := step.Target{
			Name: name, Address: h.Status.InternalAddress, Architecture: f.Architecture, ControlPlane: controlPlane,
			CgroupV1:         f.CgroupVersion == 1,
			RestrictOOMScore: !slices.Contains(f.Capabilities, "CAP_SYS_RESOURCE"),
			Platform:         in.Platform[name],
			MTU:              mtu(f, h.Status.InternalAddress),
		}
		if pool != nil {
			t.Labels = pool.Labels
			for _, taint := range pool.Taints {
				t.Taints = append(t.Taints, fmt.Sprintf("%s=%s:%s", taint.Key, taint.Value, taint.Effect))
			}
		}
		all = append(all, t)
	}
	for _, name := range in.Spec.ControlPlane.Hosts {
		add(name, true, nil)
	}
	for _, pool := range in.Spec.WorkerPools {
		for _, name := range pool.Hosts {
			add(name, false, &pool)
		}
	}
	return all
}

func mtu(f *v1alpha1.HostFacts, address string) int32 {
	for _, nic := range f.NICs {
		for _, a := range nic.Addresses {
			if ip, _, err := net.ParseCIDR(a); err == nil && ip.String() == address {
				return nic.MTU
			}
		}
	}
	return 0
}

// Endpoint gives HOST:PORT of the API server.
func Endpoint(spec v1alpha1.ClusterSpec, hosts map[string]v1alpha1.Host) string {
	host := spec.Endpoint.Host
	if host == "" {
		host = hosts[spec.ControlPlane.Hosts[0]].Status.InternalAddress
	}
	return net.JoinHostPort(host, strconv.Itoa(int(spec.Endpoint.Port)))
}
