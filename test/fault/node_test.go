package fault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/host"
	fakehost "slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/step/kubeadm"
)

// node is what runs on one host by itself: the kubelet, its pods and what these do to the host.
type node struct {
	name    string
	address netip.Addr
	host    *fakehost.Host
	cluster *managed
	world   *world
	// processes holds what was started here last, by container; guarded by cluster.mu.
	processes map[string]process
	lastPID   int
	// dead says that the machine is gone for good.
	dead bool
	// kubeletVersion is that of the program which the kubelet runs.
	kubeletVersion string
	// kubeletBegan is when it started.
	kubeletBegan time.Time
}

// process is one container.
type process struct {
	pid int
	// image and spec are what it was started from: another one replaces it.
	image, spec string
	began       time.Time
}

const shim = "containerd-shim"

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
			if n.dead {
				continue
			}
			n.host.Do(func(s *fakehost.State) { w.check(n.pass(s)) })
		}
		w.cluster.mu.Lock()
		w.cluster.controllers(w.nodes)
		w.cluster.mu.Unlock()
	}
}

// lose destroys a machine; the cluster has noticed.
func (w *world) lose(name string) {
	w.cluster.mu.Lock()
	defer w.cluster.mu.Unlock()
	for _, n := range w.nodes {
		if n.name != name {
			continue
		}
		n.dead = true
		n.host.PowerOff()
		clear(n.processes)
		w.cluster.Stop(name)
		w.cluster.serving[name], w.cluster.holds[name] = false, false
		find[*corev1.Node](w.cluster.store, "", name).Status.Conditions[0].Status = corev1.ConditionUnknown
		h := w.input.Hosts[name]
		h.Status.Conditions = []metav1.Condition{{Type: v1alpha1.HostReachable, Status: metav1.ConditionFalse, Message: "no route to host"}}
		w.input.Hosts[name] = h
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
	if err := errors.Join(n.etcd(s), n.moveAddress(s)); err != nil {
		return err
	}
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

// runs says whether a container runs.
func (n *node) runs(s *fakehost.State, name string) bool {
	p, known := n.processes[name]
	return known && slices.ContainsFunc(s.Containers, func(c host.Process) bool { return c.PID == p.pid })
}

// up is for how long a container has run, without a break; negative when it does not.
func (n *node) up(s *fakehost.State, name string) time.Duration {
	if !n.runs(s, name) {
		return -1
	}
	return time.Since(n.processes[name].began)
}

// end stops a container.
func (n *node) end(s *fakehost.State, name string) {
	p, known := n.processes[name]
	if known {
		s.Containers = slices.DeleteFunc(s.Containers, func(c host.Process) bool { return c.PID == p.pid || c.PID == p.pid-1 })
		delete(n.processes, name)
	}
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

// start runs a container with its shim, its mounts and its logs, if the host has its image: nothing can be pulled without a
// mirror token. A container of the same image and specification that runs stays as it is.
func (n *node) start(s *fakehost.State, name, image, spec string) error {
	if p := n.processes[name]; n.runs(s, name) && p.image == image && p.spec == spec {
		return nil
	}
	if s.Images[image].Digest == "" {
		return fmt.Errorf("%s has no image %q", n.name, image)
	}
	n.end(s, name)
	n.lastPID += 2
	n.processes[name] = process{pid: n.lastPID + 1, image: image, spec: spec, began: time.Now()}
	s.Containers = append(s.Containers, host.Process{PID: n.lastPID, Name: shim}, host.Process{PID: n.lastPID + 1, Name: name[:min(len(name), 15)]})
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

func staticPodNames() []string {
	return []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-vip"}
}

// staticPods runs what the manifests name, as they are now, and nothing else.
func (n *node) staticPods(s *fakehost.State) error {
	for _, name := range staticPodNames() {
		manifest, err := s.ReadFile("/etc/kubernetes/manifests/" + name + ".yaml")
		if errors.Is(err, fs.ErrNotExist) {
			n.end(s, name)
			continue
		}
		if err := errors.Join(n.starts(s, string(manifest)), n.start(s, name, field(string(manifest), "image: "), string(manifest))); err != nil {
			return err
		}
	}
	return nil
}

// starts says why a static pod cannot start with its manifest: an API server needs its audit policy, and makes its log.
func (n *node) starts(s *fakehost.State, manifest string) error {
	path := field(manifest, "--audit-policy-file=")
	if path == "" {
		return nil
	}
	if s.Lookup(path) == nil {
		return fmt.Errorf("%s has no audit policy %s", n.name, path)
	}
	return s.WriteFile("/var/log/kubernetes/audit/audit.log", nil, 0o600)
}

// field gives the rest of the line after key.
func field(text, key string) string {
	_, after, _ := strings.Cut(text, key)
	line, _, _ := strings.Cut(after, "\n")
	return line
}

// etcd ties the cluster's data to the data directories of its members, and the host's API to its processes.
func (n *node) etcd(s *fakehost.State) error {
	err := n.member(s)
	n.cluster.holds[n.name] = s.Lookup(n.db()) != nil
	if !slices.Contains(slices.Collect(maps.Values(n.cluster.holds)), true) {
		n.cluster.store, n.cluster.data = nil, ""
	}
	_, quorum := n.cluster.EtcdStatus(context.Background(), n.name)
	serves := quorum == nil && min(n.up(s, "etcd"), n.up(s, "kube-apiserver")) >= apiStarts
	if serves {
		_, quorum = n.cluster.EtcdMembers(context.Background())
	}
	n.cluster.serving[n.name] = serves && quorum == nil
	return err
}

func (n *node) db() string { return n.world.etcdDir + "/member/snap/db" }

// member ties the host's member of etcd to its process: with an empty directory it forms the cluster that its manifest names,
// or joins it if it was added; restored data forms the cluster that it was restored for. One that is no member ends, and its
// kubelet starts it again.
func (n *node) member(s *fakehost.State) error {
	if !n.runs(s, "etcd") {
		n.cluster.Stop(n.name)
		return nil
	}
	if before := n.cluster.versions[n.name]; before != n.processes["etcd"].pid {
		n.cluster.Stop(n.name) // It was started again.
		n.cluster.versions[n.name] = n.processes["etcd"].pid
	}
	manifest := n.processes["etcd"].spec
	content, err := s.ReadFile(n.db())
	fresh := errors.Is(err, fs.ErrNotExist)
	switch {
	case fresh && n.cluster.store == nil:
		n.cluster.store = objects{}
		n.cluster.Form(n.initial(field(manifest, "--initial-cluster=")))
	case !fresh && string(content) != n.cluster.data:
		snapshot, known := n.cluster.snapshots[string(content)]
		members, err := s.ReadFile(n.world.etcdDir + "/member/members")
		if !known || err != nil {
			return fmt.Errorf("etcd on %s cannot read its data: %w", n.name, err)
		}
		n.cluster.store, n.cluster.data = snapshot.clone(), string(content)
		n.cluster.Form(n.initial(string(members)))
	}
	if n.cluster.Start(n.name, n.address.String()) == nil && fresh {
		return s.WriteFile(n.db(), []byte(n.cluster.data), 0o600)
	}
	return nil
}

// initial reads etcd's list of initial members; one that is empty is the host alone.
func (n *node) initial(list string) map[string]string {
	members := map[string]string{}
	for item := range strings.SplitSeq(list, ",") {
		if name, url, found := strings.Cut(item, "="); found {
			address, err := netip.ParseAddrPort(strings.TrimPrefix(url, "https://"))
			n.world.check(err)
			members[name] = address.Addr().String()
		}
	}
	if len(members) == 0 {
		members[n.name] = n.address.String()
	}
	return members
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
		if err := s.WriteFile("/etc/kubernetes/kubelet.conf", kubeletLogin(n.world.endpoint()), 0o600); err != nil {
			return err
		}
	}
	if s.Lookup("/etc/kubernetes/kubelet.conf") == nil {
		return nil
	}
	if s.Lookup(currentCertificate) == nil {
		secrets := n.world.keys.secrets
		certificate, key, err := n.world.notary.issue(secrets[kubeadm.CACert], secrets[kubeadm.CAKey], "system:node:"+n.name, nil, n.world.made)
		if err := errors.Join(err, s.WriteFile(currentCertificate, append(certificate, key...), 0o600)); err != nil {
			return err
		}
	}
	object, err := n.register(s, store)
	if err != nil {
		return err
	}
	object.Status.NodeInfo.KubeletVersion = n.kubeletVersion
	if err := n.mirror(s, store); err != nil {
		return err
	}
	want := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Message: "cni plugin not initialized"}
	if ready {
		want.Status, want.Message = corev1.ConditionTrue, ""
	}
	// It reports when it has started, and then what changes.
	if c := object.Status.Conditions; len(c) > 0 && c[0].Status == want.Status && !c[0].LastHeartbeatTime.Time.Before(n.kubeletBegan) {
		want.LastHeartbeatTime = c[0].LastHeartbeatTime
	} else {
		want.LastHeartbeatTime = metav1.Now()
	}
	object.Status.Conditions = []corev1.NodeCondition{want}
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

// mirror shows the host's static pods to the cluster.
func (n *node) mirror(s *fakehost.State, store objects) error {
	for _, name := range staticPodNames() {
		if !n.runs(s, name) {
			delete(store, "Pod kube-system/"+name+"-"+n.name)
			continue
		}
		p := n.processes[name]
		_, command, _ := strings.Cut(p.spec, "\n")
		pod := &corev1.Pod{ObjectMeta: in("kube-system", name+"-"+n.name),
			Spec: corev1.PodSpec{NodeName: n.name, Containers: []corev1.Container{{Name: name, Image: p.image, Command: strings.Split(strings.TrimSpace(command), "\n")}}}}
		pod.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "mirror"}
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse}}
		if n.up(s, name) >= podsAvailable {
			pod.Status.Conditions[0].Status = corev1.ConditionTrue
		}
		if err := store.put(pod); err != nil {
			return err
		}
	}
	return nil
}

