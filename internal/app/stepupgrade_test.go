package app

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	fakehost "slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/step"
	"slipway.dev/slipway/internal/step/etcd"
	"slipway.dev/slipway/internal/step/kubeadm"
	"slipway.dev/slipway/internal/step/kubevip"
	"slipway.dev/slipway/internal/step/node"
	"slipway.dev/slipway/internal/step/precheck"
	"slipway.dev/slipway/internal/step/system"
)

// serves makes the API server of the cluster say that it is of a version.
func serves(version string) func(*bench) {
	return func(b *bench) {
		b.cluster.answers = map[string]string{"/version": fmt.Sprintf(`{"major":"1","gitVersion":%q}`, version)}
		b.cluster.ready = nil
	}
}

// staticPods makes the mirrors of a control plane's static pods.
func staticPods(b *bench, version, etcdTag string) {
	for name, tag := range map[string]string{"etcd": etcdTag, "kube-apiserver": version, "kube-controller-manager": version, "kube-scheduler": version} {
		b.create(&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name + "-w1"},
			Spec:       corev1.PodSpec{NodeName: "w1", Containers: []corev1.Container{{Name: name, Image: "registry.k8s.io/" + name + ":" + tag}}},
			Status:     corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
		})
	}
}

func kubeletOf(version string) func(*bench) {
	return func(b *bench) {
		b.create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "w1"}, Status: corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{KubeletVersion: version}}})
	}
}

// runs gives the host a service whose process runs what was at the path when it started; something else is there now.
func (b *bench) runs(unit, program string) {
	b.write("/etc/systemd/system/"+unit, "[Unit]\n")
	b.write(program, "old")
	b.host.Do(func(s *fakehost.State) {
		s.UnitPrograms[unit] = program
		if r := s.Exec(fakehost.Call{Argv: []string{"systemctl", "start", unit}}); r.ExitCode != 0 {
			b.t.Fatalf("%s", r.Stderr)
		}
	})
	b.write(program, "new")
}

func upgradeCases() map[string]stepCase {
	const kubelet = "/usr/local/bin/kubelet"
	const old, config = etcd.SnapshotDir + "/older.db", "/var/lib/kubelet/config.yaml"
	return map[string]stepCase{
		"serve version": {reason: "the API server of before still answers for a while", step: kubeadm.ServeVersion{Version: "v1.37.1", EtcdTag: "3.7.0-0"},
			prepare: func(b *bench) { serves("v1.36.3")(b); staticPods(b, "v1.37.1", "3.7.0-0") }, event: serves("v1.37.1")},
		"serve version on the way": {reason: "a control plane that has gone further must not be waited for", step: kubeadm.ServeVersion{Version: "v1.36.3", EtcdTag: "3.6.8-0"},
			prepare: func(b *bench) { serves("v1.37.1")(b); staticPods(b, "v1.37.1", "3.7.0-0") }},
		"serve version before its pods": {reason: "the scheduler and the others start again too", step: kubeadm.ServeVersion{Version: "v1.37.1", EtcdTag: "3.7.0-0"},
			prepare: serves("v1.37.1"), event: func(b *bench) { staticPods(b, "v1.37.1", "3.7.0-0") }},
		"valid certificates": {reason: "they are good for long", step: kubeadm.ValidCertificates{}, prepare: func(b *bench) {
			right := authorities()["right"]
			for _, ca := range []string{"ca", "front-proxy-ca", "etcd/ca"} {
				b.write(pkiFiles+ca+".crt", string(right.ca))
			}
			for _, leaf := range leaves() {
				b.write(pkiFiles+leaf+".crt", string(right.leaf))
			}
		}},
		"kubelet config": {reason: "where the runtime listens is the node's own", step: kubeadm.KubeletConfig{}, drift: []string{config + " maxPods"}, prepare: func(b *bench) {
			b.create(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kubelet-config"},
				Data: map[string]string{"kubelet": "containerRuntimeEndpoint: \"\"\nmaxPods: 120\nserializeImagePulls: false\n"}})
			b.write(config, "containerRuntimeEndpoint: unix:///run/containerd/containerd.sock\nmaxPods: 110\nserializeImagePulls: false\n")
			b.phase("upgrade node phase kubelet-config", func(s *fakehost.State) error {
				return s.WriteFile(config, []byte("containerRuntimeEndpoint: unix:///run/containerd/containerd.sock\nmaxPods: 120\nserializeImagePulls: false\n"), 0o644)
			})
		}},
		"kubelet version": {reason: "the kubelet reports by itself", step: node.KubeletVersion{Version: "v1.37.1"}, event: kubeletOf("v1.37.1")},
		"run installed": {reason: "a program that was replaced runs on as it was", drift: []string{"kubelet.service"}, prepare: func(b *bench) { b.runs("kubelet.service", kubelet) },
			step: system.RunInstalled{Unit: "kubelet.service", Program: kubelet, After: step.KubernetesFiles}},
		"removed apis": {reason: "what stays may be used", step: precheck.RemovedAPIs{Version: "v1.37.1"}, prepare: func(b *bench) {
			b.cluster.answers = map[string]string{"/metrics": `apiserver_requested_deprecated_apis{group="",removed_release="",resource="endpoints",subresource="",version="v1"} 1` + "\n"}
		}},
		"skew": {reason: "kubelets may be three minor versions behind", step: precheck.Skew{Version: "v1.37.1"}, prepare: kubeletOf("v1.34.1")},
		"snapshot": {reason: "one is kept, and older ones go", step: etcd.Snapshot{Name: "before-v1.37.1"}, drift: []string{etcd.SnapshotDir + "/before-v1.37.1.db", old}, prepare: func(b *bench) {
			b.cluster.Form(map[string]string{"w1": "10.9.0.21"})
			b.start("w1", "10.9.0.21")
			b.write(old, "older")
			b.host.Handle("dd", func(s *fakehost.State, c fakehost.Call) host.Result {
				return done(s.WriteFile(c.Argv[1][len("of="):], c.Stdin, 0o600))
			})
		}},
	}
}

// TestHandOver: the pod that has the address goes, and the step ends only when another control plane has taken it.
func TestHandOver(t *testing.T) {
	b := newBench(t, stepCase{})
	b.lease("w1")
	b.apply(kubevip.Install{Image: "ghcr.io/kube-vip/kube-vip:v0.9.1", Address: "192.0.2.200", Port: 6443})
	if b.check(kubevip.HandOver{}).Clean() {
		t.Fatal("the address is here and nothing is to be done")
	}
	b.apply(kubevip.HandOver{})
	if found, err := b.host.Stat(t.Context(), kubevip.ManifestPath); err != nil || found[0].Exists {
		t.Errorf("the pod that has the address was not told to go: %v", err)
	}
	if _, err := (kubevip.HandOver{}).Check(t.Context(), b.reader()); fault.ClassOf(err) != fault.Waiting {
		t.Errorf("nobody has the address yet: %v, want an error of class Waiting", err)
	}
	b.lease("cp2")
	b.clean(kubevip.HandOver{}, "when another control plane has the address")
}
