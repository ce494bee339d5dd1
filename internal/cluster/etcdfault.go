package cluster

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

// etcdFault classes what a member answered, or why ctx ended before one did.
func etcdFault(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	switch {
	case cause != nil && fault.ClassOf(cause) != fault.Transient && fault.ReasonOf(cause) != "Failed":
		return cause // Classified further in: an SSH login that was refused stays that.
	case cause != nil:
		return fault.NewTransient(step.ReasonEtcdUnreachable, cause)
	case errors.Is(err, rpctypes.ErrMemberLearnerNotReady):
		return fault.NewWaiting(step.ReasonEtcdNotInSync, err)
	case errors.Is(err, rpctypes.ErrUnhealthy):
		return fault.NewTransient(step.ReasonEtcdUnhealthy, err)
	case errors.Is(err, rpctypes.ErrTooManyLearners):
		return fault.NewTerminal(step.ReasonEtcdRefused, "promote or remove the learner that etcd has, then retry", err)
	case errors.Is(err, rpctypes.ErrMemberNotEnoughStarted):
		return fault.NewTerminal(step.ReasonEtcdRefused, "start the members of etcd that are down, or remove them, then retry", err)
	case etcdIsFinal(err):
		return fault.NewTerminal(step.ReasonEtcdRefused, "look at the log of etcd on the control planes, then retry", err)
	default:
		return fault.NewTransient(step.ReasonEtcdUnreachable, err)
	}
}

// etcdIsFinal says whether a member has answered, and would answer the same again.
func etcdIsFinal(err error) bool {
	if errors.Is(err, rpctypes.ErrNotLeader) {
		return false
	}
	switch etcdCode(err) {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied, codes.FailedPrecondition,
		codes.OutOfRange, codes.Unimplemented, codes.DataLoss, codes.Unauthenticated:
		return true
	default:
		return false
	}
}

func etcdCode(err error) codes.Code {
	var answered rpctypes.EtcdError
	if errors.As(err, &answered) {
		return answered.Code()
	}
	return status.Code(err)
}

// unlessVoter makes it no failure that a member has its vote already.
func unlessVoter(err error) error {
	if errors.Is(err, rpctypes.ErrMemberNotLearner) {
		return nil
	}
	return err
}

// unlessGone makes it no failure that a member is gone already.
func unlessGone(err error) error {
	if errors.Is(err, rpctypes.ErrMemberNotFound) {
		return nil
	}
	return err
}
