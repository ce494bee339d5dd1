package node

import (
	"context"
	"fmt"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// EndpointAnswers waits until the cluster's endpoint answers on the host, as it must for every kubelet there.
type EndpointAnswers struct {
	// Address is HOST:PORT of the endpoint.
	Address string `json:"address"`
}

// ID is stored in plans.
func (EndpointAnswers) ID() step.ID { return "node.endpoint-answers/v1" }

// Needs tells what must be there.
func (EndpointAnswers) Needs() []step.Output { return []step.Output{step.ServedAPI} }

// Gives tells what later steps find.
func (EndpointAnswers) Gives() []step.Output { return []step.Output{step.API} }

// Check tries to connect.
func (e EndpointAnswers) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	answers, detail, err := host.QueryReach(ctx, r, e.Address, tryFor)
	if err != nil {
		return nil, err
	}
	if !answers {
		return nil, fault.NewWaiting("EndpointNotReached", fmt.Errorf("cannot reach the endpoint %s yet: %s", e.Address, detail))
	}
	return nil, nil
}

// Apply has nothing to do: kube-vip, or the load balancer of the endpoint, works by itself.
func (EndpointAnswers) Apply(context.Context, step.Writer) error { return nil }
