package fault

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"slipway.dev/slipway/internal/host"
	fakehost "slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/pki"
)

// aYear is how long kubeadm makes certificates valid.
const aYear = 365 * 24 * time.Hour

// notary issues certificates. It gives the same one for the same question, so that equal histories end equal.
type notary struct {
	mu     sync.Mutex
	issued map[string][2][]byte
}

func (n *notary) issue(caCert, caKey []byte, name string, sans []string, made time.Time) (certificate, key []byte, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	question := fmt.Sprintf("%x %s %v %d", sha256.Sum256(caCert), name, sans, made.Unix())
	if have, ok := n.issued[question]; ok {
		return have[0], have[1], nil
	}
	ca, err := pki.ParseCA(caCert, caKey)
	if err != nil {
		return nil, nil, err
	}
	template := pki.Template{CommonName: name, ValidFor: time.Until(made.Add(aYear))}
	for _, san := range sans {
		if ip := net.ParseIP(san); ip != nil {
			template.IPs = append(template.IPs, ip)
		} else {
			template.DNSNames = append(template.DNSNames, san)
		}
	}
	if certificate, key, err = ca.Issue(template); err == nil {
		n.issued[question] = [2][]byte{certificate, key}
	}
	return certificate, key, err
}

// phases is one run of kubeadm on a node: each method is a phase and refuses what the real one refuses.
type phases struct {
	*node
	s *fakehost.State
	// config holds the documents of the configuration by kind, and texts what they say.
	config map[string]kubeadmConfig
	texts  map[string]string
}

// kubeadmConfig is what the phases read of any of kubeadm's documents.
type kubeadmConfig struct {
	Kind             string
	LocalAPIEndpoint struct{ AdvertiseAddress string }
	BootstrapTokens  []struct{ Token string }
	NodeRegistration struct {
		Name             string
		KubeletExtraArgs []argument
		Taints           []corev1.Taint
	}
	Discovery struct {
		File              struct{ KubeConfigPath string }
		TLSBootstrapToken string
	}
	KubernetesVersion, ControlPlaneEndpoint string
	APIServer                               struct {
		CertSANs  []string
		ExtraArgs []argument
	}
	ControllerManager, Scheduler struct{ ExtraArgs []argument }
	Etcd                         struct {
		Local struct {
			DataDir, ImageTag string
			ExtraArgs         []argument
		}
	}
	DNS  struct{ ImageTag string }
	Mode string
}

// argument is one flag of a component.
type argument struct{ Name, Value string }

// kubeadm plays kubeadm.
func (n *node) kubeadm(s *fakehost.State, c fakehost.Call) host.Result {
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	p := phases{node: n, s: s, config: map[string]kubeadmConfig{}, texts: map[string]string{}}
	if slices.Equal(c.Argv[1:], []string{"reset", "--force", "--cri-socket", "unix://" + socketPath}) {
		return outcome(p.reset())
	}
	if slices.Equal(c.Argv[1:], []string{"upgrade", "node", "phase", "kubelet-config"}) {
		return outcome(p.kubeletConfig())
	}
	if len(c.Argv) == 6 && slices.Equal(c.Argv[1:5], []string{"certs", "renew", "all", "--config"}) {
		return outcome(errors.Join(p.read(c.Argv[5]), p.renew()))
	}
	if len(c.Argv) < 6 || c.Argv[2] != "phase" || c.Argv[len(c.Argv)-2] != "--config" {
		return fakehost.Fail(2, "kubeadm: unknown command")
	}
	if err := p.read(c.Argv[len(c.Argv)-1]); err != nil {
		return outcome(err)
	}
	phase, known := map[string]func() error{
		"init certs all": p.certs, "init kubeconfig all": p.kubeconfigs, "init kubeconfig kubelet": p.kubeconfigs, "init etcd local": p.etcdManifest, "init control-plane all": p.controlPlane,
		"init kubelet-start": p.kubeletStart, "init upload-config all": p.uploadConfig, "init bootstrap-token": p.bootstrapToken,
		"init addon kube-proxy": p.proxy, "init addon coredns": p.dns, "init mark-control-plane": p.markControlPlane, "init kubelet-finalize all": p.kubeletFinalize,
		"join kubelet-start": p.join,
	}[strings.Join(append([]string{c.Argv[1]}, c.Argv[3:len(c.Argv)-2]...), " ")]
	if !known {
		return fakehost.Fail(2, "kubeadm: unknown phase")
	}
	return outcome(phase())
}

