package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// searched gives the numbers of the chosen lines, and where to go on.
func searched(t *testing.T, l *Log, q Query) ([]uint64, uint64) {
	t.Helper()
	var found []uint64
	next, err := l.Search(t.Context(), q, func(line []byte) error {
		var one Line
		if err := json.Unmarshal(line, &one); err != nil {
			return err
		}
		found = append(found, one.Seq)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found, next
}

func TestSearch(t *testing.T) {
	t.Run("OneSegment", func(t *testing.T) { search(t) })
	t.Run("SegmentForEachLine", func(t *testing.T) { search(t, small) })
	t.Run("SegmentForTwoLines", func(t *testing.T) { search(t, func(o *Options) { o.segmentBytes = 500 }) })
}

func search(t *testing.T, change ...func(*Options)) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, t.TempDir(), change...)
		began := time.Now()
		for _, e := range []Event{
			// Line 1 is the start; each of these is an hour later than the one before.
			{Actor: "alice", Verb: "create", Object: "clusters dev/blue", Project: "dev", Result: Allowed, From: "10.0.0.1", Via: "token:a"},
			{Actor: "bob", Verb: "delete", Object: "clusters dev/blue", Project: "dev", Result: Refused, Reason: "Forbidden", From: "10.0.0.2", Via: "token:b"},
			{Actor: "alice", Verb: "create", Object: "clusters prod/blue", Project: "prod", Result: Failed, Reason: "Invalid", From: "10.0.0.1", Via: "token:a"},
			{Actor: Server, Verb: "use-credential", Object: "credentials lab", Result: Allowed, Detail: map[string]string{"host": "W1"}},
			{Actor: `quo"te\<x>`, Verb: "login", Result: Allowed, From: "10.0.0.3"},
			{Actor: "alice", Verb: "login", Result: Allowed, From: "10.0.0.1", Detail: map[string]string{"actor": "bob"}},
		} {
			<-time.After(time.Hour)
			l.Record(e)
		}
		for name, tc := range map[string]struct {
			reason string
			query  Query
			want   []uint64
			next   uint64
		}{
			"All":         {"the newest first", Query{}, []uint64{7, 6, 5, 4, 3, 2, 1}, 0},
			"Oldest":      {"or the oldest", Query{Oldest: true}, []uint64{1, 2, 3, 4, 5, 6, 7}, 0},
			"Actor":       {"a person, and not who is only named", Query{Actor: "bob"}, []uint64{3}, 0},
			"ActorQuoted": {"a name with what JSON escapes", Query{Actor: `quo"te\<x>`}, []uint64{6}, 0},
			"ActorPart":   {"not a part of a name", Query{Actor: "ali"}, nil, 0},
			"Project":     {"one project", Query{Project: "dev"}, []uint64{3, 2}, 0},
			"Verb":        {"one verb", Query{Verb: "create"}, []uint64{4, 2}, 0},
			"Result":      {"one result", Query{Result: Refused}, []uint64{3}, 0},
			"Object":      {"a part of the object", Query{Object: "blue"}, []uint64{4, 3, 2}, 0},
			"ObjectKind":  {"all of a kind", Query{Object: "Clusters"}, []uint64{4, 3, 2}, 0},
			"Contains":    {"any text, details too", Query{Contains: "w1"}, []uint64{5}, 0},
			"ContainsIP":  {"where it came from", Query{Contains: "10.0.0.1"}, []uint64{7, 4, 2}, 0},
			"People":      {"what people do, in their name", Query{People: true}, []uint64{7, 6, 4, 3, 2}, 0},
			"Since":       {"from a time on", Query{Since: began.Add(5 * time.Hour)}, []uint64{7, 6}, 0},
			"Until":       {"before a time", Query{Until: began.Add(2 * time.Hour)}, []uint64{2, 1}, 0},
			"Both":        {"between", Query{Since: began.Add(2 * time.Hour), Until: began.Add(4 * time.Hour)}, []uint64{4, 3}, 0},
			"Together":    {"all must hold", Query{Actor: "alice", Verb: "create", Project: "prod"}, []uint64{4}, 0},
			"Nothing":     {"nothing is found", Query{Actor: "eve"}, nil, 0},
			"Limit":       {"a page", Query{Limit: 3}, []uint64{7, 6, 5}, 5},
			"Page":        {"the next page", Query{Limit: 3, After: 5}, []uint64{4, 3, 2}, 2},
			"LastPage":    {"the last page", Query{Limit: 3, After: 2}, []uint64{1}, 0},
			"OldestPage":  {"a page in the other direction", Query{Limit: 2, After: 5, Oldest: true}, []uint64{6, 7}, 0},
			"ExactPage":   {"a page that is just full is the last", Query{Limit: 7}, []uint64{7, 6, 5, 4, 3, 2, 1}, 0},
			"FilterPage":  {"a page of a filter", Query{Actor: "alice", Limit: 1}, []uint64{7}, 7},
			"FilterNext":  {"and the next", Query{Actor: "alice", Limit: 1, After: 7}, []uint64{4}, 4},
		} {
			found, next := searched(t, l, tc.query)
			if diff := cmp.Diff(tc.want, found, cmpopts.EquateEmpty()); diff != "" || next != tc.next {
				t.Errorf("%s: %s: next %d, want %d; -want +got\n%s", name, tc.reason, next, tc.next, diff)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestSearchEnds(t *testing.T) {
	l := open(t, t.TempDir())
	for i := range 100 {
		l.Record(create(fmt.Sprint(i)))
	}
	ctx, cancel := context.WithCancel(t.Context())
	seen := 0
	next, err := l.Search(ctx, Query{}, func([]byte) error {
		if seen++; seen == 10 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || seen != 10 || next != 92 {
		t.Errorf("Search() = %d, %v after %d lines", next, err, seen)
	}
	broken := errors.New("client has gone")
	if _, err := l.Search(t.Context(), Query{}, func([]byte) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("Search() = %v", err)
	}
}

// TestExport holds that an export is the log byte for byte, and leaves retention waiting while it runs.
func TestExport(t *testing.T) {
	dir, _ := made(t)
	l := open(t, dir)
	want := content(t, dir)
	var got bytes.Buffer
	first := true
	err := l.Export(t.Context(), writer(func(b []byte) (int, error) {
		if first {
			first = false
			l.removeOlder(time.Now().AddDate(1, 0, 0))
			l.Record(create("meanwhile"))
		}
		return got.Write(b)
	}))
	if err != nil || got.String() != string(want) {
		t.Errorf("Export() = %v, %d bytes of %d", err, got.Len(), len(want))
	}
	if n := len(l.snapshot()); n < 3 {
		t.Errorf("%d segments are left while somebody reads", n)
	}
	l.removeOlder(time.Now().AddDate(1, 0, 0))
	if n := len(l.snapshot()); n != 1 {
		t.Errorf("%d segments", n)
	}
	if strings.Contains(got.String(), "meanwhile") {
		t.Error("the export does not end")
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }
