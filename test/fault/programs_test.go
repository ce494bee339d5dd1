package fault

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"slipway.dev/slipway/internal/host"
	fakehost "slipway.dev/slipway/internal/host/fake"
)

const socketPath = "/run/containerd/containerd.sock"

// programs gives the host the programs that it does not have from the start, and makes its units real.
func (n *node) programs() {
	for name, program := range map[string]fakehost.Program{
		"/usr/local/bin/kubeadm": n.installed(n.kubeadm), "/usr/local/bin/ctr": n.installed(n.ctr),
		"ip": ip, "nft": nft, "iptables-restore": restore("iptables"), "ip6tables-restore": restore("ip6tables"), "kill": kill,
		"modprobe": modprobe, "sysctl": sysctl, "swapoff": swapoff, "swapon": swapon, "rmdir": rmdir, "setenforce": setenforce,
	} {
		n.host.Handle(name, program)
	}
	n.host.Do(func(s *fakehost.State) {
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
	return err == nil && mode&0o111 != 0 && string(content) == program(name, n.world.architecture(n.name))
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
		image.Labels[key] = value
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

// restore plays iptables-restore: the tables it is given replace those of the same name.
func restore(family string) fakehost.Program {
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

// kill knows "-KILL PID...".
func kill(s *fakehost.State, c fakehost.Call) host.Result {
	code := 0
	for _, pid := range c.Argv[2:] {
		i := slices.IndexFunc(s.Containers, func(p host.Process) bool { return fmt.Sprint(p.PID) == pid })
		if i < 0 {
			code = 1
			continue
		}
		s.Containers = slices.Delete(s.Containers, i, i+1)
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

// program is the content of one of the bundle's programs.
func program(name, architecture string) string { return name + " for " + architecture }

func digestOf(content string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(content))) }