func outcome(err error) host.Result {
	if err != nil {
		return fakehost.Fail(1, "error: "+err.Error())
	}
	return host.Result{}
}

func (p *phases) read(path string) error {
	content, err := p.s.ReadFile(path)
	if err != nil {
		return fmt.Errorf("couldn't read the config file: %w", err)
	}
	for document := range strings.SplitSeq(string(content), "---\n") {
		var c kubeadmConfig
		if err := yaml.Unmarshal([]byte(document), &c); err != nil {
			return err
		}
		p.config[c.Kind], p.texts[c.Kind] = c, document
	}
	return nil
}

const pkiDir = "/etc/kubernetes/pki/"

// authority gives the certificate and key of a CA that must be there.
func (p *phases) authority(name string) (certificate, key []byte, err error) {
	certificate, err1 := p.s.ReadFile(pkiDir + name + ".crt")
	key, err2 := p.s.ReadFile(pkiDir + name + ".key")
	return certificate, key, errors.Join(err1, err2)
}

// certs keeps certificates that are there, if they are signed by their authority, and makes the others.
func (p *phases) certs() error {
	init, cluster := p.config["InitConfiguration"], p.config["ClusterConfiguration"]
	server := slices.Concat([]string{p.name, "kubernetes.default.svc", init.LocalAPIEndpoint.AdvertiseAddress}, cluster.APIServer.CertSANs)
	for _, leaf := range []struct {
		name, ca string
		sans     []string
	}{
		{"apiserver", "ca", server}, {"apiserver-kubelet-client", "ca", nil}, {"front-proxy-client", "front-proxy-ca", nil},
		{"etcd/server", "etcd/ca", []string{p.name, "localhost"}}, {"etcd/peer", "etcd/ca", []string{p.name}},
		{"etcd/healthcheck-client", "etcd/ca", nil}, {"apiserver-etcd-client", "etcd/ca", nil},
	} {
		caCert, caKey, err := p.authority(leaf.ca)
		if err != nil {
			return err
		}
		haveCert, certErr := p.s.ReadFile(pkiDir + leaf.name + ".crt")
		_, keyErr := p.s.ReadFile(pkiDir + leaf.name + ".key")
		if certErr == nil || keyErr == nil {
			if err := errors.Join(certErr, keyErr, signedBy(haveCert, caCert)); err != nil {
				return fmt.Errorf("error execution phase certs/%s: %w", leaf.name, err)
			}
			continue
		}
		certificate, key, err := p.world.notary.issue(caCert, caKey, leaf.name, leaf.sans, p.world.made)
		if err != nil {
			return err
		}
		if err := errors.Join(p.s.WriteFile(pkiDir+leaf.name+".key", key, 0o600), p.s.WriteFile(pkiDir+leaf.name+".crt", certificate, 0o644)); err != nil {
			return err
		}
	}
	return nil
}

func signedBy(leaf, ca []byte) error {
	parse := func(b []byte) (*x509.Certificate, error) {
		block, _ := pem.Decode(b)
		if block == nil {
			return nil, errors.New("no certificate")
		}
		return x509.ParseCertificate(block.Bytes)
	}
	l, err1 := parse(leaf)
	c, err2 := parse(ca)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	return l.CheckSignatureFrom(c)
}

// kubeconfigs keeps files that name the same server, refuses others and makes those that are missing.
func (p *phases) kubeconfigs() error {
	caCert, caKey, err := p.authority("ca")
	if err != nil {
		return err
	}
	local := "https://" + net.JoinHostPort(p.config["InitConfiguration"].LocalAPIEndpoint.AdvertiseAddress, "6443")
	for name, server := range map[string]string{
		"admin": p.world.endpoint(), "super-admin": p.world.endpoint(), "kubelet": p.world.endpoint(), "controller-manager": local, "scheduler": local,
	} {
		path := "/etc/kubernetes/" + name + ".conf"
		if have, err := p.s.ReadFile(path); err == nil {
			if config, err := clientcmd.Load(have); err != nil || config.Clusters["kubernetes"] == nil || config.Clusters["kubernetes"].Server != server {
				return fmt.Errorf("a kubeconfig file %q exists already but has got the wrong API Server URL", path)
			}
			continue
		}
		certificate, key, err := p.world.notary.issue(caCert, caKey, name, nil, p.world.made)
		if err != nil {
			return err
		}
		if err := p.s.WriteFile(path, kubeconfig(server, caCert, certificate, key), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func kubeconfig(server string, ca, certificate, key []byte) []byte {
	encode := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: kubernetes, cluster: {server: %q, certificate-authority-data: %s}}]
users: [{name: user, user: {client-certificate-data: %s, client-key-data: %s}}]
contexts: [{name: user, context: {cluster: kubernetes, user: user}}]
current-context: user
`, server, encode(ca), encode(certificate), encode(key))
}

// kubeletLogin is the kubeconfig of a kubelet that renews its certificate by itself.
func kubeletLogin(server string) []byte {
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: kubernetes, cluster: {server: %q}}]
users: [{name: user, user: {client-certificate: %s, client-key: %s}}]
contexts: [{name: user, context: {cluster: kubernetes, user: user}}]
current-context: user
`, server, currentCertificate, currentCertificate)
}

