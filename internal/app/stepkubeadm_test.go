package app

import (
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fakehost "slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/pki"
	"slipway.dev/slipway/internal/step"
	"slipway.dev/slipway/internal/step/kubeadm"
)

const (
	kubernetesDir = "/etc/kubernetes"
	pkiFiles      = kubernetesDir + "/pki/"
)

// authority is one certificate authority with certificates of the API server, made once so that every history ends alike.
type authority struct{ ca, key, leaf, leafKey []byte }

//nolint:gochecknoglobals // Made once for all tests, and never changed.
var authorities = sync.OnceValue(func() map[string]authority {
	all := map[string]authority{}
	for name, ips := range map[string][]net.IP{"right": {net.ParseIP("10.9.0.21")}, "wrong": nil} {
		ca, err := pki.NewCA("kubernetes", time.Hour*24*365)
		if err != nil {
			panic(err)
		}
		leaf, key, err := ca.Issue(pki.Template{CommonName: "leaf", IPs: ips, DNSNames: []string{"demo.example"}})
		if err != nil {
			panic(err)
		}
		all[name] = authority{ca.CertPEM(), ca.KeyPEM(), leaf, key}
		if name == "right" {
			if leaf, key, err = ca.Issue(pki.Template{CommonName: "leaf", IPs: ips}); err != nil {
				panic(err)
			}
			all["unnamed"] = authority{ca.CertPEM(), ca.KeyPEM(), leaf, key}
		}
	}
	return all
})

func leaves() []string {
	return []string{"apiserver", "apiserver-kubelet-client", "front-proxy-client", "apiserver-etcd-client", "etcd/server", "etcd/peer", "etcd/healthcheck-client"}
}

// writeAll writes files of a map on the host, unless they are there.
func writeAll(s *fakehost.State, files map[string]string) error {
	var failed error
	for path, content := range files {
		if s.Lookup(path) == nil {
			failed = errors.Join(failed, s.WriteFile(path, []byte(content), 0o600))
		}
	}
	return failed
}

func kubeconfig(server string) string {
	return "apiVersion: v1\nkind: Config\nclusters:\n- name: demo\n  cluster:\n    server: " + server + "\n"
}

func manifest(image string, more ...string) string {
	return "spec:\n  containers:\n  - command:\n    - " + strings.Join(more, "\n    - ") + "\n    image: registry.k8s.io/x:" + image + "\n"
}

func initPhase(phase string) string {
	return "init phase " + phase + " --config /etc/kubernetes/kubeadm.yaml"
}

