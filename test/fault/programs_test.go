package fault

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"slipway.dev/slipway/internal/host"
	fakehost "slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/step/restore"
)

const socketPath = "/run/containerd/containerd.sock"

// programs gives the host the programs that it does not have from the start, and makes its units real.
func (n *node) programs() {
	for name, program := range map[string]fakehost.Program{
		"/usr/local/bin/kubeadm": n.installed(n.kubeadm), "/usr/local/bin/ctr": n.installed(n.ctr),
		"/usr/local/bin/crictl": n.installed(n.crictl), restore.Etcdutl: n.installed(etcdutl), "dd": dd,
		"ip": ip, "nft": nft, "iptables-restore": replace("iptables"), "ip6tables-restore": replace("ip6tables"), "kill": kill,
		"modprobe": modprobe, "sysctl": sysctl, "swapoff": swapoff, "swapon": swapon, "rmdir": rmdir, "setenforce": setenforce,
	} {
		n.host.Handle(name, program)
	}
	n.host.Do(func(s *fakehost.State) {
		s.UnitPrograms["containerd.service"], s.UnitPrograms["kubelet.service"] = "/usr/local/bin/containerd", "/usr/local/bin/kubelet"
		s.UnitEffects["containerd.service"] = n.containerd
		s.UnitEffects["kubelet.service"] = n.kubeletUnit
	})
}

// genuine says that the program at path is the bundle's for this host.
func (n *node) genuine(s *fakehost.State, path string) bool {
	content, err := s.ReadFile(path)
	mode := fs.FileMode(0)
	if node := s.Lookup(path); node != nil {
		mode = node.Mode
	}
	name := path[strings.LastIndex(path, "/")+1:]
	return err == nil && mode&0o111 != 0 && string(content) == program(name, versionOf(string(content)), n.world.architecture(n.name))
}

// installed refuses a program that is not on the host.
func (n *node) installed(p fakehost.Program) fakehost.Program {
	return func(s *fakehost.State, c fakehost.Call) host.Result {
		if !n.genuine(s, c.Argv[0]) {
			return fakehost.Fail(127, c.Argv[0]+": not found")
		}
		return p(s, c)
	}
}

// containerd listens while it runs. It starts only when it is installed and configured.
func (n *node) containerd(s *fakehost.State, verb string) host.Result {
	if verb == "stop" {
		return outcome(s.Remove(socketPath))
	}
	config, err := s.ReadFile("/etc/containerd/config.toml")
	if err != nil || !strings.Contains(string(config), fmt.Sprintf("root = %q", n.world.dataDir)) || !n.genuine(s, "/usr/local/bin/containerd") {
		return fakehost.Fail(1, "containerd: cannot start")
	}
	if err := s.Mkdir(n.world.dataDir, 0o711); err != nil {
		return outcome(err)
	}
	return outcome(s.WriteFile(socketPath, nil, fs.ModeSocket|0o660))
}

// kubeletUnit starts only when the kubelet is installed and kubeadm has configured it.
func (n *node) kubeletUnit(s *fakehost.State, verb string) host.Result {
	if verb != "stop" && (s.Lookup("/var/lib/kubelet/config.yaml") == nil || !n.genuine(s, "/usr/local/bin/kubelet")) {
		return fakehost.Fail(1, "kubelet: cannot start")
	}
	content, err := s.ReadFile("/usr/local/bin/kubelet")
	if verb != "stop" && err != nil {
		return outcome(err)
	}
	n.kubeletVersion, n.kubeletBegan = versionOf(string(content)), time.Now()
	return host.Result{}
}

