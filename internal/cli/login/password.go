package login

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"slipway.dev/slipway/internal/cli/output"
)

// maxPassword bounds what is read of a file.
const maxPassword = 16 << 10

// fromFile gives the first line of a file, or of standard input for "-".
func (c Config) fromFile(path string) (string, error) {
	var in io.Reader = c.Streams.In
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", fmt.Errorf("cannot read the password: %w", err)
		}
		defer f.Close()
		in = f
	}
	content, err := io.ReadAll(io.LimitReader(in, maxPassword))
	if err != nil {
		return "", fmt.Errorf("cannot read the password: %w", err)
	}
	first, _, _ := strings.Cut(string(content), "\n")
	if first = strings.TrimSuffix(first, "\r"); first == "" {
		return "", output.Refused("NoPassword", "put the password on the first line", "cannot use %s: it is empty", path)
	}
	return first, nil
}

// password gives what a file holds, or asks on the terminal. what names it, flag is how to give it without a terminal.
func (c Config) password(ctx context.Context, what, file, flag string) (string, error) {
	if file != "" {
		return c.fromFile(file)
	}
	if !c.Terminal {
		return "", output.Usagef("there is no terminal to ask for the %s: give %s FILE, or - for standard input", what, flag)
	}
	text, err := c.ask(ctx, what)
	if err == nil && text == "" {
		err = output.Refused("NoPassword", "", "cannot go on without a %s", what)
	}
	return text, err
}

func (c Config) ask(ctx context.Context, what string) (string, error) {
	if _, err := fmt.Fprintf(c.Streams.ErrOut, "%s%s: ", strings.ToUpper(what[:1]), output.Line(what[1:])); err != nil {
		return "", err
	}
	text, err := c.ReadPassword(ctx)
	if err != nil {
		return "", fmt.Errorf("cannot read the %s: %w", what, err)
	}
	// The person's own line end was not shown.
	_, err = fmt.Fprintln(c.Streams.ErrOut)
	return text, err
}

// newPassword is password for one that is chosen now: on a terminal it is asked for twice.
func (c Config) newPassword(ctx context.Context, what, file, flag string) (string, error) {
	text, err := c.password(ctx, what, file, flag)
	if err != nil || file != "" {
		return text, err
	}
	again, err := c.ask(ctx, what+" again")
	if err != nil {
		return "", err
	}
	if again != text {
		return "", output.Refused("PasswordsDiffer", "type the same one twice", "the two passwords differ")
	}
	return text, nil
}
