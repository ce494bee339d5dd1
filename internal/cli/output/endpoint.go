package output

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/step"
)

// PlanView is a plan with what one look at each host found.
type PlanView struct {
	Plan    *plan.Plan `json:"plan"`
	Preview []Preview  `json:"preview"`
}

// PreviewState is what the look at one step on one host came to.
type PreviewState string

// The states of a preview.
const (
	// PreviewClean has nothing to do.
	PreviewClean PreviewState = "clean"
	// PreviewDrift has something to do.
	PreviewDrift PreviewState = "drift"
	// PreviewAfter can be looked at only when an earlier step is done.
	PreviewAfter PreviewState = "after"
	// PreviewError could not be looked at, or refuses the host.
	PreviewError PreviewState = "error"
)

// Preview is the look at one step on one host.
type Preview struct {
	Host string `json:"host"`
	// Step is the name of the call in the plan.
	Step  string       `json:"step"`
	State PreviewState `json:"state"`
	// After names the step that must be done before.
	After string     `json:"after,omitempty"`
	Drift step.Drift `json:"drift,omitempty"`
	Error string     `json:"error,omitempty"`
	Fix   string     `json:"fix,omitempty"`
}

// Plan gives the plan and preview of an operation, decoded and as the server sent it.
func (c *Connection) Plan(ctx context.Context, operation string) (*PlanView, json.RawMessage, error) {
	raw, err := Raw(c.REST.Get().AbsPath("slipway", "v1", "projects", c.Project, "operations", operation, "plan").
		SetHeader("Accept", "application/json").Do(ctx))
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the plan of operation %s: %w", operation, err)
	}
	var view PlanView
	if err := json.Unmarshal(raw, &view); err != nil {
		return nil, nil, fmt.Errorf("cannot read the plan of operation %s: %w", operation, err)
	}
	if view.Plan == nil {
		return nil, nil, fmt.Errorf("cannot read the plan of operation %s: the server's answer holds none", operation)
	}
	return &view, raw, nil
}

// LogLine is one line of an operation's log.
type LogLine struct {
	Time    time.Time `json:"time"`
	Host    string    `json:"host"`
	Step    string    `json:"step"`
	Attempt int       `json:"attempt"`
	Level   string    `json:"level"`
	Message string    `json:"message"`
	// Argv is set when the line tells of a command on the host.
	Argv           []string `json:"argv"`
	ExitCode       int      `json:"exitCode"`
	DurationMillis int64    `json:"durationMillis"`
	Stdout         string   `json:"stdout"`
	Stderr         string   `json:"stderr"`
}

// Logs calls see with every line of an operation's log, decoded and as it came, until the log ends: with follow that
// is the end of the operation. Host chooses one host; empty means all.
func (c *Connection) Logs(ctx context.Context, operation, host string, follow bool, see func(LogLine, []byte) error) error {
	request := c.REST.Get().AbsPath("slipway", "v1", "projects", c.Project, "operations", operation, "log").
		SetHeader("Accept", "application/x-ndjson")
	if follow {
		request = request.Param("follow", "true")
	}
	if host != "" {
		request = request.Param("host", host)
	}
	stream, err := request.Stream(ctx)
	if err != nil {
		return fmt.Errorf("cannot read the log of operation %s: %w", operation, err)
	}
	// Closing tells the server that nobody reads any more; what was read is read.
	defer func() { _ = stream.Close() }()
	lines := bufio.NewReader(stream)
	for {
		raw, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(raw) == 0 {
			return nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("cannot read the log of operation %s to its end: %w", operation, errors.Join(ctx.Err(), err))
		}
		if strings.TrimSpace(string(raw)) == "" {
			continue
		}
		var line LogLine
		if err := json.Unmarshal(raw, &line); err != nil {
			return fmt.Errorf("cannot read the log of operation %s: %w", operation, err)
		}
		if err := see(line, raw); err != nil {
			return err
		}
	}
}
