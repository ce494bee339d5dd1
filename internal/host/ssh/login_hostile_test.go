package ssh

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
)

// deadlines counts how often a deadline is set.
type deadlines struct {
	net.Conn
	set int
}

func (d *deadlines) SetDeadline(time.Time) error {
	d.set++
	return nil
}

// TestLaterKeyExchanges: a machine may exchange keys again at any time. That must neither lengthen its login nor end a
// connection in use, and another key is refused then as well.
func TestLaterKeyExchanges(t *testing.T) {
	t.Parallel()
	_, pinned := newKey(t, "")
	_, other := newKey(t, "")
	key, err := parseKey(pinned)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := parseKey(other)
	if err != nil {
		t.Fatal(err)
	}
	conn := &deadlines{}
	l := &login{target: Target{Name: "w1"}, pinned: key, conn: conn}
	for range 5 {
		if err := l.checkKey("", nil, key); err != nil {
			t.Fatal(err)
		}
	}
	if conn.set != 1 {
		t.Errorf("five exchanges set %d deadlines, want 1: those after the login would end the connection", conn.set)
	}
	if err := l.checkKey("", nil, stranger); !errors.Is(err, errKeyWrong) {
		t.Errorf("another key in a later exchange gives %v", err)
	}
}

// TestRekey: a connection whose keys are exchanged many times carries everything.
func TestRekey(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	srv.rekey = 16 << 10
	target := srv.start(t)
	target.Auth.Password = "right"
	dir := t.TempDir()
	target.place = host.FencePlace{State: dir + "/state", Runtime: dir + "/run", Wait: 1}
	input := strings.Repeat("0123456789abcdef", 40_000)
	r, err := dialTest(t, target).Writer(host.Fence{Owner: "alpha", Epoch: 1}).Run(t.Context(), host.Command{Argv: []string{"cat"}, Stdin: strings.NewReader(input)})
	if err != nil || string(r.Stdout) != input {
		t.Errorf("%d bytes came back: %v", len(r.Stdout), err)
	}
}

// TestSudoPasswordOfTwoLines: sudo reads one line, so the rest would be the beginning of the command's input.
func TestSudoPasswordOfTwoLines(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	target := srv.start(t)
	target.User, target.Auth.Password = "admin", "right"
	for _, password := range []string{"a\nb", "a\rb", "a\x00b", "\n"} {
		target.SudoPassword = password
		if _, err := Dial(t.Context(), target); fault.ReasonOf(err) != ReasonBadCredential || fault.FixOf(err) == "" {
			t.Errorf("%q gives %v", password, err)
		}
	}
	if srv.connections.Load() != 0 {
		t.Error("such a password was used")
	}
}

// TestGateReadsPieces: however the machine cuts what it sends, the mark is found once, all behind it arrives, and each
// prompt counts.
func TestGateReadsPieces(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	noise := func() string {
		return strings.Repeat([]string{"x", "slipway-", "mar", "mark", "prom", "\x00", "mark-\n"}[random.IntN(7)], random.IntN(20_000))
	}
	for range 300 {
		prompts := random.IntN(3)
		text := noise()
		for range prompts {
			text += "prompt:" + noise()
		}
		text += "mark\n"
		tail := noise() + "mark\nprompt:"
		after := newTail(1 << 20)
		g := &gate{mark: []byte("mark\n"), prompt: []byte("prompt:"), after: after, asked: make(chan struct{}), opened: make(chan struct{}), refused: make(chan struct{})}
		for rest := []byte(text + tail); len(rest) > 0; {
			n := min(len(rest), 1+random.IntN(1+random.IntN(40_000)))
			if _, err := g.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		// A noise that holds the mark itself opens the gate there.
		at := strings.Index(text, "mark\n")
		got, _ := after.bytes()
		if want := text[at+len("mark\n"):] + tail; !bytes.Equal(got, []byte(want)) {
			t.Fatalf("%d bytes came through, want %d", len(got), len(want))
		}
		waiting := &gate{mark: []byte("never"), prompt: []byte("prompt:"), asked: make(chan struct{}), opened: make(chan struct{}), refused: make(chan struct{})}
		for rest := []byte(text); len(rest) > 0; {
			n := min(len(rest), 1+random.IntN(1+random.IntN(200)))
			if _, err := waiting.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if closed(waiting.asked) != (prompts > 0) || closed(waiting.refused) != (prompts > 1) {
			t.Fatalf("after %d prompts asked is %t, refused %t", prompts, closed(waiting.asked), closed(waiting.refused))
		}
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// TestSaid: what a machine says in the library's errors is cleaned, and the error keeps its kind.
func TestSaid(t *testing.T) {
	err := clean(&ssh.OpenChannelError{Reason: ssh.Prohibited, Message: "\x1b[31m" + strings.Repeat("x", 5000)})
	var refused *ssh.OpenChannelError
	if !errors.As(err, &refused) || len(err.Error()) > maxSaid || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("got %q", err)
	}
	if clean(nil) != nil {
		t.Error("no error became one")
	}
}
