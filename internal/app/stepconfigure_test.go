package app

import (
	"context"
	"crypto/tls"
	"errors"
	"net"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fakehost "slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/step"
	"slipway.dev/slipway/internal/step/containerd"
	"slipway.dev/slipway/internal/step/kubeadm"
	"slipway.dev/slipway/internal/step/kubelet"
	"slipway.dev/slipway/internal/step/system"
)

// settingsCases are the steps that change settings of a cluster that runs.
func settingsCases() map[string]stepCase {
	const hub, old = "/etc/containerd/certs.d/docker.io/hosts.toml", "/etc/containerd/certs.d/old.example"
	const config = "/var/lib/kubelet/config.yaml"
	flags := kubeadm.Components{LogLevel: 4, NodePortRange: "31000-32000"}
	settings := &kubeadm.Settings{Version: "v1.36.3", ProxyMode: "iptables", Components: flags, KubeReserved: map[string]string{"cpu": "100m"}, CertSANs: []string{"b.example", "a.example"}}
	storing := func(b *bench, sections string) func() error {
		return func() error {
			for name, data := range map[string]map[string]string{
				"kubeadm-config": {"ClusterConfiguration": "kubernetesVersion: v1.36.3\n" + sections}, "kubelet-config": {"kubelet": "kubeReserved: {cpu: 100m}\nmaxPods: 110\n"},
			} {
				o := &corev1.ConfigMap{ObjectMeta: named("kube-system", name), Data: data}
				if err := errors.Join(client.IgnoreNotFound(b.cluster.Delete(b.t.Context(), o)), b.cluster.Create(b.t.Context(), o)); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return map[string]stepCase{
		"mirrors": {reason: "the server is asked first; a registry that has none any more loses its file, and the runtime is not restarted",
			step: containerd.Mirrors{Token: step.SecretRef{Key: "registry-token"}, Gone: []string{"old.example"}, Registries: []containerd.Registry{
				{Name: "docker.io", Endpoints: []string{"https://mirror.example/hub", "https://10.9.0.1:8443", "http://10.9.0.9:5000"}}}},
			prepare: func(b *bench) {
				b.secrets["registry-token"] = "0123456789abcdef"
				b.write(old+"/hosts.toml", "of before")
			}, drift: []string{hub, old}, golden: []string{hub}},
		"host records": {reason: "lines of others stay as they are; ours of before go", drift: []string{step.HostsPath}, golden: []string{step.HostsPath},
			step:    system.HostRecords{Records: []system.HostRecord{{Address: "192.168.2.2", Names: []string{"host1"}}, {Address: "192.168.2.3", Names: []string{"host2", "two.example"}}}},
			prepare: func(b *bench) { b.write(step.HostsPath, "127.0.0.1 localhost\n192.168.2.9 host1 # by Slipway\n# end") }},
		"no host records": {reason: "nothing of ours is left", step: system.HostRecords{}, drift: []string{step.HostsPath},
			prepare: func(b *bench) { b.write(step.HostsPath, "127.0.0.1 localhost\n192.168.2.9 host1 # by Slipway\n") }},
		"manifests with flags": {reason: "a flag of another value is replaced, one that is not wanted goes, and those of kubeadm stay",
			step: kubeadm.Manifests{Version: "v1.36.3", EtcdTag: "3.6.8-0", EtcdDataDir: "/srv/etcd", Only: kubeadm.OnlyAPI, Components: &kubeadm.Components{LogLevel: 4}},
			prepare: func(b *bench) {
				old := map[string][]string{"kube-apiserver": {"--v=4", "--audit-log-path=/x"}, "kube-controller-manager": {"--v=2"}, "kube-scheduler": {"--v=4", "--leader-elect=true"}}
				for name, flags := range old {
					b.write(kubernetesDir+"/manifests/"+name+".yaml", manifest("v1.36.3", append([]string{name}, flags...)...))
				}
				b.phase(initPhase("control-plane all"), func(s *fakehost.State) error { return writeManifests(s, "--v=4") })
			}, drift: prefixed(kubernetesDir+"/manifests/", ".yaml", "kube-apiserver", "kube-controller-manager")},
		"manifest edited by hand": {reason: "any change since kubeadm wrote it is seen", step: kubeadm.Manifests{Version: "v1.36.3", Only: kubeadm.OnlyAPI},
			prepare: func(b *bench) {
				b.phase(initPhase("control-plane all"), func(s *fakehost.State) error { return writeManifests(s, "--profiling=false") })
				b.apply(kubeadm.Manifests{Version: "v1.36.3", Only: kubeadm.OnlyAPI})
				b.write(kubernetesDir+"/manifests/kube-scheduler.yaml", manifest("v1.36.3", "kube-scheduler", "--profiling=true"))
			}, drift: []string{kubernetesDir + "/manifests/kube-scheduler.yaml"}},
		"certificates without a name": {reason: "a name that is not wanted any more needs a new certificate", step: kubeadm.Certificates{SANs: []string{"10.9.0.21"}, Unwanted: []string{"demo.example"}},
			prepare: func(b *bench) {
				right := authorities()["right"]
				for _, ca := range []string{"ca", "front-proxy-ca", "etcd/ca"} {
					b.write(pkiFiles+ca+".crt", string(right.ca))
				}
				for _, leaf := range leaves() {
					b.write(pkiFiles+leaf+".crt", string(right.leaf))
				}
				b.phase(initPhase("certs all"), func(s *fakehost.State) error {
					return writeAll(s, map[string]string{pkiFiles + "apiserver.crt": string(authorities()["unnamed"].leaf), pkiFiles + "apiserver.key": string(authorities()["unnamed"].leafKey)})
				})
			}, drift: []string{pkiFiles + "apiserver.crt"}},
		"serve settings": {reason: "a static pod of before still runs for a while", step: kubeadm.ServeSettings{Components: kubeadm.Components{LogLevel: 4}, Port: 6443},
			prepare: func(b *bench) { b.staticPodsWith("--v=2") }, event: func(b *bench) { b.staticPodsWith("--v=4") }},
		"serve what was put back": {reason: "a static pod that was changed by hand runs on, Ready, until the kubelet has read its manifest", step: kubeadm.ServeSettings{Port: 6443},
			prepare: func(b *bench) {
				b.staticPodsWith("--profiling=true")
				for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
					b.write(kubernetesDir+"/manifests/"+name+".yaml", manifest("v1.36.3", name, "--profiling=false"))
				}
			}, event: func(b *bench) { b.staticPodsWith("--profiling=false") }},
		"serve a name": {reason: "the API server reads its new certificate a little later", step: kubeadm.ServeSettings{Port: 6443, SANs: []string{"10.9.0.21"}, Unwanted: []string{"gone.example"}},
			prepare: func(b *bench) { b.staticPodsWith("--leader-elect=true"); b.showing("wrong") }, event: func(b *bench) { b.showing("right") }},
		"upload settings": {reason: "who joins later reads them", step: kubeadm.UploadConfig{Version: "v1.36.3", Settings: settings},
			prepare: func(b *bench) {
				for _, name := range []string{"kubeadm:nodes-kubeadm-config", "kubeadm:kubelet-config"} {
					b.create(&rbacv1.RoleBinding{ObjectMeta: named("kube-system", name)})
				}
				if err := storing(b, "apiServer: {certSANs: [a.example]}\n")(); err != nil {
					b.t.Fatal(err)
				}
				b.phase(initPhase("upload-config all"), func(*fakehost.State) error {
					return storing(b, `certificateValidityPeriod: 8760h0m0s
apiServer:
  certSANs: [a.example, b.example]
  extraArgs:
  - {name: service-node-port-range, value: 31000-32000}
  - {name: v, value: "4"}
controllerManager: {extraArgs: [{name: v, value: "4"}]}
scheduler: {extraArgs: [{name: v, value: "4"}]}
`)()
				})
			}, drift: []string{"ConfigMap kube-system/kubeadm-config"}},
		"configure proxy": {reason: "its mode and its log level", step: kubeadm.Proxy{Version: "v1.36.3", Settings: settings},
			prepare: func(b *bench) {
				b.create(proxy("v1.36.3"), &corev1.ConfigMap{ObjectMeta: named("kube-system", "kube-proxy"), Data: map[string]string{"config.conf": "mode: nftables\n"}})
				b.phase(initPhase("addon kube-proxy"), func(*fakehost.State) error {
					changed := &corev1.ConfigMap{ObjectMeta: named("kube-system", "kube-proxy"), Data: map[string]string{"config.conf": "mode: iptables\nlogging:\n  verbosity: 4\n"}}
					return b.cluster.Update(b.t.Context(), changed)
				})
			}, drift: []string{"ConfigMap kube-system/kube-proxy mode", "ConfigMap kube-system/kube-proxy verbosity"}},
		"restart proxy": {reason: "once for one change", step: kubeadm.RestartProxy{Change: "uid-2"}, drift: []string{"DaemonSet kube-system/kube-proxy"},
			prepare: func(b *bench) {
				b.create(proxy("v1.36.3"))
			}},
		"kubelet config with a note": {reason: "the kubelet must restart for it", step: kubeadm.KubeletConfig{NoteRestart: true}, drift: []string{config + " maxPods"}, golden: []string{step.KubeletRestart},
			prepare: func(b *bench) {
				b.create(&corev1.ConfigMap{ObjectMeta: named("kube-system", "kubelet-config"), Data: map[string]string{"kubelet": "maxPods: 120\n"}})
				b.write(config, "maxPods: 110\n")
				b.phase("upgrade node phase kubelet-config", func(s *fakehost.State) error { return s.WriteFile(config, []byte("maxPods: 120\n"), 0o644) })
			}},
		"kubelet config without": {reason: "what the cluster keeps from pods no more", step: kubeadm.KubeletConfig{}, drift: []string{config + " kubeReserved"},
			prepare: func(b *bench) {
				b.create(&corev1.ConfigMap{ObjectMeta: named("kube-system", "kubelet-config"), Data: map[string]string{"kubelet": "maxPods: 120\n"}})
				b.write(config, "maxPods: 120\nkubeReserved: {memory: 100Mi}\nresolvConf: /run/systemd/resolve/resolv.conf\n")
				b.phase("upgrade node phase kubelet-config", func(s *fakehost.State) error { return s.WriteFile(config, []byte("maxPods: 120\n"), 0o644) })
			}},
		"run configured": {reason: "who replaced the configuration has left a note", step: kubelet.RunConfigured{}, drift: []string{"kubelet.service"}, golden: []string{"/run/loaded/kubelet.service"},
			prepare: func(b *bench) {
				b.write(config, "maxPods: 110\n")
				b.unit("kubelet.service", config, true)
				b.write(config, "maxPods: 120\n")
				b.write(step.KubeletRestart, "")
			}},
	}
}

func proxy(version string) *appsv1.DaemonSet {
	return &appsv1.DaemonSet{ObjectMeta: named("kube-system", "kube-proxy"), Spec: appsv1.DaemonSetSpec{Template: template("registry.k8s.io/kube-proxy:" + version)}}
}

// writeManifests writes those of the control plane, each with one flag.
func writeManifests(s *fakehost.State, flag string) error {
	var failed error
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		failed = errors.Join(failed, s.WriteFile(kubernetesDir+"/manifests/"+name+".yaml", []byte(manifest("v1.36.3", name, flag)), 0o600))
	}
	return failed
}

// staticPodsWith makes the mirrors of static pods that run with a flag.
func (b *bench) staticPodsWith(flag string) {
	b.t.Helper()
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		pod := &corev1.Pod{ObjectMeta: named("kube-system", name+"-w1"), Spec: corev1.PodSpec{Containers: []corev1.Container{{Image: "registry.k8s.io/x:v1.36.3", Command: []string{name, flag}}}},
			Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
		if err := client.IgnoreNotFound(b.cluster.Delete(b.t.Context(), pod.DeepCopy())); err != nil {
			b.t.Fatal(err)
		}
		b.create(pod)
	}
}

// showing lets the API server of the host show a certificate.
func (b *bench) showing(name string) {
	a := authorities()[name]
	pair, err := tls.X509KeyPair(a.leaf, a.leafKey)
	if err != nil {
		b.t.Fatal(err)
	}
	b.dial = func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go func() {
			server := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{pair}})
			if server.Handshake() == nil {
				server.Close()
			}
		}()
		return near, nil
	}
}
