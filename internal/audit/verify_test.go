package audit

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// made gives a log of 9 lines in 3 segments, and the directory it is in. Line 1 is the start, line 9 the stop.
func made(t *testing.T) (string, *Log) {
	t.Helper()
	dir := t.TempDir()
	l := open(t, dir, func(o *Options) { o.segmentBytes = 1100 })
	for i := range 7 {
		l.Record(create(fmt.Sprint("c", i+2)))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if n := len(l.snapshot()); n != 3 {
		t.Fatalf("%d segments", n)
	}
	return dir, l
}

// TestTamper is what somebody may do who can write the files.
func TestTamper(t *testing.T) {
	// forge writes line i anew, as somebody can who does not have the key.
	forge := func(lines [][]byte, i int, change func(*Event)) {
		c, _ := parse(lines[i])
		e, err := c.decode()
		if err != nil {
			t.Fatal(err)
		}
		change(&e)
		if i > 0 {
			before, _ := parse(lines[i-1])
			c.prev = before.hash
		}
		lines[i], _, err = encode(bytes.Repeat([]byte{8}, keySize), c.seq, c.prev, e)
		if err != nil {
			t.Fatal(err)
		}
	}
	mallory := func(e *Event) { e.Actor = "mallory" }
	for name, tc := range map[string]struct {
		reason string
		change func([][]byte) [][]byte
		// noKey, head and key are what is found without the key, without it but with the head that was noted down,
		// and with the key; empty means that nothing can be found.
		noKey, head, key string
	}{
		"Nothing": {"an untouched log is sound", func(l [][]byte) [][]byte { return l }, "", "", ""},
		"ChangedByte": {"one letter of an event", func(l [][]byte) [][]byte {
			l[4] = bytes.Replace(l[4], []byte("alice"), []byte("alicf"), 1)
			return l
		}, "line 5 was changed", "line 5 was changed", "line 5 was changed"},
		"ChangedFirst": {"the first line is no exception", func(l [][]byte) [][]byte {
			l[0] = bytes.Replace(l[0], []byte("start"), []byte("stzrt"), 1)
			return l
		}, "line 1 was changed", "line 1 was changed", "line 1 was changed"},
		"ChangedLast": {"nor is the last", func(l [][]byte) [][]byte {
			l[8] = bytes.Replace(l[8], []byte("stop"), []byte("stzp"), 1)
			return l
		}, "line 9 was changed", "line 9 was changed", "line 9 was changed"},
		"ChangedHash": {"a hash that is not that of the line", func(l [][]byte) [][]byte {
			i := bytes.Index(l[4], []byte(hashMark)) + len(hashMark)
			l[4][i] = "0123456789abcdef"[(strings.IndexByte("0123456789abcdef", l[4][i])+1)%16]
			return l
		}, "line 5 was changed", "line 5 was changed", "line 5 was changed"},
		"Removed": {"a line taken out", func(l [][]byte) [][]byte { return slices.Delete(l, 4, 5) },
			"between lines 4 and 6 there are 1 lines missing", "between lines 4 and 6", "between lines 4 and 6"},
		"RemovedSome": {"several lines taken out", func(l [][]byte) [][]byte { return slices.Delete(l, 2, 6) },
			"between lines 2 and 7 there are 4 lines missing", "between lines 2 and 7", "between lines 2 and 7"},
		"Swapped": {"two lines in the other order", func(l [][]byte) [][]byte { l[3], l[4] = l[4], l[3]; return l },
			"line 4 stands behind line 5", "line 4 stands behind line 5", "line 4 stands behind line 5"},
		"Twice": {"a line repeated", func(l [][]byte) [][]byte { return slices.Insert(l, 4, bytes.Clone(l[4])) },
			"line 5 stands behind line 5", "line 5 stands behind line 5", "line 5 stands behind line 5"},
		"NoLine": {"a line made unreadable", func(l [][]byte) [][]byte { l[4] = []byte("x\n"); return l },
			"before line 6 there are 2 bytes that are no lines", "before line 6", "before line 6"},
		"Forged": {"a line written anew with a hash that fits", func(l [][]byte) [][]byte { forge(l, 4, mallory); return l },
			"line 6 does not follow line 5", "line 6 does not follow line 5", "lines 5 to 5 were not written by the server"},
		"ForgedAll": {"the whole rest of the chain written anew: only a head or the key tells", func(l [][]byte) [][]byte {
			forge(l, 4, mallory)
			for i := 5; i < len(l); i++ {
				forge(l, i, func(*Event) {})
			}
			return l
		}, "", "line 8 is not the one that was noted down", "lines 5 to 9 were not written by the server"},
		"ForgedEnd": {"a line added", func(l [][]byte) [][]byte {
			l = append(l, bytes.Replace(l[8], []byte(`{"seq":9`), []byte(`{"seq":10`), 1))
			forge(l, 9, mallory)
			return l
		}, "", "", "lines 10 to 10 were not written by the server"},
		"Tail": {"the last lines taken away: only a head tells", func(l [][]byte) [][]byte { return l[:6] },
			"", "the end is missing: line 8 was noted down, and the last is line 6", ""},
		"Head": {"the first lines taken away", func(l [][]byte) [][]byte { return l[3:] },
			"the beginning is missing: no line says that the lines before line 4 were removed", "the beginning is missing", "the beginning is missing"},
		"Everything": {"an empty file is no log", func([][]byte) [][]byte { return nil }, "there is no line", "there is no line", "there is no line"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, _ := made(t)
			lines := slices.Collect(bytes.Lines(content(t, dir)))
			noted, _ := parse(lines[7])
			head := noted.head()
			file := bytes.Join(tc.change(lines), nil)
			for with, want := range map[string]string{"no key": tc.noKey, "head": tc.head, "key": tc.key} {
				check := Check{}
				switch with {
				case "head":
					check.Head = &head
				case "key":
					check.Key = key
				}
				report, err := Verify(bytes.NewReader(file), check)
				if err != nil {
					t.Fatal(err)
				}
				found := strings.Join(report.Problems, "\n")
				if (want == "") != (found == "") || !strings.Contains(found, want) || (report.Err() == nil) != (want == "") {
					t.Errorf("%s, with %s: found %q, want %q", tc.reason, with, found, want)
				}
				if want != "" && report.Count > 3 {
					t.Errorf("%s, with %s: one change gives %d problems:\n%s", tc.reason, with, report.Count, found)
				}
			}
		})
	}
}