func kubeadmCases() map[string]stepCase {
	all := map[string]stepCase{
		"certificates": {reason: "one is of another authority, one is broken, the others are missing", step: kubeadm.Certificates{SANs: []string{"10.9.0.21", "demo.example"}},
			prepare: func(b *bench) {
				right := authorities()["right"]
				for _, ca := range []string{"ca", "front-proxy-ca", "etcd/ca"} {
					b.write(pkiFiles+ca+".crt", string(right.ca))
				}
				b.write(pkiFiles+"etcd/server.crt", string(authorities()["wrong"].leaf))
				b.write(pkiFiles+"etcd/peer.crt", "no certificate")
				b.phase(initPhase("certs all"), func(s *fakehost.State) error {
					files := map[string]string{}
					for _, leaf := range leaves() {
						files[pkiFiles+leaf+".crt"], files[pkiFiles+leaf+".key"] = string(right.leaf), string(right.leafKey)
					}
					return writeAll(s, files)
				})
			}, drift: prefixed(pkiFiles, ".crt", leaves()...)},
		"kubeconfigs": {reason: "kubeadm keeps what it finds, so what names another server goes first", step: kubeadm.Kubeconfigs{Server: "https://10.9.0.21:6443"},
			prepare: func(b *bench) {
				b.write(kubernetesDir+"/admin.conf", kubeconfig("https://other:6443"))
				b.write(kubernetesDir+"/kubelet.conf", "torn")
				b.phase(initPhase("kubeconfig all"), func(s *fakehost.State) error {
					files := map[string]string{}
					for _, name := range []string{"admin", "super-admin", "controller-manager", "scheduler", "kubelet"} {
						files[kubernetesDir+"/"+name+".conf"] = kubeconfig("https://10.9.0.21:6443")
					}
					return writeAll(s, files)
				})
			}, drift: prefixed(kubernetesDir+"/", ".conf", "admin", "super-admin", "controller-manager", "scheduler", "kubelet")},
		"manifests": {reason: "the images are those of the bundle", step: kubeadm.Manifests{Version: "v1.36.3", EtcdTag: "3.6.8-0", EtcdDataDir: "/srv/etcd"},
			prepare: func(b *bench) {
				b.write(kubernetesDir+"/manifests/etcd.yaml", manifest("3.6.8-0", "etcd", "--data-dir=/var/lib/etcd"))
				b.phase(join(initPhase("etcd local"), initPhase("control-plane all")), func(s *fakehost.State) error {
					failed := s.WriteFile(kubernetesDir+"/manifests/etcd.yaml", []byte(manifest("3.6.8-0", "etcd", "--data-dir=/srv/etcd")), 0o600)
					for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
						failed = errors.Join(failed, s.WriteFile(kubernetesDir+"/manifests/"+name+".yaml", []byte(manifest("v1.36.3", name)), 0o600))
					}
					return failed
				})
			}, drift: prefixed(kubernetesDir+"/manifests/", ".yaml", "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")},
		"install keys": {reason: "private keys are root's alone", step: kubeadm.InstallKeys{Secret: "cluster-demo"},
			prepare: func(b *bench) {
				for _, name := range []string{"ca", "front-proxy-ca", "etcd-ca"} {
					b.secrets[name+".crt"], b.secrets[name+".key"] = "certificate of "+name+"\n", "private key of "+name+"\n"
				}
				b.secrets["sa.pub"], b.secrets["sa.key"] = "public key of accounts\n", "private key of accounts\n"
				b.write(pkiFiles+"ca.crt", "another")
			}, drift: append(prefixed(pkiFiles, ".crt", "ca", "front-proxy-ca", "etcd/ca"), append(prefixed(pkiFiles, ".key", "ca", "front-proxy-ca", "etcd/ca", "sa"), pkiFiles+"sa.pub")...),
			golden: []string{pkiFiles + "ca.crt", pkiFiles + "etcd/ca.key", pkiFiles + "sa.key", pkiFiles + "sa.pub"}},
		"start kubelet": {reason: "kubeadm writes its configuration and starts it", step: kubeadm.StartKubelet{}, prepare: func(b *bench) { b.kubeletStart(initPhase("kubelet-start"), nil) },
			drift: []string{"/var/lib/kubelet/config.yaml", "/var/lib/kubelet/kubeadm-flags.env", "kubelet.service"}},
		"join": {reason: "the kubelet begins with the token", step: kubeadm.Join{}, prepare: func(b *bench) {
			b.kubeletStart("join phase kubelet-start --config /etc/kubernetes/kubeadm.yaml", map[string]string{kubernetesDir + "/bootstrap-kubelet.conf": "token"})
		}, drift: []string{"/var/lib/kubelet/config.yaml", "/var/lib/kubelet/kubeadm-flags.env", "kubelet.service", kubernetesDir + "/kubelet.conf"}},
		"finish join": {reason: "the token leaves the host when the kubelet has its own certificate", step: kubeadm.FinishJoin{},
			prepare: func(b *bench) { b.write(kubernetesDir+"/bootstrap-kubelet.conf", "token") },
			event:   func(b *bench) { b.write(kubernetesDir+"/kubelet.conf", "own") }, drift: []string{kubernetesDir + "/bootstrap-kubelet.conf"}},
		"finalize kubelet": {reason: "the certificate that renews itself", step: kubeadm.FinalizeKubelet{}, prepare: func(b *bench) {
			b.write(kubernetesDir+"/kubelet.conf", "client-certificate-data: abc")
			b.write("/var/lib/kubelet/pki/kubelet-client-current.pem", "")
			b.phase(initPhase("kubelet-finalize all"), func(s *fakehost.State) error {
				return s.WriteFile(kubernetesDir+"/kubelet.conf", []byte("client-certificate: /var/lib/kubelet/pki/kubelet-client-current.pem"), 0o600)
			})
		}, drift: []string{kubernetesDir + "/kubelet.conf"}},
	}
	for name, tc := range clusterCases() {
		all[name] = tc
	}
	for name, tc := range configureCases() {
		all[name] = tc
	}
	return all
}

