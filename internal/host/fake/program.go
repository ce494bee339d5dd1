package fake

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"

	"slipway.dev/slipway/internal/host"
)

// Print gives a successful result that printed text.
func Print(text string) host.Result { return host.Result{Stdout: []byte(text)} }

// Fail gives the result of a program that printed text to standard error and ended with code.
func Fail(code int, text string) host.Result {
	return host.Result{Stderr: []byte(text + "\n"), ExitCode: code}
}

// Exec runs one of the host's programs on the state; programs may call others with it.
func (s *State) Exec(c Call) host.Result {
	if len(c.Argv) == 0 {
		return Fail(127, "no program")
	}
	program, ok := s.host.programs[c.Argv[0]]
	if !ok {
		program, ok = s.host.programs[path.Base(c.Argv[0])]
	}
	if !ok {
		return Fail(127, c.Argv[0]+": not found")
	}
	return program(s, c)
}

// split parts options from other words; everything after "--" is a word.
func split(args []string) (flags, words []string) {
	for i, a := range args {
		switch {
		case a == "--":
			return flags, append(words, args[i+1:]...)
		case len(a) > 1 && a[0] == '-':
			flags = append(flags, a)
		default:
			words = append(words, a)
		}
	}
	return flags, words
}

func builtins() map[string]Program {
	succeed := func(*State, Call) host.Result { return host.Result{} }
	return map[string]Program{
		"true": succeed, "sync": succeed, "timedatectl": succeed, "swapoff": succeed, "udevadm": succeed, "restorecon": succeed,
		"false":       func(*State, Call) host.Result { return host.Result{ExitCode: 1} },
		"cat":         cat,
		"printf":      printLines,
		"printenv":    printenv,
		"tee":         tee,
		"dd":          dd,
		"mkdir":       mkdir,
		"rm":          remove,
		"rmdir":       remove,
		"mv":          move,
		"cp":          copyFile,
		"ln":          link,
		"chmod":       chmod,
		"chown":       chown,
		"touch":       touch,
		"install":     install,
		"env":         env,
		"hostnamectl": hostnamectl,
		"mount":       mount,
		"umount":      unmount,
		"modprobe":    modprobe,
		"rmmod":       modprobe,
		"sysctl":      sysctl,
		"tar":         untar,
		"systemctl":   systemctl,
		"systemd-run": systemdRun,
	}
}

func result(err error) host.Result {
	if err != nil {
		return Fail(1, err.Error())
	}
	return host.Result{}
}

func cat(s *State, c Call) host.Result {
	_, words := split(c.Argv[1:])
	if len(words) == 0 {
		return host.Result{Stdout: c.Stdin}
	}
	var out []byte
	for _, p := range words {
		content, err := s.ReadFile(p)
		if err != nil {
			return Fail(1, "cat: "+err.Error())
		}
		out = append(out, content...)
	}
	return host.Result{Stdout: out}
}

// printLines plays printf with the format "%s\n".
func printLines(_ *State, c Call) host.Result {
	var out bytes.Buffer
	for _, a := range c.Argv[min(2, len(c.Argv)):] {
		fmt.Fprintln(&out, a)
	}
	return host.Result{Stdout: out.Bytes()}
}

func printenv(_ *State, c Call) host.Result {
	for _, e := range c.Env {
		if name, value, _ := strings.Cut(e, "="); len(c.Argv) > 1 && name == c.Argv[1] {
			return Print(value + "\n")
		}
	}
	return host.Result{ExitCode: 1}
}

func env(s *State, c Call) host.Result {
	args := c.Argv[1:]
	for len(args) > 0 && strings.Contains(args[0], "=") {
		c.Env = append(slices.Clone(c.Env), args[0])
		args = args[1:]
	}
	return s.Exec(Call{Argv: args, Stdin: c.Stdin, Env: c.Env})
}

func tee(s *State, c Call) host.Result {
	_, words := split(c.Argv[1:])
	for _, p := range words {
		if err := s.WriteFile(p, c.Stdin, 0o644); err != nil {
			return Fail(1, "tee: "+err.Error())
		}
	}
	return host.Result{Stdout: c.Stdin}
}

