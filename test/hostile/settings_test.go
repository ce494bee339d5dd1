package hostile

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"

	"slipway.dev/slipway/api/v1alpha1"
)

// TestSettings_Bounds: the API itself refuses what a setting cannot be, before any plan is made.
func TestSettings_Bounds(t *testing.T) {
	kinds := loadKinds(t)
	audit := func(f func(*v1alpha1.AuditSpec)) func(*v1alpha1.ClusterSpec) {
		return func(s *v1alpha1.ClusterSpec) { f(&s.Components.APIServer.Audit) }
	}
	record := func(address string, names ...string) func(*v1alpha1.ClusterSpec) {
		return func(s *v1alpha1.ClusterSpec) {
			s.HostSetup.HostRecords = append(s.HostSetup.HostRecords, v1alpha1.HostRecord{Address: address, Names: names})
		}
	}
	mirror := func(registry string, urls ...string) func(*v1alpha1.ClusterSpec) {
		return func(s *v1alpha1.ClusterSpec) {
			s.Runtime.RegistryMirrors = append(s.Runtime.RegistryMirrors, v1alpha1.RegistryMirror{Registry: registry, Endpoints: urls})
		}
	}
	ports := func(text string) func(*v1alpha1.ClusterSpec) {
		return func(s *v1alpha1.ClusterSpec) { s.Network.NodePortRange = text }
	}
	cpu := func(text string) func(*v1alpha1.ClusterSpec) {
		return func(s *v1alpha1.ClusterSpec) { s.Components.Kubelet.KubeReserved.CPU = new(resource.MustParse(text)) }
	}
	cases := map[string]struct {
		reason string
		edit   func(*v1alpha1.ClusterSpec)
		// refused is part of what the API says; "" when it takes it.
		refused string
	}{
		"age 0":           {"files may be kept whatever their age", audit(func(a *v1alpha1.AuditSpec) { a.MaxAge = new(int32(0)) }), ""},
		"age 30":          {"the most", audit(func(a *v1alpha1.AuditSpec) { a.MaxAge = new(int32(30)) }), ""},
		"age 31":          {"too old", audit(func(a *v1alpha1.AuditSpec) { a.MaxAge = new(int32(31)) }), "audit.maxAge"},
		"size 200":        {"the most", audit(func(a *v1alpha1.AuditSpec) { a.MaxSize = 200 }), ""},
		"size 201":        {"too large", audit(func(a *v1alpha1.AuditSpec) { a.MaxSize = 201 }), "audit.maxSize"},
		"size -1":         {"no size", audit(func(a *v1alpha1.AuditSpec) { a.MaxSize = -1 }), "audit.maxSize"},
		"backups 101":     {"too many", audit(func(a *v1alpha1.AuditSpec) { a.MaxBackup = 101 }), "audit.maxBackup"},
		"long policy":     {"an operation holds it twice", audit(func(a *v1alpha1.AuditSpec) { a.Policy = strings.Repeat("a", 12289) }), "audit.policy"},
		"level 10":        {"the most", func(s *v1alpha1.ClusterSpec) { s.Components.LogLevel = 10 }, ""},
		"level 11":        {"there is no such level", func(s *v1alpha1.ClusterSpec) { s.Components.LogLevel = 11 }, "logLevel"},
		"ports":           {"a range", ports("31000-32000"), ""},
		"ports backwards": {"no range", ports("32000-31000"), "nodePortRange must be"},
		"ports too low":   {"components listen there", ports("10200-10300"), "nodePortRange must be"},
		"ports too high":  {"there is no such port", ports("60000-70000"), "nodePortRange must be"},
		"ports of words":  {"no range", ports("many"), "nodePortRange"},
		"ports with the API's": {"both would want it", func(s *v1alpha1.ClusterSpec) { s.Network.NodePortRange, s.Endpoint.Port = "20000-32000", 26443 },
			"endpoint.port is in network.nodePortRange"},
		"external address": {"IPv4", func(s *v1alpha1.ClusterSpec) { s.Endpoint.ExternalAddress = "139.198.123.23" }, ""},
		"external name":    {"a name is a certSAN", func(s *v1alpha1.ClusterSpec) { s.Endpoint.ExternalAddress = "api.example" }, "externalAddress must be"},
		"external IPv6":    {"IPv4 only", func(s *v1alpha1.ClusterSpec) { s.Endpoint.ExternalAddress = "2001:db8::1" }, "externalAddress must be"},
		"record":           {"a line of /etc/hosts", record("192.168.2.2", "host1", "host1.example"), ""},
		"record of no IP":  {"a name has no place there", record("host1", "host2"), "address must be an IP"},
		"record of line":   {"it would be a line of its own", record("192.168.2.2", "host1\n6.6.6.6 bank"), "names"},
		"record of none":   {"an address without a name", record("192.168.2.2"), "names"},
		"mirror":           {"with a path", mirror("docker.io", "https://mirror.example/v2/hub"), ""},
		"mirror of file":   {"no place to ask", mirror("docker.io", "file:///etc/passwd"), "endpoints"},
		"mirror of path":   {"it names a directory", mirror("../x", "https://mirror.example"), "registry"},
		"mirror of ours":   {"the server's own", mirror("_default", "https://mirror.example"), "registry"},
		"cpu":              {"a share", cpu("250m"), ""},
		"cpu below 0":      {"no share", cpu("-1"), "cpu must be"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := goodRequest()
			r.Cluster.Spec.HostSetup.HostRecords, r.Cluster.Spec.Runtime.RegistryMirrors = nil, nil
			c.edit(&r.Cluster.Spec)
			err := kinds.admit(t.Context(), "Cluster", &r.Cluster, &r.Cluster)
			if c.refused == "" && err != nil || c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)) {
				t.Errorf("%s: %v, want %q", c.reason, err, c.refused)
			}
		})
	}
}
