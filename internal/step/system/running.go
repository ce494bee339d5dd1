package system

import (
	"context"
	"fmt"
	"strconv"

	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// RunInstalled makes a service run the program that is installed now: one that was replaced on disk runs on as it was.
type RunInstalled struct {
	// Unit is the systemd unit, Program the path of its program.
	Unit    string `json:"unit"`
	Program string `json:"program"`
	// After is what has put the program there.
	After step.Output `json:"after,omitempty"`
}

// ID is stored in plans.
func (RunInstalled) ID() step.ID { return "system.run-installed/v1" }

// Needs tells what must be there.
func (s RunInstalled) Needs() []step.Output {
	if s.After == "" {
		return nil
	}
	return []step.Output{s.After}
}

// Check asks the kernel which file the service's process runs: one that was replaced no longer has its name.
func (s RunInstalled) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	units, err := host.QueryUnits(ctx, r, s.Unit)
	if err != nil {
		return nil, err
	}
	var drift step.Drift
	drift.Want(s.Unit, units[0].ActiveState, "active")
	if !drift.Clean() {
		return drift, nil
	}
	info, err := r.Stat(ctx, "/proc/"+strconv.Itoa(units[0].MainPID)+"/exe")
	if err != nil {
		return nil, fmt.Errorf("cannot see what %s runs: %w", s.Unit, err)
	}
	if info[0].Target != s.Program {
		drift.Want(s.Unit, "runs the program of before", "runs "+s.Program)
	}
	return drift, nil
}

// Apply restarts the service. Containers run on.
func (s RunInstalled) Apply(ctx context.Context, w step.Writer) error {
	if _, err := w.Run(ctx, host.Command{Argv: []string{"systemctl", "restart", s.Unit}}); err != nil {
		return fmt.Errorf("cannot restart %s: %w", s.Unit, err)
	}
	return nil
}