// dd puts its input into "of=FILE", and keeps the mode of a file that is there.
func dd(s *State, c Call) host.Result {
	for _, a := range c.Argv[1:] {
		p, ok := strings.CutPrefix(a, "of=")
		if !ok {
			continue
		}
		mode := fs.FileMode(0o644)
		if n := s.Lookup(p); n != nil {
			mode = n.Mode
		}
		if err := s.WriteFile(p, c.Stdin, mode); err != nil {
			return Fail(1, "dd: "+err.Error())
		}
	}
	return host.Result{}
}

func mkdir(s *State, c Call) host.Result {
	flags, words := split(c.Argv[1:])
	mode := fs.FileMode(0o755)
	if i := slices.Index(flags, "-m"); i >= 0 && len(words) > 0 {
		bits, err := strconv.ParseUint(words[0], 8, 12)
		if err != nil {
			return Fail(1, "mkdir: "+err.Error())
		}
		mode, words = fs.FileMode(bits), words[1:]
	}
	for _, p := range words {
		if err := s.Mkdir(p, mode); err != nil {
			return Fail(1, "mkdir: "+err.Error())
		}
	}
	return host.Result{}
}

func remove(s *State, c Call) host.Result {
	_, words := split(c.Argv[1:])
	for _, p := range words {
		if err := s.Remove(p); err != nil {
			return Fail(1, "rm: "+err.Error())
		}
	}
	return host.Result{}
}

func move(s *State, c Call) host.Result {
	if r := copyFile(s, c); r.ExitCode != 0 {
		return r
	}
	_, words := split(c.Argv[1:])
	return result(s.Remove(words[0]))
}

func copyFile(s *State, c Call) host.Result {
	_, words := split(c.Argv[1:])
	if len(words) != 2 {
		return Fail(1, "cp: two paths are needed")
	}
	from, to := words[0], words[1]
	tree := s.Tree(from)
	if len(tree) == 0 {
		return Fail(1, "cp: cannot stat '"+from+"': No such file or directory")
	}
	if n := s.Lookup(to); n != nil && n.Mode.IsDir() {
		to = path.Join(to, path.Base(from))
	}
	for _, f := range tree {
		n := *s.Lookup(f.Path)
		target := to + strings.TrimPrefix(f.Path, from)
		var err error
		if n.Mode.IsDir() {
			err = s.Mkdir(target, n.Mode)
		} else {
			err = s.put(target, &n)
		}
		if err != nil {
			return Fail(1, "cp: "+err.Error())
		}
	}
	return host.Result{}
}

func link(s *State, c Call) host.Result {
	_, words := split(c.Argv[1:])
	if len(words) != 2 {
		return Fail(1, "ln: two paths are needed")
	}
	return result(s.Symlink(words[1], words[0]))
}

func chmod(s *State, c Call) host.Result {
	_, words := split(c.Argv[1:])
	if len(words) < 2 {
		return Fail(1, "chmod: missing operand")
	}
	bits, err := strconv.ParseUint(words[0], 8, 12)
	if err != nil {
		return Fail(1, "chmod: invalid mode: "+words[0])
	}
	for _, p := range words[1:] {
		n := s.Lookup(p)
		if n == nil {
			return Fail(1, "chmod: cannot access '"+p+"': No such file or directory")
		}
		n.Mode = n.Mode.Type() | fs.FileMode(bits)
	}
	return host.Result{}
}

func chown(s *State, c Call) host.Result {
	_, words := split(c.Argv[1:])
	if len(words) < 2 {
		return Fail(1, "chown: missing operand")
	}
	user, group, _ := strings.Cut(words[0], ":")
	for _, p := range words[1:] {
		n := s.Lookup(p)
		if n == nil {
			return Fail(1, "chown: cannot access '"+p+"': No such file or directory")
		}
		n.UID, n.GID = id(user), id(group)
	}
	return host.Result{}
}

// id reads a number; root and names the fake does not know are 0.
func id(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}

