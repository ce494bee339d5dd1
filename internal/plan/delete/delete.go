// Package delete plans the end of a cluster: every host is given back as it was found.
// It must never need the cluster to work, or any host to have been finished.
package delete

import (
	"fmt"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/step"
	"slipway.dev/slipway/internal/step/bundlefile"
	"slipway.dev/slipway/internal/step/reset"
)

// Input is everything a plan is made from.
type Input struct {
	Namespace, Name string
	Spec            v1alpha1.ClusterSpec
	// Hosts are those that the cluster holds a claim on. Others were never touched.
	Hosts []step.Target
}

// Plan gives the plan. A cluster that holds no host gives one without stages.
func Plan(in Input) (*plan.Plan, error) {
	p := &plan.Plan{
		Format: plan.Format, Verb: v1alpha1.VerbDelete, Namespace: in.Namespace, Cluster: in.Name,
		Summary: fmt.Sprintf("delete cluster %s: clean %d hosts, remove all its data", in.Name, len(in.Hosts)),
		Hosts:   in.Hosts,
	}
	var names []string
	for _, t := range in.Hosts {
		names = append(names, t.Name)
	}
	if len(names) == 0 {
		return p, nil
	}
	stage := plan.Stage{Name: "clean", Title: "Clean the hosts", Hosts: names}
	for _, c := range []struct {
		name string
		step step.Step
	}{
		{"stop", reset.Kubernetes{}},
		{"network", reset.Network{}},
		{"files", reset.Files{Paths: paths(in.Spec)}},
		{"restore", reset.Restore{}},
	} {
		call, err := plan.NewCall(c.name, c.step)
		if err != nil {
			return nil, err
		}
		stage.Calls = append(stage.Calls, call)
	}
	p.Stages = []plan.Stage{stage}
	return p, p.Validate()
}

// paths lists everything that creating a cluster, and running it, leaves on a host.
func paths(spec v1alpha1.ClusterSpec) []string {
	all := []string{
		"/etc/kubernetes", "/var/lib/kubelet", spec.Components.Etcd.DataDir,
		"/etc/cni", "/var/lib/cni", "/opt/cni", "/opt/containerd", "/usr/libexec/kubernetes", "/run/flannel", "/var/log/pods", "/var/log/containers",
		spec.Runtime.DataDir, "/run/containerd", "/etc/containerd", "/etc/crictl.yaml",
		"/etc/systemd/system/containerd.service", "/etc/systemd/system/kubelet.service", "/etc/systemd/system/kubelet.service.d",
		"/etc/modules-load.d/slipway.conf", "/etc/sysctl.d/90-slipway.conf",
		"/etc/systemd/timesyncd.conf.d/slipway.conf", "/etc/chrony.d/slipway.conf", "/etc/chrony/sources.d/slipway.sources",
	}
	for _, program := range []string{
		"containerd", "containerd-shim-runc-v2", "ctr", "runc", "crictl", "kubeadm", "kubelet", "kubectl",
	} {
		path := "/usr/local/bin/" + program
		all = append(all, path, path+bundlefile.Unfinished)
	}
	return all
}
