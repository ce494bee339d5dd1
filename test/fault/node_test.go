package fault

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/internal/host"
	fakehost "slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/plan/stages"
)

// node is what runs on one host by itself: the kubelet, its pods and what these do to the host.
type node struct {
	name    string
	address netip.Addr
	host    *fakehost.Host
	cluster *managed
	world   *world
	// running holds the workloads whose pods run here; guarded by cluster.mu.
	running map[string]bool
	// manifests are those that the static pods run with, by name; guarded by cluster.mu.
	manifests map[string]string
	lastPID   int
}

// live lets time pass on every host until ctx ends.
func (w *world) live(ctx context.Context) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, n := range w.nodes {
			n.host.Do(func(s *fakehost.State) { w.check(n.pass(s)) })
		}
		w.cluster.mu.Lock()
		w.cluster.controllers(w.nodes)
		w.cluster.mu.Unlock()
	}
}

// check fails the test when the simulation itself is broken.
func (w *world) check(err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		w.t.Error("the simulated hosts are broken:", err)
	}
}

func active(s *fakehost.State, unit string) bool {
	u := s.Units[unit]
	return u != nil && u.ActiveState == "active"
}

// pass lets a moment pass on the host.
func (n *node) pass(s *fakehost.State) error {
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	if s.Lookup(n.world.dataDir) == nil {
		clear(s.Images)
	}
	kubelet := active(s, "kubelet.service") && active(s, "containerd.service")
	if kubelet {
		if err := n.staticPods(s); err != nil {
			return err
		}
	}
	if err := n.etcd(s); err != nil {
		return err
	}
	clear(n.running)
	ready := kubelet && s.Lookup("/etc/cni/net.d/10-slipway.conflist") != nil && s.Lookup("/opt/cni/bin/bridge") != nil
	lasting := n.cluster.lasts(n.name+"/ready", ready)
	if kubelet {
		if err := n.kubelet(s, lasting >= nodeReady); err != nil {
			return err
		}
	}
	n.listen(s)
	return nil
}

func has(s *fakehost.State, container string) bool {
	return slices.ContainsFunc(s.Containers, func(p host.Process) bool { return p.Name == container })
}

// listen opens the ports of what runs.
func (n *node) listen(s *fakehost.State) {
	clear(s.Listening)
	ports := map[string][]uint16{"kube-apiserver": {6443}, "etcd": {2379, 2380}, "kube-controller": {10257}, "kube-scheduler": {10259},
		"kube-proxy": {10256, 10249}}
	for _, p := range s.Containers {
		for _, port := range ports[p.Name] {
			s.Listening[netip.AddrPortFrom(n.address, port)] = true
		}
	}
	if active(s, "kubelet.service") {
		s.Listening[netip.AddrPortFrom(n.address, 10250)] = true
	}
}

// start runs a container with its shim, its mounts and its logs. A container that runs stays as it is.
func (n *node) start(s *fakehost.State, name string) error {
	short := name[:min(len(name), 15)]
	if has(s, short) {
		return nil
	}
	n.lastPID += 2
	s.Containers = append(s.Containers, host.Process{PID: n.lastPID, Name: "containerd-shim"}, host.Process{PID: n.lastPID + 1, Name: short})
	volume := "/var/lib/kubelet/pods/" + name + "/volumes"
	root := "/run/containerd/io.containerd.runtime.v2.task/k8s.io/" + name + "/rootfs"
	for path, kind := range map[string]string{volume: "tmpfs", root: "overlay"} {
		if err := s.Mkdir(path, 0o755); err != nil {
			return err
		}
		if !slices.ContainsFunc(s.Mounts, func(m host.Mount) bool { return m.Path == path }) {
			s.Mounts = append(s.Mounts, host.Mount{Path: path, Type: kind, Source: kind, Root: "/", Options: []string{"rw"}})
		}
	}
	slices.SortFunc(s.Mounts, func(a, b host.Mount) int { return strings.Compare(a.Path, b.Path) })
	return errors.Join(s.WriteFile("/var/log/pods/"+name+"/0.log", nil, 0o640),
		s.Symlink("/var/log/containers/"+name+".log", "/var/log/pods/"+name+"/0.log"))
}

