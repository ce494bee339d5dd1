package host

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/host/ssh"
)

// ConditionDeletable is the condition type of a Host that somebody deletes while a cluster holds it.
const ConditionDeletable = "Deletable"

// The reasons of the conditions that are not reasons of errors.
const (
	ReasonLoggedIn               = "LoggedIn"
	ReasonConnecting             = "Connecting"
	ReasonPinned                 = "Pinned"
	ReasonDuplicateMachine       = "DuplicateMachine"
	ReasonNoOther                = "NoOtherHost"
	ReasonInternalAddressMissing = "InternalAddressMissing"
	ReasonHeld                   = "Held"
)

// maxMessage bounds the message of a condition, in bytes.
const maxMessage = 1024

// view is everything the status of one Host is made of.
type view struct {
	host  *v1alpha1.Host
	claim *v1alpha1.HostClaim
	// finding is nil as long as the watcher has seen nothing.
	finding *finding
	// since is when the watcher began; zero when none runs.
	since time.Time
	// refusal says why no watcher can run.
	refusal error
	twins   []string
}

// unseen says that nothing is known of the machine yet.
func (v view) unseen() bool {
	return v.finding == nil && v.refusal == nil && len(v.host.Status.Conditions) == 0
}

// facts gives the newest facts: those just found, else those known before.
func (v view) facts() *v1alpha1.HostFacts {
	if v.finding != nil && v.finding.facts != nil {
		return v.finding.facts
	}
	return v.host.Status.Facts
}

// status gives what the status should be. Small movements of measured values are no change.
func (v view) status() v1alpha1.HostStatus {
	old := v.host.Status
	next := *old.DeepCopy()
	next.ObservedGeneration = v.host.Generation
	next.Holder = nil
	if v.claim != nil {
		next.Holder = &v1alpha1.HostHolder{Cluster: v.claim.Spec.Namespace + "/" + v.claim.Spec.Cluster}
	}
	if v.finding != nil && v.finding.facts != nil {
		next.Facts = steady(old.Facts, v.finding.facts)
		next.InternalAddress = internalAddress(v.host, v.finding)
	}
	next.OfferedKey = v.offeredKey()
	for _, c := range []metav1.Condition{v.reachable(next.InternalAddress), v.hostKeyPinned(), v.unique()} {
		v.set(&next, c)
	}
	if v.host.DeletionTimestamp.IsZero() || next.Holder == nil {
		meta.RemoveStatusCondition(&next.Conditions, ConditionDeletable)
	} else {
		v.set(&next, metav1.Condition{Type: ConditionDeletable, Status: metav1.ConditionFalse, Reason: ReasonHeld,
			Message: fmt.Sprintf("held by cluster %s; delete or shrink the cluster first", next.Holder.Cluster)})
	}
	return next
}

func (v view) set(s *v1alpha1.HostStatus, c metav1.Condition) {
	c.ObservedGeneration = v.host.Generation
	c.Message = host.Shorten(c.Message, maxMessage)
	meta.SetStatusCondition(&s.Conditions, c)
}

// before gives a condition that still speaks of the current spec; nil when there is none.
func (v view) before(kind string) *metav1.Condition {
	c := meta.FindStatusCondition(v.host.Status.Conditions, kind)
	if c == nil || c.ObservedGeneration != v.host.Generation {
		return nil
	}
	return c
}

func (v view) reachable(internal string) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.HostReachable, Status: metav1.ConditionFalse}
	f := v.finding
	switch {
	case v.refusal != nil:
		c.Reason, c.Message = fault.ReasonOf(v.refusal), explain(v.refusal)
	case f == nil:
		if old := v.before(v1alpha1.HostReachable); old != nil {
			return *old
		}
		c.Status, c.Reason, c.Message = metav1.ConditionUnknown, ReasonConnecting, "connecting to the machine"
	case f.err != nil:
		c.Reason, c.Message = fault.ReasonOf(f.err), explain(f.err)
	case v.host.Spec.HostKey == "":
		c.Reason, c.Message = ssh.ReasonHostKeyUnconfirmed, v.unconfirmed()
	case internal == "":
		c.Reason, c.Message = ReasonInternalAddressMissing, missingAddress(v.host, f.facts)
	default:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, ReasonLoggedIn, "login works and the facts are fresh"
	}
	return c
}

