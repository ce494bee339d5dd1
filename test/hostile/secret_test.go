package hostile

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"

	gossh "golang.org/x/crypto/ssh"

	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/host/ssh"
)

// TestSecrets_GoWhereTheyBelong: a password that people give reaches the login, and a sudo password the question of sudo,
// exactly as it is; nothing of either becomes a word of the command or its input.
func TestSecrets_GoWhereTheyBelong(t *testing.T) {
	t.Parallel()
	prompt, mark := regexp.MustCompile(`slipway-password-[A-Z0-9]+:`), regexp.MustCompile(`slipway-start-[A-Z0-9]+`)
	const input = "the input of the command\n"
	s, accepted, each := newSource(3000), 0, size(2400)
	s.longest = 300
	for n := range each {
		ownPassword, ownSudo := fmt.Sprintf("-login-%d-", n), fmt.Sprintf("-sudo-%d-", n)
		password, sudo := s.next()+ownPassword+s.next(), s.next()+ownSudo+s.next()
		tried.add("passwords and sudo passwords", password, sudo)
		m := newMachine(t)
		var got struct{ password, sudo, input, line string }
		m.change = func(c *gossh.ServerConfig) {
			c.PasswordCallback = func(_ gossh.ConnMetadata, p []byte) (*gossh.Permissions, error) {
				got.password = string(p)
				return nil, nil
			}
		}
		m.answer = func(line string, c gossh.Channel) (uint32, bool) {
			got.line = line
			_, _ = io.WriteString(c.Stderr(), prompt.FindString(line))
			// What stands behind the first line is the command's.
			var answer strings.Builder
			for b := make([]byte, 1); b[0] != '\n'; answer.Write(b) {
				if _, err := c.Read(b); err != nil {
					return 1, true
				}
			}
			got.sudo = strings.TrimSuffix(answer.String(), "\n")
			_, _ = io.WriteString(c, mark.FindString(line)+"\n")
			_, _ = io.WriteString(c.Stderr(), mark.FindString(line)+"\n")
			rest, _ := io.ReadAll(c)
			got.input = string(rest)
			return 0, true
		}
		target := m.start("w1")
		target.User, target.Auth.Password, target.SudoPassword = "ops", password, sudo
		session, err := ssh.Dial(t.Context(), target)
		if err != nil {
			if !strings.ContainsAny(sudo, "\x00\n\r") {
				t.Fatalf("password %q with sudo password %q: %v", password, sudo, err)
			}
			if strings.Contains(err.Error(), ownSudo) || got.password != "" {
				t.Fatalf("the refusal of %q sends or says it: %v", sudo, err)
			}
			continue
		}
		accepted++
		_, err = session.Writer(home).Run(t.Context(), host.Command{Argv: []string{"tee", "/x"}, Stdin: strings.NewReader(input)})
		_ = session.Close()
		_ = m.listener.Close()
		if err != nil {
			t.Fatalf("password %q with sudo password %q: %v", password, sudo, err)
		}
		if got.password != password || got.sudo != sudo {
			t.Fatalf("password %q became %q, sudo password %q became %q", password, got.password, sudo, got.sudo)
		}
		// The fence frames the input; what is around it holds neither.
		if all := got.input + got.line; !strings.Contains(got.input, input) || strings.Contains(all, ownSudo) || strings.Contains(all, ownPassword) {
			t.Fatalf("passwords %q and %q: the line is %q, the input %q", password, sudo, got.line, got.input)
		}
	}
	if accepted < each/4 {
		t.Errorf("only %d of %d logins came through: the generator is too wild", accepted, each)
	}
}
