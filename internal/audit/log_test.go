package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var key = bytes.Repeat([]byte{7}, keySize)

// open opens a log in dir; change may change the options.
func open(t testing.TB, dir string, change ...func(*Options)) *Log {
	t.Helper()
	o := Options{Dir: dir, Key: key, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	for _, c := range change {
		c(&o)
	}
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func small(o *Options) { o.segmentBytes = 1 }

func create(name string) Event {
	return Event{Actor: "alice", Via: "token:1", From: "10.0.0.1", Verb: "create", Object: "clusters dev/" + name, Project: "dev", Code: 201, Result: Allowed}
}

// lines gives all lines of a directory, decoded.
func lines(t testing.TB, dir string) []Line {
	t.Helper()
	var all []Line
	for line := range bytes.Lines(content(t, dir)) {
		var l Line
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, l)
	}
	return all
}

func content(t testing.TB, dir string) []byte {
	t.Helper()
	found, err := segments(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for _, s := range found {
		b, err := s.read(dir)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	return all
}

func verbs(all []Line) string {
	var found []string
	for _, l := range all {
		found = append(found, l.Event.Verb)
	}
	return strings.Join(found, " ")
}

// sound verifies a directory with the key and gives the report.
func sound(t testing.TB, dir string) Report {
	t.Helper()
	report, err := VerifyDir(dir, Check{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	if report.Count > 0 || !report.Signed {
		t.Errorf("the log is not sound: %+v", report)
	}
	return report
}

func TestRecord(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "audit.log"), []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, dir, func(o *Options) { o.Version = "1.2.3" })
	event := create("blue")
	event.Time = time.Date(2025, 3, 1, 12, 0, 0, 123456789, time.FixedZone("", 3600))
	event.Object, event.Detail = "clusters dev/<blue>", map[string]string{"dryRun": "All"}
	l.Record(event)
	// The line is in the file before Record returns: a server that is killed now loses nothing.
	all := lines(t, dir)
	event.Time = time.Date(2025, 3, 1, 11, 0, 0, 123456000, time.UTC)
	if diff := cmp.Diff(event, all[len(all)-1].Event); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l.Record(create("late"))
	if err := l.Ready(t.Context()); err == nil {
		t.Error("a closed log is ready")
	}
	again := open(t, dir)
	again.Record(create("green"))
	all = lines(t, dir)
	if got := verbs(all); got != "start create stop start create" {
		t.Errorf("verbs: %s", got)
	}
	if all[0].Event.Detail["version"] != "1.2.3" || all[0].Event.Actor != Server {
		t.Errorf("the start does not say who began: %+v", all[0].Event)
	}
	if report := sound(t, dir); report.Lines != 5 || report.First.Seq != 1 || report.Last != again.Head() {
		t.Errorf("report %+v", report)
	}
	if old, err := os.ReadFile(filepath.Join(dir, "audit.log")); err != nil || string(old) != "{}\n" {
		t.Errorf("the log of an earlier version was touched: %q, %v", old, err)
	}
	for _, s := range again.snapshot() {
		if info, err := os.Stat(filepath.Join(dir, s.name())); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	}
}

func TestBounded(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	event := Event{Actor: strings.Repeat("é", 4000), Via: "x", Verb: "get\nfoo\x00\xff", Object: strings.Repeat("o", 1<<20), Result: Refused, Detail: map[string]string{}}
	for i := range 100 {
		event.Detail[fmt.Sprint(i)] = strings.Repeat("d", 1<<20)
	}
	l.Record(event)
	all := lines(t, dir)
	if size := len(content(t, dir)); size > 32<<10 {
		t.Errorf("a client wrote %d bytes with one request", size)
	}
	got := all[len(all)-1].Event
	if len(got.Actor) > maxText || !strings.HasSuffix(got.Actor, "é…") || got.Verb != "get\nfoo\x00\uFFFD" || len(got.Detail) != maxDetails {
		t.Errorf("got %d bytes of actor, verb %q, %d details", len(got.Actor), got.Verb, len(got.Detail))
	}
	sound(t, dir)
}

func TestConcurrent(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, func(o *Options) { o.segmentBytes = 64 << 10 })
	const people, each = 50, 100
	var wait sync.WaitGroup
	for p := range people {
		wait.Go(func() {
			for i := range each {
				e := create("blue")
				e.Actor, e.Detail = fmt.Sprint("p", p), map[string]string{"i": fmt.Sprint(i)}
				l.Record(e)
			}
		})
	}
	wait.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	all := lines(t, dir)
	if len(all) != people*each+2 {
		t.Fatalf("%d lines", len(all))
	}
	next := map[string]int{}
	for i, line := range all {
		if line.Seq != uint64(i+1) {
			t.Fatalf("line %d has number %d", i+1, line.Seq)
		}
		if e := line.Event; e.Actor != Server {
			if e.Detail["i"] != fmt.Sprint(next[e.Actor]) {
				t.Fatalf("the events of %s are out of order", e.Actor)
			}
			next[e.Actor]++
		}
	}
	if found, err := segments(dir); err != nil || len(found) < 10 {
		t.Errorf("%d segments, %v", len(found), err)
	}
	sound(t, dir)
}

// TestUnwritable lets the file refuse, as a full disk does.
func TestUnwritable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		var said bytes.Buffer
		l := open(t, dir, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&said, nil)) })
		l.Record(create("before"))
		good := l.file
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		l.file = full
		for range 100 {
			l.Record(create("lost"))
		}
		if err := l.Ready(t.Context()); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Ready() = %v", err)
		}
		if n := strings.Count(said.String(), "cannot write the audit log"); n != 1 {
			t.Errorf("logged %d times:\n%s", n, said.String())
		}
		<-time.After(3 * settleAfter)
		l.mu.Lock()
		l.file = good
		l.mu.Unlock()
		// Nobody asks anything of a server that is not ready; it finds out by itself.
		<-time.After(2 * settleAfter)
		synctest.Wait()
		if err := l.Ready(t.Context()); err != nil {
			t.Errorf("Ready() = %v after the disk has room again", err)
		}
		l.Record(create("after"))
		all := lines(t, dir)
		if got := verbs(all); got != "start create lost create" {
			t.Errorf("verbs %s", got)
		}
		if lost := all[2].Event; lost.Detail["count"] != "100" || lost.Result != Failed || !strings.Contains(lost.Detail["cause"], "no space") {
			t.Errorf("lost: %+v", lost)
		}
		sound(t, dir)
		_ = full.Close()
	})
}

