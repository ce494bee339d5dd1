package ssh

import (
	"context"
	"os"
	"syscall"
	"testing"
	"time"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
)

// TestOrphan: a command whose caller is gone runs to its end, however much it prints, and then gives
// back the machine's lock and its place on the connection.
func TestOrphan(t *testing.T) {
	t.Parallel()
	target := startSSHD(t, "true")
	cases := map[string]struct {
		reason string
		leave  func(p *proxy, cancel func())
		alive  bool
	}{
		"Cut":    {"the connection was cut", func(p *proxy, _ func()) { p.cut() }, false},
		"Cancel": {"the caller gave up", func(_ *proxy, cancel func()) { cancel() }, true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			p := startProxy(t, target.endpoint())
			target := target
			target.Port = p.port()
			target.place = host.FencePlace{State: dir + "/state", Runtime: dir + "/run", Wait: 20}
			s := dialTest(t, target)
			if err := syscall.Mkfifo(dir+"/fifo", 0o600); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			lost := make(chan error, 1)
			script := `cat "$1"; i=0; while [ $i -lt 5000 ]; do echo "line $i"; echo "line $i" >&2; i=$((i + 1)); done; echo ended >"$2"`
			go func() {
				_, err := s.Writer(host.Fence{Owner: "alpha", Epoch: 1}).Run(ctx, host.Command{Argv: []string{"sh", "-c", script, "sh", dir + "/fifo", dir + "/end"}})
				lost <- err
			}()
			input, err := os.OpenFile(dir+"/fifo", os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			tc.leave(p, cancel)
			if err := <-lost; fault.ReasonOf(err) != host.ReasonOutcomeUnknown {
				t.Errorf("%s: got %v", tc.reason, err)
			}
			if !tc.alive {
				// The session hears of the cut a moment after the command does.
				select {
				case <-s.Done():
				case <-time.After(5 * time.Second):
				}
			}
			if s.alive() != tc.alive {
				t.Errorf("%s: the session lives: %t", tc.reason, s.alive())
			}
			if tc.alive {
				// sshd counts the orphan among its sessions until it ends, and so do we.
				if got := len(s.slots); got != 1 {
					t.Errorf("%s: %d places are taken", tc.reason, got)
				}
			}
			_ = input.Close()
			again := dialTest(t, target)
			if _, err := again.Writer(host.Fence{Owner: "alpha", Epoch: 1}).Run(t.Context(), host.Command{Argv: []string{"true"}}); err != nil {
				t.Error(err)
			}
			if got, err := again.ReadFile(t.Context(), dir+"/end"); string(got) != "ended\n" {
				t.Errorf("%s: the orphan did not reach its end: %v", tc.reason, err)
			}
			for range maxChannels {
				if !tc.alive {
					break
				}
				if _, err := s.slot(t.Context()); err != nil {
					t.Errorf("%s: a place was lost: %v", tc.reason, err)
				}
			}
		})
	}
}
