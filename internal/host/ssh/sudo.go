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

// elevate puts sudo in front of argv when the user is not root. The gate then holds the input back until
// the command says that it runs as root: only so the password is never written where sudo did not ask
// for it (a rule may say NOPASSWD, or sudo may remember an earlier answer), nor the input to sudo.
func (s *Session) elevate(argv []string) ([]string, *gate) {
	if s.target.user() == "root" {
		return argv, nil
	}
	nonce := rand.Text()
	g := &gate{prompt: []byte("slipway-password-" + nonce + ":"), ready: []byte("slipway-ready-" + nonce + "\n"),
		password: s.target.SudoPassword, asked: make(chan struct{}), opened: make(chan struct{}), refused: make(chan struct{})}
	sudo := []string{"sudo", "-n"}
	if g.password != "" {
		sudo = []string{"sudo", "-S", "-p", string(g.prompt)}
	}
	sudo = append(sudo, "--", "sh", "-c", `printf '%s\n' "$1" >&2; shift; exec "$@"`, "root", strings.TrimSuffix(string(g.ready), "\n"))
	return append(sudo, argv...), g
}

// gate reads standard error until the command runs as root, then lets it through.
type gate struct {
	prompt, ready []byte
	password      string
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
	if g.before.Len() > 64<<10 {
		g.before.Reset()
	}
	g.before.Write(b)
	text := g.before.Bytes()
	if i := bytes.Index(text, g.ready); i >= 0 {
		g.isOpen = true
		close(g.opened)
		if _, err := g.after.Write(text[i+len(g.ready):]); err != nil {
			return 0, err
		}
		return len(b), nil
	}
	for asks := bytes.Count(text, g.prompt); g.seen < asks; g.seen++ {
		switch g.seen {
		case 0:
			close(g.asked)
		case 1:
			close(g.refused)
		}
	}
	return len(b), nil
}

// open answers sudo once and says whether the command now runs as root.
func (g *gate) open(stdin io.Writer, ended <-chan struct{}) bool {
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

// verdict gives the reason why sudo let nothing run; nil when it did.
func (g *gate) verdict() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.isOpen {
		return nil
	}
	text := strings.Join(strings.Fields(strings.ReplaceAll(g.before.String(), string(g.prompt), " ")), " ")
	if len(text) > 300 {
		text = text[len(text)-300:]
	}
	if text == "" {
		text = "sudo gave no reason"
	}
	return fmt.Errorf("%q", text)
}

// overdue says what is wrong when the time for sudo is over; nil when the command runs.
func (g *gate) overdue() error {
	g.mu.Lock()
	silent := g.before.Len() == 0
	g.mu.Unlock()
	if err := g.verdict(); err != nil && silent {
		return fmt.Errorf("%w in %v", errSilent, sudoTimeout)
	} else if err != nil {
		return err
	}
	return nil
}
