package kubeadm

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

// ValidCertificates is a gate: it refuses to begin on a control plane whose certificates are not good for a day more. Long
// work must not be what finds out.
type ValidCertificates struct{}

// ID is stored in plans.
func (ValidCertificates) ID() step.ID { return "kubeadm.valid-certificates/v1" }

// Check reads each certificate. One that is not good is a Terminal error that names them all.
func (ValidCertificates) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	drift, err := (Certificates{}).Check(ctx, r)
	if err != nil || drift.Clean() {
		return nil, err
	}
	var problems []string
	for _, d := range drift {
		problems = append(problems, strings.TrimSpace(d.What+": "+d.Have))
	}
	return nil, fault.NewTerminal("CertificatesExpire", "renew the certificates of the cluster first, then retry; nothing was changed",
		fmt.Errorf("cannot begin on %s: %w", r.Target.Name, errors.New(strings.Join(problems, "; "))))
}

// Apply has nothing to do.
func (ValidCertificates) Apply(context.Context, step.Writer) error { return nil }
