package backup

import (
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestNewName(t *testing.T) {
	for _, test := range []struct{ reason, schedule, want string }{
		{"by a schedule", "daily", `^demo-daily-[a-z2-7]{6}$`},
		{"by a person", "", `^demo-manual-[a-z2-7]{6}$`},
	} {
		seen := map[string]bool{}
		for range 100 {
			name := NewName("demo", test.schedule)
			if !regexp.MustCompile(test.want).MatchString(name) || CheckName(name) != nil || seen[name] {
				t.Fatalf("%s: %s, want a new one like %s", test.reason, name, test.want)
			}
			seen[name] = true
		}
	}
}

func TestSurplus(t *testing.T) {
	at := func(name string, hour int) Kept {
		return Kept{Name: name, TakenAt: time.Date(2026, 1, 1, hour, 0, 0, 0, time.UTC)}
	}
	three := []Kept{at("c", 3), at("a", 1), at("b", 2)}
	for _, test := range []struct {
		reason  string
		backups []Kept
		keep    int
		want    []string
	}{
		{"nothing is there", nil, 2, nil},
		{"fewer than may be kept", three, 4, nil},
		{"as many as may be kept", three, 3, nil},
		{"the oldest goes, in whatever order they come", three, 2, []string{"a"}},
		{"the number was lowered: several go, oldest first", three, 1, []string{"a", "b"}},
		{"two of one moment: the name decides, so that it is the same each time", []Kept{at("b", 1), at("a", 1)}, 1, []string{"a"}},
	} {
		got, err := Surplus(test.backups, test.keep)
		if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", test.reason, err, diff)
		}
	}
	if diff := cmp.Diff([]Kept{at("c", 3), at("a", 1), at("b", 2)}, three); diff != "" {
		t.Errorf("the caller's list was changed:\n%s", diff)
	}
	for _, keep := range []int{0, -1} {
		if got, err := Surplus(three, keep); err == nil {
			t.Errorf("keep %d removes %v, want an error", keep, got)
		}
	}
}
