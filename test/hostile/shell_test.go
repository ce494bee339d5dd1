package hostile

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"slipway.dev/slipway/internal/host"
)

var home = host.Fence{Owner: "home", Epoch: 1}

// TestShell_ArgumentsArriveUnchanged sends arguments and variables the whole way: quoted for SSH, through the login
// shell of an SSH server, the script that marks where output begins, and the fence. What the program at the end gets is
// what was sent, whatever it is; what a line cannot carry is refused before anything is sent.
func TestShell_ArgumentsArriveUnchanged(t *testing.T) {
	t.Parallel()
	rounds := size(96)
	for n, shell := range []string{"sh", "dash", "bash"} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.shell = shell
			w := dial(t, m.start("w1")).Writer(home)
			s := newSource(uint64(100 + n))
			s.longest = 600
			for range rounds {
				words := s.batch(80_000)
				tried.add("arguments and variables through real shells", words...)
				r, err := w.Run(t.Context(), host.Command{Argv: append([]string{"/usr/bin/printf", `%s\0`}, words...)})
				if err != nil {
					t.Fatal(err)
				}
				compare(t, words, strings.Split(strings.TrimSuffix(string(r.Stdout), "\x00"), "\x00"))

				var env []string
				values := s.batch(20_000)
				for i, word := range values {
					env = append(env, fmt.Sprintf("HOSTILE_%d=%s", i, word))
				}
				tried.add("arguments and variables through real shells", values...)
				r, err = w.Run(t.Context(), host.Command{Argv: []string{"env", "-0"}, Env: env})
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for variable := range strings.SplitSeq(string(r.Stdout), "\x00") {
					if strings.HasPrefix(variable, "HOSTILE_") {
						got = append(got, variable)
					}
				}
				compare(t, env, got)
			}
			before := m.commands.Load()
			for _, argv := range [][]string{{"true", "a\x00b"}, {"true\x00"}, {""}, nil, {"true", strings.Repeat("x", 200_000)}} {
				if _, err := w.Run(t.Context(), host.Command{Argv: argv}); err == nil {
					t.Errorf("%.40q was run", argv)
				}
			}
			for _, e := range []string{"", "=x", "-i=x", "NAME", "A\x00=b"} {
				if _, err := w.Run(t.Context(), host.Command{Argv: []string{"true"}, Env: []string{e}}); err == nil {
					t.Errorf("variable %q was set", e)
				}
			}
			if m.commands.Load() != before {
				t.Error("something was sent of what cannot be sent")
			}
		})
	}
}

// batch gives strings without zero bytes that fit together on a line of so many bytes.
func (s *source) batch(size int) []string {
	var all []string
	for size > 0 {
		word := strings.ReplaceAll(s.next(), "\x00", "0")
		size -= len(word) + 3 + 3*strings.Count(word, "'") + 3*strings.Count(word, `\`)
		all = append(all, word)
	}
	return all[:len(all)-1]
}

func compare(t *testing.T, want, got []string) {
	t.Helper()
	for i := range min(len(want), len(got)) {
		if want[i] != got[i] {
			t.Fatalf("%q became %q", want[i], got[i])
		}
	}
	if len(want) != len(got) {
		t.Fatalf("%d arguments became %d", len(want), len(got))
	}
}

// TestShell_PathsMeanWhatTheySay writes, looks at and removes files of hostile names through the scripts that do it on a
// host. Nothing beside them is touched.
func TestShell_PathsMeanWhatTheySay(t *testing.T) {
	t.Parallel()
	const files = 60
	m := newMachine(t)
	session := dial(t, m.start("w1"))
	w := session.Writer(home)
	dir := filepath.Join(m.dir, "files")
	canary := filepath.Join(m.dir, "canary")
	if err := os.WriteFile(canary, []byte("alive"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSource(7)
	s.longest = 150
	var paths []string
	known := map[string]bool{}
	refused := 0
	for len(paths) < files {
		name := s.next()
		path := dir + "/" + name
		content := []byte(s.next())
		tried.add("names of files through real shells", name)
		err := w.WriteFile(t.Context(), path, host.File{Content: content, Mode: 0o600})
		legal := name != "" && name != "." && name != ".." && filepath.Clean(path) == path && strings.HasPrefix(path, dir+"/") && !strings.Contains(path, "\x00")
		if !legal {
			if refused++; err == nil && !strings.HasPrefix(filepath.Clean(path), dir+"/") {
				t.Fatalf("%q was written", path)
			}
			continue
		}
		if known[strings.SplitN(name, "/", 2)[0]] {
			continue // A file where a directory should be, or the same twice.
		}
		known[strings.SplitN(name, "/", 2)[0]] = true
		if err != nil {
			t.Fatalf("%q: %v", path, err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
			t.Fatalf("%q holds %q, want %q: %v", path, got, content, err)
		}
		paths = append(paths, path)
	}
	info, err := session.Stat(t.Context(), paths...)
	if err != nil {
		t.Fatal(err)
	}
	digests, err := host.QueryDigests(t.Context(), session, paths...)
	if err != nil {
		t.Fatal(err)
	}
	for i, path := range paths {
		if info[i].Path != path || !info[i].Exists || digests[path] == "" {
			t.Errorf("%q was not found: %+v %s", path, info[i], digests[path])
		}
	}
	tree, err := host.QueryTree(t.Context(), session, dir)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, f := range tree {
		if f.Mode.IsRegular() {
			found++
		}
	}
	if found != len(paths) {
		t.Errorf("%d files are there, want %d", found, len(paths))
	}
	for _, path := range paths {
		if err := w.Remove(t.Context(), path); err != nil && !strings.Contains(path, "\n") {
			t.Errorf("cannot remove %q: %v", path, err)
		}
		_, err := os.Lstat(path)
		if gone := os.IsNotExist(err); gone == strings.Contains(path, "\n") {
			t.Errorf("%q is gone: %t", path, gone)
		}
	}
	if got, err := os.ReadFile(canary); err != nil || string(got) != "alive" {
		t.Errorf("a file beside was touched: %q, %v", got, err)
	}
}
