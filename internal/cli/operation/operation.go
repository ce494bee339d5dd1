// Package operation owns the command `slipway operation`: looking at operations, their logs and their plans, and
// approving, retrying and aborting them. It must never write a status: people write the spec, the server the rest.
package operation

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

// New gives the command `operation` with its sub-commands.
func New(deps output.Deps) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "operation",
		Aliases: []string{"operations", "op"},
		Short:   "Look at operations; approve, retry and abort them",
	}
	project := output.ProjectFlag(cmd)
	return output.Noun(cmd, newList(deps, project), newShow(deps, project), newLogs(deps, project),
		newApprove(deps, project), newRetry(deps, project), newAbort(deps, project))
}

func get(ctx context.Context, connection *output.Connection, name string) (*v1alpha1.Operation, error) {
	var op v1alpha1.Operation
	if err := connection.Client.Get(ctx, client.ObjectKey{Namespace: connection.Project, Name: name}, &op); err != nil {
		return nil, fmt.Errorf("cannot find operation %s: %w", name, err)
	}
	return &op, nil
}

func newList(deps output.Deps, project *string) *cobra.Command {
	var cluster string
	var all bool
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the operations of a project",
		Args:    output.Args(cobra.NoArgs),
	}
	format := output.FormatFlag(cmd, output.FormatWide, output.FormatJSON, output.FormatYAML, output.FormatName)
	cmd.Flags().StringVar(&cluster, "cluster", "", "only those of this cluster")
	cmd.Flags().BoolVarP(&all, "all-projects", "A", false, "those of every project that you may see")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		connection, err := deps.Connect(*project)
		if err != nil {
			return err
		}
		var options []client.ListOption
		if cluster != "" {
			options = append(options, client.MatchingLabels{v1alpha1.LabelCluster: cluster})
		}
		var list v1alpha1.OperationList
		if all {
			err = connection.ListAll(cmd.Context(), &list, options...)
		} else {
			err = connection.Client.List(cmd.Context(), &list, append(options, client.InNamespace(connection.Project))...)
		}
		if err != nil {
			return fmt.Errorf("cannot list operations: %w", err)
		}
		return printList(deps, connection, *format, all, &list)
	}
	return cmd
}

func printList(deps output.Deps, connection *output.Connection, format output.Format, all bool, list *v1alpha1.OperationList) error {
	if format.Machine() {
		return output.PrintList(deps.Streams.Out, format, list, connection.Client.Scheme())
	}
	if len(list.Items) == 0 {
		_, err := fmt.Fprintln(deps.Streams.ErrOut, "No operations.")
		return err
	}
	heading := []string{"NAME", "CLUSTER", "VERB", "PHASE", "STEPS", "STAGE", "AGE"}
	if format == output.FormatWide {
		heading = append(heading, "TOOK", "MESSAGE")
	}
	if all {
		heading = append([]string{"PROJECT"}, heading...)
	}
	rows := [][]string{heading}
	for i := range list.Items {
		op := &list.Items[i]
		row := []string{op.Name, op.Spec.Cluster, string(op.Spec.Verb), string(op.Status.Phase), op.Status.Progress.Summary,
			op.Status.Stage, output.Age(deps.Clock(), op.CreationTimestamp)}
		if format == output.FormatWide {
			row = append(row, output.Took(op), op.Status.Message)
		}
		if all {
			row = append([]string{op.Namespace}, row...)
		}
		rows = append(rows, row)
	}
	return output.Table(deps.Streams.Out, "", rows...)
}