func TestRemovedSegment(t *testing.T) {
	for i, want := range []string{"the beginning is missing", "lines missing", "the end is missing"} {
		dir, l := made(t)
		if err := os.Remove(filepath.Join(dir, l.snapshot()[i].name())); err != nil {
			t.Fatal(err)
		}
		head := l.Head()
		report, err := VerifyDir(dir, Check{Key: key, Head: &head})
		if err != nil {
			t.Fatal(err)
		}
		if found := strings.Join(report.Problems, "\n"); !strings.Contains(found, want) || report.Signed {
			t.Errorf("segment %d: found %q, want %q", i, found, want)
		}
	}
}

// TestAlteredAtStart holds that a server which starts does not make a changed last line good by repairing it.
func TestAlteredAtStart(t *testing.T) {
	dir, l := made(t)
	path := filepath.Join(dir, l.snapshot()[2].name())
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(b, []byte(`"stop"`), []byte(`"stzp"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, dir).Record(create("after"))
	report, err := VerifyDir(dir, Check{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	if report.Count != 1 || report.Problems[0] != "line 9 was changed: its hash is not that of its content" {
		t.Errorf("problems %q", report.Problems)
	}
	all := content(t, dir)
	if !bytes.Contains(all, []byte(`"reason":"Altered"`)) || !bytes.Contains(all, []byte("clusters dev/after")) {
		t.Error("the log does not go on and say what it found")
	}
}

// TestChangedInTheMiddle holds that a change of long ago does not keep the server from starting.
func TestChangedInTheMiddle(t *testing.T) {
	dir, l := made(t)
	path := filepath.Join(dir, l.snapshot()[2].name())
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(b, []byte("alice"), []byte("mallo"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if again := open(t, dir); again.Head().Seq != 10 {
		t.Errorf("head %s", again.Head())
	}
	if report, err := VerifyDir(dir, Check{Key: key}); err != nil || report.Count != 1 {
		t.Errorf("problems %q, %v", report.Problems, err)
	}
}

func TestOtherKey(t *testing.T) {
	dir, _ := made(t)
	other := bytes.Repeat([]byte{9}, keySize)
	open(t, dir, func(o *Options) { o.Key = other })
	report, err := VerifyDir(dir, Check{Key: other})
	if err != nil {
		t.Fatal(err)
	}
	if report.Count != 1 || report.Problems[0] != "lines 1 to 9 were not written by the server that has this key" {
		t.Errorf("problems %q", report.Problems)
	}
}

func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := open(t, dir)
		days, failing := 10, false
		ended := make(chan error)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			ended <- l.Retain(ctx, func(ctx context.Context) (int, error) {
				if failing {
					return 0, os.ErrPermission
				}
				return days, nil
			})
		}()
		var heads []Head
		for day := range 30 {
			l.Record(create(fmt.Sprint("c", day)))
			heads = append(heads, l.Head())
			<-time.After(24 * time.Hour)
		}
		synctest.Wait()
		if n := len(l.snapshot()); n != 11 {
			t.Errorf("%d segments of 10 days and today", n)
		}
		report := sound(t, dir)
		if report.Removed != report.First.Seq-1 || report.Removed < 19 {
			t.Errorf("report %+v", report)
		}
		// The export holds the anchor too.
		var export bytes.Buffer
		if err := l.Export(t.Context(), &export); err != nil {
			t.Fatal(err)
		}
		if exported, err := Verify(&export, Check{Key: key, Head: &heads[29]}); err != nil || exported.Count > 0 || exported.Removed != report.Removed {
			t.Errorf("export: %+v, %v", exported, err)
		}
		if old, err := VerifyDir(dir, Check{Head: &heads[0]}); err != nil || old.Count != 1 || !strings.Contains(old.Problems[0], "was noted down and is not here") {
			t.Errorf("a head that is too old: %+v, %v", old, err)
		}
		// While nobody can say how long lines are kept, none is removed.
		failing = true
		days = 1
		<-time.After(2 * retainEvery)
		if n := len(l.snapshot()); n != 11 {
			t.Errorf("%d segments after the setting could not be read", n)
		}
		failing = false
		<-time.After(2 * retainEvery)
		synctest.Wait()
		if n := len(l.snapshot()); n > 3 {
			t.Errorf("%d segments with one day", n)
		}
		sound(t, dir)
		// Who removes one segment more than the log says is found out.
		if err := os.Remove(filepath.Join(dir, l.snapshot()[0].name())); err != nil {
			t.Fatal(err)
		}
		if report, err := VerifyDir(dir, Check{Key: key}); err != nil || !strings.Contains(strings.Join(report.Problems, "\n"), "the beginning is missing") {
			t.Errorf("report %+v, %v", report, err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Retain() = %v", err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestRetentionCutOff holds that the end of the server between the anchor and the removal leaves a sound log.
func TestRetentionCutOff(t *testing.T) {
	dir, l := made(t)
	again := open(t, dir)
	kept, err := os.ReadFile(filepath.Join(dir, l.snapshot()[0].name()))
	if err != nil {
		t.Fatal(err)
	}
	if err := again.removeOldest(l.snapshot()[0], removedByAge); err != nil {
		t.Fatal(err)
	}
	sound(t, dir)
	if err := os.WriteFile(filepath.Join(dir, l.snapshot()[0].name()), kept, 0o600); err != nil {
		t.Fatal(err)
	}
	if report := sound(t, dir); report.Removed != 0 {
		t.Errorf("report %+v", report)
	}
}

func TestSizeBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := open(t, dir, func(o *Options) { o.segmentBytes, o.MaxBytes = 4096, 20_000 })
		for i := range 500 {
			l.Record(create(fmt.Sprint(i)))
			if i%10 == 0 {
				<-time.After(2 * settleAfter)
			}
		}
		<-time.After(2 * settleAfter)
		synctest.Wait()
		if size := len(content(t, dir)); size > 20_000+4096 {
			t.Errorf("%d bytes", size)
		}
		if report := sound(t, dir); report.Removed == 0 {
			t.Errorf("report %+v", report)
		}
		if !bytes.Contains(content(t, dir), []byte(`"reason":"size"`)) {
			t.Error("the log does not say why lines were removed")
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestParseHead(t *testing.T) {
	good := "12:" + strings.Repeat("ab", 32)
	if head, err := ParseHead(" " + good + "\n"); err != nil || head.String() != good {
		t.Errorf("%v, %v", head, err)
	}
	for _, bad := range []string{"", "12", "x:" + strings.Repeat("ab", 32), "12:" + strings.Repeat("ab", 31), "12:" + strings.Repeat("zz", 32), "-1:" + strings.Repeat("ab", 32)} {
		if _, err := ParseHead(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
