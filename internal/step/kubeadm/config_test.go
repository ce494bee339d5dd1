package kubeadm

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/clientcmd"
	kubeproxyv1alpha1 "k8s.io/kube-proxy/config/v1alpha1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
	kubeadmv1beta4 "k8s.io/kubernetes/cmd/kubeadm/app/apis/kubeadm/v1beta4"
	"sigs.k8s.io/yaml"

	"slipway.dev/slipway/internal/pki"
	"slipway.dev/slipway/internal/step"
)

type vault map[string][]byte

func (v vault) Secret(_ context.Context, ref step.SecretRef) ([]byte, error) {
	value, ok := v[ref.Key]
	if !ok {
		return nil, fmt.Errorf("there is no secret %s", ref.Key)
	}
	return value, nil
}

// documents is the configuration as kubeadm's own types; a kind that is missing is nil.
type documents struct {
	Init    *kubeadmv1beta4.InitConfiguration
	Join    *kubeadmv1beta4.JoinConfiguration
	Cluster *kubeadmv1beta4.ClusterConfiguration
	Kubelet *kubeletv1beta1.KubeletConfiguration
	Proxy   *kubeproxyv1alpha1.KubeProxyConfiguration
}

// decode reads every document strictly: a field that kubeadm does not know is an error.
func decode(t *testing.T, content []byte) documents {
	t.Helper()
	var d documents
	for text := range strings.SplitSeq(strings.TrimPrefix(string(content), "---\n"), "---\n") {
		var head struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal([]byte(text), &head); err != nil {
			t.Fatal(err)
		}
		var into any
		switch head.APIVersion + " " + head.Kind {
		case "kubeadm.k8s.io/v1beta4 InitConfiguration":
			d.Init = &kubeadmv1beta4.InitConfiguration{}
			into = d.Init
		case "kubeadm.k8s.io/v1beta4 JoinConfiguration":
			d.Join = &kubeadmv1beta4.JoinConfiguration{}
			into = d.Join
		case "kubeadm.k8s.io/v1beta4 ClusterConfiguration":
			d.Cluster = &kubeadmv1beta4.ClusterConfiguration{}
			into = d.Cluster
		case "kubelet.config.k8s.io/v1beta1 KubeletConfiguration":
			d.Kubelet = &kubeletv1beta1.KubeletConfiguration{}
			into = d.Kubelet
		case "kubeproxy.config.k8s.io/v1alpha1 KubeProxyConfiguration":
			d.Proxy = &kubeproxyv1alpha1.KubeProxyConfiguration{}
			into = d.Proxy
		default:
			t.Fatalf("kubeadm reads no %s of %s", head.Kind, head.APIVersion)
		}
		if err := yaml.UnmarshalStrict([]byte(text), into); err != nil {
			t.Errorf("%s: %v", head.Kind, err)
		}
	}
	return d
}

func settings(change func(*Settings)) Settings {
	s := Settings{
		Name: "demo", Version: "v1.36.3", Endpoint: "10.9.0.11:6443", Port: 6443, PodCIDR: "172.25.0.0/16", ServiceCIDR: "10.96.0.0/16", DNSDomain: "cluster.local",
		CertSANs: []string{"10.9.0.11"}, EtcdTag: "3.6.8-0", EtcdDataDir: "/srv/etcd", DNSTag: "v1.14.2", ProxyMode: "nftables",
	}
	if change != nil {
		change(&s)
	}
	return s
}

