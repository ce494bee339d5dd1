package operation

import (
	"context"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/version"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/impact"
	"slipway.dev/slipway/internal/step"
	"slipway.dev/slipway/internal/step/precheck"
)

// endsSoon is how long before its end a certificate is worth a word in a plan. One that ends within a day refuses an upgrade.
const endsSoon = 30 * 24 * time.Hour

// quiet is what everybody should know who begins an upgrade.
const quiet = "an upgrade takes a minute or two for each node: choose a quiet hour, and let nobody deploy or change settings meanwhile"

// warnings are what a person should know before an upgrade and what is no reason to refuse one.
func warnings(ctx context.Context, c step.ClusterReader, in *impact.Input, certificates []v1alpha1.ClusterCertificate, now time.Time) []string {
	if in.Plan.Verb != v1alpha1.VerbUpgrade {
		return nil
	}
	all := []string{quiet}
	for _, cert := range certificates {
		if left := cert.ExpiresAt.Sub(now); left < endsSoon {
			all = append(all, fmt.Sprintf("certificate %s ends %s: slipway cluster renew-certs %s", cert.Name, cert.ExpiresAt.UTC().Format(time.RFC3339), in.Plan.Cluster))
		}
	}
	to, err := version.ParseSemantic(in.Wanted.Kubernetes.Version)
	if err != nil {
		return all // The planner has refused it.
	}
	var deprecated []string
	for _, name := range in.Applied.ControlPlane.Hosts {
		metrics, err := c.Ask(ctx, name, "/metrics")
		if err != nil {
			all = append(all, fmt.Sprintf("not known whether deprecated APIs are in use: the API server of %s does not tell: %v", name, err))
			continue
		}
		deprecated = append(deprecated, precheck.DeprecatedAPIs(metrics, to)...)
	}
	slices.Sort(deprecated)
	for _, used := range slices.Compact(deprecated) {
		all = append(all, used+": move what uses it before a later upgrade")
	}
	return all
}
