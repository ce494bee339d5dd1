package cluster

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

// defaultPool is the pool of the hosts given by --worker.
const defaultPool = "workers"

// specFlags is what the command line says about a cluster.
type specFlags struct {
	file, template                        string
	controlPlane, workers, pools          []string
	endpoint, virtualIP, backend          string
	certSANs, labels, taints              []string
	version, dnsDomain                    string
	podCIDR, serviceCIDR, proxyMode       string
	containerdDir, etcdDir                string
	disableSwap, disableFirewall, selinux bool
	settings                              settingFlags
	set                                   *pflag.FlagSet
}

func (f *specFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	f.set = flags
	flags.StringVarP(&f.file, "file", "f", "", "file with a Cluster, - for standard input; flags win over it")
	flags.StringVar(&f.template, "template", "", "ClusterTemplate that the cluster begins with; flags win over it")
	flags.StringVar(&f.version, "kubernetes", "", "Kubernetes version, such as v1.36.3")
	flags.StringSliceVar(&f.controlPlane, "control-plane", nil, "host of the control plane; repeat for three or five")
	flags.StringVar(&f.virtualIP, "virtual-ip", "", "IP[:PORT] of the API server that moves among the control planes: a free address of their network")
	flags.StringVar(&f.backend, "flannel-backend", "", "vxlan or host-gw (default vxlan)")
	flags.StringSliceVar(&f.workers, "worker", nil, "host of the pool "+defaultPool+"; repeat, or separate by commas")
	flags.StringArrayVar(&f.pools, "pool", nil, "worker pool, as NAME=HOST,HOST; repeat")
	flags.StringVar(&f.podCIDR, "pod-cidr", "", "network of the pods (default 172.25.0.0/16)")
	flags.StringVar(&f.serviceCIDR, "service-cidr", "", "network of the Services (default 10.96.0.0/16)")
	flags.StringVar(&f.dnsDomain, "dns-domain", "", "DNS domain of the cluster (default cluster.local)")
	flags.StringVar(&f.endpoint, "endpoint", "", "HOST[:PORT] of the API server (default: the control plane's internal address, 6443)")
	flags.StringSliceVar(&f.certSANs, "cert-san", nil, "further IP or name that the API server's certificate is valid for; repeat")
	flags.StringVar(&f.proxyMode, "kube-proxy-mode", "", "nftables or iptables (default: nftables where every host has it)")
	flags.StringVar(&f.containerdDir, "containerd-data-dir", "", "where images and containers are kept (default /var/lib/containerd)")
	flags.StringVar(&f.etcdDir, "etcd-data-dir", "", "where etcd keeps its data (default /var/lib/etcd)")
	flags.StringArrayVar(&f.labels, "label", nil, "label of a pool's nodes, as POOL:key=value; repeat")
	flags.StringArrayVar(&f.taints, "taint", nil, "taint of a pool's nodes, as POOL:key=value:Effect; repeat")
	f.settings.add(flags)
	flags.BoolVar(&f.disableSwap, "disable-swap", false, "turn swap off on the hosts")
	flags.BoolVar(&f.disableFirewall, "disable-firewall", false, "stop and disable firewalld or ufw on the hosts")
	flags.BoolVar(&f.selinux, "permissive-selinux", false, "make SELinux permissive on the hosts")
}

