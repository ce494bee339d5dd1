// Package host owns the command `slipway host`: adding machines with their login and pinned key, looking at them and
// taking them out again. It must never reach a machine itself: the server does, and says what it found.
package host

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

// New gives the command `host` with its sub-commands.
func New(deps output.Deps) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "host",
		Aliases: []string{"hosts"},
		Short:   "Add machines, look at them and take them out",
	}
	return output.Noun(cmd, newAdd(deps), newCheck(deps), newList(deps), newRemove(deps))
}

func newList(deps output.Deps) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the hosts",
		Args:    output.Args(cobra.NoArgs),
	}
	format := output.FormatFlag(cmd, output.FormatWide, output.FormatJSON, output.FormatYAML, output.FormatName)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		connection, err := deps.Connect("")
		if err != nil {
			return err
		}
		var list v1alpha1.HostList
		if err := connection.Client.List(cmd.Context(), &list); err != nil {
			return fmt.Errorf("cannot list hosts: %w", err)
		}
		return printList(deps, connection, *format, &list)
	}
	return cmd
}

func newCheck(deps output.Deps) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check NAME",
		Short: "Show what the server knows of a host; fails when it cannot be reached",
		Args:  output.Args(cobra.ExactArgs(1)),
	}
	format := output.FormatFlag(cmd, output.FormatJSON, output.FormatYAML, output.FormatName)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		connection, err := deps.Connect("")
		if err != nil {
			return err
		}
		host, err := get(cmd.Context(), connection, args[0])
		if err != nil {
			return err
		}
		if format.Machine() {
			err = output.PrintObject(deps.Streams.Out, *format, host, connection.Client.Scheme())
		} else {
			err = printHost(deps, host)
		}
		if err != nil {
			return err
		}
		return unreachable(host)
	}
	return cmd
}

func get(ctx context.Context, connection *output.Connection, name string) (*v1alpha1.Host, error) {
	var host v1alpha1.Host
	if err := connection.Client.Get(ctx, client.ObjectKey{Name: name}, &host); err != nil {
		return nil, fmt.Errorf("cannot find host %s: %w", name, err)
	}
	return &host, nil
}
