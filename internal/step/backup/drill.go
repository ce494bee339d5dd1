package backup

import (
	"context"
	"time"

	"slipway.dev/slipway/internal/step"
)

// drillLimit is how long a drill may take: etcd holds 8 GiB at most, and others may have to end first.
const drillLimit = time.Hour

// Drill proves that a Backup can be brought back. It works on the server's own machine: the host is only what the
// operation holds, and nothing is asked of it.
type Drill struct {
	Backup step.BackupRef `json:"backup"`
	// Drill is unique to this drill.
	Drill    string             `json:"drill"`
	Programs step.DrillPrograms `json:"programs"`
}

// ID is stored in plans.
func (Drill) ID() step.ID { return "backup.drill/v1" }

// Deadline bounds the step.
func (Drill) Deadline() time.Duration { return drillLimit }

// Check looks whether this drill was recorded.
func (d Drill) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	done, err := r.Backups.Drilled(ctx, d.Backup, d.Drill)
	if err != nil {
		return nil, err
	}
	var drift step.Drift
	if !done {
		drift.Want("backup "+d.Backup.Name, "not proven by this drill", "brought back and compared")
	}
	return drift, nil
}

// Apply runs it.
func (d Drill) Apply(ctx context.Context, w step.Writer) error {
	return w.Backups.Drill(ctx, d.Backup, d.Drill, d.Programs)
}
