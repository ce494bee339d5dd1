package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

const restoreExample = `  # back to what a backup holds
  slipway cluster restore demo --backup demo-nightly-x7k2qp

  # the same without a control plane whose machine is gone for good, or with a new machine in its place
  slipway cluster restore demo --backup demo-nightly-x7k2qp --lost cp2
  slipway cluster restore demo --backup demo-nightly-x7k2qp --replace cp2=cp4

  # back to before an upgrade: the older version is put back on every node as well
  slipway cluster restore demo --backup demo-manual-7k2qpx --with-version`

// restoring is what the command line says of a restore.
type restoring struct {
	backup        string
	lost, replace []string
	withVersion   bool
}

func newRestore(deps output.Deps, project *string) *cobra.Command {
	var r restoring
	var yes, noWait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "restore NAME --backup BACKUP",
		Short: "Take a cluster back to what a backup holds",
		Long: "Take a cluster back to what a backup holds: what was made or changed since is gone. The backup is proven first, and\n" +
			"nothing stops before. The API does not answer for a minute or so; what runs on workers runs on meanwhile.\n" +
			"A control plane that is lost leaves the cluster. When its machine answers again, it is cleaned.",
		Example: restoreExample,
		Args:    output.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if r.backup == "" {
				return output.Usagef("cannot tell what to restore: give --backup; slipway backup list shows them")
			}
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
			var b v1alpha1.Backup
			if err := connection.Client.Get(ctx, client.ObjectKey{Namespace: connection.Project, Name: r.backup}, &b); err != nil {
				return fmt.Errorf("cannot find backup %s: %w", r.backup, err)
			}
			wanted, parameters, err := r.wanted(cluster, &b)
			if err != nil {
				return err
			}
			if err := confirmRestore(ctx, deps, cluster, &b, parameters.Lost, yes); err != nil {
				return err
			}
			if wanted != nil {
				p := planning{deps: deps, connection: connection, name: cluster.Name, verb: v1alpha1.VerbRestore, wanted: wanted, parameters: parameters}
				op, err := p.make(ctx)
				if err != nil {
					return err
				}
				return approveAndFollow(ctx, deps, connection, op, noWait)
			}
			op := newOperation(connection.Project, args[0], v1alpha1.VerbRestore)
			op.Spec.Parameters = parameters
			if err := connection.Client.Create(ctx, op); err != nil {
				return fmt.Errorf("cannot restore cluster %s: %w", args[0], err)
			}
			if noWait {
				_, err := fmt.Fprintf(deps.Streams.Out, "operation %s restores cluster %s\n", op.Name, args[0])
				return err
			}
			return followOne(ctx, deps, connection, op)
		},
	}
	cmd.Flags().StringVar(&r.backup, "backup", "", "backup to bring back")
	cmd.Flags().StringSliceVar(&r.lost, "lost", nil, "host that is gone for good and leaves the cluster; repeat")
	cmd.Flags().StringSliceVar(&r.replace, "replace", nil, "control plane that is gone for good and the new host in its place, as OLD=NEW; repeat")
	cmd.Flags().BoolVar(&r.withVersion, "with-version", false, "also put the Kubernetes version of the backup back on every node")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait for the work")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "how long to wait (default: no limit)")
	return cmd
}

// wanted gives the spec that the cluster has afterwards, nil when it stays the same, and the parameters.
func (r *restoring) wanted(cluster *v1alpha1.Cluster, b *v1alpha1.Backup) (*v1alpha1.ClusterSpec, *v1alpha1.OperationParameters, error) {
	parameters := &v1alpha1.OperationParameters{Backup: r.backup, Lost: slices.Clone(r.lost)}
	spec := cluster.Spec.DeepCopy()
	if cluster.Status.Applied != nil {
		spec = cluster.Status.Applied.DeepCopy()
	}
	before := spec.DeepCopy()
	hosts := spec.ControlPlane.Hosts
	for _, pair := range r.replace {
		old, name, ok := strings.Cut(pair, "=")
		i := slices.Index(hosts, old)
		if !ok || name == "" || i < 0 {
			return nil, nil, output.Usagef("cannot read --replace %s: write it as OLD=NEW, where OLD is a control plane of cluster %s", pair, cluster.Name)
		}
		hosts[i] = name
		if !slices.Contains(parameters.Lost, old) {
			parameters.Lost = append(parameters.Lost, old)
		}
	}
	gone := func(name string) bool { return slices.Contains(parameters.Lost, name) }
	for _, name := range r.lost {
		if !slices.Contains(before.AllHosts(), name) {
			return nil, nil, output.Usagef("cannot restore without host %s: cluster %s does not have it", name, cluster.Name)
		}
	}
	if spec.ControlPlane.Hosts = slices.DeleteFunc(hosts, gone); len(spec.ControlPlane.Hosts) == 0 {
		return nil, nil, output.Usagef("cannot restore without any control plane: name a new host with --replace OLD=NEW")
	}
	for i := range spec.WorkerPools {
		spec.WorkerPools[i].Hosts = slices.DeleteFunc(spec.WorkerPools[i].Hosts, gone)
	}
	spec.WorkerPools = slices.DeleteFunc(spec.WorkerPools, func(p v1alpha1.WorkerPool) bool { return len(p.Hosts) == 0 })
	if r.withVersion && b.Status.File != nil {
		spec.Kubernetes.Version = b.Status.File.KubernetesVersion
	}
	if equality.Semantic.DeepEqual(before, spec) {
		return nil, parameters, nil
	}
	return spec, parameters, nil
}

// confirmRestore has a person type the name of the cluster whose newer objects will be gone.
func confirmRestore(ctx context.Context, deps output.Deps, cluster *v1alpha1.Cluster, b *v1alpha1.Backup, lost []string, yes bool) error {
	if yes {
		return nil
	}
	if !deps.Terminal {
		return output.Usagef("cannot ask whether cluster %s shall be restored: give --yes", cluster.Name)
	}
	taken := "an unknown time"
	if b.Status.File != nil {
		taken = b.Status.File.TakenAt.UTC().Format(time.RFC3339)
	}
	text := fmt.Sprintf("This takes cluster %s back to %s: what was made or changed in it since is gone.\n", cluster.Name, taken)
	if len(lost) > 0 {
		text += fmt.Sprintf("It is restored without %s, which must never start again; should it, it is cleaned.\n", output.Line(strings.Join(lost, ", ")))
	}
	if _, err := fmt.Fprint(deps.Streams.ErrOut, text+"Type its name to go on: "); err != nil {
		return err
	}
	answer, err := readLine(ctx, deps)
	if err != nil {
		return err
	}
	if answer != cluster.Name {
		return output.Refused("NotConfirmed", "", "cannot restore cluster %s: not confirmed", cluster.Name)
	}
	return nil
}
