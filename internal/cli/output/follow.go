package output

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
)

// LabelOperation is the label of HostRuns with the name of their operation.
const LabelOperation = "slipway.dev/operation"

// Follower prints the progress of one operation, a line for each thing that happened, and nothing twice.
type Follower struct {
	// Out takes the lines.
	Out io.Writer
	// Terminal marks with signs instead of words.
	Terminal bool
	// Clock gives the time now; it decides only how often counts are told.
	Clock func() time.Time
	// Connection is the way to the server.
	Connection *Connection

	titles  map[string]string
	asked   bool
	header  bool
	planned bool
	queued  bool
	begun   map[string]bool
	done    map[string]bool
	told    map[string]int32
	last    time.Time
	attempt int32
	failed  map[string]bool
}

// NewFollower gives a follower that prints to Out of d.
func NewFollower(d Deps, c *Connection) *Follower {
	return &Follower{Out: d.Streams.Out, Terminal: d.Terminal, Clock: d.Clock, Connection: c,
		begun: map[string]bool{}, done: map[string]bool{}, told: map[string]int32{}, failed: map[string]bool{}}
}

// Lost tells that the server went away, and with nil that it is back. It is for Watch.
func (f *Follower) Lost(err error) {
	text := "the server answers again"
	if err != nil {
		text = "the server does not answer, waiting for it: " + Line(err.Error())
	}
	// A progress line that cannot be printed must not end the wait.
	_, _ = fmt.Fprintln(f.Out, text)
}

// Follow prints the progress of the operation that choose picks from those that options select, until it ends or waits
// for a person, or has gone. It gives the operation as last seen, nil when it was never there. Choose gets them in the
// order of their creation, and gives nil while there is none.
func (f *Follower) Follow(ctx context.Context, choose func([]*v1alpha1.Operation) *v1alpha1.Operation, options ...client.ListOption) (*v1alpha1.Operation, error) {
	var last *v1alpha1.Operation
	options = append(options, client.InNamespace(f.Connection.Project))
	err := Watch(ctx, f.Connection.Client, &v1alpha1.OperationList{}, f.Lost, func(all []*v1alpha1.Operation) (bool, error) {
		op := choose(all)
		if op == nil {
			// An operation that has gone has nothing more to tell.
			return last != nil, nil
		}
		last = op
		f.Show(ctx, op)
		return f.ended(ctx, op)
	}, options...)
	return last, err
}

// ended says that nothing happens any more before a person does something.
func (f *Follower) ended(ctx context.Context, op *v1alpha1.Operation) (bool, error) {
	if op.Status.Attempt < op.Spec.Attempt {
		return false, nil
	}
	switch {
	case op.Status.Phase.Ended(), op.Status.Phase == v1alpha1.OperationBlocked:
		return true, nil
	case op.Status.Phase != v1alpha1.OperationPlanned || op.Status.Plan == nil || op.Spec.ApprovedPlan == op.Status.Plan.Hash:
		return false, nil
	case op.Spec.ApprovedPlan != "":
		// What was approved is not the plan any more: a person has to look again.
		return true, nil
	default:
		return f.Connection.waitsForApproval(ctx, op)
	}
}

// waitsForApproval says whether a planned operation runs only when a person agrees.
func (c *Connection) waitsForApproval(ctx context.Context, op *v1alpha1.Operation) (bool, error) {
	if op.Status.Unasked {
		return false, nil
	}
	var setting v1alpha1.Setting
	err := c.Client.Get(ctx, client.ObjectKey{Name: v1alpha1.SettingApproval}, &setting)
	switch {
	case apierrors.IsNotFound(err), apierrors.IsForbidden(err):
		// Who may not read the setting sees that nothing happens, and what is waited for.
		setting.Spec.Approval = nil
	case err != nil:
		return false, fmt.Errorf("cannot read setting %s: %w", v1alpha1.SettingApproval, err)
	}
	return setting.Spec.Approval.Asks(op, op.Status.Impact), nil
}