func prefixed(prefix, suffix string, names ...string) []string {
	var all []string
	for _, n := range names {
		all = append(all, prefix+n+suffix)
	}
	return all
}

// kubeletStart gives the host a kubelet, and kubeadm the phase that configures and starts it.
func (b *bench) kubeletStart(phase string, more map[string]string) {
	b.unit("kubelet.service", "/var/lib/kubelet/config.yaml", false)
	b.phase(phase, func(s *fakehost.State) error {
		files := map[string]string{"/var/lib/kubelet/config.yaml": "kind: KubeletConfiguration\n", "/var/lib/kubelet/kubeadm-flags.env": "KUBELET_KUBEADM_ARGS=\n"}
		for path, content := range more {
			files[path] = content
		}
		err := writeAll(s, files)
		if r := s.Exec(fakehost.Call{Argv: []string{"systemctl", "restart", "kubelet"}}); r.ExitCode != 0 {
			err = errors.Join(err, errors.New(string(r.Stderr)))
		}
		return err
	})
}

// makes lets a phase create objects; those that are there stay.
func (b *bench) makes(phase string, objects func() []client.Object) {
	b.phase(phase, func(*fakehost.State) error {
		var failed error
		for _, o := range objects() {
			failed = errors.Join(failed, client.IgnoreAlreadyExists(b.cluster.Create(b.t.Context(), o)))
		}
		return failed
	})
}

func named(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

func template(image string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Image: image}}}}
}

