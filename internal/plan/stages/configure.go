package stages

import (
	"encoding/json"
	"net"
	"slices"
	"strings"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/step"
	"slipway.dev/slipway/internal/step/containerd"
	"slipway.dev/slipway/internal/step/kubeadm"
	"slipway.dev/slipway/internal/step/kubelet"
	"slipway.dev/slipway/internal/step/node"
	"slipway.dev/slipway/internal/step/precheck"
	"slipway.dev/slipway/internal/step/system"
)

// CheckSettings gives every rule that the wanted spec breaks, and those of a cluster's hosts that are to be changed.
func (in Input) CheckSettings(hosts []string) []precheck.Finding {
	c := checker{in: in, fresh: hosts}
	c.bundle()
	c.settings()
	for _, name := range c.fresh {
		if h, known := in.Hosts[name]; !known {
			c.notLent(name, v1alpha1.GrantHost, name)
		} else {
			c.reachable(h)
		}
	}
	return c.findings
}

// Differences says what of a cluster's components is to become otherwise than it is.
type Differences struct {
	// File is kubeadm's configuration on control planes.
	File bool
	// APIServer, ControllerManager and Scheduler are their flags.
	APIServer, ControllerManager, Scheduler bool
	// Names are those in the API server's certificate; Unwanted are those that go.
	Names    bool
	Unwanted []string
	// Proxy is kube-proxy's configuration, Kubelet the kubelets'.
	Proxy, Kubelet bool
}

// And gives what either of two is to make otherwise.
func (d Differences) And(e Differences) Differences {
	return Differences{
		File: d.File || e.File, APIServer: d.APIServer || e.APIServer, ControllerManager: d.ControllerManager || e.ControllerManager, Scheduler: d.Scheduler || e.Scheduler,
		Names: d.Names || e.Names, Unwanted: slices.Compact(slices.Sorted(slices.Values(slices.Concat(d.Unwanted, e.Unwanted)))),
		Proxy: d.Proxy || e.Proxy, Kubelet: d.Kubelet || e.Kubelet,
	}
}

// Differences compares what follows from a spec that the cluster has, or may have in part, with what follows from the wanted one.
func (b *Builder) Differences(from v1alpha1.ClusterSpec) Differences {
	in := b.in
	in.Spec = from
	before := &Builder{in: in}
	was, is := before.settings(), b.settings()
	d := Differences{
		File: !same(was, is), Names: !slices.Equal(was.CertSANs, is.CertSANs), Unwanted: b.unwanted(was.CertSANs, is.CertSANs),
		Proxy:   was.ProxyMode != is.ProxyMode || was.Components.LogLevel != is.Components.LogLevel,
		Kubelet: !same(was.KubeReserved, is.KubeReserved) || !same(was.SystemReserved, is.SystemReserved),
	}
	d.APIServer, d.ControllerManager, d.Scheduler = was.Components.Differ(is.Components)
	return d
}

// same compares as plans keep it.
func same(a, b any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}

// unwanted gives the names that go, without those that kubeadm puts into every such certificate.
func (b *Builder) unwanted(was, is []string) []string {
	service, _, err := net.SplitHostPort(b.apiService())
	if err != nil {
		b.err = err
	}
	kept := append(slices.Clone(is), service, "kubernetes")
	for name, h := range b.in.Hosts {
		kept = append(kept, name, h.Status.InternalAddress)
	}
	return slices.DeleteFunc(slices.Clone(was), func(name string) bool {
		return slices.Contains(kept, name) || strings.HasPrefix(name, "kubernetes.default")
	})
}

// Settings writes kubeadm's configuration on a control plane that runs.
func (b *Builder) Settings() []Call { return []Call{{"kubeadm-config", b.Configure(nil)}} }

// ChangeControlPlane brings the flags, and where d says so the certificate, of a control plane that runs to what the spec
// says. All makes it look at what the spec did not change too.
func (b *Builder) ChangeControlPlane(prefix string, d Differences, all bool) []Call {
	serve := kubeadm.ServeSettings{Components: components(b.in.Spec), Port: b.in.Spec.Endpoint.Port}
	var calls []Call
	if d.Names || all {
		serve.SANs, serve.Unwanted = b.sans(), d.Unwanted
		calls = append(calls, Call{"certificates", kubeadm.Certificates{SANs: serve.SANs, Unwanted: serve.Unwanted}})
	}
	if all {
		calls = append(calls, Call{"kubeconfigs", kubeadm.Kubeconfigs{Server: "https://" + Endpoint(b.in.Spec, b.in.Hosts)}})
	}
	if away := b.handOver(); d.APIServer && !all && len(away) > 0 {
		calls = slices.Concat(calls, away, b.endpoint())
	}
	if d.APIServer || d.ControllerManager || d.Scheduler || all {
		calls = append(calls, b.flags(all)...)
	}
	return prefixed(prefix, append(calls, Call{"serve-settings", serve}))
}