// Show prints what is new in op.
func (f *Follower) Show(ctx context.Context, op *v1alpha1.Operation) {
	status := &op.Status
	if op.Spec.Attempt > 0 && status.Attempt < op.Spec.Attempt {
		return
	}
	if !f.header || status.Attempt != f.attempt {
		f.header, f.attempt = true, status.Attempt
		clear(f.begun)
		clear(f.done)
		clear(f.told)
		clear(f.failed)
		f.line("operation %s: %s cluster %s%s", op.Name, op.Spec.Verb, op.Spec.Cluster, attemptText(status.Attempt))
	}
	if status.Plan != nil && !f.planned {
		f.planned = true
		f.line("planned: %s", status.Plan.Summary)
	}
	if status.Phase == v1alpha1.OperationQueued && !f.queued {
		f.queued = true
		f.line("queued: another operation on cluster %s runs first", op.Spec.Cluster)
	}
	if len(status.Stages) > 0 {
		f.learnTitles(ctx, op)
	}
	for i := range status.Stages {
		f.stage(op, i)
	}
	for _, failure := range status.Failures {
		key := failure.Host + "\x00" + failure.Step
		if !f.failed[key] && !status.Phase.Ended() {
			f.failed[key] = true
			f.line("%s %s", f.mark(false), failureText(failure))
		}
	}
}

func attemptText(attempt int32) string {
	if attempt == 0 {
		return ""
	}
	return fmt.Sprintf(", attempt %d", attempt+1)
}

// learnTitles asks the plan once for what people call its stages.
func (f *Follower) learnTitles(ctx context.Context, op *v1alpha1.Operation) {
	if f.asked || op.Status.Plan == nil {
		return
	}
	f.asked = true
	f.titles = map[string]string{}
	view, _, err := f.Connection.Plan(ctx, op.Name)
	if err != nil {
		// The names of the stages serve as well.
		return
	}
	for _, s := range view.Plan.Stages {
		f.titles[s.Name] = s.Title
	}
}

// Title gives what people call a stage: its title, or its name when the plan could not be read.
func (f *Follower) Title(stage string) string {
	if title := f.titles[stage]; title != "" {
		return title
	}
	return stage
}

// stage prints what is new about one stage.
func (f *Follower) stage(op *v1alpha1.Operation, i int) {
	s := &op.Status.Stages[i]
	if s.StartedAt == nil || f.done[s.Name] {
		return
	}
	start := s.StartedAt.Time
	if op.Status.StartedAt != nil {
		start = op.Status.StartedAt.Time
	}
	position := fmt.Sprintf("%d/%d", i+1, len(op.Status.Stages))
	tell := func(at time.Time, text string) {
		f.last = f.Clock()
		f.line("[%6s] %5s %s: %s", Elapsed(at.Sub(start)), position, f.Title(s.Name), text)
	}
	if s.FinishedAt != nil {
		f.done[s.Name] = true
		mark := f.mark(true)
		if s.Done < s.Steps {
			mark = f.mark(false)
		}
		tell(s.FinishedAt.Time, fmt.Sprintf("%s %d/%d steps in %s", mark, s.Done, s.Steps, Elapsed(s.FinishedAt.Sub(s.StartedAt.Time))))
		return
	}
	if !f.begun[s.Name] {
		f.begun[s.Name], f.told[s.Name] = true, s.Done
		tell(s.StartedAt.Time, fmt.Sprintf("started, %d steps", s.Steps))
		return
	}
	if now := f.Clock(); s.Done != f.told[s.Name] && now.Sub(f.last) >= quietTime {
		f.told[s.Name] = s.Done
		tell(now, fmt.Sprintf("%d/%d steps", s.Done, s.Steps))
	}
}

// quietTime is how long nothing must have been printed before a step count is.
const quietTime = 3 * time.Second

func (f *Follower) mark(good bool) string { return Mark(f.Terminal, good) }

// Mark gives the sign (on a terminal) or the word for something that is done or has failed.
func Mark(terminal, good bool) string {
	switch {
	case terminal && good:
		return "✓"
	case terminal:
		return "✗"
	case good:
		return "done,"
	default:
		return "FAILED"
	}
}

func (f *Follower) line(format string, values ...any) {
	// A progress line that cannot be printed must not end the wait.
	_, _ = fmt.Fprintln(f.Out, strings.ReplaceAll(Clean(fmt.Sprintf(format, values...)), "\n", " "))
}

// Times prints how long each stage took.
func (f *Follower) Times(w io.Writer, op *v1alpha1.Operation) error {
	rows := [][]string{{"STAGE", "STEPS", "TIME"}}
	for _, s := range op.Status.Stages {
		took := ""
		if s.StartedAt != nil && s.FinishedAt != nil {
			took = Elapsed(s.FinishedAt.Sub(s.StartedAt.Time))
		}
		rows = append(rows, []string{f.Title(s.Name), fmt.Sprintf("%d/%d", s.Done, s.Steps), took})
	}
	if took := Took(op); took != "" {
		rows = append(rows, []string{"all", op.Status.Progress.Summary, took})
	}
	return Table(w, "  ", rows...)
}

