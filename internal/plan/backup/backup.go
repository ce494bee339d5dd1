// Package backup plans how a backup of a cluster is taken.
// It must never read anything but its input, nor plan anything that changes a host.
package backup

import (
	"fmt"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/plan/stages"
	"slipway.dev/slipway/internal/step"
	"slipway.dev/slipway/internal/step/backup"
)

// Plan gives the plan: one step on the first control plane that can be reached.
func Plan(in stages.Input) (*plan.Plan, error) {
	refuse := func(reason, fix, format string, args ...any) (*plan.Plan, error) {
		return nil, fault.NewTerminal(reason, fix, fmt.Errorf("cannot back up cluster "+in.Name+": "+format, args...))
	}
	b := in.Backup
	switch {
	case b == nil || b.DeletionTimestamp != nil:
		return refuse("NotFound", "slipway backup create "+in.Name, "there is no backup %s", in.Parameters.Backup)
	case b.Spec.Cluster != in.Name:
		return refuse("InvalidBackup", "slipway backup create "+in.Name, "backup %s is of cluster %s", b.Name, b.Spec.Cluster)
	case !in.Lends(v1alpha1.GrantBackupLocation, b.Spec.Location):
		return refuse("NotLent", "ask a system administrator for a Grant of BackupLocation "+b.Spec.Location+" in project "+in.Namespace,
			"backup location %s is not lent to project %s, or there is none of that name", b.Spec.Location, in.Namespace)
	}
	if reason, fix, text := in.PlaceProblem(); reason != "" {
		return refuse(reason, fix, "%s", text)
	}
	from := ""
	for _, name := range in.Spec.ControlPlane.Hosts {
		if in.Unreachable(name) == "" {
			from = name
			break
		}
	}
	if from == "" {
		return refuse("NotReachable", "mend the host or its credential", "no control plane can be reached: %s", in.Unreachable(in.Spec.ControlPlane.Hosts[0]))
	}
	builder := stages.New(in, v1alpha1.VerbBackup, fmt.Sprintf("back up cluster %s to %s as %s%s", in.Name, b.Spec.Location, b.Name, in.Place.LostWith()), []string{from})
	builder.Stage(plan.Stage{Name: "take", Title: "Take the backup", Hosts: []string{from}, Gate: true}, []stages.Call{
		{Name: "take", Step: backup.Take{Backup: step.BackupRef{Project: in.Namespace, Name: b.Name}}},
	})
	return builder.Plan()
}
