package fake

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"path"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/host"
)

// Node is one file, directory or symbolic link.
type Node struct {
	// Mode holds type and permission bits.
	Mode     fs.FileMode
	UID, GID int
	Content  []byte
	Target   string
	// Modified is when it was put there.
	Modified time.Time
}

// State is everything that a fake host is. Its exported fields may be changed inside Host.Do and Programs.
type State struct {
	// Units holds what runs or has failed, by name; a unit without an entry is inactive.
	Units map[string]*host.Unit
	// UnitEffects is called with start, stop, restart or reload after the unit's state changed; when it
	// fails on start, the unit is failed.
	UnitEffects map[string]func(s *State, verb string) host.Result
	// UnitPrograms says which program a unit runs, by path: /proc/PID/exe of its process then tells whether that is still
	// the file that is there.
	UnitPrograms map[string]string
	// Full says that the disk has no room: no file can be written, and what is there can be removed.
	Full      bool
	Modules   map[string]bool
	Sysctls   map[string]string
	Mounts    []host.Mount
	Listening map[netip.AddrPort]bool
	Processes []host.Process
	// Containers holds what runs below a shim or in a pod's cgroup, the shims too.
	Containers []host.Process
	Links      []host.Link
	Images     map[string]host.Image
	// Names is the resolver.
	Names map[string][]netip.Addr
	// NFTables, IPTables, IP6Tables and Routes are what the tools print.
	NFTables, IPTables, IP6Tables, Routes string
	// Versions is what programs print about themselves, by path.
	Versions map[string]string

	files map[string]*Node
	host  *Host
	// pids counts processes of units; runs holds the file that each was started from.
	pids int
	runs map[string]*Node
}

func newState(h *Host, facts v1alpha1.HostFacts) *State {
	s := &State{Units: map[string]*host.Unit{}, UnitEffects: map[string]func(*State, string) host.Result{}, Modules: map[string]bool{},
		Sysctls: map[string]string{"net.ipv4.ip_forward": "0"}, Listening: map[netip.AddrPort]bool{}, Images: map[string]host.Image{},
		Names: map[string][]netip.Addr{}, Versions: map[string]string{}, UnitPrograms: map[string]string{}, files: map[string]*Node{}, host: h, runs: map[string]*Node{}}
	for _, dir := range strings.Fields("/ /etc /etc/systemd /etc/systemd/system /etc/sysctl.d /etc/modules-load.d /opt /proc /root /run /srv /tmp " +
		"/usr /usr/bin /usr/lib /usr/lib/systemd /usr/lib/systemd/system /usr/local /usr/local/bin /usr/sbin /var /var/lib /var/log") {
		s.files[dir] = &Node{Mode: fs.ModeDir | 0o755}
	}
	s.files["/etc/hostname"] = &Node{Mode: 0o644, Content: []byte(facts.Hostname + "\n")}
	s.files["/etc/machine-id"] = &Node{Mode: 0o444, Content: []byte(facts.MachineID + "\n")}
	s.files["/etc/hosts"] = &Node{Mode: 0o644, Content: []byte("127.0.0.1 localhost\n")}
	s.files["/etc/fstab"] = &Node{Mode: 0o644}
	return s
}

// resolve follows the links in p, the last part too when last is set. Missing parts stay as they are.
func (s *State) resolve(p string, last bool) (string, error) {
	for range 40 {
		again := false
		parts := strings.Split(strings.TrimPrefix(path.Clean(p), "/"), "/")
		for i := range parts {
			prefix := "/" + path.Join(parts[:i+1]...)
			n := s.files[prefix]
			if n == nil || n.Mode.Type() != fs.ModeSymlink || (i == len(parts)-1 && !last) {
				continue
			}
			target := n.Target
			if !path.IsAbs(target) {
				target = path.Join(path.Dir(prefix), target)
			}
			p, again = path.Join(append([]string{target}, parts[i+1:]...)...), true
			break
		}
		if !again {
			return path.Clean(p), nil
		}
	}
	return "", fmt.Errorf("%s: too many levels of symbolic links", p)
}

// Lookup gives what is at p, without following a link there; nil when nothing is.
func (s *State) Lookup(p string) *Node {
	full, err := s.resolve(p, false)
	if err != nil {
		return nil
	}
	return s.files[full]
}

