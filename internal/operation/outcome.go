package operation

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
)

// MaxFailures is how many failures an Operation lists.
const MaxFailures = 20

// How much of a text a status keeps, in bytes.
const (
	maxMessage = 1024
	maxFix     = 512
)

// failure says what went wrong, without secrets and short enough for a status.
func (r *run) failure(name, call string, err error) v1alpha1.Failure {
	message := r.text(err.Error(), maxMessage)
	if !strings.HasPrefix(message, "cannot ") {
		message = "cannot finish " + call + ": " + message
	}
	return v1alpha1.Failure{Host: name, Step: call, Reason: fault.ReasonOf(err),
		Message: host.Shorten(message, maxMessage), Fix: r.text(fault.FixOf(err), maxFix)}
}

// blocked is the outcome of a plan that cannot run at all.
func blocked(name string, err error) Outcome {
	f := v1alpha1.Failure{Reason: fault.ReasonOf(err), Message: host.Shorten(err.Error(), maxMessage), Fix: host.Shorten(fault.FixOf(err), maxFix)}
	return Outcome{Phase: v1alpha1.OperationBlocked, Failures: []v1alpha1.Failure{f},
		Message: fmt.Sprintf("%s; nothing was changed by operation %s: %s", f.Message, name, f.Fix)}
}

// outcome decides what came of the run, when every host has ended.
func (r *run) outcome() Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := Outcome{Failures: r.sortedFailures()}
	done := fmt.Sprintf("%d of %d steps are done", r.progress.total(), r.plan.Steps())
	again := fmt.Sprintf("`slipway operation retry %s`", r.op.Name)
	switch {
	case r.halt == haltAborted && r.cut:
		out.Phase = v1alpha1.OperationAborted
		out.Message = fmt.Sprintf("stopped as asked: %s; go on with %s, or delete the cluster", done, again)
	case r.fatal || (len(r.failures) > 0 && len(r.leftOut) == len(r.walks)):
		out.Phase = v1alpha1.OperationFailed
		out.Message = fmt.Sprintf("%s; %s; then go on with %s, or delete the cluster", r.firstFailure(), done, again)
	case len(r.failures) > 0:
		out.Phase = v1alpha1.OperationPartial
		out.Message = fmt.Sprintf("%s left out, the cluster is usable without: %s; then go on with %s",
			names(r.leftOutInOrder()), r.firstFailure(), again)
	default:
		out.Phase = v1alpha1.OperationSucceeded
		out.Message = fmt.Sprintf("%s on %d hosts", done, len(r.walks))
	}
	out.Message = host.Shorten(out.Message, 2*maxMessage)
	return out
}

// firstFailure gives the first failure with what to do about it. The caller holds mu.
func (r *run) firstFailure() string {
	f := r.sortedFailures()[0]
	text := f.Message
	if f.Host != "" {
		text = f.Host + ": " + text
	}
	if n := len(r.failures) - 1; n > 0 {
		text += fmt.Sprintf(" (and %d more)", n)
	}
	if f.Fix != "" {
		text += "; " + f.Fix
	}
	return text
}

func (r *run) leftOutInOrder() []string {
	var out []string
	for _, t := range r.plan.Hosts {
		if slices.Contains(r.leftOut, t.Name) {
			out = append(out, t.Name)
		}
	}
	return out
}

// end stores the outcome and gives it, or the reason why there is none.
func (r *run) end(out Outcome) (Outcome, error) {
	if err := r.final(out); err != nil {
		return Outcome{}, fmt.Errorf("cannot go on with operation %s: %w", r.op.Name, err)
	}
	return out, nil
}

func (r *run) final(out Outcome) error {
	if err := r.edge("", "", BeforeFinal); err != nil {
		return err
	}
	r.progress.change(func(s *v1alpha1.OperationStatus) {
		s.Phase, s.Failures, s.Message, s.FinishedAt = out.Phase, out.Failures, out.Message, new(metav1.Now())
	})
	if err := r.store(); err != nil {
		return err
	}
	return r.edge("", "", AfterFinal)
}

func (g *progress) total() int32 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.status.Progress.Done
}