func touch(s *State, c Call) host.Result {
	_, words := split(c.Argv[1:])
	for _, p := range words {
		if s.Lookup(p) == nil {
			if err := s.WriteFile(p, nil, 0o644); err != nil {
				return Fail(1, "touch: "+err.Error())
			}
		}
	}
	return host.Result{}
}

// install knows "-d DIR...", "-m MODE", "-D" and "SOURCE DEST", where /dev/stdin is the input.
func install(s *State, c Call) host.Result {
	mode := fs.FileMode(0o755)
	var words []string
	directory := false
	for args := c.Argv[1:]; len(args) > 0; args = args[1:] {
		switch {
		case args[0] == "-m" && len(args) > 1:
			bits, err := strconv.ParseUint(args[1], 8, 12)
			if err != nil {
				return Fail(1, "install: invalid mode")
			}
			mode, args = fs.FileMode(bits), args[1:]
		case args[0] == "-d":
			directory = true
		case !strings.HasPrefix(args[0], "-"):
			words = append(words, args[0])
		}
	}
	if directory {
		for _, p := range words {
			if err := s.Mkdir(p, mode); err != nil {
				return Fail(1, "install: "+err.Error())
			}
		}
		return host.Result{}
	}
	if len(words) != 2 {
		return Fail(1, "install: two paths are needed")
	}
	content := c.Stdin
	if words[0] != "/dev/stdin" {
		var err error
		if content, err = s.ReadFile(words[0]); err != nil {
			return Fail(1, "install: "+err.Error())
		}
	}
	return result(s.WriteFile(words[1], content, mode))
}

// untar extracts an archive from its input or a file: tar -x [-z] -C DIR [-f FILE] [--strip-components=N].
func untar(s *State, c Call) host.Result {
	dir, file, strip, extract := "/", "-", 0, false
	for args := c.Argv[1:]; len(args) > 0; args = args[1:] {
		option, value, inline := strings.Cut(args[0], "=")
		next := func() string {
			if inline || len(args) < 2 {
				return value
			}
			args = args[1:]
			return args[0]
		}
		switch {
		case option == "-C" || option == "--directory":
			dir = next()
		case option == "-f" || option == "--file":
			file = next()
		case option == "--strip-components":
			strip = id(next())
		case option == "--extract" || (!strings.HasPrefix(option, "--") && strings.Contains(option, "x")):
			extract = true
			if strings.HasSuffix(option, "f") && !strings.HasPrefix(option, "--") {
				file = next()
			}
		}
	}
	if !extract {
		return Fail(2, "tar: the fake only extracts")
	}
	input := c.Stdin
	if file != "-" {
		var err error
		if input, err = s.ReadFile(file); err != nil {
			return Fail(2, "tar: "+err.Error())
		}
	}
	if err := s.extract(dir, input, strip); err != nil {
		return Fail(2, "tar: "+err.Error())
	}
	return host.Result{}
}

func (s *State) extract(dir string, archive []byte, strip int) error {
	plain, err := decompress(archive)
	if err != nil {
		return err
	}
	for r := tar.NewReader(plain); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		parts := strings.Split(strings.Trim(path.Clean("/"+header.Name), "/"), "/")
		if len(parts) <= strip {
			continue
		}
		name := path.Join(append([]string{dir}, parts[strip:]...)...)
		switch header.Typeflag {
		case tar.TypeDir:
			err = s.Mkdir(name, fs.FileMode(header.Mode))
		case tar.TypeSymlink:
			err = s.Symlink(name, header.Linkname)
		default:
			var content []byte
			if content, err = io.ReadAll(r); err == nil {
				err = s.WriteFile(name, content, fs.FileMode(header.Mode).Perm())
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", header.Name, err)
		}
	}
}

func decompress(b []byte) (io.Reader, error) {
	switch {
	case bytes.HasPrefix(b, []byte{0x1f, 0x8b}):
		return gzip.NewReader(bytes.NewReader(b))
	case bytes.HasPrefix(b, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return zstd.NewReader(bytes.NewReader(b))
	}
	return bytes.NewReader(b), nil
}