// Took gives how long an operation ran, "" when it has not both begun and ended.
func Took(op *v1alpha1.Operation) string {
	if op.Status.StartedAt == nil || op.Status.FinishedAt == nil {
		return ""
	}
	return Elapsed(op.Status.FinishedAt.Sub(op.Status.StartedAt.Time))
}

func failureText(failure v1alpha1.Failure) string {
	var where []string
	if failure.Host != "" {
		where = append(where, "host "+failure.Host)
	}
	if failure.Step != "" {
		where = append(where, "step "+failure.Step)
	}
	if len(where) == 0 {
		return Line(failure.Message)
	}
	return Line(strings.Join(where, ", ") + ": " + failure.Message)
}

// Failures prints what went wrong, each with its fix on a line of its own.
func Failures(w io.Writer, terminal bool, failures []v1alpha1.Failure) error {
	for _, failure := range failures {
		if err := printf(w, "%s %s\n", Mark(terminal, false), failureText(failure)); err != nil {
			return err
		}
		if failure.Fix == "" {
			continue
		}
		if err := printf(w, "  fix: %s\n", Line(failure.Fix)); err != nil {
			return err
		}
	}
	return nil
}

// Outcome makes the error of an operation that has ended otherwise than well, with its exit code; nil when it has
// succeeded. Failures are not part of it: print them before.
func (c *Connection) Outcome(op *v1alpha1.Operation) error {
	what := fmt.Sprintf("%s cluster %s", op.Spec.Verb, op.Spec.Cluster)
	again := "try again: " + c.Suggest("slipway operation retry "+op.Name)
	end := func(code ExitCode, reason, fix, text string) error {
		err := errors.New("cannot " + what + ": " + text)
		if op.Status.Message != "" {
			err = fmt.Errorf("%w: %s", err, Line(op.Status.Message))
		}
		return withFix(code, reason, fix, err)
	}
	switch op.Status.Phase {
	case v1alpha1.OperationSucceeded:
		return nil
	case v1alpha1.OperationPartial:
		return end(ExitPartial, "Partial", again, "operation "+op.Name+" left hosts out")
	case v1alpha1.OperationAborted:
		return end(ExitAborted, "Aborted", again, "operation "+op.Name+" was aborted")
	case v1alpha1.OperationBlocked:
		return end(ExitRefused, "Blocked", "mend what is named above, then "+again, "operation "+op.Name+" is blocked")
	case v1alpha1.OperationFailed:
		if precheckOnly(op.Status.Failures) {
			return end(ExitRefused, ReasonPrecheck, "mend what is named above, then "+again, "the prechecks of operation "+op.Name+" refuse it")
		}
		return end(ExitOperationFailed, "OperationFailed", again+"; or give up: "+c.Suggest("slipway operation abort "+op.Name),
			"operation "+op.Name+" failed")
	case v1alpha1.OperationPlanned:
		return end(ExitRefused, "ApprovalNeeded", "read the plan with "+c.Suggest("slipway operation show "+op.Name)+
			", then "+c.Suggest("slipway operation approve "+op.Name), "operation "+op.Name+" waits for approval")
	default:
		return end(ExitFailed, "Unfinished", "look again: "+c.Suggest("slipway operation show "+op.Name), "operation "+op.Name+" has not ended")
	}
}

func precheckOnly(failures []v1alpha1.Failure) bool {
	return len(failures) > 0 && !slices.ContainsFunc(failures, func(f v1alpha1.Failure) bool { return f.Reason != ReasonPrecheck })
}

// Left is the error of a wait for an operation that ended before the operation did.
func (c *Connection) Left(err error, op *v1alpha1.Operation, what string) error {
	next := "it goes on on the server; list what runs: " + c.Suggest("slipway operation list")
	if op != nil {
		next = "operation " + op.Name + " goes on on the server; look: " + c.Suggest("slipway operation show "+op.Name) +
			", stop it: " + c.Suggest("slipway operation abort "+op.Name)
	}
	if fault.ReasonOf(err) == "Failed" {
		return WaitError(err, what, next)
	}
	return err
}
