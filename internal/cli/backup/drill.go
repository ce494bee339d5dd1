package backup

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

const drillExample = `  # brought back aside, on the server's machine; the cluster is left alone
  slipway backup drill demo-nightly-x7k2qp

  # every Sunday at 4, the newest one
  slipway backup schedule edit nightly --drill "0 4 * * 0"`

func newDrill(deps output.Deps, project *string) *cobra.Command {
	var noWait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "drill NAME",
		Short: "Prove that a backup can be brought back, without touching the cluster",
		Long: "Prove that a backup can be brought back: etcd and an API server of its own version run for a moment on the server's\n" +
			"machine, closed to others. Every object is counted and compared with what was taken, and a Secret is read.",
		Example: drillExample,
		Args:    output.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			connection, err := deps.Connect(*project)
			if err != nil {
				return err
			}
			ctx, cancel := limit(cmd.Context(), timeout)
			defer cancel()
			key := client.ObjectKey{Namespace: connection.Project, Name: args[0]}
			var b v1alpha1.Backup
			if err := connection.Client.Get(ctx, key, &b); err != nil {
				return fmt.Errorf("cannot find backup %s: %w", args[0], err)
			}
			op := &v1alpha1.Operation{
				ObjectMeta: metav1.ObjectMeta{Namespace: b.Namespace, GenerateName: b.Spec.Cluster + "-drill-", Labels: map[string]string{v1alpha1.LabelCluster: b.Spec.Cluster}},
				Spec:       v1alpha1.OperationSpec{Verb: v1alpha1.VerbDrill, Cluster: b.Spec.Cluster, Parameters: &v1alpha1.OperationParameters{Backup: b.Name}},
			}
			if err := connection.Client.Create(ctx, op); err != nil {
				return fmt.Errorf("cannot prove backup %s: %w", b.Name, err)
			}
			if noWait {
				_, err := fmt.Fprintf(deps.Streams.Out, "operation %s proves backup %s\n", op.Name, b.Name)
				return err
			}
			return followDrill(ctx, deps, connection, op, key)
		},
	}
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait for the work")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "how long to wait (default: no limit)")
	return cmd
}

// followDrill prints the progress, and then what the Backup says.
func followDrill(ctx context.Context, deps output.Deps, connection *output.Connection, op *v1alpha1.Operation, key client.ObjectKey) error {
	ended, err := followed(ctx, deps, connection, op.Name, "the drill of backup "+key.Name)
	if err != nil {
		return err
	}
	if ended.Status.Phase != v1alpha1.OperationSucceeded {
		return failed(deps, connection, ended)
	}
	var b v1alpha1.Backup
	if err := connection.Client.Get(ctx, key, &b); err != nil {
		return fmt.Errorf("cannot read backup %s: %w", key.Name, err)
	}
	said := ""
	if c := meta.FindStatusCondition(b.Status.Conditions, v1alpha1.BackupProven); c != nil {
		said = ": " + output.Line(c.Message)
	}
	_, err = fmt.Fprintf(deps.Streams.Out, "backup %s can be brought back, proven in %s%s\n", b.Name, output.Took(ended), said)
	return err
}

// proven says in a few characters when a backup was last proven, and whether the last drill failed.
func proven(b *v1alpha1.Backup, now time.Time) string {
	if meta.IsStatusConditionFalse(b.Status.Conditions, v1alpha1.BackupProven) {
		return "FAILED"
	}
	if b.Status.Proven == nil {
		return "never"
	}
	return output.Age(now, b.Status.Proven.At) + " ago"
}