// image gives what the first container of a workload runs, "" when there is none.
func image(template *corev1.PodTemplateSpec) string {
	if template == nil || len(template.Spec.Containers) == 0 {
		return ""
	}
	return template.Spec.Containers[0].Image
}

// pods runs the pods of DaemonSets, and CoreDNS where it is to run.
func (n *node) pods(s *fakehost.State, store objects, podCIDR string, ready bool) error {
	wanted := map[string]string{}
	if d := find[*appsv1.DaemonSet](store, "kube-system", "kube-proxy"); d != nil {
		wanted["kube-proxy"] = image(&d.Spec.Template)
	}
	if d := find[*appsv1.DaemonSet](store, "kube-flannel", "kube-flannel-ds"); d != nil && podCIDR != "" {
		wanted["kube-flannel"] = image(&d.Spec.Template)
	}
	if d := find[*appsv1.Deployment](store, "kube-system", "coredns"); d != nil && n.world.dnsHost(store) == n.name && (ready || n.runs(s, "coredns")) {
		wanted["coredns"] = image(&d.Spec.Template)
	}
	effects := map[string]func(*fakehost.State, objects) error{"kube-proxy": n.proxy, "kube-flannel": n.flannel, "coredns": n.dns}
	for _, name := range slices.Sorted(maps.Keys(effects)) {
		if wanted[name] == "" {
			n.end(s, name)
			continue
		}
		if err := errors.Join(n.start(s, name, wanted[name], ""), effects[name](s, store)); err != nil {
			return err
		}
	}
	return nil
}

