package hosttest

import (
	"context"
	"errors"
	"io"
	"os"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
)

// begin starts a command that runs until its input ends, and waits until it has read some of it.
func begin(ctx context.Context, t *testing.T, w host.Writer, name string) (result <-chan error, end func()) {
	t.Helper()
	input, feed := io.Pipe()
	answer := make(chan error, 1)
	go func() {
		_, err := w.Run(ctx, host.Command{Argv: []string{"tee", name}, Stdin: input})
		answer <- err
	}()
	if _, err := io.WriteString(feed, "part"); err != nil {
		t.Fatal(err)
	}
	return answer, func() { _ = feed.Close() }
}

// settled runs a write until the host is no longer busy with the orphan of an earlier one.
func settled(ctx context.Context, t *testing.T, w host.Writer) {
	t.Helper()
	for {
		_, err := w.Run(ctx, host.Command{Argv: []string{"true"}})
		if fault.ReasonOf(err) != host.ReasonBusy {
			check(t, err)
			return
		}
	}
}

func cut(ctx context.Context, t *testing.T, e Env) {
	w := writerOf(e.Session, 1)
	check(t, w.WriteFile(ctx, e.Dir+"/a", host.File{}))
	result, end := begin(ctx, t, w, e.Dir+"/a")
	defer end()
	e.Cut()
	wantFault(t, <-result, fault.Transient, host.ReasonOutcomeUnknown)
	s := e.Reconnect(t)
	settled(ctx, t, writerOf(s, 1))
	got, err := s.ReadFile(ctx, e.Dir+"/a")
	check(t, err)
	if !strings.HasPrefix("part", string(got)) {
		t.Errorf("the cut command left %q", got)
	}
}

func cancel(ctx context.Context, t *testing.T, e Env) {
	w := writerOf(e.Session, 1)
	check(t, w.WriteFile(ctx, e.Dir+"/a", host.File{}))
	short, stop := context.WithCancel(ctx)
	result, end := begin(short, t, w, e.Dir+"/a")
	defer end()
	stop()
	err := <-result
	wantFault(t, err, fault.Transient, host.ReasonOutcomeUnknown)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v hides that the context was cancelled", err)
	}
	if _, err := w.Stat(short, e.Dir); err == nil {
		t.Error("a cancelled context reads")
	}
	if err := w.WriteFile(short, e.Dir+"/b", host.File{}); err == nil {
		t.Error("a cancelled context writes")
	}
	settled(ctx, t, w)
	wantMissing(ctx, t, w, e.Dir+"/b")
}

// refusedEverywhere checks that every kind of write is refused and leaves dir/kept alone.
func refusedEverywhere(ctx context.Context, t *testing.T, w host.Writer, dir string, class fault.Class, reason string) {
	t.Helper()
	wantFault(t, w.WriteFile(ctx, dir+"/kept", host.File{Content: []byte("changed")}), class, reason)
	wantFault(t, w.Remove(ctx, dir+"/kept"), class, reason)
	_, err := w.Run(ctx, host.Command{Argv: []string{"tee", dir + "/kept"}})
	wantFault(t, err, class, reason)
	wantFile(ctx, t, w, dir+"/kept", "kept")
}

