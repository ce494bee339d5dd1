// Package backup owns the command `slipway backup`: taking, proving, listing and deleting backups, the places where they are kept
// and the schedules that take them. It must never read a backup itself: the server does.
package backup

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/backup"
	"slipway.dev/slipway/internal/cli/output"
)

// New gives the command `backup` with its sub-commands.
func New(deps output.Deps) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "backup",
		Aliases: []string{"backups"},
		Short:   "Take, prove, list and delete backups of clusters, and say where they are kept and when they are taken",
	}
	project := output.ProjectFlag(cmd)
	return output.Noun(cmd, newCreate(deps, project), newList(deps, project), newDelete(deps, project), newDrill(deps, project), newLocation(deps), newSchedule(deps, project))
}

const createExample = `  # where backups are kept, once, and lent to a project
  slipway backup location add local --directory /var/lib/slipway-backups
  slipway grant add -p dev --backup-location local

  slipway backup create demo --location local -p dev`

func newCreate(deps output.Deps, project *string) *cobra.Command {
	var location, description string
	var noWait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:     "create CLUSTER --location NAME",
		Short:   "Take a backup of a cluster and follow the work to its end",
		Long:    "Take a backup of a cluster: an etcd snapshot, the keys and the spec, encrypted. The cluster runs on meanwhile. What\nworkloads write to volumes is not in it.",
		Example: createExample,
		Args:    output.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if location == "" {
				return output.Usagef("cannot tell where to keep the backup: give --location; slipway backup location list shows them")
			}
			connection, err := deps.Connect(*project)
			if err != nil {
				return err
			}
			b := &v1alpha1.Backup{
				ObjectMeta: metav1.ObjectMeta{Namespace: connection.Project, Name: backup.NewName(args[0], "")},
				Spec:       v1alpha1.BackupSpec{Cluster: args[0], Location: location, Description: description},
			}
			if err := connection.Client.Create(cmd.Context(), b); err != nil {
				return fmt.Errorf("cannot back up cluster %s: %w", args[0], err)
			}
			if noWait {
				_, err := fmt.Fprintf(deps.Streams.Out, "backup %s is being taken\n", b.Name)
				return err
			}
			ctx, cancel := limit(cmd.Context(), timeout)
			defer cancel()
			return follow(ctx, deps, connection, b)
		},
	}
	cmd.Flags().StringVar(&location, "location", "", "backup location that keeps it")
	cmd.Flags().StringVar(&description, "description", "", "what it is for")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait for the work")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "how long to wait (default: no limit)")
	return cmd
}

func limit(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout > 0 {
		return context.WithTimeout(ctx, timeout)
	}
	return context.WithCancel(ctx)
}

// follow prints the progress of the operation that has the name of the backup.
func follow(ctx context.Context, deps output.Deps, connection *output.Connection, b *v1alpha1.Backup) error {
	op, err := followed(ctx, deps, connection, b.Name, "the end of backup "+b.Name)
	if err != nil {
		return err
	}
	if op.Status.Phase != v1alpha1.OperationSucceeded {
		return failed(deps, connection, op)
	}
	_, err = fmt.Fprintf(deps.Streams.Out, "backup %s is kept in %s, taken in %s\n", b.Name, b.Spec.Location, output.Took(op))
	return err
}

// followed prints the progress of an operation and gives it when it has ended; what is for people who stop waiting.
func followed(ctx context.Context, deps output.Deps, connection *output.Connection, name, what string) (*v1alpha1.Operation, error) {
	op, err := output.NewFollower(deps, connection).Follow(ctx, func(all []*v1alpha1.Operation) *v1alpha1.Operation {
		if len(all) == 0 {
			return nil
		}
		return all[0]
	}, output.Named(name))
	if err != nil {
		return nil, connection.Left(err, op, what)
	}
	return op, nil
}

// failed says what went wrong.
func failed(deps output.Deps, connection *output.Connection, op *v1alpha1.Operation) error {
	if err := output.Failures(deps.Streams.Out, deps.Terminal, op.Status.Failures); err != nil {
		return err
	}
	return connection.Outcome(op)
}

func newList(deps output.Deps, project *string) *cobra.Command {
	var cluster string
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List backups, those of schedules too",
		Args:    output.Args(cobra.NoArgs),
	}
	cmd.Flags().StringVar(&cluster, "cluster", "", "only those of this cluster")
	format := output.FormatFlag(cmd, output.FormatJSON, output.FormatYAML, output.FormatName)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		connection, err := deps.Connect(*project)
		if err != nil {
			return err
		}
		var all v1alpha1.BackupList
		if err := connection.Client.List(cmd.Context(), &all, client.InNamespace(connection.Project)); err != nil {
			return fmt.Errorf("cannot list backups: %w", err)
		}
		var items []v1alpha1.Backup
		for _, b := range all.Items {
			if cluster == "" || b.Spec.Cluster == cluster {
				items = append(items, b)
			}
		}
		all.Items = items
		if format.Machine() {
			return output.PrintList(deps.Streams.Out, *format, &all, connection.Client.Scheme())
		}
		rows := [][]string{{"NAME", "CLUSTER", "LOCATION", "PHASE", "KUBERNETES", "BYTES", "AGE", "PROVEN", "MESSAGE"}}
		for _, b := range all.Items {
			version, size, message := "-", "-", "-"
			if f := b.Status.File; f != nil {
				version, size = f.KubernetesVersion, strconv.FormatInt(f.Bytes, 10)
			}
			if c := meta.FindStatusCondition(b.Status.Conditions, v1alpha1.BackupProven); c != nil && c.Status == metav1.ConditionFalse {
				message = c.Message
			}
			if b.Status.Phase == v1alpha1.BackupFailed || b.DeletionTimestamp != nil {
				message = b.Status.Message
			}
			phase := string(b.Status.Phase)
			if b.DeletionTimestamp != nil {
				phase = "Deleting"
			}
			rows = append(rows, []string{b.Name, b.Spec.Cluster, b.Spec.Location, phase, version, size, output.Age(deps.Clock(), b.CreationTimestamp), proven(&b, deps.Clock()), message})
		}
		return output.Table(deps.Streams.Out, "", rows...)
	}
	return cmd
}

func newDelete(deps output.Deps, project *string) *cobra.Command {
	return &cobra.Command{
		Use:   "delete NAME...",
		Short: "Delete backups and their files",
		Args:  output.Args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			connection, err := deps.Connect(*project)
			if err != nil {
				return err
			}
			for _, name := range args {
				b := &v1alpha1.Backup{ObjectMeta: metav1.ObjectMeta{Namespace: connection.Project, Name: name}}
				if err := connection.Client.Delete(cmd.Context(), b); err != nil {
					return fmt.Errorf("cannot delete backup %s: %w", name, err)
				}
				if _, err := fmt.Fprintf(deps.Streams.Out, "backup %s is being deleted, its file too\n", name); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
