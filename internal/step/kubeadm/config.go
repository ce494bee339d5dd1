// Package kubeadm owns the steps that turn a prepared host into a control plane or a worker, one kubeadm phase each.
// It must never run `kubeadm init` or `kubeadm join` as a whole: a second run fails its own preflight.
package kubeadm

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"

	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// Where things are on a host. They are kubeadm's and the kubelet's defaults.
const (
	// Program is kubeadm itself.
	Program = "/usr/local/bin/kubeadm"
	// ConfigPath holds kubeadm's configuration; it contains the bootstrap token, so only root reads it.
	ConfigPath = "/etc/kubernetes/kubeadm.yaml"
	// EtcdConfigPath is ConfigPath with what only etcd's first start needs.
	EtcdConfigPath = "/etc/kubernetes/kubeadm-etcd.yaml"
	// DiscoveryPath tells a joining node where the API is and which authority it must trust. We know both before the
	// cluster exists, so nobody waits for the controller manager to sign the public cluster information.
	DiscoveryPath = "/etc/kubernetes/discovery.conf"
	// Directory holds everything kubeadm writes but the kubelet's state.
	Directory  = "/etc/kubernetes"
	pkiDir     = Directory + "/pki"
	manifests  = Directory + "/manifests"
	socket     = "unix:///run/containerd/containerd.sock"
	apiVersion = "kubeadm.k8s.io/v1beta4"
)

// Settings is what kubeadm has to know of a cluster. It is the same on every host.
type Settings struct {
	// Name is the cluster's name in kubeconfigs.
	Name string `json:"name"`
	// Version is the Kubernetes version, vX.Y.Z.
	Version string `json:"version"`
	// Endpoint is HOST:PORT of the API server.
	Endpoint string `json:"endpoint"`
	// Port is where each API server listens.
	Port        int32    `json:"port"`
	PodCIDR     string   `json:"podCIDR"`
	ServiceCIDR string   `json:"serviceCIDR"`
	DNSDomain   string   `json:"dnsDomain"`
	CertSANs    []string `json:"certSANs,omitempty"`
	// EtcdTag and DNSTag are the tags of the images in the bundle.
	EtcdTag     string `json:"etcdTag"`
	EtcdDataDir string `json:"etcdDataDir"`
	DNSTag      string `json:"dnsTag"`
	// ProxyMode is nftables or iptables.
	ProxyMode string `json:"proxyMode"`
	// KeepConntrack leaves the conntrack limits alone: in a container they cannot be written.
	KeepConntrack bool `json:"keepConntrack,omitempty"`
	// CgroupV1 says that some host still uses cgroup v1.
	CgroupV1 bool `json:"cgroupV1,omitempty"`
	// Schedulable lets pods run on control planes.
	Schedulable bool `json:"schedulable,omitempty"`
	// CertificateValidity is how long certificates of control planes are valid; nil leaves it to kubeadm: a year.
	CertificateValidity *metav1.Duration `json:"certificateValidity,omitempty"`
	// Components tunes the control plane's components, and LogLevel of it kube-proxy.
	Components Components `json:"components,omitzero"`
	// KubeReserved and SystemReserved are kept from pods on each node, by resource: cpu and memory.
	KubeReserved   map[string]string `json:"kubeReserved,omitempty"`
	SystemReserved map[string]string `json:"systemReserved,omitempty"`
}

// Configure writes kubeadm's configuration, and on a worker what it needs to trust the API.
type Configure struct {
	Settings Settings `json:"settings"`
	// Token is the bootstrap token, and CA the certificate authority that a joining node trusts.
	Token step.SecretRef `json:"token"`
	CA    step.SecretRef `json:"ca"`
	// Etcd says which members etcd finds when it first starts; nil means itself alone.
	Etcd *EtcdStart `json:"etcd,omitempty"`
	// KeepNewer leaves alone what is for a newer version: an upgrade that is tried again must not go back on the way.
	KeepNewer bool `json:"keepNewer,omitempty"`
}

// EtcdStart says how etcd first starts on a control plane that is not alone. The configuration that kubeadm stores in the
// cluster must not keep it: it is true once.
type EtcdStart struct {
	// Members are those of the cluster, the host itself among them: NAME=https://ADDRESS:2380.
	Members []string `json:"members"`
	// Existing says that the other members run already.
	Existing bool `json:"existing,omitempty"`
}