func (p *phases) manifest(name, image string, flags ...string) error {
	return p.s.WriteFile("/etc/kubernetes/manifests/"+name+".yaml", fmt.Appendf(nil, "image: %s\n    - %s\n", image, strings.Join(flags, "\n    - ")), 0o600)
}

// renew makes every certificate anew that is there, the kubelet's apart.
func (p *phases) renew() error {
	var paths []string
	for _, f := range p.s.Tree(pkiDir[:len(pkiDir)-1]) {
		if strings.HasSuffix(f.Path, ".crt") && !strings.HasSuffix(f.Path, "ca.crt") {
			paths = append(paths, f.Path, strings.TrimSuffix(f.Path, ".crt")+".key")
		}
	}
	for _, name := range []string{"admin", "super-admin", "controller-manager", "scheduler"} {
		paths = append(paths, "/etc/kubernetes/"+name+".conf")
	}
	for _, path := range paths {
		if err := p.s.Remove(path); err != nil {
			return err
		}
	}
	return errors.Join(p.certs(), p.kubeconfigs())
}

func (p *phases) etcdManifest() error {
	if _, _, err := p.authority("etcd/ca"); err != nil {
		return err
	}
	local := p.config["ClusterConfiguration"].Etcd.Local
	flags := []string{"--data-dir=" + local.DataDir}
	for _, a := range local.ExtraArgs {
		flags = append(flags, "--"+a.Name+"="+a.Value)
	}
	return errors.Join(p.s.Mkdir(local.DataDir, 0o700), p.manifest("etcd", "registry.k8s.io/etcd:"+local.ImageTag, flags...))
}

func (p *phases) controlPlane() error {
	cluster := p.config["ClusterConfiguration"]
	version := cluster.KubernetesVersion
	for name, arguments := range map[string][]argument{
		"kube-apiserver": cluster.APIServer.ExtraArgs, "kube-controller-manager": cluster.ControllerManager.ExtraArgs, "kube-scheduler": cluster.Scheduler.ExtraArgs,
	} {
		flags := []string{"--profiling=false"}
		for _, a := range arguments {
			flags = append(flags, "--"+a.Name+"="+a.Value)
		}
		if err := p.manifest(name, "registry.k8s.io/"+name+":"+version, flags...); err != nil {
			return err
		}
	}
	return nil
}

// startKubelet writes the kubelet's configuration and starts it.
func (p *phases) startKubelet(kind string) error {
	registration := p.config[kind].NodeRegistration
	if registration.Name != p.name {
		return fmt.Errorf("the configuration is for node %q", registration.Name)
	}
	var flags, taints []string
	for _, a := range registration.KubeletExtraArgs {
		flags = append(flags, "--"+a.Name+"="+a.Value)
	}
	for _, t := range registration.Taints {
		taints = append(taints, t.Key+"="+t.Value+":"+string(t.Effect))
	}
	if len(taints) > 0 {
		flags = append(flags, "--register-with-taints="+strings.Join(taints, ","))
	}
	err := p.s.WriteFile("/var/lib/kubelet/kubeadm-flags.env", []byte(`"`+strings.Join(flags, " ")+"\"\n"), 0o644)
	if kind == "InitConfiguration" {
		err = errors.Join(err, p.s.WriteFile(kubeletConfigPath, []byte(p.texts["KubeletConfiguration"]), 0o644))
	} else {
		err = errors.Join(err, p.kubeletConfig())
	}
	if err != nil {
		return err
	}
	return p.run("systemctl", "restart", "kubelet")
}

const kubeletConfigPath = "/var/lib/kubelet/config.yaml"

