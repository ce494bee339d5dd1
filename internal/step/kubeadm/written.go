package kubeadm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"slipway.dev/slipway/internal/host"
	"slipway.dev/slipway/internal/step"
)

// writtenPath holds the digest of each manifest as kubeadm wrote it, "name digest" a line: what was changed by hand since is
// seen by it. A host that has none is from before there were any.
const writtenPath = step.StateDir + "/manifests"

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// readWritten gives the digests by name.
func readWritten(ctx context.Context, r host.Reader) (map[string]string, error) {
	b, err := host.ReadIfExists(ctx, r, writtenPath)
	if err != nil {
		return nil, err
	}
	written := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if name, sum, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			written[name] = sum
		}
	}
	return written, nil
}

// unknown stands for the digest of a manifest that is about to be written.
const unknown = "unknown"

// manifestDigest gives that of a manifest on the host.
func manifestDigest(ctx context.Context, r host.Reader, name string) (string, error) {
	b, err := host.ReadIfExists(ctx, r, manifests+"/"+name+".yaml")
	if err != nil || b == nil {
		return unknown, err
	}
	return digest(b), nil
}

// noteWritten keeps what of gives for each manifest; without it, that nothing is known.
func noteWritten(ctx context.Context, w step.Writer, of func(context.Context, host.Reader, string) (string, error), names ...string) error {
	written, err := readWritten(ctx, w)
	if err != nil {
		return err
	}
	for _, name := range names {
		written[name] = unknown
		if of == nil {
			continue
		}
		if written[name], err = of(ctx, w, name); err != nil {
			return err
		}
	}
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(written)) {
		fmt.Fprintf(&text, "%s %s\n", name, written[name])
	}
	if err := w.WriteFile(ctx, writtenPath, host.File{Content: []byte(text.String()), Mode: 0o600}); err != nil {
		return fmt.Errorf("cannot note what kubeadm wrote: %w", err)
	}
	return nil
}
