package fault

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestClasses(t *testing.T) {
	cause := errors.New("no route to host")
	terminal := NewTerminal("HostKeyChanged", "pin the new key", cause)
	cases := map[string]struct {
		reason     string
		err        error
		class      Class
		word, fix  string
		sameAsText bool
	}{
		"transient": {reason: "it may go away", err: NewTransient("Unreachable", cause), class: Transient, word: "Unreachable", sameAsText: true},
		"waiting":   {reason: "not yet", err: NewWaiting("NodeNotReady", cause), class: Waiting, word: "NodeNotReady", sameAsText: true},
		"terminal":  {reason: "a person must act", err: terminal, class: Terminal, word: "HostKeyChanged", fix: "pin the new key", sameAsText: true},
		"bug":       {reason: "our mistake", err: NewBug(cause), class: Bug, word: "InternalError", fix: "report this to the maintainers with the operation's logs", sameAsText: true},
		"wrapped":   {reason: "more words do not change the class", err: fmt.Errorf("cannot join host w2: %w", terminal), class: Terminal, word: "HostKeyChanged", fix: "pin the new key"},
		"twice":     {reason: "the outermost class counts", err: NewTransient("Retry", terminal), class: Transient, word: "Retry"},
		"joined":    {reason: "one of several", err: errors.Join(errors.New("plain"), terminal), class: Terminal, word: "HostKeyChanged", fix: "pin the new key"},
		"deadline":  {reason: "time ran out, the next try has its own", err: fmt.Errorf("cannot connect: %w", context.DeadlineExceeded), class: Transient, word: "Failed"},
		"plain":     {reason: "nothing unknown is tried for ever", err: cause, class: Terminal, word: "Failed"},
		"no word":   {reason: "an empty reason is no reason", err: &Error{Class: Waiting, Err: cause}, class: Waiting, word: "Failed"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := ClassOf(tc.err); got != tc.class {
				t.Errorf("%s: class %s, want %s", tc.reason, got, tc.class)
			}
			if got := ReasonOf(tc.err); got != tc.word {
				t.Errorf("%s: reason %s, want %s", tc.reason, got, tc.word)
			}
			if got := FixOf(tc.err); got != tc.fix {
				t.Errorf("%s: fix %q, want %q", tc.reason, got, tc.fix)
			}
			if tc.sameAsText && (tc.err.Error() != cause.Error() || !errors.Is(tc.err, cause)) {
				t.Errorf("%s: %q hides its cause", tc.reason, tc.err)
			}
		})
	}
}

func TestNil(t *testing.T) {
	for name, err := range map[string]error{"transient": NewTransient("X", nil), "waiting": NewWaiting("X", nil), "terminal": NewTerminal("X", "", nil), "bug": NewBug(nil)} {
		if err != nil {
			t.Errorf("%s: no error became %v", name, err)
		}
	}
}