// kubeletConfig writes what the cluster stores.
func (p *phases) kubeletConfig() error {
	c, err := p.cluster.api()
	if err != nil {
		return err
	}
	stored := find[*corev1.ConfigMap](c, "kube-system", "kubelet-config")
	if stored == nil {
		return errors.New("configmaps \"kubelet-config\" not found")
	}
	return p.s.WriteFile(kubeletConfigPath, []byte(stored.Data["kubelet"]), 0o644)
}

func (p *phases) run(argv ...string) error {
	if r := p.s.Exec(fakehost.Call{Argv: argv}); r.ExitCode != 0 {
		return fmt.Errorf("%s: %s", strings.Join(argv, " "), r.Stderr)
	}
	return nil
}

func (p *phases) kubeletStart() error { return p.startKubelet("InitConfiguration") }

// client gives the API as admin.conf reaches it.
func (p *phases) client() (objects, error) {
	if _, err := p.s.ReadFile("/etc/kubernetes/admin.conf"); err != nil {
		return nil, err
	}
	return p.cluster.api()
}

func (p *phases) put(all ...client.Object) error {
	c, err := p.client()
	if err != nil {
		return err
	}
	return c.put(all...)
}

func in(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

func (p *phases) uploadConfig() error {
	return p.put(&corev1.ConfigMap{ObjectMeta: in("kube-system", "kubeadm-config"), Data: map[string]string{"ClusterConfiguration": p.texts["ClusterConfiguration"]}},
		&rbacv1.RoleBinding{ObjectMeta: in("kube-system", "kubeadm:nodes-kubeadm-config")},
		&corev1.ConfigMap{ObjectMeta: in("kube-system", "kubelet-config"), Data: map[string]string{"kubelet": p.texts["KubeletConfiguration"]}},
		&rbacv1.RoleBinding{ObjectMeta: in("kube-system", "kubeadm:kubelet-config")})
}

// bootstrapToken writes the cluster information anew, which takes its signatures away.
func (p *phases) bootstrapToken() error {
	id, value, _ := strings.Cut(p.config["InitConfiguration"].BootstrapTokens[0].Token, ".")
	all := []client.Object{&corev1.Secret{ObjectMeta: in("kube-system", "bootstrap-token-"+id), Data: map[string][]byte{"token-secret": []byte(value)}}}
	for _, name := range []string{"kubelet-bootstrap", "node-autoapprove-bootstrap", "node-autoapprove-certificate-rotation", "get-nodes"} {
		all = append(all, &rbacv1.ClusterRoleBinding{ObjectMeta: in("", "kubeadm:"+name)})
	}
	ca, _, err := p.authority("ca")
	if err != nil {
		return err
	}
	return p.put(append(all, &rbacv1.RoleBinding{ObjectMeta: in("kube-public", "kubeadm:bootstrap-signer-clusterinfo")},
		&corev1.ConfigMap{ObjectMeta: in("kube-public", "cluster-info"), Data: map[string]string{"kubeconfig": string(ca)}})...)
}

func podTemplate(image string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Image: image}}}}
}

func (p *phases) dns() error {
	return p.put(
		&appsv1.Deployment{ObjectMeta: in("kube-system", "coredns"), Spec: appsv1.DeploymentSpec{Replicas: new(int32(2)),
			Template: podTemplate("registry.k8s.io/coredns/coredns:" + p.config["ClusterConfiguration"].DNS.ImageTag)}},
		&corev1.Service{ObjectMeta: in("kube-system", "kube-dns")})
}

func (p *phases) proxy() error {
	version := p.config["ClusterConfiguration"].KubernetesVersion
	return p.put(
		&corev1.ConfigMap{ObjectMeta: in("kube-system", "kube-proxy"), Data: map[string]string{
			"mode": p.config["KubeProxyConfiguration"].Mode, "config.conf": p.texts["KubeProxyConfiguration"]}},
		&appsv1.DaemonSet{ObjectMeta: in("kube-system", "kube-proxy"), Spec: appsv1.DaemonSetSpec{Template: podTemplate("registry.k8s.io/kube-proxy:" + version)}})
}

func (p *phases) markControlPlane() error {
	c, err := p.client()
	if err != nil {
		return err
	}
	object := find[*corev1.Node](c, "", p.name)
	if object == nil {
		return fmt.Errorf("nodes %q not found", p.name)
	}
	metav1.SetMetaDataLabel(&object.ObjectMeta, "node-role.kubernetes.io/control-plane", "")
	for _, t := range p.config["InitConfiguration"].NodeRegistration.Taints {
		if !slices.ContainsFunc(object.Spec.Taints, func(have corev1.Taint) bool { return have.Key == t.Key }) {
			object.Spec.Taints = append(object.Spec.Taints, t)
		}
	}
	return nil
}

