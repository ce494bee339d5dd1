package kubelet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

const (
	runtimeUnit   = "containerd.service"
	crictl        = "/usr/local/bin/crictl"
	runtimeSocket = "unix:///run/containerd/containerd.sock"
	// stopSeconds is how long a container has to end by itself: API servers finish what they answer.
	stopSeconds = "20"
)

// Stop stops everything of Kubernetes on a host so that a reboot does not start it, and removes nothing: what it keeps on disk
// stays, to start again or to be cleaned.
type Stop struct {
	// KeepEtcd leaves etcd and the container runtime running: other control planes may still write.
	KeepEtcd bool `json:"keepEtcd,omitempty"`
}

// ID is stored in plans.
func (Stop) ID() step.ID { return "kubelet.stop/v1" }

func (s Stop) units() []string {
	if s.KeepEtcd {
		return []string{Unit}
	}
	return []string{Unit, runtimeUnit}
}

// Check asks for units that run or start at boot, and for containers.
func (s Stop) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	var drift step.Drift
	units, err := host.QueryUnits(ctx, r, s.units()...)
	if err != nil {
		return nil, err
	}
	for _, u := range units {
		switch {
		case u.ActiveState != "inactive" && u.ActiveState != "failed":
			drift.Want(u.ID, u.ActiveState, "stopped")
		case u.UnitFileState == "enabled":
			drift.Want(u.ID+" at boot", u.UnitFileState, "disabled")
		}
	}
	if s.KeepEtcd {
		servers, err := host.QueryProcesses(ctx, r, "kube-apiserver", "kube-controller", "kube-scheduler", "kube-vip")
		if err != nil {
			return nil, err
		}
		inPods, err := containerProcesses(ctx, r)
		if err != nil {
			return nil, err
		}
		servers = slices.DeleteFunc(servers, func(p host.Process) bool { return !slices.Contains(inPods, strconv.Itoa(p.PID)) })
		drift.Want("control plane processes", strconv.Itoa(len(servers)), "0")
		return drift, nil
	}
	left, err := containerProcesses(ctx, r)
	if err != nil {
		return nil, err
	}
	drift.Want("container processes", strconv.Itoa(len(left)), "0")
	return drift, nil
}

// Apply stops the kubelet first, which would start containers again, then the containers, and the runtime last.
func (s Stop) Apply(ctx context.Context, w step.Writer) error {
	units, err := host.QueryUnits(ctx, w, Unit, runtimeUnit)
	if err != nil {
		return err
	}
	if err := disable(ctx, w, units[0]); err != nil {
		return err
	}
	if units[1].ActiveState == "active" {
		if err := s.stopContainers(ctx, w); err != nil {
			return err
		}
	}
	if s.KeepEtcd {
		return nil
	}
	if err := disable(ctx, w, units[1]); err != nil {
		return err
	}
	left, err := containerProcesses(ctx, w)
	if err != nil || len(left) == 0 {
		return err
	}
	// Some may end in between; Check decides.
	return tolerate(ctx, w, append([]string{"kill", "-KILL"}, left...))
}

func (s Stop) stopContainers(ctx context.Context, w step.Writer) error {
	running, err := containerIDs(ctx, w, "ps")
	if err != nil {
		return err
	}
	if s.KeepEtcd {
		kept, err := containerIDs(ctx, w, "ps", "--name", "^etcd$")
		if err != nil {
			return err
		}
		running = slices.DeleteFunc(running, func(id string) bool { return slices.Contains(kept, id) })
	}
	if len(running) > 0 {
		if err := tolerate(ctx, w, append([]string{crictl, "--runtime-endpoint", runtimeSocket, "stop", "--timeout", stopSeconds}, running...)); err != nil {
			return err
		}
	}
	if s.KeepEtcd {
		return nil
	}
	pods, err := containerIDs(ctx, w, "pods", "--state", "ready")
	if err != nil || len(pods) == 0 {
		return err
	}
	return tolerate(ctx, w, append([]string{crictl, "--runtime-endpoint", runtimeSocket, "stopp"}, pods...))
}

// containerIDs lists what a sub-command of crictl finds.
func containerIDs(ctx context.Context, w step.Writer, list ...string) ([]string, error) {
	argv := append([]string{crictl, "--runtime-endpoint", runtimeSocket}, append(list, "--quiet")...)
	result, err := w.Run(ctx, host.Command{Argv: argv})
	if err != nil {
		return nil, fmt.Errorf("cannot list containers: %w", err)
	}
	return strings.Fields(string(result.Stdout)), nil
}

// tolerate runs a command of whose success the next Check decides: what it names may be gone meanwhile.
func tolerate(ctx context.Context, w step.Writer, argv []string) error {
	var failed *host.CommandError
	if _, err := w.Run(ctx, host.Command{Argv: argv}); err != nil && !errors.As(err, &failed) {
		return fmt.Errorf("cannot stop containers: %w", err)
	}
	return nil
}

func containerProcesses(ctx context.Context, r host.Reader) ([]string, error) {
	processes, err := host.QueryContainerProcesses(ctx, r)
	if err != nil {
		return nil, err
	}
	var pids []string
	for _, p := range processes {
		pids = append(pids, strconv.Itoa(p.PID))
	}
	return pids, nil
}

// disable stops a unit, now and at boot. A host on which creating the cluster failed early has none.
func disable(ctx context.Context, w step.Writer, u host.Unit) error {
	if u.LoadState != "loaded" {
		return nil
	}
	return systemctl(ctx, w, "disable", u.ID)
}

func systemctl(ctx context.Context, w step.Writer, verb, unit string) error {
	if _, err := w.Run(ctx, host.Command{Argv: []string{"systemctl", verb, "--now", unit}}); err != nil {
		return fmt.Errorf("cannot %s %s: %w", verb, unit, err)
	}
	return nil
}

// Start starts the container runtime and the kubelet of a host that was stopped, now and at boot.
type Start struct{}

// ID is stored in plans.
func (Start) ID() step.ID { return "kubelet.start/v1" }

// Check asks whether both run and start at boot.
func (Start) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	var drift step.Drift
	units, err := host.QueryUnits(ctx, r, runtimeUnit, Unit)
	if err != nil {
		return nil, err
	}
	for _, u := range units {
		drift.Want(u.ID, u.ActiveState, "active")
		drift.Want(u.ID+" at boot", u.UnitFileState, "enabled")
	}
	return drift, nil
}

// Apply enables and starts them.
func (Start) Apply(ctx context.Context, w step.Writer) error {
	for _, unit := range []string{runtimeUnit, Unit} {
		if err := systemctl(ctx, w, "enable", unit); err != nil {
			return err
		}
	}
	return nil
}