// TestShortWrite holds that half a line, which a disk with little room takes, is taken back.
func TestShortWrite(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	if _, err := l.file.WriteString(`{"seq":2,"pre`); err != nil {
		t.Fatal(err)
	}
	l.partial = true
	l.Record(create("one"))
	if got := verbs(lines(t, dir)); got != "start create" {
		t.Errorf("verbs %s", got)
	}
	sound(t, dir)
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		reason string
		o      Options
		want   string
	}{
		"NoKey":    {"without a key anyone could write the log", Options{Dir: t.TempDir()}, "keys/audit.key"},
		"ShortKey": {"a key cut short is no key", Options{Dir: t.TempDir(), Key: key[:31]}, "31 bytes"},
		"NoDir":    {"a log that cannot be written stops the start", Options{Dir: file, Key: key}, file},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Open(tc.o); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: Open() = %v", tc.reason, err)
			}
		})
	}
}

// TestDays holds that every day has its own segment, and that a clock that goes back does not make another.
func TestDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := open(t, dir)
		for range 3 {
			l.Record(create("blue"))
			<-time.After(24 * time.Hour)
		}
		old := create("green")
		old.Time = time.Now().AddDate(0, 0, -2)
		l.Record(create("blue"))
		l.Record(old)
		if n := len(l.snapshot()); n != 4 {
			t.Errorf("%d segments", n)
		}
		sound(t, dir)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestBecause(t *testing.T) {
	if Why(t.Context()) != "" || Why(Because(t.Context(), "operation a/b")) != "operation a/b" {
		t.Error("the reason does not travel with the context")
	}
}

func TestBackwards(t *testing.T) {
	for text, want := range map[string][]string{
		"": nil, "a": {"a"}, "a\n": {"a\n"}, "a\nb": {"b", "a\n"}, "\n\n": {"\n", "\n"}, "a\n\nb\n": {"b\n", "\n", "a\n"},
	} {
		var got []string
		for line := range backwards([]byte(text)) {
			got = append(got, string(line))
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
		slices.Reverse(got)
		if strings.Join(got, "") != text {
			t.Errorf("%q is not whole", text)
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	l := open(b, b.TempDir())
	e := create("blue")
	b.Run("one", func(b *testing.B) {
		for b.Loop() {
			l.Record(e)
		}
	})
	b.Run("many", func(b *testing.B) {
		b.SetParallelism(64)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				l.Record(e)
			}
		})
	})
}
