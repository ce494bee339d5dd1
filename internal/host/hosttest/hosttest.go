// Package hosttest owns the conformance suite of host.Session: one test for each promise of the contract.
// It must never know how a session reaches its host.
package hosttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
)

// Env is one host to test, fresh for each test. It must have the programs true, false, cat, tee, printf,
// printenv, ln, mkdir, mount and umount.
type Env struct {
	Session host.Session
	// Dir is an absolute directory on the host that the test may fill; it need not exist.
	Dir string
	// Place is where the host keeps its fence.
	Place host.FencePlace
	// Cut breaks the connection of Session now.
	Cut func()
	// Reconnect gives a session that works after Cut.
	Reconnect func(t *testing.T) host.Session
	// Orphan breaks the connection while a command of epoch 1 of the owner "alpha" runs on; release ends it.
	Orphan func(t *testing.T) (release func())
	// Listen gives an address that the host can reach; what is written there comes back.
	Listen func(t *testing.T) string
}

// alpha is the owner that tests claim with.
const alpha = "alpha"

// Run runs the suite; open makes the host of one test.
func Run(t *testing.T, open func(t *testing.T) Env) {
	tests := map[string]struct {
		reason string
		test   func(ctx context.Context, t *testing.T, e Env)
	}{
		"ReadMissing":      {"a missing file is fs.ErrNotExist, anything else is not", readMissing},
		"ReadBounds":       {"a file of MaxFile bytes arrives unchanged, a larger one is refused", readBounds},
		"Stat":             {"stat keeps the order, follows no link and marks what is missing", stat},
		"WriteFile":        {"a file has exactly the content and mode, its parents exist, nothing else is left", writeFile},
		"WriteOverLink":    {"a link at the path is replaced, not followed; a directory is refused", writeOverLink},
		"Remove":           {"remove deletes trees and is fine with missing paths", remove},
		"RemoveGuards":     {"remove refuses what is not a clean path below the top level, also behind a link", removeGuards},
		"RemoveMount":      {"remove never crosses a mount", removeMount},
		"RunArguments":     {"arguments arrive unchanged: no shell reads them", runArguments},
		"RunExitCode":      {"another exit code than 0 is a CommandError with the evidence", runExitCode},
		"RunInput":         {"input is streamed whole, variables are set, output keeps its end", runInput},
		"Cut":              {"a connection lost before the exit code is OutcomeUnknown and Transient", cut},
		"Cancel":           {"a cancelled context ends the wait at once", cancel},
		"FenceEpoch":       {"a lower epoch is refused on every kind of write and changes nothing", fenceEpoch},
		"FenceOwner":       {"another owner is refused until it adopts, then the first one is", fenceOwner},
		"FenceInvalid":     {"a token that a host cannot keep is refused before anything is sent", fenceInvalid},
		"FenceOrphan":      {"the orphan of a cut session holds the lock", fenceOrphan},
		"FenceRelease":     {"removing the state releases the host, yet a late writer is still refused", fenceRelease},
		"Concurrent":       {"a session is safe for concurrent use", concurrent},
		"Dial":             {"a connection from the host carries bytes both ways and has deadlines", dial},
		"Facts":            {"facts name the machine's basics", facts},
		"QueryDigestsTree": {"digests and trees tell what is there", queryFiles},
		"QueryChunks":      {"a file of any size is read part by part; a link is no file, and a missing one is said to be", queryChunks},
		"QueryListing":     {"the regular files of a directory, with size and time, and nothing else", queryListing},
		"QueryZero":        {"an empty query is refused", queryZero},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			t.Log(tc.reason)
			tc.test(ctx, t, open(t))
		})
	}
}

