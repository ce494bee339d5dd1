package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"slipway.dev/slipway/internal/cli/output"
)

// kubeconfigWish is what the server is asked for.
type kubeconfigWish struct {
	Hours  int    `json:"hours,omitempty"`
	Reason string `json:"reason,omitempty"`
}

func newKubeconfig(deps output.Deps, project *string) *cobra.Command {
	var file string
	var wish kubeconfigWish
	var breakGlass bool
	cmd := &cobra.Command{
		Use:   "kubeconfig NAME",
		Short: "Get a kubeconfig of a cluster, short-lived and your own",
		Long: "Get a kubeconfig of a cluster. It goes through Slipway with the rights that you have in the cluster's project, and ends\n" +
			"with them. With --break-glass it goes straight to the cluster with every right there, for when Slipway is away:\n" +
			"nobody can take that back before its end, and the audit log keeps your reason.",
		Args: output.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !breakGlass && wish.Reason != "" {
				return output.Usagef("--reason goes with --break-glass")
			}
			if breakGlass && wish.Reason == "" {
				return output.Usagef("--break-glass needs --reason TEXT: why this way, for the audit log")
			}
			if cmd.Flags().Changed("hours") && wish.Hours < 1 {
				return output.Usagef("--hours must be 1 or more")
			}
			connection, err := deps.Connect(*project)
			if err != nil {
				return err
			}
			content, err := askKubeconfig(cmd.Context(), connection, args[0], breakGlass, wish)
			if err != nil {
				return err
			}
			if file == "" || file == "-" {
				if _, err := deps.Streams.Out.Write(content); err != nil {
					return err
				}
			} else if err := writePrivate(file, content); err != nil {
				return err
			}
			return say(deps, content, file)
		},
	}
	cmd.Flags().StringVar(&file, "output", "", "file to write, for its owner's eyes only (default: standard output)")
	cmd.Flags().IntVar(&wish.Hours, "hours", 0, "hours until it ends (default: 24, or 1 with --break-glass)")
	cmd.Flags().BoolVar(&breakGlass, "break-glass", false, "go straight to the cluster with every right, for 24 hours at most")
	cmd.Flags().StringVar(&wish.Reason, "reason", "", "why --break-glass is needed, in 10 to 200 characters")
	return cmd
}

func askKubeconfig(ctx context.Context, connection *output.Connection, name string, breakGlass bool, wish kubeconfigWish) ([]byte, error) {
	body, err := json.Marshal(wish)
	if err != nil {
		return nil, fmt.Errorf("cannot get the kubeconfig of cluster %s: %w", name, err)
	}
	way := "kubeconfig"
	if breakGlass {
		way = "breakglass"
	}
	content, err := output.Raw(connection.REST.Post().AbsPath("slipway", "v1", "projects", connection.Project, "clusters", name, way).
		SetHeader("Accept", "application/yaml").SetHeader("Content-Type", "application/json").Body(body).Do(ctx))
	if apierrors.IsConflict(err) {
		return nil, output.Refused("NotCreated", connection.Suggest("slipway cluster status "+name), "cannot get the kubeconfig of cluster %s: %w", name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot get the kubeconfig of cluster %s: %w", name, err)
	}
	return content, nil
}

// say tells in one line what the kubeconfig is and when it ends, as its first line does.
func say(deps output.Deps, content []byte, file string) error {
	first, _, _ := strings.Cut(string(content), "\n")
	text, known := strings.CutPrefix(first, "# ")
	if !known {
		text = "kubeconfig"
	}
	if file != "" && file != "-" {
		text += "; use it: kubectl --kubeconfig " + file + " get nodes"
	}
	_, err := fmt.Fprintln(deps.Streams.ErrOut, output.Clean(text))
	return err
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