// dnsHost is where CoreDNS runs: on the first control plane that has a node.
func (w *world) dnsHost(store objects) string {
	for _, n := range w.nodes {
		object := find[*corev1.Node](store, "", n.name)
		if object == nil {
			continue
		}
		if _, controlPlane := object.Labels["node-role.kubernetes.io/control-plane"]; controlPlane {
			return n.name
		}
	}
	return ""
}

// proxies says whether Services are reached from here.
func (n *node) proxies() bool {
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	_, runs := n.processes["kube-proxy"]
	return runs
}

// addressFree is how long after its last word the holder of the address has lost it.
const addressFree = 5 * time.Second

// moveAddress is what kube-vip does on each host where it runs: through its own API server it renews the lease of the address, or
// takes one that nobody has. One that ends in order gives it up.
func (n *node) moveAddress(s *fakehost.State) error {
	store, err := n.cluster.api()
	if err != nil || !n.cluster.serving[n.name] {
		return nil
	}
	lease := find[*coordinationv1.Lease](store, "kube-system", addressLease)
	free := lease == nil || *lease.Spec.HolderIdentity == "" || time.Since(lease.Spec.RenewTime.Time) >= addressFree
	holds := lease != nil && *lease.Spec.HolderIdentity == n.name
	holder := n.name
	switch {
	case !n.runs(s, "kube-vip") && holds && s.Lookup("/etc/kubernetes/manifests/kube-vip.yaml") == nil:
		holder = ""
	case !n.runs(s, "kube-vip") || !free && !holds:
		return nil
	}
	return store.put(&coordinationv1.Lease{ObjectMeta: in("kube-system", addressLease),
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder, RenewTime: new(metav1.NowMicro())}})
}

// addressLease is kube-vip's.
const addressLease = "plndr-cp-lock"

// answers says whether the one who has the address that moves answers there.
func (w *world) answers() bool {
	w.cluster.mu.Lock()
	defer w.cluster.mu.Unlock()
	store, err := w.cluster.api()
	if err != nil {
		return false
	}
	lease := find[*coordinationv1.Lease](store, "kube-system", addressLease)
	return lease != nil && slices.ContainsFunc(w.nodes, func(n *node) bool {
		_, runs := n.processes["kube-vip"]
		return runs && *lease.Spec.HolderIdentity == n.name && w.cluster.serving[n.name]
	})
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
