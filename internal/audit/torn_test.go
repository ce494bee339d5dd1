package audit

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestTorn holds what a crash in the middle of a write leaves, at every byte of a line.
func TestTorn(t *testing.T) {
	made := t.TempDir()
	l := open(t, made)
	l.Record(create("one"))
	l.Record(create("two"))
	whole := content(t, made)
	name := l.snapshot()[0].name()
	before := bytes.LastIndexByte(whole[:len(whole)-1], '\n') + 1
	for length := before; length <= len(whole); length++ {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), whole[:length], 0o600); err != nil {
			t.Fatal(err)
		}
		if report, err := VerifyDir(dir, Check{Key: key}); err != nil || report.Count > 0 || (report.Unfinished == 0) != (length == before || length >= len(whole)-1) {
			t.Fatalf("%d bytes: before the repair: %+v, %v", length, report, err)
		}
		again := open(t, dir)
		again.Record(create("three"))
		report := sound(t, dir)
		want := "start create repair start create"
		switch {
		case length == before:
			want = "start create start create" // Nothing of the line was written.
		case length >= len(whole)-1:
			want = "start create create start create" // At most the line end is missing.
		}
		var got []Line
		var export bytes.Buffer
		if err := again.Export(t.Context(), &export); err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(export.Bytes()) {
			var one Line
			if err := json.Unmarshal(line, &one); err != nil {
				t.Fatal(err)
			}
			got = append(got, one)
		}
		if verbs(got) != want {
			t.Fatalf("%d bytes: %s, want %s", length, verbs(got), want)
		}
		if torn := strings.Contains(want, "repair"); (report.Torn == 1) != torn {
			t.Fatalf("%d bytes: report %+v", length, report)
		} else if torn && got[2].Event.Detail["text"] != shorten(string(whole[before:length]), maxDetail) {
			t.Fatalf("%d bytes: the repair does not keep what was there: %v", length, got[2].Event.Detail)
		}
		if exported, err := Verify(&export, Check{Key: key}); err != nil || exported.Count > 0 || exported.Last != report.Last {
			t.Fatalf("%d bytes: the export: %+v, %v", length, exported, err)
		}
		if !bytes.HasPrefix(content(t, dir), whole[:length]) {
			t.Fatalf("%d bytes: the repair took bytes away", length)
		}
		_ = again.Close()
	}
}

// TestTornTwice holds that a repair which is torn itself is repaired, and what a lost page of the disk looks like.
func TestTornTwice(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	l.Record(create("one"))
	write(t, filepath.Join(dir, l.snapshot()[0].name()), `{"seq":3,"pr`, "\n"+`{"seq":3,"prev":"00`, "\x00\x00\x00\n\x00")
	open(t, dir)
	if report := sound(t, dir); report.Torn != 1 {
		t.Errorf("report %+v", report)
	}
}

// TestTornFirstLine holds that a segment may begin with a torn line.
func TestTornFirstLine(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	l.Record(create("one"))
	next := segment{first: 3, start: time.Now().Add(time.Second)}
	write(t, filepath.Join(dir, next.name()), `{"seq":`)
	again := open(t, dir)
	if report := sound(t, dir); report.Torn != 1 || report.Last.Seq != 4 {
		t.Errorf("report %+v", report)
	}
	if n := len(again.snapshot()); n != 2 {
		t.Errorf("%d segments", n)
	}
}

func write(t *testing.T, path string, texts ...string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString(strings.Join(texts, "")); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestTornChanged holds that what is left of a torn line cannot be changed, or taken for a place to hide something.
func TestTornChanged(t *testing.T) {
	for name, change := range map[string]func(torn string) string{
		"Changed": func(torn string) string { return strings.Replace(torn, "alice", "malic", 1) },
		"More":    func(torn string) string { return torn + "\nsomething else" },
		"Less":    func(torn string) string { return torn[:len(torn)-1] },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, open(t, dir).snapshot()[0].name())
			const torn = `{"seq":2,"prev":"00","event":{"actor":"alice"`
			write(t, path, torn)
			open(t, dir)
			sound(t, dir)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, bytes.Replace(b, []byte(torn), []byte(change(torn)), 1), 0o600); err != nil {
				t.Fatal(err)
			}
			report, err := VerifyDir(dir, Check{Key: key})
			if err != nil || report.Count != 1 || !strings.Contains(report.Problems[0], "bytes that are no lines of the log") {
				t.Errorf("problems %q, %v", report.Problems, err)
			}
		})
	}
}