// arguments gives those of etcd's command line.
func (e *EtcdStart) arguments() []map[string]string {
	if e == nil {
		return nil
	}
	state := "new"
	if e.Existing {
		state = "existing"
	}
	return []map[string]string{
		{"name": "initial-cluster", "value": strings.Join(e.Members, ",")},
		{"name": "initial-cluster-state", "value": state},
	}
}

// ID is stored in plans.
func (Configure) ID() step.ID { return "kubeadm.configure/v1" }

// Gives tells what later steps find.
func (Configure) Gives() []step.Output { return []step.Output{step.KubeadmConfig} }

// Check compares the files.
func (c Configure) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	files, err := c.files(ctx, r.Secrets, r.Target)
	if err != nil {
		return nil, err
	}
	if c.KeepNewer {
		have, err := host.ReadIfExists(ctx, r, ConfigPath)
		if err != nil || newer(configVersion(have), c.Settings.Version) {
			return nil, err
		}
	}
	var drift step.Drift
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if err := drift.WantFile(ctx, r, path, files[path]); err != nil {
			return nil, err
		}
	}
	return drift, nil
}

// Apply writes the files.
func (c Configure) Apply(ctx context.Context, w step.Writer) error {
	files, err := c.files(ctx, w.Secrets, w.Target)
	if err != nil {
		return err
	}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if err := w.WriteFile(ctx, path, files[path]); err != nil {
			return err
		}
	}
	return nil
}

