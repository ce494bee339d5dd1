package user

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

// maxPassword bounds what is read as a password.
const maxPassword = 1024

// password is what the flags say about a new password.
type password struct {
	file       string
	stdin      bool
	none       bool
	mustChange bool
}

func (p *password) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.file, "password-file", "", "file with the password")
	cmd.Flags().BoolVar(&p.stdin, "password-stdin", false, "read the password from standard input")
	cmd.Flags().BoolVar(&p.mustChange, "must-change", true, "the person chooses another one at the next login")
}

func (p *password) check(terminal bool) error {
	switch {
	case p.file != "" && p.stdin, p.none && (p.file != "" || p.stdin):
		return output.Usagef("cannot combine the flags about the password: give one")
	case p.file == "" && !p.stdin && !p.none && !terminal:
		return output.Usagef("cannot ask for the password: give --password-file or --password-stdin")
	default:
		return nil
	}
}

// read gives the password: from the flags, or asked twice on the terminal without showing it.
func (p *password) read(deps output.Deps, name string) (string, error) {
	var raw []byte
	var err error
	switch {
	case p.file != "":
		raw, err = os.ReadFile(p.file)
	case p.stdin:
		raw, err = io.ReadAll(io.LimitReader(deps.Streams.In, maxPassword+2))
	default:
		return ask(deps, name)
	}
	if err != nil {
		return "", fmt.Errorf("cannot read the password: %w", err)
	}
	// The line end is what editors and echo put there.
	return checked(string(bytes.TrimRight(raw, "\r\n")))
}

func checked(text string) (string, error) {
	if text == "" {
		return "", output.Usagef("cannot use the password: it is empty")
	}
	if len(text) > maxPassword {
		return "", output.Usagef("cannot use the password: it is longer than %d bytes", maxPassword)
	}
	return text, nil
}

func ask(deps output.Deps, name string) (string, error) {
	in, ok := deps.Streams.In.(*os.File)
	if !ok {
		return "", output.Usagef("cannot ask for the password: give --password-file or --password-stdin")
	}
	var answers [2]string
	for i, question := range []string{"New password of " + name + ": ", "Once more: "} {
		if _, err := fmt.Fprint(deps.Streams.ErrOut, output.Clean(question)); err != nil {
			return "", err
		}
		answer, err := term.ReadPassword(int(in.Fd()))
		if err != nil {
			return "", fmt.Errorf("cannot read the password: %w", err)
		}
		if _, err := fmt.Fprintln(deps.Streams.ErrOut); err != nil {
			return "", err
		}
		answers[i] = string(answer)
	}
	if answers[0] != answers[1] {
		return "", output.Refused("PasswordsDiffer", "run the command again", "cannot use the password: the two differ")
	}
	return checked(answers[0])
}

// send has the server store the password.
func (p *password) send(ctx context.Context, connection *output.Connection, name, text string) error {
	body, err := json.Marshal(map[string]any{"password": text, "mustChange": p.mustChange})
	if err != nil {
		return fmt.Errorf("cannot set the password of user %s: %w", name, err)
	}
	err = connection.REST.Post().AbsPath("slipway", "v1", "users", name, "password").
		SetHeader("Content-Type", "application/json").SetHeader("Accept", "application/json").Body(body).Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("cannot set the password of user %s: %w", name, err)
	}
	return nil
}

func newSetPassword(deps output.Deps) *cobra.Command {
	var p password
	cmd := &cobra.Command{
		Use:   "set-password NAME",
		Short: "Give a local account a new password; every session and token of theirs ends",
		Args:  output.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := p.check(deps.Terminal); err != nil {
				return err
			}
			connection, err := deps.Connect("")
			if err != nil {
				return err
			}
			text, err := p.read(deps, args[0])
			if err != nil {
				return err
			}
			if err := p.send(cmd.Context(), connection, args[0], text); err != nil {
				return err
			}
			_, err = fmt.Fprintf(deps.Streams.Out, "user %s has a new password\n", output.Line(args[0]))
			return err
		},
	}
	p.flags(cmd)
	return cmd
}

func newAdd(deps output.Deps) *cobra.Command {
	var p password
	var spec v1alpha1.UserSpec
	var role string
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Add a local account; the person chooses another password at the first login",
		Long: "Add a local account. Passwords come from the terminal, a file or standard input, never from the command line. People\n" +
			"from the organisation's directory are not added: they get an account at their first login.",
		Args: output.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if spec.PlatformRole, err = roleOf(role); err != nil {
				return err
			}
			if err := p.check(deps.Terminal); err != nil {
				return err
			}
			connection, err := deps.Connect("")
			if err != nil {
				return err
			}
			return add(cmd.Context(), deps, connection, &v1alpha1.User{ObjectMeta: metav1.ObjectMeta{Name: args[0]}, Spec: spec}, &p)
		},
	}
	p.flags(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&p.none, "no-password", false, "set the password later")
	flags.StringVar(&spec.DisplayName, "display-name", "", "name for people")
	flags.StringVar(&spec.Email, "email", "", "e-mail address")
	flags.StringVar(&role, "role", "none", "role in the whole platform: SystemAdministrator, Auditor or none")
	return cmd
}

// add makes the account with its password, or leaves nothing behind.
func add(ctx context.Context, deps output.Deps, connection *output.Connection, u *v1alpha1.User, p *password) error {
	var text string
	if !p.none {
		var err error
		if text, err = p.read(deps, u.Name); err != nil {
			return err
		}
	}
	if err := connection.Client.Create(ctx, u); err != nil {
		return fmt.Errorf("cannot add user %s: %w", u.Name, err)
	}
	if !p.none {
		if err := p.send(ctx, connection, u.Name, text); err != nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
			defer cancel()
			if undo := connection.Client.Delete(ctx, u); undo != nil {
				return errors.Join(err, fmt.Errorf("cannot take back user %s: %w", u.Name, undo))
			}
			return err
		}
	}
	_, err := fmt.Fprintf(deps.Streams.Out, "user %s added; let them work: slipway project add-member PROJECT %s --role ROLE\n", u.Name, u.Name)
	return err
}
