package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

const createExample = `  # one control plane and two workers
  slipway cluster create demo --kubernetes v1.36.3 --control-plane cp1 --worker w1 --worker w2

  # a single-node cluster, from a file
  slipway cluster create one -f one.yaml`

func newCreate(deps output.Deps, project *string) *cobra.Command {
	var flags specFlags
	var noWait, dryRun bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:     "create NAME",
		Short:   "Create a cluster and follow the work to its end",
		Long:    "Create a cluster and follow the work to its end. Interrupting the command leaves the work running on the server.",
		Example: createExample,
		Args:    output.Args(cobra.ExactArgs(1)),
	}
	flags.add(cmd)
	format := output.FormatFlag(cmd, output.FormatJSON, output.FormatYAML, output.FormatName)
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait for the work")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only let the server check the cluster; nothing is created")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "how long to wait (default: no limit)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		connection, err := deps.Connect(*project)
		if err != nil {
			return err
		}
		cluster, err := flags.cluster(cmd.Context(), connection, args[0], deps.Streams.In)
		if err != nil {
			return err
		}
		ctx, cancel := limit(cmd.Context(), timeout)
		defer cancel()
		if err := create(ctx, deps, connection, cluster, *format, dryRun); err != nil {
			return err
		}
		if dryRun || noWait || format.Machine() {
			return nil
		}
		return followCreate(ctx, deps, connection, cluster)
	}
	return cmd
}

// limit gives a context that ends after timeout; 0 means no limit.
func limit(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}

func create(ctx context.Context, deps output.Deps, connection *output.Connection, cluster *v1alpha1.Cluster, format output.Format, dryRun bool) error {
	var options []client.CreateOption
	if dryRun {
		options = append(options, client.DryRunAll)
	}
	if err := connection.Client.Create(ctx, cluster, options...); err != nil {
		return invalid("create", cluster.Name, err)
	}
	if format.Machine() {
		return output.PrintObject(deps.Streams.Out, format, cluster, connection.Client.Scheme())
	}
	text := fmt.Sprintf("cluster %s accepted", cluster.Name)
	if dryRun {
		text = fmt.Sprintf("cluster %s is valid; nothing was created (dry run)", cluster.Name)
	}
	_, err := fmt.Fprintln(deps.Streams.Out, text)
	return err
}

func followCreate(ctx context.Context, deps output.Deps, connection *output.Connection, cluster *v1alpha1.Cluster) error {
	follower := output.NewFollower(deps, connection)
	op, err := follower.Follow(ctx, newest(cluster, v1alpha1.VerbCreate), client.MatchingLabels{v1alpha1.LabelCluster: cluster.Name})
	if err != nil {
		return connection.Left(err, op, "the end of creating cluster "+cluster.Name)
	}
	if op.Status.Phase == v1alpha1.OperationSucceeded {
		if _, err := fmt.Fprintf(deps.Streams.Out, "cluster %s created in %s\n", cluster.Name, output.Took(op)); err != nil {
			return err
		}
	}
	if err := finish(deps, connection, follower, op); err != nil {
		return err
	}
	file := cluster.Name + ".kubeconfig"
	_, err = fmt.Fprintf(deps.Streams.Out, "To use it:\n  %s\n  kubectl --kubeconfig %s get nodes\n",
		connection.Suggest("slipway cluster kubeconfig "+cluster.Name+" --output "+file), file)
	return err
}
