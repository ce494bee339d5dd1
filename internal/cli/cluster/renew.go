package cluster

import (
	"context"
	"fmt"
	"strings"
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
			if err := agreeToRenew(ctx, deps, cluster, yes); err != nil {
				return err
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

func agreeToRenew(ctx context.Context, deps output.Deps, cluster *v1alpha1.Cluster, yes bool) error {
	if yes {
		return nil
	}
	if !deps.Terminal {
		return output.Usagef("cannot ask whether to renew the certificates of cluster %s: give --yes", cluster.Name)
	}
	interrupted := ""
	if len(cluster.Spec.ControlPlane.Hosts) == 1 {
		interrupted = " Its API server, the only one, is away for some seconds; pods run on."
	}
	if _, err := fmt.Fprintf(deps.Streams.ErrOut, "This renews every certificate of cluster %s and restarts its control planes, one after another.%s\nGo on? [y/N] ",
		cluster.Name, interrupted); err != nil {
		return err
	}
	answer, err := readLine(ctx, deps)
	if err != nil {
		return err
	}
	if answer = strings.ToLower(answer); answer != "y" && answer != "yes" {
		return output.Refused("NotConfirmed", "", "cannot renew the certificates of cluster %s: not confirmed", cluster.Name)
	}
	return nil
}
