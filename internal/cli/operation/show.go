package operation

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
)

func newShow(deps output.Deps, project *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show an operation: its stages, the steps on each host, what failed and what to do",
		Args:  output.Args(cobra.ExactArgs(1)),
	}
	format := output.FormatFlag(cmd, output.FormatJSON, output.FormatYAML, output.FormatName)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		connection, err := deps.Connect(*project)
		if err != nil {
			return err
		}
		op, err := get(cmd.Context(), connection, args[0])
		if err != nil {
			return err
		}
		if format.Machine() {
			return output.PrintObject(deps.Streams.Out, *format, op, connection.Client.Scheme())
		}
		var runs v1alpha1.HostRunList
		if err := connection.Client.List(cmd.Context(), &runs, client.InNamespace(connection.Project),
			client.MatchingLabels{output.LabelOperation: op.Name}); err != nil {
			return fmt.Errorf("cannot list the host runs of operation %s: %w", op.Name, err)
		}
		return show(deps, connection, op, runs.Items)
	}
	return cmd
}

func show(deps output.Deps, connection *output.Connection, op *v1alpha1.Operation, runs []v1alpha1.HostRun) error {
	out := deps.Streams.Out
	if err := output.Table(out, "", head(op)...); err != nil {
		return err
	}
	if op.Status.Impact != nil {
		if _, err := fmt.Fprintln(out); err != nil {
			return err
		}
		if err := output.PrintImpact(out, op.Status.Impact); err != nil {
			return err
		}
	}
	if len(op.Status.Stages) > 0 {
		if _, err := fmt.Fprintln(out); err != nil {
			return err
		}
		if err := output.Table(out, "", stages(deps, op)...); err != nil {
			return err
		}
	}
	slices.SortFunc(runs, func(a, b v1alpha1.HostRun) int { return strings.Compare(a.Spec.Host, b.Spec.Host) })
	for i := range runs {
		if err := showRun(deps, op, &runs[i]); err != nil {
			return err
		}
	}
	if len(op.Status.Failures) > 0 {
		if _, err := fmt.Fprintln(out); err != nil {
			return err
		}
		if err := output.Failures(out, deps.Terminal, op.Status.Failures); err != nil {
			return err
		}
	}
	if next := next(connection, op); next != "" {
		_, err := fmt.Fprintf(out, "\nnext: %s\n", next)
		return err
	}
	return nil
}

func head(op *v1alpha1.Operation) [][]string {
	rows := [][]string{
		{"name:", op.Name},
		{"does:", string(op.Spec.Verb) + " cluster " + op.Spec.Cluster},
		{"phase:", string(op.Status.Phase)},
	}
	if op.Status.Attempt > 0 {
		rows = append(rows, []string{"attempt:", fmt.Sprint(op.Status.Attempt + 1)})
	}
	if op.Spec.Abort && !op.Status.Phase.Ended() {
		rows = append(rows, []string{"abort:", "asked for; the steps in flight are finished first"})
	}
	if p := op.Status.Plan; p != nil {
		rows = append(rows, []string{"plan:", p.Summary}, []string{"plan hash:", p.Hash})
	}
	if op.Status.Progress.Summary != "" {
		rows = append(rows, []string{"steps:", op.Status.Progress.Summary})
	}
	if took := output.Took(op); took != "" {
		rows = append(rows, []string{"took:", took})
	}
	if op.Status.Message != "" {
		rows = append(rows, []string{"message:", op.Status.Message})
	}
	return rows
}

func stages(deps output.Deps, op *v1alpha1.Operation) [][]string {
	rows := [][]string{{"STAGE", "STATE", "STEPS", "TIME"}}
	for _, s := range op.Status.Stages {
		state, took := "waits", ""
		switch {
		case s.StartedAt == nil:
		case s.FinishedAt != nil:
			state, took = "done", output.Elapsed(s.FinishedAt.Sub(s.StartedAt.Time))
			if s.Done < s.Steps {
				state = failedText(deps.Terminal)
			}
		case op.Status.Phase == v1alpha1.OperationRunning:
			state, took = "runs", output.Elapsed(deps.Clock().Sub(s.StartedAt.Time))
		default:
			state = "stopped"
		}
		rows = append(rows, []string{s.Name, state, fmt.Sprintf("%d/%d", s.Done, s.Steps), took})
	}
	return rows
}

// showRun prints the steps of one host, a failed one with its error.
func showRun(deps output.Deps, op *v1alpha1.Operation, run *v1alpha1.HostRun) error {
	rows := [][]string{{"HOST " + run.Spec.Host, "STATE", "RUNS", "TIME", "ERROR"}}
	for _, s := range run.Status.Steps {
		state, took, text := stateText(deps.Terminal, s), "", ""
		if s.FinishedAt != nil {
			took = output.Elapsed(s.FinishedAt.Sub(s.StartedAt.Time))
		}
		if s.State == v1alpha1.StepFailed {
			text = failureOf(op, run.Spec.Host, s.Name)
		}
		rows = append(rows, []string{s.Name, state, fmt.Sprint(s.Attempts), took, text})
	}
	if _, err := fmt.Fprintln(deps.Streams.Out); err != nil {
		return err
	}
	return output.Table(deps.Streams.Out, "", rows...)
}

func stateText(terminal bool, s v1alpha1.StepRecord) string {
	switch s.State {
	case v1alpha1.StepDone:
		text := "unchanged"
		if s.Changed {
			text = "done"
		}
		if terminal {
			return "✓ " + text
		}
		return text
	case v1alpha1.StepFailed:
		return failedText(terminal)
	default:
		return "runs"
	}
}

func failedText(terminal bool) string {
	if terminal {
		return output.Mark(terminal, false) + " failed"
	}
	return output.Mark(terminal, false)
}

func failureOf(op *v1alpha1.Operation, host, step string) string {
	for _, f := range op.Status.Failures {
		if f.Host == host && f.Step == step {
			return f.Message
		}
	}
	return ""
}

// next says which command goes on from here.
func next(connection *output.Connection, op *v1alpha1.Operation) string {
	switch op.Status.Phase {
	case v1alpha1.OperationPlanned:
		if op.Spec.ApprovedPlan == "" {
			return connection.Suggest("slipway operation approve " + op.Name)
		}
	case v1alpha1.OperationPartial, v1alpha1.OperationFailed, v1alpha1.OperationAborted, v1alpha1.OperationBlocked:
		return connection.Suggest("slipway operation retry " + op.Name)
	case v1alpha1.OperationRunning, v1alpha1.OperationQueued:
		return connection.Suggest("slipway operation logs -f " + op.Name)
	}
	return ""
}
