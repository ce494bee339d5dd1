package restore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

const (
	crictl = "/usr/local/bin/crictl"
	// graceSeconds is what a component has to end by itself; what it would still write is replaced anyway.
	graceSeconds = "3"
)

// Stop stops etcd and the components of the control plane. Their manifests are moved aside, so that they stay stopped when
// the host boots, until Start puts them back.
type Stop struct {
	// Restore is unique to this restore: once the data carries it, nothing is stopped again.
	Restore string `json:"restore"`
	// DataDir is etcd's.
	DataDir string `json:"dataDir"`
	// Port is the API server's.
	Port int32 `json:"port"`
}

// ID is stored in plans.
func (Stop) ID() step.ID { return "restore.stop/v1" }

// Check looks for manifests, and for ports on which what they started still listens.
func (s Stop) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	done, err := restored(ctx, r, s.DataDir, s.Restore)
	if done || err != nil {
		return nil, err
	}
	drift, err := running(ctx, r)
	if err != nil || !drift.Clean() {
		return drift, err
	}
	open, err := listening(ctx, r, s.Port)
	if err != nil {
		return nil, err
	}
	if open == "" {
		return nil, nil
	}
	// Only the kubelet ends what has no manifest any more.
	units, err := host.QueryUnits(ctx, r, kubelet)
	if err != nil {
		return nil, err
	}
	if state := units[0].ActiveState; state != "active" {
		drift.Want(kubelet, state, "active")
		return drift, nil
	}
	return nil, fault.NewWaiting("ControlPlaneStopping", fmt.Errorf("the control plane on %s still listens on port %s", r.Target.Name, open))
}

// running lists the manifests that are in place.
func running(ctx context.Context, r host.Reader) (step.Drift, error) {
	var paths []string
	for _, pod := range pods() {
		paths = append(paths, manifest(manifests, pod))
	}
	there, err := exist(ctx, r, paths...)
	if err != nil {
		return nil, err
	}
	var drift step.Drift
	for i, path := range paths {
		if there[i] {
			drift.Want(path, "present", "aside")
		}
	}
	return drift, nil
}

// listening names a port of etcd or the control plane that is in use, or "".
func listening(ctx context.Context, r host.Reader, api int32) (string, error) {
	ports, err := host.QueryListening(ctx, r)
	if err != nil {
		return "", err
	}
	for _, port := range []int{2379, 2380, int(api), 10257, 10259} {
		if ports[port] {
			return strconv.Itoa(port), nil
		}
	}
	return "", nil
}

// Apply moves the manifests aside and sees that a kubelet runs, which then ends the pods.
func (s Stop) Apply(ctx context.Context, w step.Writer) error {
	done, err := restored(ctx, w, s.DataDir, s.Restore)
	if done || err != nil {
		return err
	}
	if err := directory(ctx, w, aside); err != nil {
		return err
	}
	drift, err := running(ctx, w)
	if err != nil {
		return err
	}
	for _, pod := range pods() {
		from := manifest(manifests, pod)
		for _, d := range drift {
			if d.What != from {
				continue
			}
			if err := move(ctx, w, from, manifest(aside, pod)); err != nil {
				return err
			}
		}
	}
	if err := run(ctx, w, "systemctl", "start", kubelet); err != nil {
		return fmt.Errorf("cannot start the kubelet: %w", err)
	}
	return end(ctx, w)
}

// end hastens what the kubelet does by itself: an API server whose etcd has gone takes its whole grace period.
func end(ctx context.Context, w step.Writer) error {
	for _, pod := range []string{APIServer, ControllerManager, Scheduler, Etcd} {
		found, err := w.Run(ctx, host.Command{Argv: []string{crictl, "ps", "--quiet",
			"--label", "io.kubernetes.pod.namespace=kube-system", "--label", "io.kubernetes.pod.name=" + pod + "-" + w.Target.Name}})
		if err != nil {
			return fmt.Errorf("cannot look for the containers of %s: %w", pod, err)
		}
		for _, id := range strings.Fields(string(found.Stdout)) {
			if _, err := w.Run(ctx, host.Command{Argv: []string{crictl, "stop", "--timeout", graceSeconds, id}}); err != nil && !gone(err) {
				return fmt.Errorf("cannot stop %s: %w", pod, err)
			}
		}
	}
	return nil
}

// gone says that the kubelet was faster: a container that is no more cannot be stopped, and Check looks again.
func gone(err error) bool {
	var command *host.CommandError
	return errors.As(err, &command)
}

// Start puts manifests back, and the kubelet starts what they name.
type Start struct {
	// Pods names them.
	Pods []string `json:"pods"`
}

// ID is stored in plans.
func (Start) ID() step.ID { return "restore.start/v1" }

// Check looks for the manifests and the kubelet.
func (s Start) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	var paths []string
	for _, pod := range s.Pods {
		paths = append(paths, manifest(manifests, pod))
	}
	there, err := exist(ctx, r, paths...)
	if err != nil {
		return nil, err
	}
	var drift step.Drift
	for i, path := range paths {
		if !there[i] {
			drift.Want(path, "aside", "present")
		}
	}
	units, err := host.QueryUnits(ctx, r, kubelet)
	if err != nil {
		return nil, err
	}
	drift.Want(kubelet, units[0].ActiveState, "active")
	return drift, nil
}

// Apply moves them back. One that is in place already stays: what is aside is older.
func (s Start) Apply(ctx context.Context, w step.Writer) error {
	for _, pod := range s.Pods {
		there, err := exist(ctx, w, manifest(manifests, pod), manifest(aside, pod))
		if err != nil {
			return err
		}
		switch {
		case there[0]:
		case !there[1]:
			return fault.NewTerminal("ManifestMissing", "put the manifest of this pod back by hand, or replace the control plane",
				fmt.Errorf("cannot start %s on %s: its manifest is neither in %s nor in %s", pod, w.Target.Name, manifests, aside))
		default:
			if err := move(ctx, w, manifest(aside, pod), manifest(manifests, pod)); err != nil {
				return err
			}
		}
	}
	if err := run(ctx, w, "systemctl", "start", kubelet); err != nil {
		return fmt.Errorf("cannot start the kubelet: %w", err)
	}
	return nil
}