// staticPods starts what the manifests name, if the host has the images: nothing can be pulled without a mirror token.
func (n *node) staticPods(s *fakehost.State) error {
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		manifest, err := s.ReadFile("/etc/kubernetes/manifests/" + name + ".yaml")
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if image := field(string(manifest), "image: "); s.Images[image].Digest == "" {
			return fmt.Errorf("%s has no image %q", n.name, image)
		}
		if err := n.start(s, name); err != nil {
			return err
		}
		if err := n.restart(s, name, string(manifest)); err != nil {
			return err
		}
	}
	return nil
}

// restart lets a static pod run with its manifest of now. An API server that does so is away for a while, and does not start
// without its audit policy.
func (n *node) restart(s *fakehost.State, name, manifest string) error {
	if n.manifests[name] == manifest {
		return nil
	}
	if path := field(manifest, "--audit-policy-file="); strings.HasPrefix(path, "/") {
		if s.Lookup(path) == nil {
			return fmt.Errorf("%s has no audit policy %s", n.name, path)
		}
		if err := s.WriteFile("/var/log/kubernetes/audit/audit.log", nil, 0o600); err != nil {
			return err
		}
	}
	if name == "kube-apiserver" && n.manifests[name] != "" {
		n.cluster.lasts("api", false)
	}
	n.manifests[name] = manifest
	return nil
}

// mirrors makes the objects of the static pods, as the kubelet does.
func (n *node) mirrors(store objects) error {
	for name, manifest := range n.manifests {
		if name == "etcd" {
			continue
		}
		_, command, _ := strings.Cut(manifest, "\n")
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name + "-" + n.name},
			Spec:   corev1.PodSpec{NodeName: n.name, Containers: []corev1.Container{{Name: name, Image: field(manifest, "image: "), Command: strings.Split(strings.TrimSpace(command), "\n")}}},
			Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
		if err := store.put(pod); err != nil {
			return err
		}
	}
	return nil
}

// dial reaches the API server of the host itself, which serves the certificate of its file.
func (n *node) dial(_ context.Context, _, address string) (net.Conn, error) {
	n.cluster.mu.Lock()
	serving := n.cluster.serving
	n.cluster.mu.Unlock()
	if address != "127.0.0.1:6443" || !serving || n != n.world.nodes[0] {
		return nil, errRefused
	}
	var certificate, key []byte
	var err error
	n.host.Do(func(s *fakehost.State) {
		var err1, err2 error
		certificate, err1 = s.ReadFile(pkiDir + "apiserver.crt")
		key, err2 = s.ReadFile(pkiDir + "apiserver.key")
		err = errors.Join(err1, err2)
	})
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, err
	}
	near, far := net.Pipe()
	go func() {
		server := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{pair}})
		// Who only looks at the certificate hangs up, which is no error here.
		_ = server.Handshake()
		far.Close()
	}()
	return near, nil
}

// field gives the rest of the line after key.
func field(text, key string) string {
	_, after, _ := strings.Cut(text, key)
	line, _, _ := strings.Cut(after, "\n")
	return line
}

// etcd ties the cluster's data to etcd's data directory, and its API to the running API server.
func (n *node) etcd(s *fakehost.State) error {
	if err := n.member(s); err != nil || n != n.world.nodes[0] {
		return err
	}
	data := n.world.etcdDir + "/member/snap/db"
	runs := has(s, "etcd") && has(s, "kube-apiserver")
	if s.Lookup(data) == nil {
		n.cluster.store = nil
		if has(s, "etcd") {
			n.cluster.store = objects{}
			if err := s.WriteFile(data, nil, 0o600); err != nil {
				return err
			}
		}
	}
	n.cluster.serving = n.cluster.lasts("api", runs) >= apiStarts
	return nil
}

