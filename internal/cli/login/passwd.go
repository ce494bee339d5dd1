package login

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/internal/cli/output"
)

func newPasswd(config Config) *cobra.Command {
	var current, chosen string
	cmd := &cobra.Command{
		Use:   "passwd",
		Short: "Change your own password",
		Long:  "Change your own password. It ends everything else that you are logged in with, personal tokens among it.",
		Args:  output.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			connection, err := config.Connect("")
			if err != nil {
				return err
			}
			old, err := config.password(cmd.Context(), "current password", current, "--password-file")
			if err != nil {
				return err
			}
			password, err := config.newPassword(cmd.Context(), "new password", chosen, "--new-password-file")
			if err != nil {
				return err
			}
			if err := post(cmd.Context(), connection, map[string]string{"current": old, "new": password}, nil, "me", "password"); err != nil {
				return fmt.Errorf("cannot change the password: %w", told(err))
			}
			_, err = fmt.Fprintln(config.Streams.ErrOut, "password changed; everything else you were logged in with has ended")
			return err
		},
	}
	cmd.Flags().StringVar(&current, "password-file", "", "file with the current password, or - for standard input")
	cmd.Flags().StringVar(&chosen, "new-password-file", "", "file with the password to choose")
	return cmd
}

// post sends a body to one of Slipway's own paths and decodes the answer into the object, if there is one.
func post(ctx context.Context, connection *output.Connection, body, into any, path ...string) error {
	content, err := json.Marshal(body)
	if err != nil {
		return err
	}
	answer, err := output.Raw(connection.REST.Post().AbsPath(append([]string{"slipway", "v1"}, path...)...).
		SetHeader("Accept", "application/json").SetHeader("Content-Type", "application/json").Body(content).Do(ctx))
	if err != nil || into == nil {
		return err
	}
	return json.Unmarshal(answer, into)
}
