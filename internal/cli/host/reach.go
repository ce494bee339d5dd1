package host

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/cli/output"
	"slipway.dev/slipway/internal/fault"
	hosts "slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/host/ssh"
)

// reachable gives the condition Reachable when it speaks of the spec as it is now, else nil.
func reachable(host *v1alpha1.Host) *metav1.Condition {
	c := meta.FindStatusCondition(host.Status.Conditions, v1alpha1.HostReachable)
	if c == nil || max(c.ObservedGeneration, host.Status.ObservedGeneration) < host.Generation {
		return nil
	}
	return c
}

// unreachable is the error of a host that the server cannot use; nil when it can.
func unreachable(host *v1alpha1.Host) error {
	c := reachable(host)
	switch {
	case c == nil:
		return output.WithCode(output.ExitFailed, fault.NewWaiting("NotLookedAt",
			fmt.Errorf("cannot say whether host %s is reachable: the server has not looked at it yet", host.Name)))
	case c.Status == metav1.ConditionTrue:
		return nil
	default:
		return output.WithCode(output.ExitFailed, refusal("reach", host, c))
	}
}

// mayHeal says that a host may become reachable without anybody changing the host's or the credential's object.
func mayHeal(reason string) bool {
	switch reason {
	case hosts.ReasonUnreachable, hosts.ReasonBusy, hosts.ReasonOutcomeUnknown, hosts.ReasonCommandKilled,
		"", "Pending", "Unknown", "Connecting", "Failed":
		return true
	default:
		return false
	}
}

// refusal makes an error of why the server cannot use a host, with the fix for that reason.
func refusal(verb string, host *v1alpha1.Host, c *metav1.Condition) error {
	return output.Refused(c.Reason, fixFor(host, c.Reason), "cannot %s host %s: %s: %s", verb, host.Name, c.Reason, output.Line(c.Message))
}

func fixFor(host *v1alpha1.Host, reason string) string {
	switch reason {
	case hosts.ReasonUnreachable:
		return fmt.Sprintf("check that the machine is on, that sshd listens on port %d and that no firewall stands between it and the server", port(host))
	case ssh.ReasonLoginRefused:
		return "check the user and the key or password, and that sshd on the machine allows this way to log in"
	case ssh.ReasonSudoRefused:
		return "let the user run sudo, without a password or with the one given by --sudo-password-file"
	case ssh.ReasonHostKeyChanged:
		return "find out why: if the machine was installed anew, compare the fingerprint on the machine itself and pin the new key in spec.hostKey"
	case ssh.ReasonHostKeyUnconfirmed:
		return "compare the fingerprint on the machine itself, then pin the key in spec.hostKey"
	case ssh.ReasonBadCredential:
		return "give a private key in PEM or OpenSSH form, with --passphrase-file when it is locked, or a password"
	case ssh.ReasonIncompatible:
		return "allow current algorithms, and commands for this user, in the sshd_config of the machine"
	case ssh.ReasonForwardingRefused:
		return "set AllowTcpForwarding to local or yes in the sshd_config of the machine"
	default:
		return ""
	}
}

func port(host *v1alpha1.Host) int32 {
	if host.Spec.Port == 0 {
		return 22
	}
	return host.Spec.Port
}
