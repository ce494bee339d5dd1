package stages

import (
	"slices"
	"time"

	"slipway.dev/slipway/api/v1alpha1"
)

// Changes are the verbs that an edit of a Cluster begins, in their order. A restore brings another spec about too, where it
// replaces control planes or brings a version back, and only a person begins one.
func Changes() []v1alpha1.Verb {
	return []v1alpha1.Verb{v1alpha1.VerbScale, v1alpha1.VerbUpgrade, v1alpha1.VerbConfigure}
}

// History is what the changes of a cluster have come to.
type History struct {
	// Applied is the spec of the change that succeeded last; nil when none has.
	Applied *v1alpha1.ClusterSpec
	// Tried are the changes that have ended without success since, oldest first: failed, left hosts out, aborted or refused.
	Tried []v1alpha1.Operation
}

// HistoryOf reads the operations of one cluster. Those of an earlier cluster of its name must not be among them.
func HistoryOf(operations []v1alpha1.Operation) History {
	var h History
	ended := slices.DeleteFunc(slices.Clone(operations), func(op v1alpha1.Operation) bool {
		over := op.Status.Phase.Ended() || op.Status.Phase == v1alpha1.OperationBlocked
		changes := op.Spec.Verb == v1alpha1.VerbRestore || slices.Contains(Changes(), op.Spec.Verb)
		return !over || op.Spec.Wanted == nil || !changes
	})
	slices.SortStableFunc(ended, func(a, b v1alpha1.Operation) int {
		if c := at(a).Compare(at(b)); c != 0 {
			return c
		}
		return int(a.Spec.Generation - b.Spec.Generation) // Of the same second.
	})
	for _, op := range ended {
		if op.Status.Phase == v1alpha1.OperationSucceeded {
			h.Applied, h.Tried = op.Spec.Wanted.DeepCopy(), nil
			continue
		}
		h.Tried = append(h.Tried, op)
	}
	return h
}

// at is when an operation ended, or began if nobody noted its end.
func at(op v1alpha1.Operation) time.Time {
	switch {
	case op.Status.FinishedAt != nil:
		return op.Status.FinishedAt.Time
	case op.Status.StartedAt != nil:
		return op.Status.StartedAt.Time
	default:
		return op.CreationTimestamp.Time
	}
}

// Half are those of Tried that had begun: the hosts may be as any of them wanted, or as it was before.
func (h History) Half() []v1alpha1.Operation {
	var half []v1alpha1.Operation
	for _, op := range h.Tried {
		if op.Status.StartedAt != nil {
			half = append(half, op)
		}
	}
	return half
}

// Of gives the operations of a cluster, and none of an earlier one of its name.
func Of(c *v1alpha1.Cluster, operations []v1alpha1.Operation) []v1alpha1.Operation {
	return slices.DeleteFunc(slices.Clone(operations), func(op v1alpha1.Operation) bool {
		uid := op.Labels[v1alpha1.LabelClusterUID]
		return op.Spec.Cluster != c.Name || uid != "" && uid != string(c.UID) || op.CreationTimestamp.Before(&c.CreationTimestamp)
	})
}
