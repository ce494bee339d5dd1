package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/internal/cli/output"
)

func newKubeconfig(deps output.Deps, project *string) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "kubeconfig NAME",
		Short: "Get a kubeconfig of a cluster, short-lived and your own",
		Args:  output.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			connection, err := deps.Connect(*project)
			if err != nil {
				return err
			}
			content, err := connection.Kubeconfig(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if file == "" || file == "-" {
				_, err := deps.Streams.Out.Write(content)
				return err
			}
			if err := writePrivate(file, content); err != nil {
				return err
			}
			_, err = fmt.Fprintf(deps.Streams.ErrOut, "written to %s; use it: kubectl --kubeconfig %s get nodes\n", file, file)
			return err
		},
	}
	cmd.Flags().StringVar(&file, "output", "", "file to write, for its owner's eyes only (default: standard output)")
	return cmd
}

// writePrivate puts content into path with mode 600; the file is never there by half or with another mode.
func writePrivate(path string, content []byte) (err error) {
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("cannot write kubeconfig %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot write kubeconfig %s: %w", path, errors.Join(err, os.Remove(temporary.Name())))
		}
	}()
	if _, err = temporary.Write(content); err != nil {
		return errors.Join(err, temporary.Close())
	}
	if err = temporary.Close(); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), path)
}
