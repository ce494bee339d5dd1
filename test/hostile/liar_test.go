package hostile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/host/ssh"
)

var markPattern = regexp.MustCompile(`slipway-start-[A-Z2-7]+`)

// begin prints the mark after which the output of a command begins.
func begin(line string, channel gossh.Channel) {
	mark := markPattern.FindString(line) + "\n"
	_, _ = io.WriteString(channel, mark)
	_, _ = io.WriteString(channel.Stderr(), mark)
}

// pour writes a chunk until the reader is gone or so many bytes were taken, and counts them.
func pour(w io.Writer, chunk []byte, most int64, poured *atomic.Int64) {
	for poured.Load() < most {
		n, err := w.Write(chunk)
		poured.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// growth runs f and gives by how much the heap grew at most meanwhile.
func growth(f func()) uint64 {
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	done, peak := make(chan struct{}), make(chan uint64)
	go func() {
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		var most uint64
		for {
			select {
			case <-ticker.C:
				runtime.ReadMemStats(&now)
				most = max(most, now.HeapAlloc)
			case <-done:
				peak <- most
				return
			}
		}
	}()
	f()
	close(done)
	return max(<-peak, before.HeapAlloc) - before.HeapAlloc
}

// TestLiar_FloodsEnd: a machine that sends without end is left, soon and for good, and costs little memory. It is not
// parallel, because it measures the heap.
func TestLiar_FloodsEnd(t *testing.T) {
	const most, heap = 4 << 30, 64 << 20
	chunk := bytes.Repeat([]byte("0123456789abcde "), 2048)
	cases := map[string]struct {
		reason string
		flood  func(line string, c gossh.Channel, poured *atomic.Int64)
	}{
		"output": {"gigabytes on one line", func(line string, c gossh.Channel, p *atomic.Int64) { begin(line, c); pour(c, chunk, most, p) }},
		"errors": {"gigabytes of errors", func(line string, c gossh.Channel, p *atomic.Int64) { begin(line, c); pour(c.Stderr(), chunk, most, p) }},
		"lines": {"empty lines", func(line string, c gossh.Channel, p *atomic.Int64) {
			begin(line, c)
			pour(c, bytes.Repeat([]byte("\n"), 32768), most, p)
		}},
		"noise":          {"a login message that does not end", func(_ string, c gossh.Channel, p *atomic.Int64) { pour(c, chunk, most, p) }},
		"noise in error": {"a login message on the other stream", func(_ string, c gossh.Channel, p *atomic.Int64) { pour(c.Stderr(), chunk, most, p) }},
		"crumbs":         {"single bytes, which cost the most", func(_ string, c gossh.Channel, p *atomic.Int64) { pour(c, []byte("s"), 400_000, p) }},
		"almost a mark": {"what looks like the mark, again and again", func(_ string, c gossh.Channel, p *atomic.Int64) {
			pour(c, bytes.Repeat([]byte("slipway-start-"), 2000), most, p)
		}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			var poured atomic.Int64
			m.answer = func(line string, c gossh.Channel) (uint32, bool) {
				tc.flood(line, c, &poured)
				return 0, true
			}
			s := dial(t, m.start("w1"))
			begun := time.Now()
			var err error
			grew := growth(func() { _, err = s.Facts(t.Context()) })
			if err == nil || !strings.Contains(err.Error(), "w1") || fault.ClassOf(err) != fault.Terminal || fault.FixOf(err) == "" {
				t.Errorf("%s: the error is %v", tc.reason, err)
			}
			if took := time.Since(begun); took > 20*time.Second {
				t.Errorf("%s: it took %s", tc.reason, took)
			}
			if grew > heap {
				t.Errorf("%s: the heap grew by %d MiB", tc.reason, grew>>20)
			}
			if n := poured.Load(); n > 64<<20 {
				t.Errorf("%s: %d MiB were taken", tc.reason, n>>20)
			}
			tried.add("floods of a lying machine", name)
		})
	}
}

// TestLiar_ChannelsBackEnd: a machine that opens channels and asks for forwards on our side gets none, and costs nothing
// that stays.
func TestLiar_ChannelsBackEnd(t *testing.T) {
	const times = 3000
	m := newMachine(t)
	opened := make(chan int, 1)
	m.greet = func(c *gossh.ServerConn) {
		granted := 0
		for i := range times {
			kind := []string{"session", "forwarded-tcpip", "direct-tcpip", "x11", "auth-agent@openssh.com", strings.Repeat("k", 30_000)}[i%6]
			tried.add("channels and forwards of a lying machine", fmt.Sprint(kind, i%64))
			channel, _, err := c.OpenChannel(kind, bytes.Repeat([]byte{0xff}, i%64))
			if err == nil {
				granted++
				_ = channel.Close()
			}
			if ok, _, err := c.SendRequest([]string{"tcpip-forward", "streamlocal-forward@openssh.com", "keepalive@openssh.com"}[i%3], i%2 == 0, []byte("x")); ok && err == nil {
				granted++
			}
		}
		opened <- granted
	}
	target := m.start("w1")
	before := runtime.NumGoroutine()
	grew := growth(func() {
		s := dial(t, target)
		if n := <-opened; n != 0 {
			t.Errorf("%d channels and forwards were granted", n)
		}
		if _, err := s.Query(t.Context(), host.BootID()); err != nil {
			t.Errorf("the connection is of no use afterwards: %v", err)
		}
		_ = s.Close()
		<-s.Done()
	})
	if grew > 32<<20 {
		t.Errorf("the heap grew by %d MiB", grew>>20)
	}
	ticker, late := time.NewTicker(10*time.Millisecond), time.After(10*time.Second)
	defer ticker.Stop()
	for runtime.NumGoroutine() > before+20 {
		select {
		case <-ticker.C:
			continue
		case <-late:
		}
		t.Fatalf("%d goroutines became %d", before, runtime.NumGoroutine())
	}
}

// TestLiar_AnswersNameTheHost: whatever a machine does instead of answering, the caller comes back in time with an error
// that names the host and is safe to show, and an honest machine beside it is not disturbed.
func TestLiar_AnswersNameTheHost(t *testing.T) {
	t.Parallel()
	const odd = "\x1b[2J\x1b]0;owned\x07\u202etxt\u009b31m\xff\xfe\r\nroot@safe:~# "
	signal := func(name, message string) func(string, gossh.Channel) (uint32, bool) {
		return func(line string, c gossh.Channel) (uint32, bool) {
			begin(line, c)
			_, _ = c.SendRequest("exit-signal", false, gossh.Marshal(struct {
				Signal  string
				Dumped  bool
				Message string
				Lang    string
			}{name, true, message, odd}))
			return 0, false
		}
	}
	says := func(code uint32, out, errOut string) func(string, gossh.Channel) (uint32, bool) {
		return func(line string, c gossh.Channel) (uint32, bool) {
			begin(line, c)
			_, _ = io.WriteString(c, out)
			_, _ = io.WriteString(c.Stderr(), errOut)
			return code, true
		}
	}
	ended := make(chan struct{})
	t.Cleanup(func() { close(ended) })
	cases := map[string]struct {
		reason string
		answer func(line string, c gossh.Channel) (uint32, bool)
		// class is that of a write's error; looks answers a query too.
		class fault.Class
	}{
		"never ends":   {"the caller's time is up", func(line string, c gossh.Channel) (uint32, bool) { begin(line, c); <-ended; return 0, false }, fault.Transient},
		"never begins": {"no mark comes", func(string, gossh.Channel) (uint32, bool) { <-ended; return 0, false }, fault.Transient},
		"signal":       {"a signal with a name of its own making", signal(odd+strings.Repeat("S", 5000), odd), fault.Transient},
		"no signal":    {"a signal without a name", signal("", odd), fault.Transient},
		"closes": {"the end comes before the code", func(line string, c gossh.Channel) (uint32, bool) {
			begin(line, c)
			_, _ = io.WriteString(c, "half")
			return 0, false
		}, fault.Transient},
		"noise":             {"the shell is none, and talks", func(_ string, c gossh.Channel) (uint32, bool) { _, _ = io.WriteString(c, odd); return 1, true }, fault.Terminal},
		"says nothing":      {"nor does it say why", func(string, gossh.Channel) (uint32, bool) { return 0, true }, fault.Terminal},
		"fails":             {"a program's last line is shown", says(1, odd, odd+strings.Repeat("é", 3000)), fault.Terminal},
		"code":              {"any code is one", says(4294967295, odd, odd), fault.Terminal},
		"owned by another":  {"the fence's own refusal, forged", says(201, "", "slipway-fence: "+odd+strings.Repeat("o", 5000)+" 1\n"), fault.Terminal},
		"newer epoch":       {"the claim of a newer engine, forged", says(202, "", "slipway-fence: "+odd+"\n"), fault.Terminal},
		"busy":              {"a lock held by who knows", says(203, "", "slipway-fence: "+odd+"\n"), fault.Transient},
		"damaged":           {"a damaged holder", says(204, "", "slipway-fence: "+odd+"\n"), fault.Terminal},
		"broken":            {"a full disk", says(205, "", "slipway-fence: "+odd+"\n"), fault.Terminal},
		"killed":            {"a command that a signal ended", says(137, odd, odd), fault.Transient},
		"another's refusal": {"the mark of the fence in the middle of a line", says(201, "", "x slipway-fence: 1"), fault.Terminal},
	}
	honest := newMachine(t)
	beside := honest.start("w2")
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.answer = tc.answer
			targets := map[string]ssh.Target{"w1": m.start("w1"), "w2": beside}
			pool := ssh.NewPool(func(_ context.Context, name string) (ssh.Target, error) { return targets[name], nil })
			defer pool.Close()
			s, err := pool.Session(t.Context(), "w1")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			begun := time.Now()
			_, err = s.Writer(home).Run(ctx, host.Command{Argv: []string{"systemctl", "restart", "kubelet"}})
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("%s: it took %s", tc.reason, took)
			}
			if err == nil || fault.ClassOf(err) != tc.class {
				t.Errorf("%s: %v is %s, want %s", tc.reason, err, fault.ClassOf(err), tc.class)
			}
			if err != nil {
				// A program that failed by itself is named; the engine says on which host.
				var failed *host.CommandError
				if text := err.Error(); !strings.Contains(text, "w1") && !errors.As(err, &failed) || text != host.Clean(text, 1500) {
					t.Errorf("%s: the error is %q", tc.reason, text)
				}
			}
			other, err := pool.Session(t.Context(), "w2")
			if err == nil {
				_, err = other.Query(t.Context(), host.BootID())
			}
			if err != nil {
				t.Errorf("%s: the machine beside it is disturbed: %v", tc.reason, err)
			}
			tried.add("answers of a lying machine", name)
		})
	}
}