func writerOf(s host.Session, epoch int64) host.Writer {
	return s.Writer(host.Fence{Owner: alpha, Epoch: epoch})
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantFault(t *testing.T, err error, class fault.Class, reason string) {
	t.Helper()
	if err == nil || fault.ClassOf(err) != class || fault.ReasonOf(err) != reason {
		t.Fatalf("got error %v (%s, %s), want %s, %s", err, fault.ClassOf(err), fault.ReasonOf(err), class, reason)
	}
	if class == fault.Terminal && fault.FixOf(err) == "" {
		t.Errorf("the error %v names no fix", err)
	}
}

func wantFile(ctx context.Context, t *testing.T, r host.Reader, name, want string) {
	t.Helper()
	got, err := r.ReadFile(ctx, name)
	check(t, err)
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("%s: %s", name, diff)
	}
}

func wantMissing(ctx context.Context, t *testing.T, r host.Reader, name string) {
	t.Helper()
	files, err := r.Stat(ctx, name)
	check(t, err)
	if len(files) != 1 || files[0].Exists {
		t.Errorf("%s exists: %v", name, files)
	}
}

func readMissing(ctx context.Context, t *testing.T, e Env) {
	w := writerOf(e.Session, 1)
	check(t, w.WriteFile(ctx, e.Dir+"/here", host.File{}))
	for _, name := range []string{e.Dir + "/not", e.Dir + "/not/there", e.Dir + "/here/below"} {
		if _, err := e.Session.ReadFile(ctx, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("reading %s gives %v", name, err)
		}
	}
	wantFile(ctx, t, e.Session, e.Dir+"/here", "")
	if _, err := e.Session.ReadFile(ctx, e.Dir); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading a directory gives %v", err)
	}
	if _, err := e.Session.ReadFile(ctx, "relative"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading a relative path gives %v", err)
	}
}

func readBounds(ctx context.Context, t *testing.T, e Env) {
	w := writerOf(e.Session, 1)
	content := bytes.Repeat([]byte("\x00\xff\n'\\$x"), host.MaxFile/7+1)[:host.MaxFile]
	check(t, w.WriteFile(ctx, e.Dir+"/full", host.File{Content: content}))
	got, err := w.ReadFile(ctx, e.Dir+"/full")
	check(t, err)
	if !bytes.Equal(got, content) {
		t.Errorf("%d bytes came back as %d other bytes", len(content), len(got))
	}
	check(t, w.WriteFile(ctx, e.Dir+"/more", host.File{Content: append(content, 'x')}))
	if _, err := w.ReadFile(ctx, e.Dir+"/more"); err == nil {
		t.Error("a file above the limit was read")
	}
}