// cluster gives the cluster that file and flags ask for.
func (f *specFlags) cluster(ctx context.Context, connection *output.Connection, name string, stdin io.Reader) (*v1alpha1.Cluster, error) {
	project := connection.Project
	cluster := &v1alpha1.Cluster{}
	if f.template != "" {
		if f.file != "" {
			return nil, output.Usagef("cannot use --template and -f together: each says all of the cluster")
		}
		if err := readTemplate(ctx, connection, f.template, &cluster.Spec); err != nil {
			return nil, err
		}
	}
	if f.file != "" {
		if err := readFile(f.file, stdin, cluster); err != nil {
			return nil, err
		}
		if cluster.Name != "" && cluster.Name != name {
			return nil, output.Usagef("cannot use %s for cluster %s: it names cluster %s", f.file, name, cluster.Name)
		}
		if cluster.Namespace != "" && cluster.Namespace != project {
			return nil, output.Usagef("cannot use %s in project %s: it names project %s", f.file, project, cluster.Namespace)
		}
	}
	cluster.TypeMeta, cluster.Status = metav1.TypeMeta{}, v1alpha1.ClusterStatus{}
	cluster.Name, cluster.Namespace = name, project
	if err := f.apply(&cluster.Spec); err != nil {
		return nil, err
	}
	if f.template != "" {
		if err := complete(&cluster.Spec); err != nil {
			return nil, err
		}
	}
	if cluster.Spec.Kubernetes.Version == "" {
		return nil, output.Usagef("cannot tell which Kubernetes cluster %s shall run: give --kubernetes or -f", name)
	}
	if len(cluster.Spec.ControlPlane.Hosts) == 0 {
		return nil, output.Usagef("cannot tell which host runs the control plane of cluster %s: give --control-plane or -f", name)
	}
	return cluster, nil
}

// readFile decodes a Cluster and refuses what it does not know.
func readFile(path string, stdin io.Reader, cluster *v1alpha1.Cluster) error {
	var content []byte
	var err error
	if path == "-" {
		content, err = io.ReadAll(stdin)
	} else {
		content, err = os.ReadFile(path)
	}
	if err != nil {
		return fmt.Errorf("cannot read the cluster: %w", err)
	}
	if err := yaml.UnmarshalStrict(content, cluster); err != nil {
		return output.Refused("Invalid", "mend the file; slipway explain cluster.spec lists the fields", "cannot read the cluster from %s: %w", path, err)
	}
	if cluster.Kind != "Cluster" || cluster.APIVersion != v1alpha1.GroupVersion().String() {
		return output.Refused("Invalid", "start the file with apiVersion: "+v1alpha1.GroupVersion().String()+" and kind: Cluster",
			"cannot read the cluster from %s: it holds %q of %q", path, cluster.Kind, cluster.APIVersion)
	}
	return nil
}

// apply writes the flags that were given over spec.
func (f *specFlags) apply(spec *v1alpha1.ClusterSpec) error {
	for _, one := range []struct {
		flag string
		from string
		to   *string
	}{
		{"kubernetes", f.version, &spec.Kubernetes.Version},
		{"dns-domain", f.dnsDomain, &spec.Kubernetes.DNSDomain},
		{"pod-cidr", f.podCIDR, &spec.Network.PodCIDR},
		{"service-cidr", f.serviceCIDR, &spec.Network.ServiceCIDR},
		{"kube-proxy-mode", f.proxyMode, &spec.Network.KubeProxyMode},
		{"flannel-backend", f.backend, &spec.Network.FlannelBackend},
		{"containerd-data-dir", f.containerdDir, &spec.Runtime.DataDir},
		{"etcd-data-dir", f.etcdDir, &spec.Components.Etcd.DataDir},
	} {
		if f.set.Changed(one.flag) {
			*one.to = one.from
		}
	}
	for _, one := range []struct {
		flag string
		from bool
		to   *bool
	}{
		{"disable-swap", f.disableSwap, &spec.HostSetup.DisableSwap},
		{"disable-firewall", f.disableFirewall, &spec.HostSetup.DisableFirewall},
		{"permissive-selinux", f.selinux, &spec.HostSetup.PermissiveSELinux},
	} {
		if f.set.Changed(one.flag) {
			*one.to = one.from
		}
	}
	if f.set.Changed("control-plane") {
		spec.ControlPlane.Hosts = f.controlPlane
	}
	if f.set.Changed("cert-san") {
		spec.Endpoint.CertSANs = f.certSANs
	}
	if f.set.Changed("endpoint") {
		if err := parseEndpoint("endpoint", f.endpoint, &spec.Endpoint); err != nil {
			return err
		}
	}
	if f.set.Changed("virtual-ip") {
		if f.set.Changed("endpoint") {
			return output.Usagef("cannot use --virtual-ip and --endpoint together: one says who makes the endpoint")
		}
		if err := parseEndpoint("virtual-ip", f.virtualIP, &spec.Endpoint); err != nil {
			return err
		}
		spec.Endpoint.Provider = v1alpha1.EndpointKubeVIP
	}
	if err := f.settings.apply(spec); err != nil {
		return err
	}
	return f.applyPools(spec)
}

