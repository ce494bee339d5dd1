package fake

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"slipway.dev/slipway/internal/host"
)

var unitDirectories = [...]string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"}

// unitName adds the suffix that systemctl assumes.
func unitName(name string) string {
	if path.Ext(name) == "" {
		return name + ".service"
	}
	return name
}

// unit gives what systemctl show would say.
func (s *State) unit(name string) host.Unit {
	name = unitName(name)
	u := host.Unit{ID: name, LoadState: "not-found", ActiveState: "inactive", SubState: "dead", Result: "success"}
	if running := s.Units[name]; running != nil {
		u = *running
		u.ID = name
	}
	for _, dir := range unitDirectories {
		n := s.Lookup(dir + "/" + name)
		if n == nil {
			continue
		}
		u.LoadState, u.UnitFileState = "loaded", "disabled"
		if n.Target == "/dev/null" {
			u.LoadState, u.UnitFileState = "masked", "masked"
		} else if s.Lookup(wants(name)) != nil {
			u.UnitFileState = "enabled"
		}
		break
	}
	return u
}

func wants(name string) string {
	return "/etc/systemd/system/multi-user.target.wants/" + name
}

// unitVerb starts, stops, restarts or reloads a unit.
func (s *State) unitVerb(verb, name string) host.Result {
	name = unitName(name)
	u := s.unit(name)
	missing := u.LoadState == "not-found" && s.Units[name] == nil
	switch {
	case verb == "stop" && missing:
		return Fail(5, "Failed to stop "+name+": Unit "+name+" not loaded.")
	case missing:
		return Fail(5, "Failed to "+verb+" "+name+": Unit "+name+" not found.")
	case u.LoadState == "masked" && verb != "stop":
		return Fail(1, "Failed to "+verb+" "+name+": Unit "+name+" is masked.")
	case verb == "stop":
		delete(s.Units, name)
	default:
		s.pids++
		s.Units[name] = &host.Unit{ID: name, LoadState: "loaded", ActiveState: "active", SubState: "running", MainPID: 1000 + s.pids, Result: "success"}
		s.runs[name] = s.Lookup(s.UnitPrograms[name])
	}
	if effect := s.UnitEffects[name]; effect != nil {
		if r := effect(s, verb); r.ExitCode != 0 {
			if verb != "stop" {
				s.Units[name] = &host.Unit{ID: name, LoadState: "loaded", ActiveState: "failed", SubState: "failed", Result: "exit-code", ExitCode: r.ExitCode}
			}
			return r
		}
	}
	return host.Result{}
}

// exe gives /proc/PID/exe of the process of a unit whose program is known, nil for every other path. The link of a program
// that was replaced since says so, as the kernel's does.
func (s *State) exe(root string) *Node {
	for name, u := range s.Units {
		program := s.UnitPrograms[name]
		if program == "" || u.MainPID == 0 || root != fmt.Sprintf("/proc/%d/exe", u.MainPID) {
			continue
		}
		if s.Lookup(program) != s.runs[name] {
			program += " (deleted)"
		}
		return &Node{Mode: fs.ModeSymlink | 0o777, Target: program}
	}
	return nil
}

func systemctl(s *State, c Call) host.Result {
	flags, words := split(c.Argv[1:])
	now := slices.Contains(flags, "--now")
	if len(words) == 0 {
		return Fail(1, "Too few arguments.")
	}
	verb, names := words[0], words[1:]
	switch verb {
	case "daemon-reload", "daemon-reexec":
		return host.Result{}
	case "is-active", "is-enabled":
		return systemctlIs(s, verb, names)
	case "reset-failed":
		for name, u := range s.Units {
			if u.ActiveState == "failed" && (len(names) == 0 || slices.Contains(names, name)) {
				delete(s.Units, name)
			}
		}
		return host.Result{}
	}
	for _, name := range names {
		if r := systemctlOne(s, verb, unitName(name), now); r.ExitCode != 0 {
			return r
		}
	}
	return host.Result{}
}

func systemctlOne(s *State, verb, name string, now bool) host.Result {
	u := s.unit(name)
	switch verb {
	case "start", "stop", "restart", "reload":
		if verb == "start" && u.ActiveState == "active" {
			return host.Result{}
		}
		return s.unitVerb(verb, name)
	case "reload-or-restart", "try-restart":
		if verb == "try-restart" && u.ActiveState != "active" {
			return host.Result{}
		}
		return s.unitVerb("restart", name)
	case "enable":
		if u.LoadState == "not-found" {
			return Fail(1, "Failed to enable unit: Unit file "+name+" does not exist.")
		}
		if err := s.Symlink(wants(name), "/etc/systemd/system/"+name); err != nil {
			return Fail(1, err.Error())
		}
		if now {
			return s.unitVerb("start", name)
		}
	case "disable", "mask":
		s.drop(wants(name))
		if dir := path.Dir(wants(name)); len(s.Tree(dir)) == 1 {
			s.drop(dir)
		}
		if verb == "mask" {
			if err := s.Symlink("/etc/systemd/system/"+name, "/dev/null"); err != nil {
				return Fail(1, err.Error())
			}
		}
		if now && s.Units[name] != nil {
			return s.unitVerb("stop", name)
		}
	case "unmask":
		if n := s.Lookup("/etc/systemd/system/" + name); n != nil && n.Target == "/dev/null" {
			s.drop("/etc/systemd/system/" + name)
		}
	default:
		return Fail(1, "Unknown command verb "+verb+".")
	}
	return host.Result{}
}

func systemctlIs(s *State, verb string, names []string) host.Result {
	var out []string
	code := 0
	for _, name := range names {
		u := s.unit(name)
		word, good := u.ActiveState, u.ActiveState == "active"
		if verb == "is-enabled" {
			word, good = u.UnitFileState, u.UnitFileState == "enabled"
		}
		if !good {
			code = 3
		}
		out = append(out, word)
	}
	return host.Result{Stdout: []byte(strings.Join(out, "\n") + "\n"), ExitCode: code}
}

// systemdRun runs a program at once and remembers how its transient unit ended. The options that take a
// word of their own are -p, -u and --setenv; the others are given with '='.
func systemdRun(s *State, c Call) host.Result {
	name, keep := "run-u1.service", false
	args := c.Argv[1:]
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		option, value, ok := strings.Cut(args[0], "=")
		if !ok && slices.Contains([]string{"-p", "-u", "--unit", "--property", "--description", "-E", "--setenv"}, option) && len(args) > 1 {
			value, args = args[1], args[1:]
		}
		switch {
		case option == "--unit" || option == "-u":
			name = unitName(value)
		case option == "--remain-after-exit" || value == "RemainAfterExit=yes":
			keep = true
		}
		args = args[1:]
		if option == "--" {
			break
		}
	}
	if s.Units[name] != nil {
		return Fail(1, "Failed to start transient service unit: Unit "+name+" was already loaded or has a fragment file.")
	}
	r := s.Exec(Call{Argv: args, Stdin: c.Stdin, Env: c.Env})
	switch {
	case r.ExitCode != 0:
		s.Units[name] = &host.Unit{ID: name, LoadState: "loaded", UnitFileState: "transient", ActiveState: "failed", SubState: "failed", Result: "exit-code", ExitCode: r.ExitCode}
	case keep:
		s.Units[name] = &host.Unit{ID: name, LoadState: "loaded", UnitFileState: "transient", ActiveState: "active", SubState: "exited", Result: "success"}
	}
	if slices.Contains(c.Argv, "--wait") {
		return r
	}
	return host.Result{Stderr: []byte("Running as unit: " + name + "\n")}
}