// flags are the manifests; all has etcd and the one of the endpoint among them.
func (b *Builder) flags(all bool) []Call {
	var calls []Call
	for _, c := range b.Manifests(nil) {
		m, ok := c.Step.(kubeadm.Manifests)
		if !ok {
			if all {
				calls = append(calls, c)
			}
			continue
		}
		flags := components(b.in.Spec)
		m.Components, m.Only = &flags, kubeadm.OnlyAPI
		calls = append(calls, Call{c.Name, m})
		if all {
			m.Components, m.Only = nil, kubeadm.OnlyEtcd
			calls = append(calls, Call{"etcd-manifest", m})
		}
	}
	return calls
}

// ShareSettings tells a cluster that runs its settings: those who join read them.
func (b *Builder) ShareSettings() Call {
	s := b.settings()
	return Call{"upload-config", kubeadm.UploadConfig{Version: s.Version, Settings: &s}}
}

// ConfigureProxy gives kube-proxy its configuration.
func (b *Builder) ConfigureProxy() Call {
	s := b.settings()
	return Call{"proxy", kubeadm.Proxy{Version: s.Version, Settings: &s}}
}

// RestartProxy restarts every kube-proxy, once an operation.
func (b *Builder) RestartProxy() Call {
	return Call{"restart-proxy", kubeadm.RestartProxy{Change: b.in.Operation}}
}

// ChangeKubelet gives a node the kubelet's configuration that the cluster stores.
func ChangeKubelet(prefix string) []Call {
	return prefixed(prefix, []Call{
		{"kubelet-config", kubeadm.KubeletConfig{NoteRestart: true}},
		{"kubelet-restart", kubelet.RunConfigured{}},
		{"ready", node.Ready{}},
	})
}

// HostSettings are those of a host itself that differ between any of some specs and the wanted one; nothing of the cluster
// restarts for them.
func (b *Builder) HostSettings(prefix string, from ...v1alpha1.ClusterSpec) []Call {
	is := b.in.Spec
	var calls []Call
	add := func(name string, s step.Step, differs func(was v1alpha1.ClusterSpec) bool) {
		if slices.ContainsFunc(from, differs) {
			calls = append(calls, Call{name, s})
		}
	}
	add("host-records", HostRecords(is), func(was v1alpha1.ClusterSpec) bool { return !same(HostRecords(was), HostRecords(is)) })
	add("mirrors", b.Mirrors(), func(was v1alpha1.ClusterSpec) bool {
		return !same(was.Runtime.RegistryMirrors, is.Runtime.RegistryMirrors)
	})
	add("swap-off", system.SwapOff{}, func(was v1alpha1.ClusterSpec) bool { return is.HostSetup.DisableSwap && !was.HostSetup.DisableSwap })
	add("stop-firewall", system.StopFirewall{}, func(was v1alpha1.ClusterSpec) bool {
		return is.HostSetup.DisableFirewall && !was.HostSetup.DisableFirewall
	})
	add("selinux-permissive", system.SELinuxPermissive{}, func(was v1alpha1.ClusterSpec) bool {
		return is.HostSetup.PermissiveSELinux && !was.HostSetup.PermissiveSELinux
	})
	return prefixed(prefix, calls)
}

// HostAsWanted is everything that a node's host must have: what was changed by hand is seen by it, and put back.
func (b *Builder) HostAsWanted(prefix string, controlPlane bool) []Call {
	var calls []Call
	for _, c := range b.Prepare(prefix, controlPlane, nil) {
		switch c.Step.(type) {
		case precheck.Mark, kubeadm.Configure:
			// The one is done once; the other has its own place on control planes, and its file on a worker is for joining.
		default:
			calls = append(calls, c)
		}
	}
	records := HostRecords(b.in.Spec)
	if len(records.Records) == 0 {
		calls = append(calls, Call{prefix + "/host-records", records})
	}
	return append(calls,
		Call{prefix + "/containerd-runs", system.RunInstalled{Unit: containerd.Unit, Program: containerd.Program, After: step.RuntimeFiles}},
		Call{prefix + "/started", kubelet.Start{}})
}
