package output

import (
	"fmt"
	"io"
	"slices"

	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/step"
)

// PrintPlan prints for each host of a plan what would be done there: stage, step, and what differs now.
func PrintPlan(w io.Writer, terminal bool, view *PlanView) error {
	p := view.Plan
	if err := printf(w, "%s\n", Line(p.Summary)); err != nil {
		return err
	}
	looks := map[[2]string]*Preview{}
	for i := range view.Preview {
		looks[[2]string{view.Preview[i].Host, view.Preview[i].Step}] = &view.Preview[i]
	}
	for _, target := range p.Hosts {
		if err := printHost(w, terminal, p, target, looks); err != nil {
			return err
		}
	}
	return nil
}

func printHost(w io.Writer, terminal bool, p *plan.Plan, target step.Target, looks map[[2]string]*Preview) error {
	role := "worker"
	if target.ControlPlane {
		role = "control plane"
	}
	if err := printf(w, "\nhost %s (%s, %s)\n", Line(target.Name), Line(target.Address), role); err != nil {
		return err
	}
	for _, stage := range p.Stages {
		if !slices.Contains(stage.Hosts, target.Name) {
			continue
		}
		if err := printf(w, "  %s\n", Line(stage.Title)); err != nil {
			return err
		}
		for _, call := range stage.Calls {
			if err := PrintStep(w, terminal, call.Name, looks[[2]string{target.Name, call.Name}]); err != nil {
				return err
			}
		}
	}
	return nil
}

// PrintStep prints what the look at one step found; a nil look was not taken.
func PrintStep(w io.Writer, terminal bool, name string, look *Preview) error {
	name = Line(name)
	if look == nil {
		return printf(w, "    %s\n", name)
	}
	switch look.State {
	case PreviewClean:
		return printf(w, "    %s   nothing to do\n", name)
	case PreviewAfter:
		return printf(w, "    %s   after %s\n", name, Line(look.After))
	case PreviewError:
		if err := printf(w, "    %s   %s %s\n", name, Mark(terminal, false), Line(look.Error)); err != nil || look.Fix == "" {
			return err
		}
		return printf(w, "      fix: %s\n", Line(look.Fix))
	}
	if err := printf(w, "    %s\n", name); err != nil {
		return err
	}
	arrow := "->"
	if terminal {
		arrow = "→"
	}
	for _, d := range look.Drift {
		have, want := Line(d.Have), Line(d.Want)
		if have == "" {
			have = "(nothing)"
		}
		if want == "" {
			want = "(nothing)"
		}
		if err := printf(w, "      %s: %s %s %s\n", Line(d.What), have, arrow, want); err != nil {
			return err
		}
	}
	return nil
}

// PlanRefusal is the error of a plan whose look at the hosts found some that cannot be used; nil when all can.
func PlanRefusal(view *PlanView) error {
	bad := 0
	var first *Preview
	for i := range view.Preview {
		if view.Preview[i].State != PreviewError {
			continue
		}
		if bad++; first == nil {
			first = &view.Preview[i]
		}
	}
	if first == nil {
		return nil
	}
	more := ""
	if bad > 1 {
		more = fmt.Sprintf(" (and %d more)", bad-1)
	}
	return Refused(ReasonPrecheck, first.Fix, "cannot %s cluster %s: host %s, step %s: %s%s", view.Plan.Verb, view.Plan.Cluster,
		first.Host, first.Step, first.Error, more)
}