// member ties the host's member of etcd to its process. The first host forms the cluster; any other must have been added.
func (n *node) member(s *fakehost.State) error {
	first := n == n.world.nodes[0]
	if !has(s, "etcd") {
		n.cluster.Stop(n.name)
		return nil
	}
	if first && s.Lookup(n.world.etcdDir+"/member/snap/db") == nil {
		n.cluster.Form(map[string]string{n.name: n.address.String()})
	}
	if err := n.cluster.Start(n.name, n.address.String()); err != nil && first {
		return err
	}
	return nil // Another's etcd ends, and its kubelet starts it again.
}

const currentCertificate = "/var/lib/kubelet/pki/kubelet-client-current.pem"

// kubelet logs in, registers the node, reports it and runs its pods.
func (n *node) kubelet(s *fakehost.State, ready bool) error {
	// As every kubelet does when it starts.
	if err := s.Mkdir("/usr/libexec/kubernetes/kubelet-plugins/volume/exec", 0o755); err != nil {
		return err
	}
	s.Sysctls["vm.overcommit_memory"], s.Sysctls["kernel.panic"] = "1", "10"
	s.IPTables = addChain(s.IPTables, "mangle", "KUBE-KUBELET-CANARY")
	s.NFTables = addTable(s.NFTables, "ip mangle")
	store, err := n.cluster.api()
	if err != nil {
		return nil
	}
	bootstrap := s.Lookup("/etc/kubernetes/kubelet.conf") == nil && s.Lookup("/etc/kubernetes/bootstrap-kubelet.conf") != nil
	if waited := n.cluster.lasts(n.name+"/bootstrap", bootstrap); bootstrap && waited < kubeletLogsIn {
		return nil
	} else if bootstrap {
		if err := s.WriteFile("/etc/kubernetes/kubelet.conf", []byte("client-certificate: "+currentCertificate+"\n"), 0o600); err != nil {
			return err
		}
	}
	if s.Lookup("/etc/kubernetes/kubelet.conf") == nil {
		return nil
	}
	if err := s.WriteFile(currentCertificate, []byte("certificate of "+n.name+"\n"), 0o600); err != nil {
		return err
	}
	object, err := n.register(s, store)
	if err != nil {
		return err
	}
	want := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Message: "cni plugin not initialized"}
	if ready {
		want.Status, want.Message = corev1.ConditionTrue, ""
	}
	object.Status.Conditions = []corev1.NodeCondition{want}
	if err := n.mirrors(store); err != nil {
		return err
	}
	return n.pods(s, store, object.Spec.PodCIDR, ready)
}

// register makes the Node with the labels and taints of kubeadm's flags.
func (n *node) register(s *fakehost.State, store objects) (*corev1.Node, error) {
	if object := find[*corev1.Node](store, "", n.name); object != nil {
		return object, nil
	}
	flags, err := s.ReadFile("/var/lib/kubelet/kubeadm-flags.env")
	if err != nil {
		return nil, err
	}
	object := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.name, Labels: map[string]string{}}}
	for flag := range strings.FieldsSeq(strings.Trim(string(flags), "\"\n")) {
		key, list, _ := strings.Cut(flag, "=")
		for item := range strings.SplitSeq(list, ",") {
			switch key {
			case "--node-labels":
				k, v, _ := strings.Cut(item, "=")
				object.Labels[k] = v
			case "--register-with-taints":
				object.Spec.Taints = append(object.Spec.Taints, parseTaint(item))
			}
		}
	}
	return object, store.put(object)
}

func parseTaint(text string) corev1.Taint {
	pair, effect, _ := strings.Cut(text, ":")
	key, value, _ := strings.Cut(pair, "=")
	return corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffect(effect)}
}

// pods runs the pods of DaemonSets, and CoreDNS on the control plane.
func (n *node) pods(s *fakehost.State, store objects, podCIDR string, ready bool) error {
	for _, pod := range []struct {
		name, image string
		runs        bool
		effect      func(*fakehost.State, objects) error
	}{
		{"kube-proxy", n.world.image("kube-proxy"), find[*appsv1.DaemonSet](store, "kube-system", "kube-proxy") != nil, n.proxy},
		{"kube-flannel", n.world.image("flannel"), find[*appsv1.DaemonSet](store, "kube-flannel", "kube-flannel-ds") != nil && podCIDR != "", n.flannel},
		{"coredns", n.world.image("coredns"), find[*appsv1.Deployment](store, "kube-system", "coredns") != nil && ready && n == n.world.nodes[0], n.dns},
	} {
		if !pod.runs {
			continue
		}
		if s.Images[pod.image].Digest == "" {
			return fmt.Errorf("%s has no image %s", n.name, pod.image)
		}
		if err := errors.Join(n.start(s, pod.name), pod.effect(s, store)); err != nil {
			return err
		}
		n.running[pod.name] = true
	}
	return nil
}