// ReadFile gives the content of a regular file, following links.
func (s *State) ReadFile(p string) ([]byte, error) {
	full, err := s.resolve(p, true)
	if err != nil {
		return nil, err
	}
	n := s.files[full]
	switch {
	case n == nil:
		return nil, &fs.PathError{Op: "read", Path: p, Err: fs.ErrNotExist}
	case !n.Mode.IsRegular():
		return nil, fmt.Errorf("%s: it is no regular file", p)
	}
	return n.Content, nil
}

// WriteFile puts a new file at p, making parents; it replaces a link and refuses a directory.
func (s *State) WriteFile(p string, content []byte, mode fs.FileMode) error {
	return s.put(p, &Node{Mode: mode, Content: bytes.Clone(content)})
}

// Symlink puts a link at p, making parents.
func (s *State) Symlink(p, target string) error {
	return s.put(p, &Node{Mode: fs.ModeSymlink | 0o777, Target: target})
}

func (s *State) put(p string, n *Node) error {
	full, err := s.resolve(p, false)
	if err != nil {
		return err
	}
	if old := s.files[full]; old != nil && old.Mode.IsDir() {
		return fmt.Errorf("%s is a directory", p)
	}
	if s.Full && len(n.Content) > 0 && !strings.HasPrefix(full, "/run/") { // That is memory.
		return fmt.Errorf("%s: No space left on device", p)
	}
	if err := s.Mkdir(path.Dir(full), 0o755); err != nil {
		return err
	}
	if n.Modified.IsZero() {
		n.Modified = time.Now()
	}
	s.files[full] = n
	return nil
}

// Mkdir makes a directory and its parents; an existing one keeps its mode.
func (s *State) Mkdir(p string, mode fs.FileMode) error {
	full, err := s.resolve(p, true)
	if err != nil {
		return err
	}
	if n := s.files[full]; n != nil {
		if !n.Mode.IsDir() {
			return fmt.Errorf("%s: not a directory", p)
		}
		return nil
	}
	if err := s.Mkdir(path.Dir(full), 0o755); err != nil {
		return err
	}
	s.files[full] = &Node{Mode: fs.ModeDir | mode.Perm()}
	return nil
}

// Remove deletes p and what is below it; it refuses mounts. A missing path is fine.
func (s *State) Remove(p string) error {
	full, err := s.resolve(p, false)
	if err != nil {
		return err
	}
	for _, m := range s.Mounts {
		if m.Path == full || strings.HasPrefix(m.Path, full+"/") {
			return fmt.Errorf("%s is a mount", m.Path)
		}
	}
	s.drop(full)
	return nil
}

func (s *State) drop(full string) {
	for name := range s.files {
		if name == full || strings.HasPrefix(name, full+"/") {
			delete(s.files, name)
		}
	}
}

// Tree describes root and everything below it, sorted by path; nothing when it is missing.
func (s *State) Tree(root string) []host.FileInfo {
	if exe := s.exe(root); exe != nil {
		return []host.FileInfo{describe(root, exe)}
	}
	full, err := s.resolve(root, false)
	if err != nil || s.files[full] == nil {
		return nil
	}
	var found []host.FileInfo
	for name, n := range s.files {
		if name == full || strings.HasPrefix(name, strings.TrimSuffix(full, "/")+"/") {
			found = append(found, describe(root+strings.TrimPrefix(name, full), n))
		}
	}
	sort.Slice(found, func(i, j int) bool { return found[i].Path < found[j].Path })
	return found
}

func describe(name string, n *Node) host.FileInfo {
	f := host.FileInfo{Path: name, Exists: true, Mode: n.Mode, UID: n.UID, GID: n.GID, Size: int64(len(n.Content)), Target: n.Target}
	if n.Mode.Type() == fs.ModeSymlink {
		f.Size = int64(len(n.Target))
	}
	return f
}

