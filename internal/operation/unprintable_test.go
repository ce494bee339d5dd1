package operation

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/secret"
	"slipway.dev/slipway/internal/step"
)

// TestUnprintable holds that what a host was logged in to with stays out of what the engine says, although no step
// ever reads it, and that one run does not teach the others.
func TestUnprintable(t *testing.T) {
	all := &secret.Set{}
	all.Keep("login", "1", []byte("sesame opens"))
	var log strings.Builder
	r := newRun(t.Context(), nil, Deps{Log: slog.New(slog.NewTextHandler(&log, nil)), Unprintable: all}, &v1alpha1.Operation{}, &plan.Plan{})
	r.secrets.Add([]byte("read by a step"))
	err := fmt.Errorf("sudo says: sesame opens, and read by a step")
	r.Log.Error("cannot go on", "err", err)
	said := map[string]string{
		"a failure":       r.failure("w1", "a", err).Message,
		"an error":        r.clean(err).Error(),
		"the log":         log.String(),
		"a preview":       fmt.Sprint((&preview{run: r}).redacted(step.Drift{{What: err.Error(), Have: err.Error(), Want: err.Error()}})),
		"the set of them": r.secrets.Redact(err.Error()),
	}
	for where, text := range said {
		if strings.Contains(text, "sesame") || strings.Contains(text, "by a step") || strings.Count(text, secret.Mask) < 2 {
			t.Errorf("%s shows a secret: %q", where, text)
		}
	}
	if got := all.Redact("read by a step"); got != "read by a step" {
		t.Errorf("what one run has read is masked in all others: %q", got)
	}
}