func wantHolder(ctx context.Context, t *testing.T, e Env, want host.Holder) {
	t.Helper()
	r, err := e.Session.Query(ctx, host.HolderQueryAt(e.Place))
	check(t, err)
	got, err := host.DecodeHolder(r)
	check(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func fenceEpoch(ctx context.Context, t *testing.T, e Env) {
	wantHolder(ctx, t, e, host.Holder{})
	check(t, writerOf(e.Session, 5).WriteFile(ctx, e.Dir+"/kept", host.File{Content: []byte("kept")}))
	wantHolder(ctx, t, e, host.Holder{Owner: alpha, Epoch: 5})
	refusedEverywhere(ctx, t, writerOf(e.Session, 4), e.Dir, fault.Terminal, host.ReasonFencedOff)
	check(t, writerOf(e.Session, 10).WriteFile(ctx, e.Dir+"/other", host.File{}))
	refusedEverywhere(ctx, t, writerOf(e.Session, 9), e.Dir, fault.Terminal, host.ReasonFencedOff)
	wantHolder(ctx, t, e, host.Holder{Owner: alpha, Epoch: 10})
	check(t, writerOf(e.Session, 10).WriteFile(ctx, e.Dir+"/kept", host.File{}))
}

func fenceOwner(ctx context.Context, t *testing.T, e Env) {
	check(t, writerOf(e.Session, 5).WriteFile(ctx, e.Dir+"/kept", host.File{Content: []byte("kept")}))
	beta := func(epoch int64, adopt bool) host.Writer {
		return e.Session.Writer(host.Fence{Owner: "beta", Epoch: epoch, Adopt: adopt})
	}
	refusedEverywhere(ctx, t, beta(6, false), e.Dir, fault.Terminal, host.ReasonOwnedByAnother)
	refusedEverywhere(ctx, t, beta(4, true), e.Dir, fault.Terminal, host.ReasonFencedOff)
	_, err := beta(6, true).Run(ctx, host.Command{Argv: []string{"true"}})
	check(t, err)
	wantHolder(ctx, t, e, host.Holder{Owner: "beta", Epoch: 6})
	refusedEverywhere(ctx, t, writerOf(e.Session, 7), e.Dir, fault.Terminal, host.ReasonOwnedByAnother)
	check(t, beta(6, false).WriteFile(ctx, e.Dir+"/kept", host.File{}))
}

func fenceInvalid(ctx context.Context, t *testing.T, e Env) {
	for _, f := range []host.Fence{{}, {Owner: alpha}, {Owner: "two words", Epoch: 1}, {Owner: alpha, Epoch: -1}, {Owner: "-x", Epoch: 1}} {
		if err := e.Session.Writer(f).WriteFile(ctx, e.Dir+"/a", host.File{}); fault.ClassOf(err) != fault.Bug {
			t.Errorf("the fence %+v gives %v", f, err)
		}
	}
	wantHolder(ctx, t, e, host.Holder{})
}

func fenceOrphan(ctx context.Context, t *testing.T, e Env) {
	check(t, writerOf(e.Session, 1).WriteFile(ctx, e.Dir+"/kept", host.File{Content: []byte("kept")}))
	release := e.Orphan(t)
	e.Session = e.Reconnect(t)
	w := writerOf(e.Session, 2)
	refusedEverywhere(ctx, t, w, e.Dir, fault.Transient, host.ReasonBusy)
	wantHolder(ctx, t, e, host.Holder{Owner: alpha, Epoch: 1})
	release()
	settled(ctx, t, w)
	wantHolder(ctx, t, e, host.Holder{Owner: alpha, Epoch: 2})
}

func fenceRelease(ctx context.Context, t *testing.T, e Env) {
	w := writerOf(e.Session, 5)
	check(t, w.WriteFile(ctx, e.Dir+"/kept", host.File{Content: []byte("kept")}))
	check(t, w.Remove(ctx, path.Dir(e.Place.State)))
	wantMissing(ctx, t, w, path.Dir(e.Place.State))
	wantHolder(ctx, t, e, host.Holder{Epoch: 5})
	refusedEverywhere(ctx, t, writerOf(e.Session, 4), e.Dir, fault.Terminal, host.ReasonFencedOff)
	wantMissing(ctx, t, w, path.Dir(e.Place.State))
	_, err := e.Session.Writer(host.Fence{Owner: "beta", Epoch: 6}).Run(ctx, host.Command{Argv: []string{"true"}})
	check(t, err)
	wantHolder(ctx, t, e, host.Holder{Owner: "beta", Epoch: 6})
}

func concurrent(ctx context.Context, t *testing.T, e Env) {
	w := writerOf(e.Session, 1)
	check(t, w.WriteFile(ctx, e.Dir+"/a", host.File{Content: []byte("x")}))
	var wait sync.WaitGroup
	for range 16 {
		wait.Go(func() {
			if files, err := w.Stat(ctx, e.Dir+"/a"); err != nil || !files[0].Exists {
				t.Errorf("stat gives %v, %v", files, err)
			}
			if _, err := w.ReadFile(ctx, e.Dir+"/a"); err != nil {
				t.Error(err)
			}
		})
	}
	for range 6 {
		wait.Go(func() {
			if err := w.WriteFile(ctx, e.Dir+"/a", host.File{Content: []byte("x")}); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
}

func dial(ctx context.Context, t *testing.T, e Env) {
	conn, err := e.Session.DialContext(ctx, "tcp", e.Listen(t))
	check(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "ping")
	check(t, err)
	got := make([]byte, 4)
	_, err = io.ReadFull(conn, got)
	check(t, err)
	if string(got) != "ping" {
		t.Errorf("got %q back", got)
	}
	check(t, conn.SetReadDeadline(time.Unix(1, 0)))
	if _, err := conn.Read(got); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a read after its deadline gives %v", err)
	}
	_, err = e.Session.DialContext(ctx, "tcp", "127.0.0.1:1")
	wantFault(t, err, fault.Transient, host.ReasonUnreachable)
}

func facts(ctx context.Context, t *testing.T, e Env) {
	f, err := e.Session.Facts(ctx)
	check(t, err)
	if f.Hostname == "" || f.Kernel == "" || f.Architecture == "" || f.CPUs < 1 || f.MemoryBytes < 1 || f.Memory == "" {
		t.Errorf("facts lack a basic: %+v", f)
	}
	if skew := time.Duration(f.ClockSkewMillis) * time.Millisecond; skew.Abs() > time.Minute {
		t.Errorf("the clock is %v off", skew)
	}
}

func queryFiles(ctx context.Context, t *testing.T, e Env) {
	w := writerOf(e.Session, 1)
	check(t, w.WriteFile(ctx, e.Dir+"/d/new\nline", host.File{Content: []byte("abc")}))
	r, err := w.Query(ctx, host.Digests(e.Dir+"/d/new\nline", e.Dir+"/none", e.Dir+"/d"))
	check(t, err)
	digests, err := host.DecodeDigests(r)
	check(t, err)
	want := map[string]string{e.Dir + "/d/new\nline": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}
	if diff := cmp.Diff(want, digests); diff != "" {
		t.Error(diff)
	}
	r, err = w.Query(ctx, host.Tree(e.Dir+"/d", e.Dir+"/none"))
	check(t, err)
	tree, err := host.DecodeTree(r)
	check(t, err)
	if len(tree) != 2 || tree[1].Path != e.Dir+"/d/new\nline" || tree[1].Size != 3 {
		t.Errorf("the tree is %v", tree)
	}
	r, err = w.Query(ctx, host.Digests(e.Dir+"/none"))
	check(t, err)
	if digests, err := host.DecodeDigests(r); err != nil || len(digests) != 0 {
		t.Errorf("no file gives %v, %v", digests, err)
	}
	for _, q := range []host.Query{host.Tree("relative"), host.Digests("a\x00b"), host.Units(), host.Sysctls("../x")} {
		if _, err := w.Query(ctx, q); err == nil {
			t.Errorf("the query %s of %q was let through", q.Name(), q.Args())
		}
	}
}

func queryZero(ctx context.Context, t *testing.T, e Env) {
	_, err := e.Session.Query(ctx, host.Query{})
	if fault.ClassOf(err) != fault.Bug {
		t.Errorf("an empty query gives %v", err)
	}
}
