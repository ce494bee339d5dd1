package operation

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/step"
)

func TestTail(t *testing.T) {
	var lines []string
	for i := range 100 {
		lines = append(lines, fmt.Sprint("line ", i))
	}
	cases := map[string]struct{ reason, text, want string }{
		"empty":       {"nothing printed is nothing kept", "\n\n", ""},
		"short":       {"a few lines are kept whole", "a\nb\n", "a\nb"},
		"many lines":  {"the last twenty lines say why", strings.Join(lines, "\n"), strings.Join(lines[80:], "\n")},
		"long lines":  {"the first line that is kept is whole", strings.Repeat("x", 5000) + "\nlast", "last"},
		"not text":    {"a log is valid text", "a\xff\xfeb", "ab"},
		"single line": {"a line longer than everything is cut at its start", strings.Repeat("x", 5000), strings.Repeat("x", 4096)},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := tail([]byte(c.text)); got != c.want {
				t.Errorf("tail = %.80q, want %.80q: %s", got, c.want, c.reason)
			}
		})
	}
}

func TestNames(t *testing.T) {
	if got := names(strings.Fields("a b c d e f g")); got != "a, b, c, d, e and 2 more" {
		t.Errorf("names = %q", got)
	}
}

func TestLabelValue(t *testing.T) {
	if got := labelValue("demo-create"); got != "demo-create" {
		t.Errorf("labelValue = %q", got)
	}
	if got := labelValue(strings.Repeat("n", 64)); len(got) != 40 {
		t.Errorf("labelValue = %q", got)
	}
}

func TestWalk_FitsWhatARecordHolds(t *testing.T) {
	long := strings.Repeat("n", 200)
	cases := map[string]struct {
		reason string
		calls  int
		name   string
		fits   bool
	}{
		"usual":     {"plans of a cluster are well within", 60, "containerd.configure", true},
		"too many":  {"the API refuses more records than that", 129, "a", false},
		"too large": {"one object stays within 16 KB", 60, long, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := &plan.Stage{}
			for i := range c.calls {
				s.Calls = append(s.Calls, plan.Call{Name: fmt.Sprint(c.name, i)})
			}
			w := &walk{target: step.Target{Name: "w1"}, stages: []*stage{{Stage: s}}}
			if err := w.fits(); (err == nil) != c.fits {
				t.Errorf("fits = %v: %s", err, c.reason)
			}
		})
	}
}

func TestFailure_IsShortAndSaysCannot(t *testing.T) {
	r := newRun(t.Context(), nil, Deps{Log: slog.New(slog.DiscardHandler)}, &v1alpha1.Operation{}, &plan.Plan{})
	f := r.failure("w1", "a", fmt.Errorf("%s", strings.Repeat("x", 5000)))
	if len(f.Message) > maxMessage || !strings.HasPrefix(f.Message, "cannot finish a: xxx") {
		t.Errorf("message = %q", f.Message)
	}
}
