package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

func newRenew(deps output.Deps, project *string) *cobra.Command {
	var yes, noWait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "renew-certs NAME",
		Short: "Renew every certificate of a cluster and have the new ones served",
		Long: "Renew every certificate of the control planes, restart what serves them one control plane after another, and give\n" +
			"kubelets whose certificate has ended a new one. It works too when everything has ended and the cluster is down.\n" +
			"The certificate authorities stay, so kubeconfigs that were issued stay good until they end by themselves.",
		Args: output.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			connection, err := deps.Connect(*project)
			if err != nil {
				return err
			}
			ctx, cancel := limit(cmd.Context(), timeout)
			defer cancel()
			cluster, err := get(ctx, connection, args[0])
			if err != nil {
				return err
			}
			if !yes {
				return proposeRenewal(ctx, deps, connection, cluster, noWait)
			}
			op := newOperation(cluster.Namespace, cluster.Name, v1alpha1.VerbRenew)
			if err := connection.Client.Create(ctx, op); err != nil {
				return fmt.Errorf("cannot renew the certificates of cluster %s: %w", cluster.Name, err)
			}
			if noWait {
				_, err := fmt.Fprintf(deps.Streams.Out, "operation %s renews the certificates\n", op.Name)
				return err
			}
			return followOne(ctx, deps, connection, op)
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait for the work")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "how long to wait (default: no limit)")
	return cmd
}

// proposeRenewal shows the plan and what it does to the cluster, asks, and has exactly that done.
func proposeRenewal(ctx context.Context, deps output.Deps, connection *output.Connection, cluster *v1alpha1.Cluster, noWait bool) error {
	if !deps.Terminal {
		return output.Usagef("cannot ask whether to renew the certificates of cluster %s: give --yes", cluster.Name)
	}
	p := planning{deps: deps, connection: connection, name: cluster.Name, verb: v1alpha1.VerbRenew, propose: true}
	op, err := p.make(ctx)
	if err != nil {
		return err
	}
	if err := p.print(ctx, op); err != nil {
		return err
	}
	if err := agree(ctx, deps, op); err != nil {
		return err
	}
	return approveAndFollow(ctx, deps, connection, op, noWait)
}
