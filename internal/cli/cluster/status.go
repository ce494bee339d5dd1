package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

func newList(deps output.Deps, project *string) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the clusters of a project",
		Args:    output.Args(cobra.NoArgs),
	}
	format := output.FormatFlag(cmd, output.FormatWide, output.FormatJSON, output.FormatYAML, output.FormatName)
	cmd.Flags().BoolVarP(&all, "all-projects", "A", false, "those of every project that you may see")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		connection, err := deps.Connect(*project)
		if err != nil {
			return err
		}
		var list v1alpha1.ClusterList
		if all {
			err = connection.ListAll(cmd.Context(), &list)
		} else {
			err = connection.Client.List(cmd.Context(), &list, client.InNamespace(connection.Project))
		}
		if err != nil {
			return fmt.Errorf("cannot list clusters: %w", err)
		}
		return printList(deps, connection, *format, all, &list)
	}
	return cmd
}

func printList(deps output.Deps, connection *output.Connection, format output.Format, all bool, list *v1alpha1.ClusterList) error {
	if format.Machine() {
		return output.PrintList(deps.Streams.Out, format, list, connection.Client.Scheme())
	}
	if len(list.Items) == 0 {
		_, err := fmt.Fprintln(deps.Streams.ErrOut, "No clusters. Make one: slipway cluster create NAME --kubernetes vX.Y.Z --control-plane HOST")
		return err
	}
	heading := []string{"NAME", "STATE", "VERSION", "NODES", "ENDPOINT"}
	if format == output.FormatWide {
		heading = append(heading, "OPERATION")
	}
	if all {
		heading = append([]string{"PROJECT"}, heading...)
	}
	rows := [][]string{append(heading, "AGE")}
	for i := range list.Items {
		c := &list.Items[i]
		row := []string{c.Name, string(c.Status.State), c.Status.Version, c.Status.Nodes.Summary, c.Status.Endpoint}
		if format == output.FormatWide {
			row = append(row, c.Status.Operation)
		}
		if all {
			row = append([]string{c.Namespace}, row...)
		}
		rows = append(rows, append(row, output.Age(deps.Clock(), c.CreationTimestamp)))
	}
	return output.Table(deps.Streams.Out, "", rows...)
}

func newStatus(deps output.Deps, project *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status NAME",
		Short: "Show a cluster: conditions, nodes, certificates, and the operation that runs or ran last",
		Args:  output.Args(cobra.ExactArgs(1)),
	}
	format := output.FormatFlag(cmd, output.FormatJSON, output.FormatYAML, output.FormatName)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		connection, err := deps.Connect(*project)
		if err != nil {
			return err
		}
		cluster, err := get(cmd.Context(), connection, args[0])
		if err != nil {
			return err
		}
		if format.Machine() {
			return output.PrintObject(deps.Streams.Out, *format, cluster, connection.Client.Scheme())
		}
		op, err := lastOperation(cmd.Context(), connection, cluster)
		if err != nil {
			return err
		}
		return printStatus(deps, connection, cluster, op)
	}
	return cmd
}

// lastOperation gives the operation that the cluster's status names, nil when there is none any more.
func lastOperation(ctx context.Context, connection *output.Connection, cluster *v1alpha1.Cluster) (*v1alpha1.Operation, error) {
	if cluster.Status.Operation == "" {
		return nil, nil
	}
	var op v1alpha1.Operation
	err := connection.Client.Get(ctx, client.ObjectKey{Namespace: cluster.Namespace, Name: cluster.Status.Operation}, &op)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read operation %s: %w", cluster.Status.Operation, err)
	}
	return &op, nil
}

func printStatus(deps output.Deps, connection *output.Connection, cluster *v1alpha1.Cluster, op *v1alpha1.Operation) error {
	status := &cluster.Status
	nodes := status.Nodes.Summary
	if nodes != "" {
		nodes += " Ready"
	}
	head := [][]string{
		{"name:", cluster.Name},
		{"state:", string(status.State)},
		{"Kubernetes:", versionText(cluster)},
		{"endpoint:", status.Endpoint},
		{"nodes:", nodes},
	}
	if op != nil {
		head = append(head, []string{"operation:", operationText(op)})
	}
	sections := [][][]string{head}
	if len(status.Conditions) > 0 {
		rows := [][]string{{"CONDITION", "STATUS", "REASON", "MESSAGE"}}
		for _, c := range status.Conditions {
			rows = append(rows, []string{c.Type, string(c.Status), c.Reason, c.Message})
		}
		sections = append(sections, rows)
	}
	if len(status.Nodes.NotReady) > 0 {
		rows := [][]string{{"NODE NOT READY", "REASON", "MESSAGE"}}
		for _, n := range status.Nodes.NotReady {
			rows = append(rows, []string{n.Name, n.Reason, n.Message})
		}
		sections = append(sections, rows)
	}
	if len(status.Certificates) > 0 {
		rows := [][]string{{"CERTIFICATE", "ENDS", "LEFT"}}
		for _, c := range status.Certificates {
			rows = append(rows, []string{c.Name, c.ExpiresAt.UTC().Format(time.DateOnly), left(deps.Clock(), c.ExpiresAt)})
		}
		sections = append(sections, rows)
	}
	for i, rows := range sections {
		if i > 0 {
			if _, err := fmt.Fprintln(deps.Streams.Out); err != nil {
				return err
			}
		}
		if err := output.Table(deps.Streams.Out, "", rows...); err != nil {
			return err
		}
	}
	return printFailures(deps, connection, op)
}

// printFailures prints what went wrong in the last operation and how to go on.
func printFailures(deps output.Deps, connection *output.Connection, op *v1alpha1.Operation) error {
	if op == nil || len(op.Status.Failures) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(deps.Streams.Out); err != nil {
		return err
	}
	if err := output.Failures(deps.Streams.Out, deps.Terminal, op.Status.Failures); err != nil {
		return err
	}
	_, err := fmt.Fprintf(deps.Streams.Out, "\nlook closer: %s\n", connection.Suggest("slipway operation show "+op.Name))
	return err
}

func versionText(cluster *v1alpha1.Cluster) string {
	wanted := cluster.Spec.Kubernetes.Version
	switch cluster.Status.Version {
	case wanted:
		return wanted
	case "":
		return wanted + " wanted"
	default:
		return cluster.Status.Version + ", " + wanted + " wanted"
	}
}

func operationText(op *v1alpha1.Operation) string {
	text := fmt.Sprintf("%s: %s, %s", op.Name, op.Spec.Verb, op.Status.Phase)
	switch op.Status.Phase {
	case v1alpha1.OperationPlanned:
		text += ": " + op.Status.Message
	case v1alpha1.OperationRunning:
		text += fmt.Sprintf(", %s, %s steps", op.Status.Stage, op.Status.Progress.Summary)
	}
	return text
}

func left(now time.Time, end metav1.Time) string {
	days := int(end.Sub(now).Hours() / 24)
	if end.Time.Before(now) {
		return "ENDED"
	}
	return fmt.Sprintf("%d days", days)
}
