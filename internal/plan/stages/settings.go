package stages

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/audit/policy"
	"sigs.k8s.io/yaml"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step/containerd"
	"slipway.dev/slipway/internal/step/kubeadm"
	"slipway.dev/slipway/internal/step/system"
)

// components gives what a spec says of the control plane's components.
func components(spec v1alpha1.ClusterSpec) kubeadm.Components {
	c := kubeadm.Components{LogLevel: spec.Components.LogLevel}
	if spec.Network.NodePortRange != defaultNodePorts {
		c.NodePortRange = spec.Network.NodePortRange
	}
	if a := spec.Components.APIServer.Audit; a.Enabled {
		c.Audit = &kubeadm.Audit{Policy: cmp.Or(a.Policy, kubeadm.DefaultAuditPolicy), MaxAge: 7, MaxSize: max(1, a.MaxSize), MaxBackup: cmp.Or(a.MaxBackup, 100)}
		if a.MaxAge != nil {
			c.Audit.MaxAge = *a.MaxAge
		}
	}
	return c
}

// defaultNodePorts is Kubernetes' own default, which needs no flag.
const defaultNodePorts = "30000-32767"

// reserved gives a share of a node by resource.
func reserved(spec v1alpha1.ReservedSpec) map[string]string {
	share := map[string]string{}
	for name, q := range map[string]*resource.Quantity{"cpu": spec.CPU, "memory": spec.Memory} {
		if q != nil {
			share[name] = q.String()
		}
	}
	return share
}

// HostRecords are the lines of /etc/hosts that a spec wants.
func HostRecords(spec v1alpha1.ClusterSpec) system.HostRecords {
	var h system.HostRecords
	for _, r := range spec.HostSetup.HostRecords {
		h.Records = append(h.Records, system.HostRecord{Address: r.Address, Names: r.Names})
	}
	return h
}

// Mirrors are those of the registries that the spec names; those that it names no more are gone.
func (b *Builder) Mirrors() containerd.Mirrors {
	m := containerd.Mirrors{Token: b.secret(kubeadm.RegistryToken)}
	for _, r := range b.in.Spec.Runtime.RegistryMirrors {
		m.Registries = append(m.Registries, containerd.Registry{Name: r.Registry, Endpoints: r.Endpoints})
	}
	for _, spec := range b.in.Had() {
		for _, was := range spec.Runtime.RegistryMirrors {
			wanted := slices.ContainsFunc(b.in.Spec.Runtime.RegistryMirrors, func(r v1alpha1.RegistryMirror) bool { return r.Registry == was.Registry })
			if !wanted && !slices.Contains(m.Gone, was.Registry) {
				m.Gone = append(m.Gone, was.Registry)
			}
		}
	}
	return m
}

// settings checks what the API's own rules cannot: texts in other formats, and what depends on hosts.
func (c *checker) settings() {
	first := c.in.Spec.ControlPlane.Hosts[0]
	for _, san := range c.in.Spec.Endpoint.CertSANs {
		if net.ParseIP(san) == nil && len(validation.IsDNS1123Subdomain(san)) > 0 && len(validation.IsWildcardDNS1123Subdomain(san)) > 0 {
			c.add(first, "cert-san", fmt.Sprintf("%q", san), "an IP or a DNS name in lower case")
		}
	}
	if a := c.in.Spec.Components.APIServer.Audit; a.Policy != "" {
		if err := auditPolicy([]byte(a.Policy)); err != nil {
			c.add(first, "audit-policy", strings.Join(strings.Fields(err.Error()), " "), "a Policy of audit.k8s.io/v1")
		}
	}
	for _, name := range c.in.Spec.AllHosts() {
		if f := c.in.Hosts[name].Status.Facts; f != nil {
			c.reserved(name, f)
		}
	}
}

// auditPolicy reads a policy as the API server does, and refuses fields that it would pass over.
func auditPolicy(text []byte) error {
	if err := yaml.UnmarshalStrict(text, &auditv1.Policy{}); err != nil {
		return err
	}
	_, err := policy.LoadPolicyFromBytes(text)
	return err
}

// leastForPods is what a node must have left for pods: its own, such as the network's, need as much.
const leastForPods = 256 << 20

// reserved refuses to keep so much from pods that the kubelet would not start, or none would run.
func (c *checker) reserved(name string, f *v1alpha1.HostFacts) {
	var cpu, memory resource.Quantity
	for _, share := range []v1alpha1.ReservedSpec{c.in.Spec.Components.Kubelet.KubeReserved, c.in.Spec.Components.Kubelet.SystemReserved} {
		if share.CPU != nil {
			cpu.Add(*share.CPU)
		}
		if share.Memory != nil {
			memory.Add(*share.Memory)
		}
	}
	if have := resource.NewQuantity(int64(f.CPUs), resource.DecimalSI); cpu.Cmp(*have) >= 0 && cpu.Sign() > 0 {
		c.add(name, "reserved", fmt.Sprintf("%s of %d CPUs", cpu.String(), f.CPUs), "less than all of them")
	}
	if memory.Sign() > 0 && memory.Value()+leastForPods > f.MemoryBytes {
		c.add(name, "reserved", fmt.Sprintf("%s of %s memory", memory.String(), host.FormatBytes(f.MemoryBytes)), host.FormatBytes(leastForPods)+" left for pods")
	}
}
