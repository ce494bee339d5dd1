package cluster

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/api/v1alpha1"
)

func TestUpgrading(t *testing.T) {
	cases := map[string]struct {
		reason  string
		u       upgrading
		want    *v1alpha1.OperationParameters
		refused string
	}{
		"all": {"what is said reaches the operation", upgrading{to: "v1.37.1", maxUnavailable: 3, force: true, drain: time.Minute},
			&v1alpha1.OperationParameters{Force: true, DrainSeconds: 60, MaxUnavailable: 3}, ""},
		"none":      {"nobody guesses a version", upgrading{maxUnavailable: 1}, nil, "give --to vX.Y.Z"},
		"bare":      {"versions are written as bundles are named", upgrading{to: "1.37.1", maxUnavailable: 1}, nil, "give --to vX.Y.Z"},
		"same":      {"an upgrade that failed is retried, not asked for again", upgrading{to: "v1.36.3", maxUnavailable: 1}, nil, "slipway operation retry"},
		"no worker": {"none at a time never ends", upgrading{to: "v1.37.1"}, nil, "--max-unavailable 1 or more"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			spec := v1alpha1.ClusterSpec{Kubernetes: v1alpha1.KubernetesSpec{Version: "v1.36.3", DNSDomain: "cluster.local"}}
			got, err := c.u.apply(&spec)
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) || spec.Kubernetes.Version != "v1.36.3" {
					t.Errorf("%s: got %v and version %s, want a refusal that says %q", c.reason, err, spec.Kubernetes.Version, c.refused)
				}
				return
			}
			if err != nil || spec.Kubernetes.Version != c.u.to || spec.Kubernetes.DNSDomain != "cluster.local" {
				t.Errorf("%s: got %v and the spec %+v", c.reason, err, spec.Kubernetes)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}
