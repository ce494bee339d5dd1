package host

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/host/ssh"
)

// TestStatus_HostileText: whatever a machine says, in an error or as its key, the conditions of its Host are such as the
// API stores and as a terminal can show, and do not change while nothing happens.
func TestStatus_HostileText(t *testing.T) {
	const odd = "\x1b[2J\x1b]0;owned\x07\u202etxt\u009b31m\xff\xfe\r\n\x00"
	reason := regexp.MustCompile(`^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$`)
	h := func() *v1alpha1.Host {
		return &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Name: "w1"}, Spec: v1alpha1.HostSpec{Address: "192.0.2.1", HostKey: keyA}}
	}
	facts := &v1alpha1.HostFacts{MachineID: strings.Repeat("m", 253)}
	for i := range 64 {
		nic := v1alpha1.HostNIC{Name: fmt.Sprintf("eth%d", i)}
		for j := range 32 {
			nic.Addresses = append(nic.Addresses, fmt.Sprintf("2001:db8:%x::%x/64", i, j))
		}
		facts.NICs = append(facts.NICs, nic)
	}
	var twins []string
	for i := range 5000 {
		twins = append(twins, fmt.Sprintf("host-with-the-same-machine-id-%d", i))
	}
	cases := map[string]struct {
		reason string
		view   view
	}{
		"error":         {"an error of a megabyte that paints the terminal", view{host: h(), finding: &finding{err: fault.NewTransient(host.ReasonUnreachable, errors.New(strings.Repeat(odd+"word ", 40_000)))}}},
		"refusal":       {"a refusal with a fix", view{host: h(), refusal: fault.NewTerminal("Odd", odd, errors.New(odd))}},
		"no class":      {"an error of no class", view{host: h(), finding: &finding{err: errors.New(odd)}}},
		"another key":   {"a key that is no key", view{host: h(), finding: &finding{err: fault.NewTerminal(ssh.ReasonHostKeyChanged, odd, &ssh.HostKeyError{Host: odd, Pinned: keyA, Offered: odd}), offered: &v1alpha1.OfferedKey{Key: keyB, Fingerprint: ssh.Fingerprint(keyB)}}}},
		"addresses":     {"two thousand addresses, none of them the right one", view{host: h(), finding: &finding{facts: facts}}},
		"same identity": {"five thousand hosts with one machine identity", view{host: h(), finding: &finding{facts: facts}, twins: twins}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			next := tc.view.status()
			for _, c := range next.Conditions {
				if len(c.Message) > maxMessage || c.Message != host.Clean(c.Message, maxMessage) || c.Message == "" || !reason.MatchString(c.Reason) {
					t.Errorf("%s: condition %s is %s, %q", tc.reason, c.Type, c.Reason, c.Message)
				}
			}
			tc.view.host.Status = next
			if again := tc.view.status(); fmt.Sprint(again.Conditions) != fmt.Sprint(next.Conditions) {
				t.Errorf("%s: the conditions change by themselves", tc.reason)
			}
		})
	}
}
