package precheck

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/host/fake"
	"slipway.dev/slipway/internal/step"
)

func look() Look {
	return Look{Cluster: "abc", Ports: []int{6443, 10250}, Absent: []string{"/etc/kubernetes", "/var/lib/etcd", "/etc/containerd/config.toml"},
		Names: []string{"api.example"}, Peers: []string{"10.9.0.11:22", "10.9.0.22:22"}}
}

// TestLook breaks one rule after another on a host that fits otherwise. With the marker of the same cluster the
// host was looked at before it was changed, so nothing is refused.
func TestLook(t *testing.T) {
	file := func(path string) func(*testing.T, *fake.State) {
		return func(t *testing.T, s *fake.State) {
			if err := s.WriteFile(path, []byte("x\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	cases := map[string]struct {
		reason  string
		breaks  func(*testing.T, *fake.State)
		away    string
		want    []string
		noOwner bool
	}{
		"fits":            {reason: "a bare host"},
		"port":            {reason: "somebody listens", breaks: func(_ *testing.T, s *fake.State) { s.Listening[netip.MustParseAddrPort("0.0.0.0:10250")] = true }, want: []string{"port: found port 10250 in use, needs port 10250 free"}},
		"leftover file":   {reason: "an earlier cluster", breaks: file("/etc/kubernetes/pki/ca.crt"), want: []string{"leftovers: found /etc/kubernetes/pki"}},
		"other runtime":   {reason: "a file that we would write", breaks: file("/etc/containerd/config.toml"), want: []string{"leftovers: found /etc/containerd/config.toml"}},
		"empty directory": {reason: "the mount point of a disk for etcd", breaks: func(t *testing.T, s *fake.State) { mkdir(t, s, "/var/lib/etcd/lost+found") }},
		"used directory":  {reason: "data of an earlier etcd", breaks: file("/var/lib/etcd/member/wal"), want: []string{"leftovers: found /var/lib/etcd/member"}},
		"name":            {reason: "the endpoint is a name that nobody knows", breaks: func(_ *testing.T, s *fake.State) { delete(s.Names, "api.example") }, want: []string{"name: found api.example does not resolve"}},
		"server":          {reason: "the registry is behind a firewall", away: "10.9.0.1:8443", want: []string{"server: found no way to the server at 10.9.0.1:8443"}},
		"peer":            {reason: "hosts of a cluster reach each other", away: "10.9.0.22:22", want: []string{"peer: found no way to 10.9.0.22:22"}},
		"other cluster":   {reason: "it was never cleaned", breaks: file(step.MarkerPath), want: []string{"leftovers: found the marker of cluster x"}, noOwner: true},
		"several": {reason: "all are named at once", breaks: func(t *testing.T, s *fake.State) {
			file("/etc/kubernetes/admin.conf")(t, s)
			s.Listening[netip.MustParseAddrPort("127.0.0.1:6443")] = true
		}, want: []string{"port: found port 6443 in use", "leftovers: found /etc/kubernetes/admin.conf"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			h := fake.New("w1", v1alpha1.HostFacts{})
			h.SetReach(func(a netip.AddrPort) bool { return a.String() != tc.away })
			h.Do(func(s *fake.State) {
				s.Names["api.example"] = []netip.Addr{netip.MustParseAddr("10.9.0.11")}
				if tc.breaks != nil {
					tc.breaks(t, s)
				}
			})
			r := step.Reader{Reader: h, Target: step.Target{Name: "w1", Platform: "10.9.0.1:8443"}}
			refused(t, tc.reason, r, tc.want)
			if tc.noOwner {
				return
			}
			h.Do(func(s *fake.State) {
				if err := s.WriteFile(step.MarkerPath, []byte("abc\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			})
			refused(t, "the marker of the same cluster", r, nil)
		})
	}
}

func mkdir(t *testing.T, s *fake.State, path string) {
	t.Helper()
	if err := s.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func refused(t *testing.T, reason string, r step.Reader, want []string) {
	t.Helper()
	drift, err := look().Check(t.Context(), r)
	if !drift.Clean() {
		t.Errorf("%s: a look changes nothing, so it has no drift: %v", reason, drift)
	}
	if len(want) == 0 {
		if err != nil {
			t.Errorf("%s: %v", reason, err)
		}
		return
	}
	if fault.ClassOf(err) != fault.Terminal || fault.ReasonOf(err) != "PrecheckFailed" {
		t.Fatalf("%s: got %v, want a Terminal error PrecheckFailed", reason, err)
	}
	if got := strings.Count(err.Error(), "host w1: "); got != len(want) {
		t.Errorf("%s: %d findings, want %d: %v", reason, got, len(want), err)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), "host w1: "+w) {
			t.Errorf("%s: %v does not say %q", reason, err, w)
		}
	}
}

func TestFinding(t *testing.T) {
	f := Finding{Host: "w1", Rule: "memory", Found: "1.0Gi", Needed: "2.0Gi"}
	if diff := cmp.Diff("host w1: memory: found 1.0Gi, needs 2.0Gi", f.String()); diff != "" {
		t.Error(diff)
	}
	if err := Refusal(nil); err != nil {
		t.Errorf("nothing was found, and refused: %v", err)
	}
}
