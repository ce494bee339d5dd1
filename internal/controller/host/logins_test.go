package host

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/internal/audit"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host/ssh"
)

type lines []audit.Event

func (l *lines) Record(e audit.Event) { *l = append(*l, e) }

func TestLogins(t *testing.T) {
	target := ssh.Target{Name: "w1", Address: "192.168.7.1", User: "root", Credential: "lab", Auth: ssh.Auth{Password: "hunter22"}}
	for name, tc := range map[string]struct {
		reason string
		ctx    context.Context
		err    error
		want   lines
	}{
		"Used": {"a login says which credential, where and why", audit.Because(t.Context(), "operation dev/op"), nil, lines{{Actor: audit.Server, Verb: "use-credential",
			Object: "credentials lab", Result: audit.Allowed, Detail: map[string]string{"host": "w1", "address": "192.168.7.1", "why": "operation dev/op"}}}},
		"NoWhy": {"the reason is not always known", t.Context(), nil, lines{{Actor: audit.Server, Verb: "use-credential",
			Object: "credentials lab", Result: audit.Allowed, Detail: map[string]string{"host": "w1", "address": "192.168.7.1"}}}},
		"Refused": {"a login that was refused is one too", t.Context(), fault.NewTerminal(ssh.ReasonLoginRefused, "", errors.New("hunter22 is wrong")),
			lines{{Actor: audit.Server, Verb: "use-credential", Object: "credentials lab", Result: audit.Failed, Reason: ssh.ReasonLoginRefused,
				Detail: map[string]string{"host": "w1", "address": "192.168.7.1"}}}},
		"Unreachable": {"a machine that is off is asked each minute", t.Context(), fault.NewTransient("Unreachable", errors.New("no route")), nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got lines
			Logins(&got)(tc.ctx, target, tc.err)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s: -want +got\n%s", tc.reason, diff)
			}
		})
	}
}
