package ssh

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

const sudoTimeout = 30 * time.Second

var errSilent = errors.New("sudo did not answer")

// startScript marks on both streams where the command's own output begins.
const startScript = `printf '%s\n' "$1"; printf '%s\n' "$1" >&2; shift; exec "$@"`

// wrap marks where the output of argv begins, because a login shell's start-up files may print before it,
// and puts sudo in front when the user is not root. The gate then holds the input back until the command
// runs as root: only so the password is never written where sudo did not ask for it (a rule may say
// NOPASSWD, or sudo may remember an earlier answer), nor the input to sudo.
func (s *Session) wrap(argv []string) ([]string, *gate) {
	nonce := rand.Text()
	mark := "slipway-start-" + nonce
	g := &gate{mark: []byte(mark + "\n"), sudo: s.target.user() != "root",
		asked: make(chan struct{}), opened: make(chan struct{}), refused: make(chan struct{})}
	var line []string
	switch {
	case g.sudo && s.target.SudoPassword != "":
		g.password = s.target.SudoPassword
		g.prompt = []byte("slipway-password-" + nonce + ":")
		line = []string{"sudo", "-S", "-p", string(g.prompt), "--"}
	case g.sudo:
		line = []string{"sudo", "-n", "--"}
	}
	line = append(line, "sh", "-c", startScript, "start", mark)
	return append(line, argv...), g
}

// gate reads standard error until the command itself runs, then lets it through.
type gate struct {
	mark, prompt []byte
	password     string
	sudo         bool
	// after takes what comes once the gate is open.
	after io.Writer

	mu     sync.Mutex
	before bytes.Buffer
	seen   int
	isOpen bool

	asked, opened, refused chan struct{}
}

// Write never fails.
func (g *gate) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.isOpen {
		return g.after.Write(b)
	}
	asks := g.seen
	if len(g.prompt) > 0 {
		// A prompt may have begun in what came before.
		begun := g.before.Bytes()[max(0, g.before.Len()-len(g.prompt)+1):]
		asks += bytes.Count(append(bytes.Clone(begun), b...), g.prompt)
	}
	if rest, found := skip(&g.before, g.mark, b); found {
		g.isOpen = true
		close(g.opened)
		if _, err := g.after.Write(rest); err != nil {
			return 0, err
		}
		return len(b), nil
	}
	for ; g.seen < asks; g.seen++ {
		switch g.seen {
		case 0:
			close(g.asked)
		case 1:
			close(g.refused)
		}
	}
	return len(b), nil
}

// skip adds b to what came before the mark and gives what comes after it, once it is there.
func skip(before *bytes.Buffer, mark, b []byte) (rest []byte, found bool) {
	// What was searched already is not searched again: a machine may send single bytes.
	from := max(0, before.Len()-len(mark)+1)
	before.Write(b)
	if i := bytes.Index(before.Bytes()[from:], mark); i >= 0 {
		return before.Bytes()[from+i+len(mark):], true
	}
	if extra := before.Len() - 64<<10; extra > 0 {
		before.Next(extra)
	}
	return nil, false
}

// skipper drops what standard output holds before the mark.
type skipper struct {
	mark  []byte
	after io.Writer

	before bytes.Buffer
	isOpen bool
}

// Write never fails.
func (s *skipper) Write(b []byte) (int, error) {
	if s.isOpen {
		return s.after.Write(b)
	}
	rest, found := skip(&s.before, s.mark, b)
	if !found {
		return len(b), nil
	}
	s.isOpen = true
	if _, err := s.after.Write(rest); err != nil {
		return 0, err
	}
	return len(b), nil
}

// open lets the input pass and says whether the command runs; it answers sudo once.
func (g *gate) open(stdin io.Writer, ended <-chan struct{}) bool {
	if !g.sudo {
		return true
	}
	select {
	case <-g.opened:
		return true
	case <-ended:
		return false
	case <-g.asked:
	}
	if _, err := io.WriteString(stdin, g.password+"\n"); err != nil {
		return false
	}
	select {
	case <-g.opened:
		return true
	case <-g.refused:
	case <-ended:
	}
	return false
}

// verdict gives the reason why the command never ran; nil when it did. Said is the end of what came on
// standard output instead: a login shell such as nologin speaks there.
func (g *gate) verdict(said []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.isOpen {
		return nil
	}
	text := strings.ReplaceAll(g.before.String()+" "+string(said), string(g.prompt), " ")
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 300 {
		text = text[len(text)-300:]
	}
	if text == "" {
		text = "no reason was given"
	}
	return fmt.Errorf("%q", text)
}

// overdue says what is wrong when the time for sudo is over; nil when the command runs.
func (g *gate) overdue() error {
	if !g.sudo {
		return nil
	}
	g.mu.Lock()
	silent := g.before.Len() == 0
	g.mu.Unlock()
	if err := g.verdict(nil); err != nil && silent {
		return fmt.Errorf("%w in %v", errSilent, sudoTimeout)
	} else if err != nil {
		return err
	}
	return nil
}
