package login

import (
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/internal/cli/output"
)

func newSetup(config Config) *cobra.Command {
	var t trust
	var passwordFile string
	cmd := &cobra.Command{
		Use:   "setup LINK",
		Short: "Choose the password of admin on a fresh server, with the link that the server printed at its start",
		Example: "  slipway setup 'https://slipway.example:8443/slipway/setup#…'\n" +
			"  slipway setup - --password-file FILE   # the link comes on standard input",
		Args: output.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			text := args[0]
			if text == "-" {
				// An argument can be seen by everyone on this machine.
				if passwordFile == "" || passwordFile == "-" {
					return output.Usagef("with the link on standard input, give --password-file FILE")
				}
				var err error
				if text, err = config.fromFile("-"); err != nil {
					return err
				}
			}
			link, err := url.Parse(text)
			if err != nil || link.Fragment == "" {
				return output.Usagef("the link must be the whole one, with what follows the #; put it in quotes")
			}
			server, err := serverAddress("https://" + link.Host)
			if err != nil {
				return err
			}
			r, err := config.reach(cmd.Context(), server, t)
			if err != nil {
				return err
			}
			password, err := config.newPassword(cmd.Context(), "password for admin", passwordFile, "--password-file")
			if err != nil {
				return err
			}
			if err := r.call(cmd.Context(), "POST", "slipway/v1/setup", map[string]string{"token": link.Fragment, "password": password}, nil); err != nil {
				return fmt.Errorf("cannot set %s up: %w", server, told(err))
			}
			_, err = fmt.Fprintf(config.Streams.ErrOut, "%s is set up\nlog in: slipway login %s --user admin\n", server, server)
			return err
		},
	}
	t.flags(cmd.Flags())
	cmd.Flags().StringVar(&passwordFile, "password-file", "", "file with the password to choose, or - for standard input")
	return cmd
}