// clusterCases are the phases that change the cluster and not the host.
func clusterCases() map[string]stepCase {
	tainted := func(b *bench) {
		b.phase(initPhase("mark-control-plane"), func(*fakehost.State) error {
			var n corev1.Node
			if err := b.cluster.Get(b.t.Context(), client.ObjectKey{Name: "w1"}, &n); err != nil {
				return err
			}
			n.Labels = map[string]string{"node-role.kubernetes.io/control-plane": ""}
			n.Spec.Taints = []corev1.Taint{{Key: "node-role.kubernetes.io/control-plane", Effect: corev1.TaintEffectNoSchedule}}
			return b.cluster.Update(b.t.Context(), &n)
		})
	}
	return map[string]stepCase{
		"upload config": {reason: "joining nodes read it", step: kubeadm.UploadConfig{Version: "v1.36.3"}, prepare: func(b *bench) {
			b.makes(initPhase("upload-config all"), func() []client.Object {
				return []client.Object{
					&corev1.ConfigMap{ObjectMeta: named("kube-system", "kubeadm-config"), Data: map[string]string{"ClusterConfiguration": "kubernetesVersion: v1.36.3\n"}},
					&corev1.ConfigMap{ObjectMeta: named("kube-system", "kubelet-config")},
					&rbacv1.RoleBinding{ObjectMeta: named("kube-system", "kubeadm:nodes-kubeadm-config")},
					&rbacv1.RoleBinding{ObjectMeta: named("kube-system", "kubeadm:kubelet-config")},
				}
			})
		}, drift: []string{"ConfigMap kube-system/kubeadm-config", "*v1.ConfigMap kube-system/kubelet-config",
			"*v1.RoleBinding kube-system/kubeadm:nodes-kubeadm-config", "*v1.RoleBinding kube-system/kubeadm:kubelet-config"}},
		"admin access": {reason: "the rights of admin.conf, which kube-vip logs in with", step: kubeadm.AdminAccess{},
			drift: []string{"*v1.ClusterRoleBinding kubeadm:cluster-admins"}},
		"join token": {reason: "the token that Kubernetes has dropped is put back", step: kubeadm.JoinToken{Token: step.SecretRef{Key: "bootstrap-token"}},
			prepare: func(b *bench) { b.secrets["bootstrap-token"] = "abcdef.0123456789abcdef" },
			drift:   []string{"Secret kube-system/bootstrap-token-abcdef"}},
		"allow join": {reason: "the token, the public information and the rights", step: kubeadm.AllowJoin{Token: step.SecretRef{Key: "bootstrap-token"}}, prepare: func(b *bench) {
			b.secrets["bootstrap-token"] = "abcdef.0123456789abcdef"
			b.makes(initPhase("bootstrap-token"), func() []client.Object {
				objects := []client.Object{
					&corev1.Secret{ObjectMeta: named("kube-system", "bootstrap-token-abcdef")},
					&rbacv1.RoleBinding{ObjectMeta: named("kube-public", "kubeadm:bootstrap-signer-clusterinfo")},
					&corev1.ConfigMap{ObjectMeta: named("kube-public", "cluster-info")},
				}
				for _, name := range bootstrapRights() {
					objects = append(objects, &rbacv1.ClusterRoleBinding{ObjectMeta: named("", name)})
				}
				return objects
			})
		}, drift: append(prefixed("*v1.ClusterRoleBinding ", "", bootstrapRights()...), "*v1.Secret kube-system/bootstrap-token-abcdef",
			"*v1.RoleBinding kube-public/kubeadm:bootstrap-signer-clusterinfo", "ConfigMap kube-public/cluster-info")},
		"mark control plane": {reason: "the label, and the taint that keeps pods away", step: kubeadm.MarkControlPlane{}, prepare: tainted, event: withNode(""),
			drift: []string{"label", "taint"}},
		"mark schedulable": {reason: "a single node runs pods", step: kubeadm.MarkControlPlane{Schedulable: true}, prepare: func(b *bench) {
			tainted(b)
			withNode("")(b)
		}, drift: []string{"label node-role.kubernetes.io/control-plane"}},
		"proxy": {reason: "with the image of the bundle", step: kubeadm.Proxy{Version: "v1.36.3"}, prepare: func(b *bench) {
			b.makes(initPhase("addon kube-proxy"), func() []client.Object {
				return []client.Object{
					&appsv1.DaemonSet{ObjectMeta: named("kube-system", "kube-proxy"), Spec: appsv1.DaemonSetSpec{Template: template("registry.k8s.io/kube-proxy:v1.36.3")}},
				}
			})
		}, drift: []string{"DaemonSet kube-system/kube-proxy"}},
		"dns": {reason: "with the image of the bundle", step: kubeadm.DNS{Tag: "v1.14.2"}, prepare: func(b *bench) {
			b.makes(initPhase("addon coredns"), func() []client.Object {
				return []client.Object{
					&appsv1.Deployment{ObjectMeta: named("kube-system", "coredns"), Spec: appsv1.DeploymentSpec{Template: template("registry.k8s.io/coredns/coredns:v1.14.2")}},
					&corev1.Service{ObjectMeta: named("kube-system", "kube-dns")},
				}
			})
		}, drift: []string{"Deployment kube-system/coredns", "*v1.Service kube-system/kube-dns"}},
	}
}

func bootstrapRights() []string {
	return []string{"kubeadm:kubelet-bootstrap", "kubeadm:node-autoapprove-bootstrap", "kubeadm:node-autoapprove-certificate-rotation", "kubeadm:get-nodes"}
}

