package backupschedule

import (
	"fmt"
	"time"
	_ "time/tzdata" // The server's machine may have no database of time zones.

	"github.com/robfig/cron/v3"
)

// times reads when a schedule runs. The time zone is that of the schedule, UTC when it is empty.
func times(expression, zone string) (cron.Schedule, error) {
	if zone == "" {
		zone = "UTC"
	}
	if _, err := time.LoadLocation(zone); err != nil {
		return nil, fmt.Errorf("there is no time zone %s", zone)
	}
	s, err := cron.ParseStandard("CRON_TZ=" + zone + " " + expression)
	if err != nil {
		return nil, fmt.Errorf("cannot read the time %q: %w", expression, err)
	}
	return s, nil
}
