package plan

import (
	"strings"
	"testing"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

// TestWords: labels and taints reach the kubelet in one argument each, on one line with others. What would be more than
// one there is no label.
func TestWords(t *testing.T) {
	cases := map[string]struct {
		reason string
		target step.Target
		bad    bool
	}{
		"label":             {"as Kubernetes takes them", step.Target{Labels: map[string]string{"example.org/zone": "a-1", "pool": ""}}, false},
		"another label":     {"a comma begins the next label", step.Target{Labels: map[string]string{"a": "b,node-role.kubernetes.io/control-plane="}}, true},
		"another argument":  {"a blank begins the next argument of the kubelet", step.Target{Labels: map[string]string{"a": "b --config=/tmp/evil"}}, true},
		"quote":             {"systemd takes quotes away", step.Target{Labels: map[string]string{"a": `b"`}}, true},
		"key":               {"the same in a key", step.Target{Labels: map[string]string{"a b": "c"}}, true},
		"equals":            {"a key has no value in it", step.Target{Labels: map[string]string{"a=b": "c"}}, true},
		"line":              {"a line end", step.Target{Labels: map[string]string{"a": "b\n"}}, true},
		"empty key":         {"no key", step.Target{Labels: map[string]string{"": "b"}}, true},
		"long":              {"64 characters", step.Target{Labels: map[string]string{"a": strings.Repeat("x", 64)}}, true},
		"taint":             {"as Kubernetes takes them", step.Target{Taints: []string{"example.org/only=batch:NoSchedule", "x=:NoExecute"}}, false},
		"taint without end": {"an effect must be one", step.Target{Taints: []string{"a=b"}}, true},
		"taint of two":      {"a comma begins the next taint", step.Target{Taints: []string{"a=b:NoSchedule,c=d:NoSchedule"}}, true},
		"taint argument":    {"a blank begins the next argument", step.Target{Taints: []string{"a=b --config=/x:NoSchedule"}}, true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			tc.target.Name = "w1"
			err := (&Plan{Format: Format, Hosts: []step.Target{tc.target}}).Validate()
			if (err != nil) != tc.bad {
				t.Errorf("%s: %v", tc.reason, err)
			}
			if err != nil && (fault.FixOf(err) == "" || !strings.Contains(err.Error(), "host w1")) {
				t.Errorf("%s: the error is %v with the fix %q", tc.reason, err, fault.FixOf(err))
			}
		})
	}
}
