package audit

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := open(t, dir)
		refused := Event{Verb: "get", Object: "/api", Code: 401, Result: Refused}
		for i := range 5000 {
			e := refused
			e.From = "10.0.0.1"
			l.Record(e)
			e.From = fmt.Sprintf("2001:db8::%x", i) // One client has all of a /64.
			l.Record(e)
		}
		for i := range 1000 {
			e := refused
			e.From = fmt.Sprintf("192.0.2.%d", i%250)
			l.Record(e)
		}
		// People who are logged in, and what was allowed, are never only counted.
		known := Event{Actor: "bob", Via: "token:b", From: "10.0.0.1", Verb: "delete", Object: "clusters dev/blue", Code: 403, Result: Refused}
		for range 200 {
			l.Record(known)
		}
		<-time.After(2 * window)
		synctest.Wait()
		l.Record(create("after"))
		count := map[string]int{}
		repeated := map[string]string{}
		var total int
		for _, line := range lines(t, dir) {
			count[line.Event.Verb]++
			if line.Event.Verb == verbRepeated {
				repeated[line.Event.From] = line.Event.Detail["count"]
				var n int
				if _, err := fmt.Sscan(line.Event.Detail["count"], &n); err != nil {
					t.Fatal(err)
				}
				total += n
			}
		}
		if count["get"] != allLines || count["get"]+total != 11000 {
			t.Errorf("%d lines and %d counted, want 60 and 10940", count["get"], total)
		}
		if count["delete"] != 200 || count["create"] != 1 {
			t.Errorf("lines of known people were left out: %v", count)
		}
		if repeated["10.0.0.1"] != "4990" || repeated["2001:db8::/64"] != "4990" || repeated["others"] == "" || len(repeated) > maxClients+1 {
			t.Errorf("repeated: %v", repeated)
		}
		sound(t, dir)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestLimitAtStop(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	for range clientLines + 5 {
		l.Record(Event{From: "10.0.0.1", Verb: "login", Result: Refused})
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	all := lines(t, dir)
	if e := all[len(all)-2].Event; e.Verb != verbRepeated || e.Detail["count"] != "5" {
		t.Errorf("what was counted is lost at the stop: %+v", e)
	}
}
