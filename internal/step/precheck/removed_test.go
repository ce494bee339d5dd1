package precheck

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/version"
)

func TestRemovedAPIs(t *testing.T) {
	const metrics = `# HELP apiserver_requested_deprecated_apis [STABLE] Gauge of deprecated APIs that have been requested
# TYPE apiserver_requested_deprecated_apis gauge
apiserver_requested_deprecated_apis{group="flowcontrol.apiserver.k8s.io",removed_release="1.32",resource="flowschemas",subresource="",version="v1beta3"} 1
apiserver_requested_deprecated_apis{group="flowcontrol.apiserver.k8s.io",removed_release="1.32",resource="flowschemas",subresource="status",version="v1beta3"} 1
apiserver_requested_deprecated_apis{group="batch",removed_release="1.25",resource="cronjobs",subresource="",version="v1beta1"} 0
apiserver_requested_deprecated_apis{group="new.k8s.io",removed_release="1.40",resource="things",subresource="",version="v1beta1"} 1
apiserver_requested_deprecated_apis{group="",removed_release="",resource="endpoints",subresource="",version="v1"} 1
apiserver_request_total{code="200",resource="pods"} 12
`
	cases := map[string]struct {
		reason, to string
		want       []string
	}{
		"before":  {"it is still there", "v1.31.9", nil},
		"removes": {"in use, and named once", "v1.32.0", []string{"flowcontrol.apiserver.k8s.io/v1beta3 flowschemas in use, which 1.32 removes"}},
		"later":   {"what is gone stays gone; what is not used is no reason, nor what stays", "v1.37.1", []string{"flowcontrol.apiserver.k8s.io/v1beta3 flowschemas in use, which 1.32 removes"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, removedAPIs([]byte(metrics), version.MustParseGeneric(c.to))); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

// TestDeprecatedAPIs: what the version to come still has, and a later one has not, is worth a warning.
func TestDeprecatedAPIs(t *testing.T) {
	const metrics = `apiserver_requested_deprecated_apis{group="new.k8s.io",removed_release="1.40",resource="things",subresource="",version="v1beta1"} 1
apiserver_requested_deprecated_apis{group="old.k8s.io",removed_release="1.37",resource="things",subresource="",version="v1beta1"} 1
apiserver_requested_deprecated_apis{group="",removed_release="",resource="endpoints",subresource="",version="v1"} 1
`
	want := []string{"new.k8s.io/v1beta1 things in use, which 1.40 removes"}
	if diff := cmp.Diff(want, DeprecatedAPIs([]byte(metrics), version.MustParseGeneric("v1.37.1"))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