func stat(ctx context.Context, t *testing.T, e Env) {
	w := writerOf(e.Session, 1)
	check(t, w.WriteFile(ctx, e.Dir+"/d/file name", host.File{Content: []byte("four"), Mode: 0o640}))
	_, err := w.Run(ctx, host.Command{Argv: []string{"ln", "-s", "file name", e.Dir + "/d/link"}})
	check(t, err)
	got, err := w.Stat(ctx, e.Dir+"/d/link", e.Dir+"/none", e.Dir+"/d/file name", e.Dir+"/d", e.Dir+"/d/file name/x")
	check(t, err)
	want := []host.FileInfo{
		{Path: e.Dir + "/d/link", Exists: true, Mode: fs.ModeSymlink | 0o777, Size: 9, Target: "file name"},
		{Path: e.Dir + "/none"},
		{Path: e.Dir + "/d/file name", Exists: true, Mode: 0o640, Size: 4},
		{Path: e.Dir + "/d", Exists: true, Mode: fs.ModeDir | 0o755},
		{Path: e.Dir + "/d/file name/x"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got, err := w.Stat(ctx); err != nil || len(got) != 0 {
		t.Errorf("stat of nothing gives %v, %v", got, err)
	}
	if _, err := w.Stat(ctx, "relative"); err == nil {
		t.Error("stat of a relative path was let through")
	}
}

func writeFile(ctx context.Context, t *testing.T, e Env) {
	w := writerOf(e.Session, 1)
	name := e.Dir + "/new/deep/it's $(a) file"
	check(t, w.WriteFile(ctx, name, host.File{Content: []byte("first")}))
	check(t, w.WriteFile(ctx, name, host.File{Content: []byte("second\n"), Mode: 0o600}))
	check(t, w.WriteFile(ctx, e.Dir+"/new/set", host.File{Mode: fs.ModeSetuid | 0o755}))
	wantFile(ctx, t, w, name, "second\n")
	r, err := w.Query(ctx, host.Tree(e.Dir+"/new"))
	check(t, err)
	tree, err := host.DecodeTree(r)
	check(t, err)
	got := map[string]fs.FileMode{}
	for _, f := range tree {
		got[strings.TrimPrefix(f.Path, e.Dir)] = f.Mode
	}
	want := map[string]fs.FileMode{"/new": fs.ModeDir | 0o755, "/new/deep": fs.ModeDir | 0o755, "/new/deep/it's $(a) file": 0o600,
		"/new/set": fs.ModeSetuid | 0o755}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"relative", "/", e.Dir + "/a/../b", e.Dir + "/", "", e.Dir + "/a\x00b"} {
		if err := w.WriteFile(ctx, bad, host.File{}); err == nil {
			t.Errorf("writing %q was let through", bad)
		}
	}
	if err := w.WriteFile(ctx, e.Dir+"/x", host.File{Mode: fs.ModeDir | 0o755}); err == nil {
		t.Error("writing a directory was let through")
	}
}

func writeOverLink(ctx context.Context, t *testing.T, e Env) {
	w := writerOf(e.Session, 1)
	check(t, w.WriteFile(ctx, e.Dir+"/target", host.File{Content: []byte("old")}))
	_, err := w.Run(ctx, host.Command{Argv: []string{"ln", "-s", e.Dir + "/target", e.Dir + "/link"}})
	check(t, err)
	check(t, w.WriteFile(ctx, e.Dir+"/link", host.File{Content: []byte("new")}))
	wantFile(ctx, t, w, e.Dir+"/target", "old")
	wantFile(ctx, t, w, e.Dir+"/link", "new")
	if err := w.WriteFile(ctx, e.Dir, host.File{Content: []byte("new")}); err == nil {
		t.Error("a directory was replaced by a file")
	}
	wantFile(ctx, t, w, e.Dir+"/target", "old")
}

func remove(ctx context.Context, t *testing.T, e Env) {
	w := writerOf(e.Session, 1)
	for _, name := range []string{"/tree/a/b", "/tree/c d", "/single", "/stays"} {
		check(t, w.WriteFile(ctx, e.Dir+name, host.File{}))
	}
	_, err := w.Run(ctx, host.Command{Argv: []string{"ln", "-s", e.Dir + "/stays", e.Dir + "/tree/link"}})
	check(t, err)
	check(t, w.Remove(ctx, e.Dir+"/tree", e.Dir+"/none/below", e.Dir+"/single"))
	check(t, w.Remove(ctx, e.Dir+"/tree"))
	check(t, w.Remove(ctx))
	wantMissing(ctx, t, w, e.Dir+"/tree")
	wantMissing(ctx, t, w, e.Dir+"/single")
	wantFile(ctx, t, w, e.Dir+"/stays", "")
}

func removeGuards(ctx context.Context, t *testing.T, e Env) {
	w := writerOf(e.Session, 1)
	check(t, w.WriteFile(ctx, e.Dir+"/a", host.File{}))
	for _, bad := range []string{"", ".", "relative", e.Dir + "/b/../a", e.Dir + "/a/", e.Dir + "//a"} {
		if err := w.Remove(ctx, bad); err == nil {
			t.Errorf("removing %q was let through", bad)
		}
	}
	_, err := w.Run(ctx, host.Command{Argv: []string{"ln", "-s", "/", e.Dir + "/root"}})
	check(t, err)
	if err := w.Remove(ctx, e.Dir+"/root/proc"); err == nil {
		t.Error("a top-level directory behind a link was removed")
	}
	wantFile(ctx, t, w, e.Dir+"/a", "")
}

func removeMount(ctx context.Context, t *testing.T, e Env) {
	w := writerOf(e.Session, 1)
	run := func(argv ...string) {
		t.Helper()
		_, err := w.Run(ctx, host.Command{Argv: argv})
		check(t, err)
	}
	inside := e.Dir + "/tree/mounted here"
	run("mkdir", "-p", inside)
	run("mount", "-t", "tmpfs", "tmpfs", inside)
	check(t, w.WriteFile(ctx, inside+"/file", host.File{Content: []byte("kept")}))
	for _, name := range []string{inside, e.Dir + "/tree"} {
		if err := w.Remove(ctx, name); err == nil {
			t.Errorf("removing %s crossed a mount", name)
		}
	}
	wantFile(ctx, t, w, inside+"/file", "kept")
	check(t, w.Remove(ctx, inside+"/file"))
	run("umount", inside)
	check(t, w.Remove(ctx, e.Dir+"/tree"))
	wantMissing(ctx, t, w, path.Dir(inside))
}

func runArguments(ctx context.Context, t *testing.T, e Env) {
	args := []string{"", " ", "a b", "'", `"`, `\`, `\n`, "$HOME", "$(id)", "`id`", "*", "~", "-n", "--", "a\nb", "\t", "!1", "#", ";", "&&", ">x", "é漢",
		"%s", "{a,b}", "\r", "\x01\x7f\xff"}
	r, err := writerOf(e.Session, 1).Run(ctx, host.Command{Argv: append([]string{"printf", `%s\n`}, args...)})
	check(t, err)
	if diff := cmp.Diff(strings.Join(args, "\n")+"\n", string(r.Stdout)); diff != "" {
		t.Error(diff)
	}
}

func runExitCode(ctx context.Context, t *testing.T, e Env) {
	w := writerOf(e.Session, 1)
	r, err := w.Run(ctx, host.Command{Argv: []string{"true"}})
	check(t, err)
	if diff := cmp.Diff(host.Result{}, r, cmp.Transformer("text", func(b []byte) string { return string(b) })); diff != "" {
		t.Error(diff)
	}
	for name, argv := range map[string][]string{"false": {"false"}, "missing": {"no-such-program"}, "cat": {"cat", e.Dir + "/none"}} {
		r, err := w.Run(ctx, host.Command{Argv: argv})
		var failed *host.CommandError
		if !errors.As(err, &failed) || failed.Result.ExitCode == 0 || failed.Result.ExitCode != r.ExitCode || failed.Argv[0] != argv[0] {
			t.Errorf("%s gives %v, %v", name, r, err)
			continue
		}
		if name != "false" && len(failed.Result.Stderr) == 0 {
			t.Errorf("%s left no evidence: %v", name, err)
		}
	}
	if _, err := w.Run(ctx, host.Command{}); err == nil {
		t.Error("a command without a program was let through")
	}
}

func runInput(ctx context.Context, t *testing.T, e Env) {
	w := writerOf(e.Session, 1)
	var input strings.Builder
	for i := range 300_000 {
		fmt.Fprintf(&input, "line %d\n", i)
	}
	text := input.String()
	r, err := w.Run(ctx, host.Command{Argv: []string{"tee", e.Dir + "-copy"}, Stdin: strings.NewReader(text)})
	check(t, err)
	wantFile(ctx, t, w, e.Dir+"-copy", text)
	check(t, w.Remove(ctx, e.Dir+"-copy"))
	if want := text[len(text)-host.MaxOutput:]; string(r.Stdout) != want || !r.Truncated {
		t.Errorf("%d bytes of output were kept, truncated %t, want the last %d", len(r.Stdout), r.Truncated, host.MaxOutput)
	}
	r, err = w.Run(ctx, host.Command{Argv: []string{"printenv", "SLIPWAY_TEST"}, Env: []string{"SLIPWAY_TEST=a 'b' $c"}})
	check(t, err)
	if got := string(r.Stdout); got != "a 'b' $c\n" {
		t.Errorf("the variable arrived as %q", got)
	}
	if _, err := w.Run(ctx, host.Command{Argv: []string{"tee", e.Dir + "/x"}, Stdin: io.MultiReader(strings.NewReader("a"), broken{})}); err == nil {
		t.Error("an input that failed passed for its end")
	}
}

// broken is an input that fails.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("broken input") }
