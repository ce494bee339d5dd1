package fake

import (
	"slices"
	"strings"

	"slipway.dev/slipway/internal/host"
)

func hostnamectl(s *State, c Call) host.Result {
	if len(c.Argv) == 3 && (c.Argv[1] == "set-hostname" || c.Argv[1] == "hostname") {
		return result(s.WriteFile("/etc/hostname", []byte(c.Argv[2]+"\n"), 0o644))
	}
	return Fail(1, "hostnamectl: unknown call")
}

// mount knows "[-t TYPE] [-o OPTIONS] [--bind] SOURCE PATH".
func mount(s *State, c Call) host.Result {
	m := host.Mount{Type: "none", Root: "/", Options: []string{"rw"}}
	var words []string
	for args := c.Argv[1:]; len(args) > 0; args = args[1:] {
		switch {
		case args[0] == "-t" && len(args) > 1:
			m.Type, args = args[1], args[1:]
		case args[0] == "-o" && len(args) > 1:
			m.Options, args = strings.Split(args[1], ","), args[1:]
		case !strings.HasPrefix(args[0], "-"):
			words = append(words, args[0])
		}
	}
	if len(words) != 2 {
		return Fail(1, "mount: a source and a path are needed")
	}
	if n := s.Lookup(words[1]); n == nil || !n.Mode.IsDir() {
		return Fail(32, "mount: "+words[1]+": mount point does not exist.")
	}
	m.Source, m.Path = words[0], words[1]
	s.Mounts = append(s.Mounts, m)
	return host.Result{}
}

func unmount(s *State, c Call) host.Result {
	_, words := split(c.Argv[1:])
	for _, p := range words {
		i := slices.IndexFunc(s.Mounts, func(m host.Mount) bool { return m.Path == p })
		if i < 0 {
			return Fail(32, "umount: "+p+": not mounted.")
		}
		s.Mounts = slices.Delete(s.Mounts, i, i+1)
	}
	return host.Result{}
}

// modprobe loads modules; with -r, or as rmmod, it unloads them.
func modprobe(s *State, c Call) host.Result {
	flags, words := split(c.Argv[1:])
	unload := slices.Contains(flags, "-r") || strings.HasSuffix(c.Argv[0], "rmmod")
	for _, m := range words {
		if unload {
			delete(s.Modules, m)
		} else {
			s.Modules[m] = true
		}
	}
	return host.Result{}
}

// sysctl knows "-w KEY=VALUE...", "-p FILE...", "--load=FILE" and "--system".
func sysctl(s *State, c Call) host.Result {
	flags, words := split(c.Argv[1:])
	for i, f := range flags {
		if file, ok := strings.CutPrefix(f, "--load="); ok {
			flags[i], words = "--load", append(words, file)
		}
	}
	switch {
	case slices.Contains(flags, "--system"):
		s.loadSysctls()
	case slices.Contains(flags, "-p") || slices.Contains(flags, "--load"):
		for _, p := range words {
			content, err := s.ReadFile(p)
			if err != nil {
				return Fail(255, "sysctl: "+err.Error())
			}
			s.setSysctls(string(content))
		}
	default:
		s.setSysctls(strings.Join(words, "\n"))
	}
	return host.Result{}
}

func (s *State) loadSysctls() {
	for _, f := range s.Tree("/etc/sysctl.d") {
		if f.Mode.IsRegular() && strings.HasSuffix(f.Path, ".conf") {
			s.setSysctls(string(s.files[f.Path].Content))
		}
	}
}

func (s *State) setSysctls(text string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if key, value, ok := strings.Cut(line, "="); ok && line[0] != '#' && line[0] != ';' {
			key = strings.TrimPrefix(strings.TrimSpace(key), "-")
			s.Sysctls[strings.ReplaceAll(key, "/", ".")] = strings.Join(strings.Fields(value), " ")
		}
	}
}
