package impact

import (
	"bytes"
	"encoding/json"
	"fmt"

	"slipway.dev/slipway/internal/plan"
	"slipway.dev/slipway/internal/step"
)

// Kind is one way in which a step is felt on a node.
type Kind string

// The kinds. A step that only writes files, or only looks, is felt by nobody and has none.
const (
	// Restarts says that components restart. Containers of other pods run on.
	Restarts Kind = "restarts"
	// Stops says that components stop until a later step starts them.
	Stops Kind = "stops"
	// StartsAgain ends Stops.
	StartsAgain Kind = "starts"
	// RollsOut says that components restart in the whole cluster, one pod after another.
	RollsOut Kind = "rolls out"
	// Drains says that the pods of the node move away.
	Drains Kind = "drains"
	// Reboots says that the machine does, with everything on it.
	Reboots Kind = "reboots"
	// StopsAll says that everything of Kubernetes on the node stops and is kept.
	StopsAll Kind = "stops all"
	// Leaves says that the node is no more, and neither is what ran there.
	Leaves Kind = "leaves"
	// EtcdJoins and EtcdLeaves change who votes in etcd.
	EtcdJoins  Kind = "joins etcd"
	EtcdLeaves Kind = "leaves etcd"
)

// The components as people and manifests call them.
const (
	Containerd        = "containerd"
	Kubelet           = "kubelet"
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	KubeVIP           = "kube-vip"
	KubeProxy         = "kube-proxy"
	Flannel           = "flannel"
	CoreDNS           = "CoreDNS"
)

// Effect is how a step is felt on the node of its host.
type Effect struct {
	Kind Kind
	// Components are those that Kind speaks of.
	Components []string
	// Node is another node than that of the host; "" is the host's own.
	Node string
}

// declaration gives the effects of a step with these parameters.
type declaration func(parameters json.RawMessage) ([]Effect, error)

// none is for a step that nobody feels.
func none(json.RawMessage) ([]Effect, error) { return nil, nil }

// always is for a step whose parameters do not matter.
func always(effects ...Effect) declaration {
	return func(json.RawMessage) ([]Effect, error) { return effects, nil }
}

// depending is for a step whose parameters decide.
func depending[S step.Step](effects func(S) []Effect) declaration {
	return func(parameters json.RawMessage) ([]Effect, error) {
		var s S
		dec := json.NewDecoder(bytes.NewReader(parameters))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&s); err != nil {
			return nil, fmt.Errorf("cannot decode step %s: %w", s.ID(), err)
		}
		return effects(s), nil
	}
}

func restarts(components ...string) Effect { return Effect{Kind: Restarts, Components: components} }

// Effects gives those of one call. A step that nobody has declared is an error: what it does is not known.
func Effects(c plan.Call) ([]Effect, error) {
	declared, known := declarations()[c.ID]
	if !known {
		return nil, fmt.Errorf("nobody has said what step %s does to a node", c.ID)
	}
	return declared(c.Parameters)
}

// Declared lists the steps that are declared, in no order.
func Declared() []step.ID {
	var ids []step.ID
	for id := range declarations() {
		ids = append(ids, id)
	}
	return ids
}
