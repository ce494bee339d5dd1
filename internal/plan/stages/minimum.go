package stages

import "slipway.dev/slipway/api/v1alpha1"

// machine is the least size of a host.
type machine struct {
	cpus   int32
	memory int64
}

// minimums is what a host must have. What the Setting leaves out is the floor below which kubeadm's own preflight
// refuses, or nothing works.
type minimums struct {
	controlPlane, worker machine
	// free is in bytes, skew in milliseconds: tokens and certificates are valid from five minutes ago.
	free, skew int64
}

func minimumsOf(s v1alpha1.PrecheckSetting) minimums {
	m := minimums{controlPlane: machine{2, 1700 << 20}, worker: machine{2, 1 << 30}, free: 5 << 30, skew: 10_000}
	m.controlPlane.set(s.ControlPlane)
	m.worker.set(s.Worker)
	if s.FreeDisk != nil {
		m.free = s.FreeDisk.Value()
	}
	if s.MaxClockSkewMilliseconds != nil {
		m.skew = int64(*s.MaxClockSkewMilliseconds)
	}
	return m
}

func (m *machine) set(s v1alpha1.MachineMinimum) {
	if s.CPUs != nil {
		m.cpus = *s.CPUs
	}
	if s.Memory != nil {
		m.memory = s.Memory.Value()
	}
}
