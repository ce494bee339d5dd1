package system

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// HostRecords keeps the lines of /etc/hosts that a cluster wants, each marked as ours, and no others of ours.
type HostRecords struct {
	Records []HostRecord `json:"records,omitempty"`
}

// HostRecord gives an address names.
type HostRecord struct {
	Address string   `json:"address"`
	Names   []string `json:"names"`
}

// ID is stored in plans.
func (HostRecords) ID() step.ID { return "system.host-records/v1" }

// wanted gives what the file holds afterwards: the lines of others as they are, then ours.
func (h HostRecords) wanted(have string) string {
	text := step.WithoutHostRecords(have)
	if text != "" && !strings.HasSuffix(text, "\n") && len(h.Records) > 0 {
		text += "\n"
	}
	for _, r := range h.Records {
		text += strings.Join(slices.Concat([]string{r.Address}, r.Names), " ") + step.HostRecordComment + "\n"
	}
	return text
}

// Check compares our lines.
func (h HostRecords) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	have, err := host.ReadIfExists(ctx, r, step.HostsPath)
	if err != nil {
		return nil, err
	}
	var drift step.Drift
	if h.wanted(string(have)) != string(have) {
		drift.Want(step.HostsPath, "other records of the cluster", fmt.Sprintf("%d records", len(h.Records)))
	}
	return drift, nil
}

// Apply writes the file anew. Where a container's set-up wrote it, it has the mode that everybody reads.
func (h HostRecords) Apply(ctx context.Context, w step.Writer) error {
	have, err := host.ReadIfExists(ctx, w, step.HostsPath)
	if err != nil {
		return err
	}
	if err := w.WriteFile(ctx, step.HostsPath, host.File{Content: []byte(h.wanted(string(have)))}); err != nil {
		return fmt.Errorf("cannot write %s: %w", step.HostsPath, err)
	}
	return nil
}
