package kubelet

import (
	"context"
	"fmt"

	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// RunConfigured restarts a kubelet whose configuration was replaced while it ran. Pods run on.
type RunConfigured struct{}

// ID is stored in plans.
func (RunConfigured) ID() step.ID { return "kubelet.run-configured/v1" }

// Needs tells what must be there.
func (RunConfigured) Needs() []step.Output {
	return []step.Output{step.KubernetesFiles, step.KubeletConfig}
}

// Check looks for the note of who replaced it, and asks for the unit.
func (RunConfigured) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	info, err := r.Stat(ctx, step.KubeletRestart)
	if err != nil {
		return nil, fmt.Errorf("cannot look for %s: %w", step.KubeletRestart, err)
	}
	var drift step.Drift
	if info[0].Exists {
		drift.Want(Unit, "runs with the configuration of before", "restarted")
		return drift, nil
	}
	units, err := host.QueryUnits(ctx, r, Unit)
	if err != nil {
		return nil, err
	}
	drift.Want(Unit, units[0].ActiveState, "active")
	return drift, nil
}

// Apply restarts it, and then takes the note away: a cut in between restarts it twice, which does no harm.
func (RunConfigured) Apply(ctx context.Context, w step.Writer) error {
	if _, err := w.Run(ctx, host.Command{Argv: []string{"systemctl", "restart", Unit}}); err != nil {
		return fmt.Errorf("cannot restart the kubelet: %w", err)
	}
	if err := w.Remove(ctx, step.KubeletRestart); err != nil {
		return fmt.Errorf("cannot remove %s: %w", step.KubeletRestart, err)
	}
	return nil
}