// ctr knows "images import" from its input, and "images label".
func (n *node) ctr(s *fakehost.State, c fakehost.Call) host.Result {
	if !active(s, "containerd.service") {
		return fakehost.Fail(1, "ctr: failed to dial "+socketPath)
	}
	words := c.Argv[5:]
	switch {
	case slices.Equal(words[:2], []string{"images", "import"}):
		if s.Full {
			return fakehost.Fail(1, "ctr: write: No space left on device")
		}
		key, value, _ := strings.Cut(words[slices.Index(words, "--label")+1], "=")
		if err := s.ImportImages(c.Stdin, map[string]string{key: value}); err != nil {
			return fakehost.Fail(1, "ctr: "+err.Error())
		}
		for name, image := range s.Images {
			blob := n.world.dataDir + "/io.containerd.content.v1.content/blobs/sha256/" + strings.TrimPrefix(image.Digest, "sha256:")
			if err := s.WriteFile(blob, []byte(name), 0o444); err != nil {
				return outcome(err)
			}
		}
	case slices.Equal(words[:2], []string{"images", "label"}):
		image, known := s.Images[words[2]]
		if !known {
			return fakehost.Fail(1, "ctr: "+words[2]+": not found")
		}
		key, value, _ := strings.Cut(words[3], "=")
		image.Labels = maps.Clone(image.Labels)
		if image.Labels[key] = value; value == "" {
			delete(image.Labels, key)
		}
		s.Images[words[2]] = image
	default:
		return fakehost.Fail(1, "ctr: unknown command")
	}
	return host.Result{}
}

// ip knows "link delete NAME".
func ip(s *fakehost.State, c fakehost.Call) host.Result {
	i := slices.IndexFunc(s.Links, func(l host.Link) bool { return l.Name == c.Argv[3] })
	if i < 0 {
		return fakehost.Fail(1, "Cannot find device "+c.Argv[3])
	}
	s.Links = slices.Delete(s.Links, i, i+1)
	return host.Result{}
}

// nft knows "delete table FAMILY NAME". iptables keeps its own tables there, so they go with it.
func nft(s *fakehost.State, c fakehost.Call) host.Result {
	table := "table " + c.Argv[3] + " " + c.Argv[4] + " {\n}\n"
	if !strings.Contains(s.NFTables, table) {
		return fakehost.Fail(1, "Error: Could not process rule: No such file or directory")
	}
	s.NFTables = strings.Replace(s.NFTables, table, "", 1)
	rules := map[string]*string{"ip": &s.IPTables, "ip6": &s.IP6Tables}[c.Argv[3]]
	if before, after, found := strings.Cut(*rules, "*"+c.Argv[4]+"\n"); found {
		_, after, _ = strings.Cut(after, "COMMIT\n")
		*rules = before + after
	}
	return host.Result{}
}

// replace plays iptables-restore: the tables it is given replace those of the same name.
func replace(family string) fakehost.Program {
	return func(s *fakehost.State, c fakehost.Call) host.Result {
		if !strings.HasSuffix(string(c.Stdin), "COMMIT\n") {
			return fakehost.Fail(1, family+"-restore: COMMIT expected")
		}
		if family == "iptables" {
			s.IPTables = string(c.Stdin)
		} else {
			s.IP6Tables = string(c.Stdin)
		}
		return host.Result{}
	}
}

// kill knows "-SIGNAL PID...".
func kill(s *fakehost.State, c fakehost.Call) host.Result {
	code := 0
	for _, pid := range c.Argv[2:] {
		i := slices.IndexFunc(s.Containers, func(p host.Process) bool { return fmt.Sprint(p.PID) == pid })
		if i < 0 {
			code = 1
			continue
		}
		s.Containers = slices.Delete(s.Containers, i, i+1)
		if i > 0 && s.Containers[i-1].Name == shim { // It ends with its container.
			s.Containers = slices.Delete(s.Containers, i-1, i)
		}
	}
	return host.Result{ExitCode: code}
}

// modprobe loads one of the modules that the kernel has, which brings its parameters.
func modprobe(s *fakehost.State, c fakehost.Call) host.Result {
	name := c.Argv[len(c.Argv)-1]
	if !slices.Contains([]string{"overlay", "br_netfilter"}, name) {
		return fakehost.Fail(1, "")
	}
	if name == "br_netfilter" && !s.Modules[name] {
		s.Sysctls["net.bridge.bridge-nf-call-iptables"], s.Sysctls["net.bridge.bridge-nf-call-ip6tables"] = "0", "0"
	}
	s.Modules[name] = true
	return host.Result{}
}

// sysctl knows "--write KEY=VALUE" and "--load=FILE", and refuses keys that the kernel does not have.
func sysctl(s *fakehost.State, c fakehost.Call) host.Result {
	text := c.Argv[len(c.Argv)-1]
	if path, ok := strings.CutPrefix(text, "--load="); ok {
		content, err := s.ReadFile(path)
		if err != nil {
			return fakehost.Fail(255, err.Error())
		}
		text = string(content)
	}
	code := 0
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, "=")
		key = strings.TrimSpace(key)
		if _, known := s.Sysctls[key]; !known {
			code = 1
			continue
		}
		s.Sysctls[key] = strings.TrimSpace(value)
	}
	return host.Result{ExitCode: code}
}

