package login

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/clientcmd"

	"slipway.dev/slipway/internal/cli/output"
)

func newLogout(config Config) *cobra.Command {
	return &cobra.Command{
		Use:   "logout",
		Short: "End the login of this machine: on the server, and in ~/.slipway/kubeconfig",
		Args:  output.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := config.Kubeconfig()
			if err != nil {
				return err
			}
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
				_, err := fmt.Fprintln(config.Streams.ErrOut, "nobody is logged in on this machine")
				return err
			}
			settings, err := clientcmd.BuildConfigFromFlags("", path)
			if err != nil {
				return fmt.Errorf("cannot read the login: %w", err)
			}
			server, err := output.NewREST(settings)
			if err != nil {
				return err
			}
			err = server.Post().AbsPath("slipway", "v1", "logout").Do(cmd.Context()).Error()
			// A token that is over needs no end.
			if err != nil && !apierrors.IsUnauthorized(err) {
				return fmt.Errorf("cannot log out of %s: %w; the login is still in %s", settings.Host, err, path)
			}
			if err := os.Remove(path); err != nil {
				return fmt.Errorf("cannot forget the login: %w", err)
			}
			_, err = fmt.Fprintln(config.Streams.ErrOut, "logged out of "+settings.Host)
			return err
		},
	}
}