// claim is the fence script in memory: the same files, the same refusals.
func (s *State) claim(name string, f host.Fence) error {
	place := host.DefaultFencePlace()
	holder, err := host.DecodeHolder(host.Result{Stdout: s.holder()})
	if err != nil && !f.Adopt {
		return host.FencedError(name, nil, host.Result{ExitCode: 204, Stderr: []byte("slipway-fence: the holder file cannot be read\n")})
	}
	if holder.Owner != "" && holder.Owner != f.Owner && !f.Adopt {
		return host.OwnedByAnother(name, holder.Owner)
	}
	if f.Epoch < holder.Epoch {
		return host.FencedOff(name, strconv.FormatInt(holder.Epoch, 10))
	}
	if err := s.Mkdir(place.State, 0o755); err != nil {
		return err
	}
	content := fmt.Appendf(nil, "%s %d\n", f.Owner, f.Epoch)
	if have, err := s.ReadFile(place.State + "/holder"); err != nil || !bytes.Equal(have, content) {
		if err := s.WriteFile(place.State+"/holder", content, 0o644); err != nil {
			return host.FencedError(name, nil, host.Result{ExitCode: 205, Stderr: []byte("slipway-fence: cannot write " + err.Error() + "\n")})
		}
	}
	return s.WriteFile(place.Runtime+"/epoch", fmt.Appendf(nil, "%d\n", f.Epoch), 0o644)
}

func (s *State) holder() []byte {
	place := host.DefaultFencePlace()
	var out []byte
	if content, err := s.ReadFile(place.State + "/holder"); err == nil {
		out = append(append(out, "holder "...), content...)
	}
	if content, err := s.ReadFile(place.Runtime + "/epoch"); err == nil {
		out = append(append(out, "epoch "...), content...)
	}
	return out
}

// boot is what a restart does to the state.
func (s *State) boot() {
	for _, dir := range []string{"/run", "/tmp"} {
		s.drop(dir)
		s.files[dir] = &Node{Mode: fs.ModeDir | 0o755}
	}
	s.Mounts, s.Processes, s.Containers = nil, nil, nil
	clear(s.Modules)
	clear(s.Units)
	clear(s.Listening)
	s.Sysctls = map[string]string{"net.ipv4.ip_forward": "0"}
	s.Links = slices.DeleteFunc(s.Links, func(l host.Link) bool { return l.Kind != "" })
	s.NFTables, s.IPTables, s.IP6Tables = "", "", ""
	for _, f := range s.Tree("/etc/modules-load.d") {
		if n := s.files[f.Path]; n.Mode.IsRegular() {
			for _, m := range strings.Fields(string(n.Content)) {
				s.Modules[m] = true
			}
		}
	}
	s.loadSysctls()
	for _, f := range s.Tree("/etc/systemd/system") {
		if dir := path.Dir(f.Path); strings.HasSuffix(dir, ".wants") && f.Mode.Type() == fs.ModeSymlink {
			s.unitVerb("start", path.Base(f.Path))
		}
	}
}

// Snapshot prints the whole state, to compare how two histories ended. It leaves out what differs between
// equal ends: the fence's epochs and what is gone at the next boot anyway in /run/slipway.
func (h *Host) Snapshot() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.state
	place := host.DefaultFencePlace()
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for name, n := range s.files {
		content := n.Content
		if name == place.Runtime || strings.HasPrefix(name, place.Runtime+"/") {
			continue
		}
		if name == place.State+"/holder" {
			owner, _, _ := strings.Cut(string(content), " ")
			add("holder %s", owner)
			continue
		}
		sum := ""
		if n.Mode.IsRegular() {
			sum = fmt.Sprintf(" %x", sha256.Sum256(content))
		}
		add("file %s %v %d:%d%s %s", name, n.Mode, n.UID, n.GID, sum, n.Target)
	}
	for name, u := range s.Units {
		add("unit %s %s %s", name, u.ActiveState, u.SubState)
	}
	for m := range s.Modules {
		add("module %s", m)
	}
	for _, key := range slices.Collect(maps.Keys(s.Sysctls)) {
		add("sysctl %s=%s", key, s.Sysctls[key])
	}
	for _, m := range s.Mounts {
		add("mount %s %s %s %s", m.Path, m.Type, m.Source, m.Root)
	}
	for a := range s.Listening {
		add("listening %s", a)
	}
	for _, p := range s.Processes {
		add("process %s", p.Name)
	}
	for _, p := range s.Containers {
		add("container %s", p.Name)
	}
	for _, l := range s.Links {
		add("link %s %s %v", l.Name, l.Kind, l.Addresses)
	}
	for name, image := range s.Images {
		add("image %s %s %v", name, image.Digest, image.Labels)
	}
	add("nftables %q", s.NFTables)
	add("iptables %q", s.IPTables)
	add("ip6tables %q", s.IP6Tables)
	add("routes %q", s.Routes)
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}