const swapHead = "Filename\tType\tSize\tUsed\tPriority\n"

const swapTail = "\tpartition\t1024\t0\t-2\n"

// swapoff knows "--all".
func swapoff(s *fakehost.State, _ fakehost.Call) host.Result {
	return outcome(s.WriteFile("/proc/swaps", []byte(swapHead), 0o444))
}

// swapon knows one area.
func swapon(s *fakehost.State, c fakehost.Call) host.Result {
	swaps, err := s.ReadFile("/proc/swaps")
	if err != nil {
		return outcome(err)
	}
	return outcome(s.WriteFile("/proc/swaps", append(slices.Clone(swaps), c.Argv[1]+swapTail...), 0o444))
}

// rmdir knows "--ignore-fail-on-non-empty DIR".
func rmdir(s *fakehost.State, c fakehost.Call) host.Result {
	if len(s.Tree(c.Argv[2])) != 1 {
		return host.Result{}
	}
	return outcome(s.Remove(c.Argv[2]))
}

func setenforce(s *fakehost.State, c fakehost.Call) host.Result {
	return outcome(s.WriteFile("/sys/fs/selinux/enforce", []byte(c.Argv[1]), 0o644))
}

// crictl lists and stops containers and pods; the ID of either is the name of the container.
func (n *node) crictl(s *fakehost.State, c fakehost.Call) host.Result {
	if !active(s, "containerd.service") {
		return fakehost.Fail(1, "crictl: connection refused")
	}
	words := c.Argv[1:]
	if words[0] == "--runtime-endpoint" {
		words = words[2:]
	}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(n.processes)) {
		if n.runs(s, name) {
			names = append(names, name)
		}
	}
	only := func(option, prefix, suffix string) {
		for i, word := range words {
			if value, found := strings.CutPrefix(word, prefix); found && i > 0 && words[i-1] == option {
				names = slices.DeleteFunc(names, func(name string) bool { return name != strings.TrimSuffix(value, suffix) })
			}
		}
	}
	switch words[0] {
	case "ps":
		only("--name", "^", "$")
		only("--label", "io.kubernetes.pod.name=", "-"+n.name)
		return fakehost.Print(strings.Join(names, "\n"))
	case "pods":
		return fakehost.Print(strings.Join(names, "\n"))
	case "stop":
		for _, name := range words[3:] {
			if !slices.Contains(names, name) {
				return fakehost.Fail(1, "crictl: container "+name+" not found")
			}
			n.end(s, name)
		}
	case "stopp":
		for _, name := range words[1:] {
			n.end(s, name)
		}
	default:
		return fakehost.Fail(1, "crictl: unknown command")
	}
	return host.Result{}
}

// etcdutl knows "snapshot restore FILE --data-dir=DIR --name=NAME --initial-cluster=MEMBERS ...".
func etcdutl(s *fakehost.State, c fakehost.Call) host.Result {
	content, err := s.ReadFile(c.Argv[3])
	if err != nil {
		return outcome(err)
	}
	dir, _ := strings.CutPrefix(c.Argv[4], "--data-dir=")
	members, found := strings.CutPrefix(c.Argv[6], "--initial-cluster=")
	if !found || s.Lookup(dir) != nil {
		return fakehost.Fail(1, "data-dir not empty or no members")
	}
	return outcome(errors.Join(s.WriteFile(dir+"/member/snap/db", content, 0o600), s.WriteFile(dir+"/member/members", []byte(members), 0o600)))
}

// dd knows "of=FILE ..." and writes what it is fed.
func dd(s *fakehost.State, c fakehost.Call) host.Result {
	path, _ := strings.CutPrefix(c.Argv[1], "of=")
	return outcome(s.WriteFile(path, c.Stdin, 0o600))
}

// program is the content of one of the bundle's programs, versionOf the version of its bundle.
func program(name, version, architecture string) string {
	return name + " " + version + " for " + architecture
}

func versionOf(program string) string {
	if words := strings.Fields(program); len(words) > 1 {
		return words[1]
	}
	return ""
}

func digestOf(content string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(content))) }
