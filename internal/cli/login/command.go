// Package login owns the commands by which a person logs in to a server and out again, sets a fresh server up, and looks
// after the own tokens and password. It must never trust a server that the person has not, nor show a secret twice.
package login

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"slipway.dev/slipway/internal/cli/output"
)

// Config is what the commands are made from.
type Config struct {
	output.Deps
	// Kubeconfig gives the file that login writes and that every command uses after it.
	Kubeconfig func() (string, error)
	// ReadPassword reads one line of the terminal without showing it; nil means the terminal of this process.
	ReadPassword func(context.Context) (string, error)
}

// New gives the commands login, logout, setup, passwd and token.
func New(config Config) []*cobra.Command {
	if config.ReadPassword == nil {
		config.ReadPassword = readTerminal
	}
	return []*cobra.Command{newLogin(config), newLogout(config), newSetup(config), newPasswd(config), newToken(config)}
}

// readTerminal gives the terminal back as it was, also when ctx ends first.
func readTerminal(ctx context.Context) (string, error) {
	in := int(os.Stdin.Fd())
	before, err := term.GetState(in)
	if err != nil {
		return "", fmt.Errorf("cannot read a password: %w", err)
	}
	type line struct {
		text []byte
		err  error
	}
	read := make(chan line, 1)
	go func() {
		text, err := term.ReadPassword(in)
		read <- line{text, err}
	}()
	select {
	case <-ctx.Done():
		if err := term.Restore(in, before); err != nil {
			return "", fmt.Errorf("cannot restore the terminal: %w", err)
		}
		return "", ctx.Err()
	case l := <-read:
		return string(l.text), l.err
	}
}