// TestLiar_LoginsEnd: no trick in a login lasts, says anything that steers a terminal, or gets a password twice.
func TestLiar_LoginsEnd(t *testing.T) {
	t.Parallel()
	const odd = "\x1b[2J\x1b]0;owned\x07\u202e\u009b31m\xff\r\n"
	refuse := func(c *gossh.ServerConfig) {
		c.PasswordCallback = func(gossh.ConnMetadata, []byte) (*gossh.Permissions, error) { return nil, errors.New("no") }
	}
	ask := func(how func(ask gossh.KeyboardInteractiveChallenge) error) func(c *gossh.ServerConfig) {
		return func(c *gossh.ServerConfig) {
			c.PasswordCallback = nil
			c.KeyboardInteractiveCallback = func(_ gossh.ConnMetadata, ask gossh.KeyboardInteractiveChallenge) (*gossh.Permissions, error) {
				return nil, how(ask)
			}
		}
	}
	var passwords atomic.Int64
	cases := map[string]struct {
		reason string
		change func(c *gossh.ServerConfig)
		wrap   func(net.Conn) net.Conn
		within time.Duration
	}{
		"banner": {reason: "a banner of 200 KB that paints the terminal", change: func(c *gossh.ServerConfig) {
			refuse(c)
			c.BannerCallback = func(gossh.ConnMetadata) string { return "System is booting up" + strings.Repeat(odd, 20_000) }
		}, within: 5 * time.Second},
		"questions without end": {reason: "questions that ask for nothing", change: ask(func(ask gossh.KeyboardInteractiveChallenge) error {
			for {
				if _, err := ask(odd, odd, nil, nil); err != nil {
					return err
				}
			}
		}), within: 5 * time.Second},
		"the password again": {reason: "a password is told once, however often it is asked for", change: ask(func(ask gossh.KeyboardInteractiveChallenge) error {
			for {
				answers, err := ask("", "", []string{"Password: ", "Again: "}, []bool{false, false})
				if err != nil {
					return err
				}
				for _, a := range answers {
					if a == "right" {
						passwords.Add(1)
					}
				}
			}
		}), within: 5 * time.Second},
		"many questions": {reason: "a thousand questions at once", change: ask(func(ask gossh.KeyboardInteractiveChallenge) error {
			questions, echos := make([]string, 1000), make([]bool, 1000)
			_, err := ask(odd, odd, questions, echos)
			return err
		}), within: 5 * time.Second},
		"a question with echo": {reason: "what is shown is no password", change: ask(func(ask gossh.KeyboardInteractiveChallenge) error {
			_, err := ask(odd, odd, []string{odd + strings.Repeat("?", 100_000)}, []bool{true})
			return err
		}), within: 5 * time.Second},
		"version": {reason: "a version that is a screen", change: func(c *gossh.ServerConfig) {
			refuse(c)
			c.ServerVersion = "SSH-2.0-" + strings.Repeat("x", 200)
		}, within: 5 * time.Second},
		"drip": {reason: "one byte a second", wrap: func(c net.Conn) net.Conn { return &dripping{Conn: c} }, within: 13 * time.Second},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.change, m.wrap = tc.change, tc.wrap
			target := m.start("w1")
			begun := time.Now()
			s, err := ssh.Dial(t.Context(), target)
			if err == nil {
				_ = s.Close()
				t.Fatalf("%s: the login worked", tc.reason)
			}
			if took := time.Since(begun); took > tc.within {
				t.Errorf("%s: it took %s", tc.reason, took)
			}
			if text := err.Error(); !strings.Contains(text, "w1") || text != host.Clean(text, 1000) || strings.Contains(text, "right") {
				t.Errorf("%s: the error is %q", tc.reason, text)
			}
			tried.add("tricks in a login", name)
		})
	}
	t.Cleanup(func() {
		if n := passwords.Load(); n > 1 {
			t.Errorf("the password was told %d times", n)
		}
	})
}

// dripping sends one byte a second.
type dripping struct{ net.Conn }

func (d *dripping) Write(b []byte) (int, error) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for i := range b {
		if _, err := d.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
		<-ticker.C
	}
	return len(b), nil
}