// configureCases are kubeadm's configuration for each shape of a cluster. That kubeadm reads them is proven beside the step.
func configureCases() map[string]stepCase {
	base := kubeadm.Settings{
		Name: "demo", Version: "v1.36.3", Endpoint: "10.9.0.11:6443", Port: 6443, PodCIDR: "172.25.0.0/16", ServiceCIDR: "10.96.0.0/16", DNSDomain: "cluster.local",
		CertSANs: []string{"10.9.0.11", "demo.example"}, EtcdTag: "3.6.8-0", EtcdDataDir: "/var/lib/etcd", DNSTag: "v1.14.2", ProxyMode: "nftables",
	}
	with := func(change func(*kubeadm.Settings)) kubeadm.Settings {
		s := base
		change(&s)
		return s
	}
	controlPlane := func(t *step.Target) { t.Name, t.Address, t.ControlPlane = "c1", "10.9.0.11", true }
	cases := map[string]stepCase{}
	for name, tc := range map[string]struct {
		reason   string
		settings kubeadm.Settings
		target   func(*step.Target)
	}{
		"control plane": {reason: "of one and two", settings: base, target: controlPlane},
		"worker":        {reason: "of one and two", settings: base, target: func(*step.Target) {}},
		"worker labels and taints": {reason: "the node registers with them", settings: base, target: func(t *step.Target) {
			t.Labels, t.Taints = map[string]string{"tier": "gold", "disk": "ssd"}, []string{"dedicated=db:NoExecute", "slow=:PreferNoSchedule"}
		}},
		"single node":    {reason: "it runs pods", settings: with(func(s *kubeadm.Settings) { s.Schedulable = true }), target: controlPlane},
		"cgroup v1":      {reason: "the kubelet refuses it unless told", settings: with(func(s *kubeadm.Settings) { s.CgroupV1 = true }), target: controlPlane},
		"conntrack kept": {reason: "in a container its limits cannot be written", settings: with(func(s *kubeadm.Settings) { s.KeepConntrack, s.ProxyMode = true, "iptables" }), target: controlPlane},
	} {
		paths := []string{kubeadm.ConfigPath}
		if strings.HasPrefix(name, "worker") {
			paths = []string{kubeadm.DiscoveryPath, kubeadm.ConfigPath}
		}
		cases["kubeadm "+name] = stepCase{
			reason: tc.reason, target: tc.target,
			step: kubeadm.Configure{Settings: tc.settings, Token: step.SecretRef{Key: "bootstrap-token"}, CA: step.SecretRef{Key: "ca.crt"}},
			prepare: func(b *bench) {
				b.secrets["bootstrap-token"], b.secrets["ca.crt"] = "abcdef.0123456789abcdef", fixedAuthority
			},
			drift: paths, golden: paths,
		}
	}
	return cases
}

// fixedAuthority is a certificate whose pin is always the same; nobody has its key.
const fixedAuthority = `-----BEGIN CERTIFICATE-----
MIIBfzCCASWgAwIBAgIUN193i6KKyljVCHgucTMhlbwDsvQwCgYIKoZIzj0EAwIw
FTETMBEGA1UEAwwKa3ViZXJuZXRlczAeFw0yNjExMjAxOTE1MDNaFw0zNjExMTcx
OTE1MDNaMBUxEzARBgNVBAMMCmt1YmVybmV0ZXMwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQBiq6J+6rw8gEcFXnVQW03G5fxsv5bxp044+so63j6xd/DYGrnt+Az
E2Qd+w4oTWyE4ZpiFbj3r9gJSgked+Fpo1MwUTAdBgNVHQ4EFgQUalBL+5t8ED82
ur+E9EFUedLt4LcwHwYDVR0jBBgwFoAUalBL+5t8ED82ur+E9EFUedLt4LcwDwYD
VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiAXm4nvt2YfnxOvSY6B6Swv
rcz4l0dFPsndgSCNoSfk2QIhAJ+kEgqRTBM31ftGGwhD0/PTIYIPSpgoZP9rayP0
SgtA
-----END CERTIFICATE-----
`