// parseEndpoint reads HOST, HOST:PORT, an IPv6 address, or one in brackets with a port.
func parseEndpoint(flag, text string, endpoint *v1alpha1.EndpointSpec) error {
	endpoint.Host = strings.Trim(text, "[]")
	if net.ParseIP(endpoint.Host) != nil || !strings.Contains(text, ":") {
		return nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return output.Usagef("cannot read --%s %s: %w", flag, text, err)
	}
	number, err := strconv.ParseInt(port, 10, 32)
	if err != nil {
		return output.Usagef("cannot read --%s %s: %q is no port", flag, text, port)
	}
	endpoint.Host, endpoint.Port = host, int32(number)
	return nil
}

func (f *specFlags) applyPools(spec *v1alpha1.ClusterSpec) error {
	if len(f.workers) > 0 {
		pool(spec, defaultPool, true).Hosts = f.workers
	}
	for _, text := range f.pools {
		name, hosts, ok := strings.Cut(text, "=")
		if !ok || name == "" || hosts == "" {
			return output.Usagef("cannot read --pool %q: it reads NAME=HOST,HOST", text)
		}
		pool(spec, name, true).Hosts = strings.Split(hosts, ",")
	}
	for _, text := range f.labels {
		name, label, ok := strings.Cut(text, ":")
		key, value, has := strings.Cut(label, "=")
		if !ok || !has || key == "" {
			return output.Usagef("cannot read --label %q: it reads POOL:key=value", text)
		}
		p := pool(spec, name, false)
		if p == nil {
			return output.Usagef("cannot label the nodes of pool %s: there is no such pool", name)
		}
		if p.Labels == nil {
			p.Labels = map[string]string{}
		}
		p.Labels[key] = value
	}
	for _, text := range f.taints {
		name, taint, err := parseTaint(text)
		if err != nil {
			return err
		}
		p := pool(spec, name, false)
		if p == nil {
			return output.Usagef("cannot taint the nodes of pool %s: there is no such pool", name)
		}
		p.Taints = append(p.Taints, taint)
	}
	return nil
}

// parseTaint reads POOL:key=value:Effect, or POOL:key:Effect for a taint without a value.
func parseTaint(text string) (string, v1alpha1.Taint, error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" {
		return "", v1alpha1.Taint{}, output.Usagef("cannot read --taint %q: it reads POOL:key=value:Effect", text)
	}
	effects := []string{string(corev1.TaintEffectNoSchedule), string(corev1.TaintEffectPreferNoSchedule), string(corev1.TaintEffectNoExecute)}
	if !slices.Contains(effects, parts[2]) {
		return "", v1alpha1.Taint{}, output.Usagef("cannot read --taint %q: the effect is one of %s", text, strings.Join(effects, ", "))
	}
	key, value, _ := strings.Cut(parts[1], "=")
	return parts[0], v1alpha1.Taint{Key: key, Value: value, Effect: corev1.TaintEffect(parts[2])}, nil
}

// pool gives the pool of that name, made when it is missing and make says so.
func pool(spec *v1alpha1.ClusterSpec, name string, make bool) *v1alpha1.WorkerPool {
	i := slices.IndexFunc(spec.WorkerPools, func(p v1alpha1.WorkerPool) bool { return p.Name == name })
	if i < 0 {
		if !make {
			return nil
		}
		spec.WorkerPools = append(spec.WorkerPools, v1alpha1.WorkerPool{Name: name})
		i = len(spec.WorkerPools) - 1
	}
	return &spec.WorkerPools[i]
}