func (v view) hostKeyPinned() metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.HostHostKeyPinned, Status: metav1.ConditionFalse}
	pinned := ssh.Fingerprint(v.host.Spec.HostKey)
	old := v.before(v1alpha1.HostHostKeyPinned)
	switch {
	case v.host.Spec.HostKey == "":
		c.Reason, c.Message = ssh.ReasonHostKeyUnconfirmed, v.unconfirmed()
	case pinned == "":
		c.Reason, c.Message = ssh.ReasonHostKeyUnconfirmed, "spec.hostKey is no public key; copy status.offeredKey.key, or a line of known_hosts without the name"
	case v.finding != nil && fault.ReasonOf(v.finding.err) == ssh.ReasonHostKeyChanged:
		c.Reason, c.Message = ssh.ReasonHostKeyChanged, explain(v.finding.err)
	case v.finding == nil && old != nil:
		return *old
	default:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, ReasonPinned, pinned
	}
	return c
}

func (v view) unconfirmed() string {
	key := v.offeredKey()
	if key == nil {
		return "no key is pinned, and the machine has not shown one yet"
	}
	return fmt.Sprintf("no key is pinned; the machine offers %s: compare that with what ssh-keygen -l prints on the machine itself, then set spec.hostKey to status.offeredKey.key", key.Fingerprint)
}

// offeredKey gives the key that waits for a person; nil when the pinned one is the right one.
func (v view) offeredKey() *v1alpha1.OfferedKey {
	key := v.host.Status.OfferedKey
	if f := v.finding; f != nil && (f.offered != nil || f.facts != nil) {
		key = f.offered
	}
	if key == nil || key.Key == v.host.Spec.HostKey {
		return nil
	}
	return key.DeepCopy()
}

func (v view) unique() metav1.Condition {
	if len(v.twins) == 0 {
		return metav1.Condition{Type: v1alpha1.HostUnique, Status: metav1.ConditionTrue, Reason: ReasonNoOther,
			Message: "no other Host has this address or machine identity"}
	}
	names := strings.Join(v.twins[:min(len(v.twins), 5)], ", ")
	if more := len(v.twins) - 5; more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	return metav1.Condition{Type: v1alpha1.HostUnique, Status: metav1.ConditionFalse, Reason: ReasonDuplicateMachine,
		Message: fmt.Sprintf("it has the address or the machine identity (/etc/machine-id) of %s; remove one of them, or give the cloned machine an identity of its own", names)}
}

// explain gives an error with its fix, as people should read it.
func explain(err error) string {
	// The local port differs at each try and would make each a change.
	text := regexp.MustCompile(`\S+->`).ReplaceAllString(err.Error(), "")
	if fix := fault.FixOf(err); fix != "" {
		text += "; " + fix
	}
	return text
}

// steady gives the new facts with the old values where these moved too little to matter: a clock by less than
// half a second, free room by less than a twentieth.
func steady(old, now *v1alpha1.HostFacts) *v1alpha1.HostFacts {
	next := now.DeepCopy()
	if old == nil {
		return next
	}
	if move := next.ClockSkewMillis - old.ClockSkewMillis; -500 < move && move < 500 {
		next.ClockSkewMillis = old.ClockSkewMillis
	}
	for _, path := range slices.Collect(maps.Keys(next.FreeBytes)) {
		was, known := old.FreeBytes[path]
		if move := next.FreeBytes[path] - was; known && max(move, -move) < was/20 {
			next.FreeBytes[path] = was
		}
	}
	return next
}