// TestConfiguration: kubeadm's own types read each configuration, and what they read is what was asked for.
func TestConfiguration(t *testing.T) {
	ca, err := pki.NewCA("kubernetes", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	controlPlane := step.Target{Name: "c1", Address: "10.9.0.11", ControlPlane: true}
	worker := step.Target{Name: "w1", Address: "10.9.0.21"}
	noSchedule := []corev1.Taint{{Key: "node-role.kubernetes.io/control-plane", Effect: corev1.TaintEffectNoSchedule}}
	cases := map[string]struct {
		reason   string
		settings Settings
		target   step.Target
		check    func(t *testing.T, d documents)
	}{
		"control plane": {reason: "everything of the cluster is in it", settings: settings(nil), target: controlPlane, check: func(t *testing.T, d documents) {
			same(t, "token", "abcdef.0123456789abcdef", d.Init.BootstrapTokens[0].Token.ID+"."+d.Init.BootstrapTokens[0].Token.Secret)
			same(t, "token's life", 2*time.Hour, d.Init.BootstrapTokens[0].TTL.Duration)
			same(t, "API endpoint", kubeadmv1beta4.APIEndpoint{AdvertiseAddress: "10.9.0.11", BindPort: 6443}, d.Init.LocalAPIEndpoint)
			same(t, "taints", noSchedule, d.Init.NodeRegistration.Taints)
			same(t, "node", "c1", d.Init.NodeRegistration.Name)
			same(t, "version", "v1.36.3", d.Cluster.KubernetesVersion)
			same(t, "networking", kubeadmv1beta4.Networking{PodSubnet: "172.25.0.0/16", ServiceSubnet: "10.96.0.0/16", DNSDomain: "cluster.local"}, d.Cluster.Networking)
			same(t, "etcd", kubeadmv1beta4.LocalEtcd{DataDir: "/srv/etcd", ImageMeta: kubeadmv1beta4.ImageMeta{ImageTag: "3.6.8-0"}}, *d.Cluster.Etcd.Local)
			same(t, "DNS", "v1.14.2", d.Cluster.DNS.ImageTag)
			same(t, "SANs", []string{"10.9.0.11"}, d.Cluster.APIServer.CertSANs)
			same(t, "keys", kubeadmv1beta4.EncryptionAlgorithmECDSAP256, d.Cluster.EncryptionAlgorithm)
			same(t, "max pods", int32(110), d.Kubelet.MaxPods)
			same(t, "failCgroupV1", (*bool)(nil), d.Kubelet.FailCgroupV1)
			same(t, "proxy mode", kubeproxyv1alpha1.ProxyMode("nftables"), d.Proxy.Mode)
			same(t, "proxy's pods", "172.25.0.0/16", d.Proxy.ClusterCIDR)
			same(t, "conntrack", (*int32)(nil), d.Proxy.Conntrack.MaxPerCore)
		}},
		"worker": {reason: "it joins by the token, at an API that the file names", settings: settings(nil), target: worker, check: func(t *testing.T, d documents) {
			same(t, "init", (*kubeadmv1beta4.InitConfiguration)(nil), d.Init)
			same(t, "discovery", kubeadmv1beta4.Discovery{TLSBootstrapToken: "abcdef.0123456789abcdef",
				File: &kubeadmv1beta4.FileDiscovery{KubeConfigPath: DiscoveryPath}}, d.Join.Discovery)
			same(t, "taints", []corev1.Taint{}, d.Join.NodeRegistration.Taints)
			same(t, "arguments", []kubeadmv1beta4.Arg{{Name: "node-ip", Value: "10.9.0.21"}}, d.Join.NodeRegistration.KubeletExtraArgs)
		}},
		"labels and taints": {reason: "the node registers with them", settings: settings(nil),
			target: step.Target{Name: "w1", Address: "10.9.0.21", Labels: map[string]string{"tier": "gold", "disk": "ssd"}, Taints: []string{"dedicated=db:NoExecute", "slow=:PreferNoSchedule"}},
			check: func(t *testing.T, d documents) {
				same(t, "arguments", []kubeadmv1beta4.Arg{{Name: "node-ip", Value: "10.9.0.21"}, {Name: "node-labels", Value: "disk=ssd,tier=gold"}}, d.Join.NodeRegistration.KubeletExtraArgs)
				same(t, "taints", []corev1.Taint{{Key: "dedicated", Value: "db", Effect: corev1.TaintEffectNoExecute}, {Key: "slow", Effect: corev1.TaintEffectPreferNoSchedule}}, d.Join.NodeRegistration.Taints)
			}},
		"single node": {reason: "an empty list, since without one kubeadm adds its own taint", settings: settings(func(s *Settings) { s.Schedulable = true }), target: controlPlane,
			check: func(t *testing.T, d documents) { same(t, "taints", []corev1.Taint{}, d.Init.NodeRegistration.Taints) }},
		"cgroup v1": {reason: "the kubelet refuses it unless told", settings: settings(func(s *Settings) { s.CgroupV1 = true }), target: controlPlane,
			check: func(t *testing.T, d documents) { same(t, "failCgroupV1", new(false), d.Kubelet.FailCgroupV1) }},
		"components": {reason: "flags, and what the API server finds its audit policy by", settings: settings(func(s *Settings) {
			s.Components = Components{LogLevel: 4, NodePortRange: "31000-32000", Audit: &Audit{Policy: "rules", MaxAge: 0, MaxSize: 1, MaxBackup: 100}}
			s.KubeReserved, s.SystemReserved = map[string]string{"cpu": "100m"}, map[string]string{"memory": "128Mi"}
		}), target: controlPlane, check: func(t *testing.T, d documents) {
			policy := Audit{Policy: "rules"}.policyPath()
			level := kubeadmv1beta4.Arg{Name: "v", Value: "4"}
			same(t, "API server", []kubeadmv1beta4.Arg{{Name: "service-node-port-range", Value: "31000-32000"}, {Name: "audit-policy-file", Value: policy},
				{Name: "audit-log-path", Value: "/var/log/kubernetes/audit/audit.log"}, {Name: "audit-log-maxage", Value: "0"}, {Name: "audit-log-maxsize", Value: "1"},
				{Name: "audit-log-maxbackup", Value: "100"}, level}, d.Cluster.APIServer.ExtraArgs)
			same(t, "volumes", []kubeadmv1beta4.HostPathMount{
				{Name: "audit-policy", HostPath: "/etc/kubernetes/audit", MountPath: "/etc/kubernetes/audit", ReadOnly: true, PathType: corev1.HostPathDirectory},
				{Name: "audit-log", HostPath: "/var/log/kubernetes/audit", MountPath: "/var/log/kubernetes/audit", PathType: corev1.HostPathDirectoryOrCreate},
			}, d.Cluster.APIServer.ExtraVolumes)
			same(t, "SANs", []string{"10.9.0.11"}, d.Cluster.APIServer.CertSANs)
			same(t, "controller manager", []kubeadmv1beta4.Arg{level}, d.Cluster.ControllerManager.ExtraArgs)
			same(t, "scheduler", []kubeadmv1beta4.Arg{level}, d.Cluster.Scheduler.ExtraArgs)
			same(t, "proxy", 4, int(d.Proxy.Logging.Verbosity))
			same(t, "kube reserved", map[string]string{"cpu": "100m"}, d.Kubelet.KubeReserved)
			same(t, "system reserved", map[string]string{"memory": "128Mi"}, d.Kubelet.SystemReserved)
		}},
		"conntrack kept": {reason: "zero leaves each limit alone", settings: settings(func(s *Settings) { s.KeepConntrack, s.ProxyMode = true, "iptables" }), target: controlPlane,
			check: func(t *testing.T, d documents) {
				same(t, "mode", kubeproxyv1alpha1.ProxyMode("iptables"), d.Proxy.Mode)
				same(t, "per core", new(int32(0)), d.Proxy.Conntrack.MaxPerCore)
				same(t, "established", time.Duration(0), d.Proxy.Conntrack.TCPEstablishedTimeout.Duration)
				same(t, "close wait", time.Duration(0), d.Proxy.Conntrack.TCPCloseWaitTimeout.Duration)
			}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Log(tc.reason)
			c := Configure{Settings: tc.settings, Token: step.SecretRef{Key: Token}, CA: step.SecretRef{Key: CACert}}
			files, err := c.files(t.Context(), vault{Token: []byte("abcdef.0123456789abcdef"), CACert: ca.CertPEM()}, tc.target)
			if err != nil {
				t.Fatal(err)
			}
			f := files[ConfigPath]
			if f.Mode != 0o600 {
				t.Errorf("mode %o: it holds the bootstrap token", f.Mode)
			}
			tc.check(t, decode(t, f.Content))
			discovery, wanted := files[DiscoveryPath]
			if wanted == tc.target.ControlPlane {
				t.Errorf("discovery file: %v; only a node that joins needs one", wanted)
			}
			if !wanted {
				return
			}
			config, err := clientcmd.Load(discovery.Content)
			if err != nil {
				t.Fatal(err)
			}
			cluster := config.Clusters[config.Contexts[config.CurrentContext].Cluster]
			same(t, "API", "https://10.9.0.11:6443", cluster.Server)
			same(t, "authority", string(ca.CertPEM()), string(cluster.CertificateAuthorityData))
			same(t, "token", "abcdef.0123456789abcdef", config.AuthInfos[config.Contexts[config.CurrentContext].AuthInfo].Token)
			if err := clientcmd.Validate(*config); err != nil {
				t.Errorf("kubeadm refuses the file: %v", err)
			}
		})
	}
}

func same[T any](t *testing.T, what string, want, got T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}