// proxies says whether Services are reached from here.
func (n *node) proxies() bool {
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	return n.running["kube-proxy"]
}

// proxy makes the rules of kube-proxy.
func (n *node) proxy(s *fakehost.State, store objects) error {
	config := find[*corev1.ConfigMap](store, "kube-system", "kube-proxy")
	s.Sysctls["net.ipv4.conf.all.route_localnet"] = "1"
	if config.Data["mode"] == "nftables" {
		s.NFTables = addTable(addTable(s.NFTables, "ip kube-proxy"), "ip6 kube-proxy")
		return nil
	}
	s.IPTables, s.IP6Tables = addChain(s.IPTables, "nat", "KUBE-SERVICES"), addChain(s.IP6Tables, "nat", "KUBE-SERVICES")
	s.NFTables = addTable(addTable(s.NFTables, "ip nat"), "ip6 nat")
	return nil
}

// flannel makes the VXLAN link and its rules.
func (n *node) flannel(s *fakehost.State, _ objects) error {
	addLink(s, host.Link{Name: "flannel.1", Kind: "vxlan", MTU: 1450, Up: true})
	s.IPTables = addChain(s.IPTables, "nat", "FLANNEL-POSTRTG")
	s.NFTables = addTable(s.NFTables, "ip nat")
	return s.WriteFile("/run/flannel/subnet.env", []byte("FLANNEL_MTU=1450\n"), 0o644)
}

// podNamespace is the network namespace of the one pod that has its own.
const podNamespace = "/run/netns/cni-0a1b2c3d"

// dns gives a pod its network through the CNI plugins.
func (n *node) dns(s *fakehost.State, _ objects) error {
	addLink(s, host.Link{Name: "cni0", Kind: "bridge", MTU: 1450, Up: true})
	addLink(s, host.Link{Name: "veth0a1b2c3d", Kind: "veth", MTU: 1450, Up: true})
	if !slices.ContainsFunc(s.Mounts, func(m host.Mount) bool { return m.Path == podNamespace }) {
		s.Mounts = append(s.Mounts, host.Mount{Path: podNamespace, Type: "nsfs", Source: "nsfs", Root: "/", Options: []string{"rw"}})
	}
	return errors.Join(s.WriteFile(podNamespace, nil, 0o444), s.WriteFile("/var/lib/cni/networks/slipway/172.25.0.2", nil, 0o644))
}

func addLink(s *fakehost.State, link host.Link) {
	if !slices.ContainsFunc(s.Links, func(l host.Link) bool { return l.Name == link.Name }) {
		s.Links = append(s.Links, link)
		slices.SortFunc(s.Links, func(a, b host.Link) int { return strings.Compare(a.Name, b.Name) })
	}
}

// addTable adds an nft table to a rule set.
func addTable(rules, table string) string {
	line := "table " + table + " {\n}\n"
	if strings.Contains(rules, line) {
		return rules
	}
	return rules + line
}

// addChain adds a chain with one rule to a table of an iptables dump.
func addChain(rules, table, chain string) string {
	if strings.Contains(rules, ":"+chain+" ") {
		return rules
	}
	head := "*" + table + "\n"
	if !strings.Contains(rules, head) {
		rules += head + ":OUTPUT ACCEPT [0:0]\nCOMMIT\n"
	}
	return strings.Replace(rules, head, head+":"+chain+" - [0:0]\n-A OUTPUT -j "+chain+"\n", 1)
}

// endpoint is what kubeconfigs name.
func (w *world) endpoint() string { return "https://" + stages.Endpoint(w.input.Spec, w.input.Hosts) }