func (p *phases) kubeletFinalize() error {
	if p.s.Lookup(currentCertificate) == nil {
		return fmt.Errorf("%s does not exist", currentCertificate)
	}
	return errors.Join(p.s.WriteFile("/etc/kubernetes/kubelet.conf", kubeletLogin(p.world.endpoint()), 0o600),
		p.run("systemctl", "restart", "kubelet"))
}

// join trusts the cluster by the authority in the discovery file, and refuses the name of a node that is Ready.
func (p *phases) join() error {
	join := p.config["JoinConfiguration"].Discovery
	discovery := p.s.Lookup(join.File.KubeConfigPath)
	if discovery == nil {
		return fmt.Errorf("cannot read %s", join.File.KubeConfigPath)
	}
	trusted, err := clientcmd.Load(discovery.Content)
	if err != nil {
		return err
	}
	if err := clientcmd.Validate(*trusted); err != nil {
		return err
	}
	named := trusted.Clusters[trusted.Contexts[trusted.CurrentContext].Cluster]
	c, err := p.cluster.api()
	if err != nil {
		return err
	}
	id, value, _ := strings.Cut(join.TLSBootstrapToken, ".")
	info, token := find[*corev1.ConfigMap](c, "kube-public", "cluster-info"), find[*corev1.Secret](c, "kube-system", "bootstrap-token-"+id)
	if info == nil || token == nil {
		return errors.New("couldn't validate the identity of the API Server")
	}
	switch {
	case named.Server != p.world.endpoint():
		return errors.New("no route to host")
	case !bytes.Equal(token.Data["token-secret"], []byte(value)):
		return errors.New("Unauthorized")
	case strings.TrimSpace(string(named.CertificateAuthorityData)) != strings.TrimSpace(info.Data["kubeconfig"]):
		return errors.New("certificate signed by unknown authority")
	}
	if object := find[*corev1.Node](c, "", p.name); object != nil && object.Status.Conditions[0].Status == corev1.ConditionTrue {
		return fmt.Errorf("a Node with name %q and status \"Ready\" already exists in the cluster", p.name)
	}
	err = errors.Join(p.s.WriteFile("/etc/kubernetes/bootstrap-kubelet.conf", []byte("token: "+join.TLSBootstrapToken+"\n"), 0o600),
		p.s.WriteFile(pkiDir+"ca.crt", []byte(info.Data["kubeconfig"]), 0o644))
	if err != nil {
		return err
	}
	return p.startKubelet("JoinConfiguration")
}

// reset undoes what the phases made, as far as the real one does: the pod network, its rules and the images stay.
func (p *phases) reset() error {
	if !active(p.s, "containerd.service") {
		return errors.New("the container runtime does not answer")
	}
	if active(p.s, "kubelet.service") {
		if err := p.run("systemctl", "stop", "kubelet"); err != nil {
			return err
		}
	}
	p.s.Containers = nil
	p.s.Mounts = slices.DeleteFunc(p.s.Mounts, func(m host.Mount) bool {
		return strings.HasPrefix(m.Path, "/var/lib/kubelet/") || strings.HasPrefix(m.Path, "/run/containerd/") || m.Path == podNamespace
	})
	p.s.Links = slices.DeleteFunc(p.s.Links, func(l host.Link) bool { return l.Kind == "veth" })
	paths := []string{podNamespace, "/etc/kubernetes/manifests", "/etc/kubernetes/pki", "/etc/kubernetes/admin.conf", "/etc/kubernetes/super-admin.conf",
		"/etc/kubernetes/kubelet.conf", "/etc/kubernetes/bootstrap-kubelet.conf", "/etc/kubernetes/controller-manager.conf", "/etc/kubernetes/scheduler.conf", "/var/lib/kubelet/pki",
		"/var/lib/kubelet/config.yaml", "/var/lib/kubelet/kubeadm-flags.env"}
	if p.s.Lookup("/etc/kubernetes/manifests/etcd.yaml") != nil {
		paths = append(paths, p.world.etcdDir+"/member")
	}
	for _, path := range paths {
		if err := p.s.Remove(path); err != nil {
			return err
		}
	}
	return nil
}
