package precheck

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/version"

	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

// RemovedAPIs is a gate: it refuses a version that no longer has an API which somebody has used since the API server of the
// host started.
type RemovedAPIs struct {
	// Version is the Kubernetes version to come, vX.Y.Z.
	Version string `json:"version"`
}

// ID is stored in plans.
func (RemovedAPIs) ID() step.ID { return "precheck.removed-apis/v1" }

// Needs tells what must be there.
func (RemovedAPIs) Needs() []step.Output { return []step.Output{step.ServedAPI} }

// deprecatedMetric is how an API server counts the use of APIs that go.
const deprecatedMetric = "apiserver_requested_deprecated_apis{"

// Check reads the metrics of the host's API server. A use is a Terminal error that names every such API.
func (a RemovedAPIs) Check(ctx context.Context, r step.Reader) (step.Drift, error) {
	to, err := version.ParseGeneric(a.Version)
	if err != nil {
		return nil, fmt.Errorf("cannot read version %q: %w", a.Version, err)
	}
	metrics, err := r.Cluster.Ask(ctx, r.Target.Name, "/metrics")
	if err != nil {
		// A busy API server takes its time for them.
		return nil, fault.NewWaiting("MetricsNotRead", fmt.Errorf("cannot read which APIs are in use: %w", err))
	}
	p := &problems{host: r.Target.Name}
	for _, used := range removedAPIs(metrics, to) {
		p.add("removed-api", used, "nobody to use it: move what does to the version that replaces it, and restart the API servers, which count since they started")
	}
	return nil, Refusal(p.findings)
}

// Apply has nothing to do.
func (RemovedAPIs) Apply(context.Context, step.Writer) error { return nil }

// removedAPIs gives the APIs in use that the version to come does not have any more.
func removedAPIs(metrics []byte, to *version.Version) []string {
	return usedAPIs(metrics, func(gone *version.Version) bool { return !to.LessThan(gone) })
}

// DeprecatedAPIs gives the APIs in use, from the metrics of an API server, that a version still has and a later one removes.
func DeprecatedAPIs(metrics []byte, to *version.Version) []string {
	return usedAPIs(metrics, to.LessThan)
}

// usedAPIs gives the deprecated APIs in use whose end, where somebody has said when it comes, is wanted.
func usedAPIs(metrics []byte, wanted func(gone *version.Version) bool) []string {
	labels := regexp.MustCompile(`([a-z_]+)="([^"]*)"`)
	var all []string
	for line := range bytes.Lines(metrics) {
		rest, found := bytes.CutPrefix(line, []byte(deprecatedMetric))
		if !found || strings.HasSuffix(strings.TrimSpace(string(rest)), "} 0") {
			continue
		}
		value := map[string]string{}
		for _, pair := range labels.FindAllStringSubmatch(string(rest), -1) {
			value[pair[1]] = pair[2]
		}
		gone, err := version.ParseGeneric(value["removed_release"])
		if err != nil || !wanted(gone) {
			continue
		}
		name := strings.TrimPrefix(value["group"]+"/"+value["version"], "/") + " " + value["resource"]
		all = append(all, fmt.Sprintf("%s in use, which %s removes", name, value["removed_release"]))
	}
	slices.Sort(all)
	return slices.Compact(all)
}