// configVersion gives the Kubernetes version that a configuration is for, or "".
func configVersion(config []byte) string {
	for line := range strings.Lines(string(config)) {
		if v, found := strings.CutPrefix(line, "kubernetesVersion: "); found {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func (c Configure) files(ctx context.Context, secrets step.Secrets, t step.Target) (map[string]host.File, error) {
	config, err := c.file(ctx, secrets, t, nil)
	if err != nil {
		return nil, err
	}
	files := map[string]host.File{ConfigPath: config}
	if t.ControlPlane {
		if a := c.Settings.Components.Audit; a != nil {
			files[a.policyPath()] = a.policyFile()
		}
		if c.Etcd != nil {
			files[EtcdConfigPath], err = c.file(ctx, secrets, t, c.Etcd)
		}
		return files, err
	}
	token, err := secrets.Secret(ctx, c.Token)
	if err != nil {
		return nil, fmt.Errorf("cannot read the bootstrap token: %w", err)
	}
	ca, err := secrets.Secret(ctx, c.CA)
	if err != nil {
		return nil, fmt.Errorf("cannot read the certificate authority: %w", err)
	}
	// kubeadm refuses a file whose context names no user.
	discovery, err := clientcmd.Write(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{c.Settings.Name: {Server: "https://" + c.Settings.Endpoint, CertificateAuthorityData: ca}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{c.Settings.Name: {Token: string(token)}},
		Contexts:       map[string]*clientcmdapi.Context{c.Settings.Name: {Cluster: c.Settings.Name, AuthInfo: c.Settings.Name}},
		CurrentContext: c.Settings.Name,
	})
	if err != nil {
		return nil, fmt.Errorf("cannot encode %s: %w", DiscoveryPath, err)
	}
	files[DiscoveryPath] = host.File{Content: discovery, Mode: 0o600}
	return files, nil
}

func (c Configure) file(ctx context.Context, secrets step.Secrets, t step.Target, etcd *EtcdStart) (host.File, error) {
	token, err := secrets.Secret(ctx, c.Token)
	if err != nil {
		return host.File{}, fmt.Errorf("cannot read the bootstrap token: %w", err)
	}
	documents := []map[string]any{joinConfiguration(c.Settings, t, string(token))}
	if t.ControlPlane {
		documents = []map[string]any{
			initConfiguration(c.Settings, t, string(token)), clusterConfiguration(c.Settings, etcd),
			kubeletConfiguration(c.Settings), proxyConfiguration(c.Settings),
		}
	}
	var out bytes.Buffer
	for _, d := range documents {
		b, err := yaml.Marshal(d)
		if err != nil {
			return host.File{}, fmt.Errorf("cannot encode kubeadm's configuration: %w", err)
		}
		out.WriteString("---\n")
		out.Write(b)
	}
	return host.File{Content: out.Bytes(), Mode: 0o600}, nil
}

func initConfiguration(s Settings, t step.Target, token string) map[string]any {
	return map[string]any{
		"apiVersion": apiVersion, "kind": "InitConfiguration",
		"bootstrapTokens": []map[string]any{{
			"token": token, "ttl": "2h0m0s", "usages": []string{"signing", "authentication"},
			"groups": []string{"system:bootstrappers:kubeadm:default-node-token"},
		}},
		"localAPIEndpoint": map[string]any{"advertiseAddress": t.Address, "bindPort": s.Port},
		"nodeRegistration": nodeRegistration(s, t),
	}
}

func joinConfiguration(s Settings, t step.Target, token string) map[string]any {
	return map[string]any{
		"apiVersion": apiVersion, "kind": "JoinConfiguration",
		"discovery":        map[string]any{"file": map[string]any{"kubeConfigPath": DiscoveryPath}, "tlsBootstrapToken": token},
		"nodeRegistration": nodeRegistration(s, t),
	}
}

func nodeRegistration(s Settings, t step.Target) map[string]any {
	arguments := []map[string]any{{"name": "node-ip", "value": t.Address}}
	if len(t.Labels) > 0 {
		var pairs []string
		for _, k := range slices.Sorted(maps.Keys(t.Labels)) {
			pairs = append(pairs, k+"="+t.Labels[k])
		}
		arguments = append(arguments, map[string]any{"name": "node-labels", "value": strings.Join(pairs, ",")})
	}
	// An empty list means no taint; leaving the field out would let kubeadm add its own.
	taints := []map[string]any{}
	if t.ControlPlane && !s.Schedulable {
		taints = append(taints, map[string]any{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"})
	}
	for _, taint := range t.Taints {
		keyValue, effect, _ := strings.Cut(taint, ":")
		key, value, _ := strings.Cut(keyValue, "=")
		taints = append(taints, map[string]any{"key": key, "value": value, "effect": effect})
	}
	return map[string]any{
		"name": t.Name, "criSocket": socket, "kubeletExtraArgs": arguments, "taints": taints,
		"imagePullPolicy": "IfNotPresent",
	}
}

func clusterConfiguration(s Settings, start *EtcdStart) map[string]any {
	etcd := map[string]any{"dataDir": s.EtcdDataDir, "imageTag": s.EtcdTag}
	if start != nil {
		etcd["extraArgs"] = start.arguments()
	}
	c := map[string]any{
		"apiVersion": apiVersion, "kind": "ClusterConfiguration",
		"clusterName": s.Name, "kubernetesVersion": s.Version, "controlPlaneEndpoint": s.Endpoint,
		"imageRepository": "registry.k8s.io", "encryptionAlgorithm": "ECDSA-P256",
		"networking": map[string]any{"podSubnet": s.PodCIDR, "serviceSubnet": s.ServiceCIDR, "dnsDomain": s.DNSDomain},
		"apiServer":  map[string]any{"certSANs": append([]string{}, s.CertSANs...)},
		"etcd":       map[string]any{"local": etcd},
		"dns":        map[string]any{"imageTag": s.DNSTag},
	}
	if s.CertificateValidity != nil {
		c["certificateValidityPeriod"] = s.CertificateValidity.Duration.String()
	}
	s.Components.configuration(c)
	return c
}

func kubeletConfiguration(s Settings) map[string]any {
	c := map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"maxPods": 110, "serializeImagePulls": false,
	}
	if s.CgroupV1 {
		c["failCgroupV1"] = false
	}
	if len(s.KubeReserved) > 0 {
		c["kubeReserved"] = s.KubeReserved
	}
	if len(s.SystemReserved) > 0 {
		c["systemReserved"] = s.SystemReserved
	}
	return c
}

func proxyConfiguration(s Settings) map[string]any {
	c := map[string]any{
		"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
		"mode": s.ProxyMode, "clusterCIDR": s.PodCIDR,
	}
	if s.KeepConntrack {
		c["conntrack"] = map[string]any{"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"}
	}
	if level := s.Components.LogLevel; level > 0 {
		c["logging"] = map[string]any{"verbosity": level}
	}
	return c
}
