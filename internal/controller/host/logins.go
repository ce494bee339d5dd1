package host

import (
	"context"

	"slipway.dev/slipway/internal/audit"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host/ssh"
)

// Logins gives what a pool tells of its logins: one line of the audit log for each use of a Credential. A machine that
// did not answer, or not to the end, is none: it is asked again and again.
func Logins(to audit.Recorder) func(context.Context, ssh.Target, error) {
	return func(ctx context.Context, t ssh.Target, err error) {
		e := audit.Event{Actor: audit.Server, Verb: "use-credential", Object: "credentials " + t.Credential, Result: audit.Allowed,
			Detail: map[string]string{"host": t.Name, "address": t.Address}}
		if why := audit.Why(ctx); why != "" {
			e.Detail["why"] = why
		}
		if err != nil {
			if fault.ClassOf(err) == fault.Transient {
				return
			}
			e.Result, e.Reason = audit.Failed, fault.ReasonOf(err)
		}
		to.Record(e)
	}
}
