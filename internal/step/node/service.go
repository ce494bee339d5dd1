package node

import (
	"context"
	"fmt"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// ServiceAnswers waits until a Service of the cluster answers on the host, which says that kube-proxy has written its
// rules there.
type ServiceAnswers struct {
	// Address is IP:PORT of the Service.
	Address string `json:"address"`
}

// ID is stored in plans.
func (ServiceAnswers) ID() step.ID { return "node.service-answers/v1" }

// Needs tells what must be there.
func (ServiceAnswers) Needs() []step.Output { return []step.Output{step.API} }

// tryFor is short: a connection that began before the rules were there is never sent anew by them.
const tryFor = 1

// Check tries to connect.
func (s ServiceAnswers) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	answers, detail, err := host.QueryReach(ctx, r, s.Address, tryFor)
	if err != nil {
		return nil, err
	}
	if !answers {
		return nil, fault.NewWaiting("ServiceNotReached", fmt.Errorf("cannot reach the Service at %s yet: %s", s.Address, detail))
	}
	return nil, nil
}

// Apply has nothing to do: kube-proxy works by itself.
func (ServiceAnswers) Apply(context.Context, step.Writer) error { return nil }
