package sandbox

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func testIdentity(t *testing.T, dir string) identity {
	t.Helper()
	id, err := identify(dir)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestNamesFollowFromTheDirectory(t *testing.T) {
	id := testIdentity(t, "/nowhere/one/sandbox")
	got := map[string]string{
		"bridge": id.bridge(), "mac": id.bridgeMAC(), "cgroup": id.cgroup(),
		"machine": id.machine("sandbox-1"), "unit": id.unit("sandbox-1"),
	}
	want := map[string]string{
		"bridge": "sw-4b8088af", "mac": "02:4b:80:88:af:84", "cgroup": "slipway-4b8088af",
		"machine": "sw-4b8088af-sandbox-1", "unit": "slipway-sandbox-4b8088af-sandbox-1.service",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("names changed, so a newer binary would not find an older one's sandbox (-want +got):\n%s", diff)
	}
	if other := testIdentity(t, "/nowhere/two/sandbox"); other.bridge() == id.bridge() {
		t.Errorf("two directories share bridge %s", id.bridge())
	}
	if len(id.bridge()) > 15 {
		t.Errorf("bridge name %s is longer than Linux allows", id.bridge())
	}
}

func TestIdentityIsTheSameBeforeAndAfterTheDirectoryExists(t *testing.T) {
	base := t.TempDir()
	target := filepath.Join(base, "target")
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, filepath.Join(base, "link")); err != nil {
		t.Fatal(err)
	}
	before := testIdentity(t, filepath.Join(base, "link", "a", "b"))
	if err := os.MkdirAll(filepath.Join(target, "a", "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	if after := testIdentity(t, filepath.Join(base, "link", "a", "b")); after != before {
		t.Errorf("identity moved from %s to %s when the directory was made", before.dir, after.dir)
	}
}

func TestChooseSubnet(t *testing.T) {
	id := testIdentity(t, "/nowhere/one/sandbox")
	first, err := id.chooseSubnet(nil)
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		reason    string
		taken     []netip.Prefix
		same      bool
		wantError bool
	}{
		"nothing taken": {
			reason: "the choice is the same each time, so that it is easy to recognise",
			same:   true,
		},
		"default route": {
			reason: "a default route overlaps everything and says nothing",
			taken:  []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")},
			same:   true,
		},
		"first choice taken": {
			reason: "an address of the machine inside the first choice moves it on",
			taken:  []netip.Prefix{netip.PrefixFrom(addressIn(first, 77), 32)},
		},
		"all of 10/8 taken": {
			reason:    "an organisation that routes all of 10/8 gets an error, not a clash",
			taken:     []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
			wantError: true,
		},
	}
	reserved := []netip.Prefix{
		netip.MustParsePrefix("10.96.0.0/12"), netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("10.0.0.0/16"),
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := id.chooseSubnet(tc.taken)
			if (err != nil) != tc.wantError {
				t.Fatalf("%s: error %v", tc.reason, err)
			}
			if err != nil {
				return
			}
			if (got == first) != tc.same {
				t.Errorf("%s: got %s, first choice %s", tc.reason, got, first)
			}
			if tc.taken != nil && overlapsAny(got, tc.taken) || overlapsAny(got, reserved) || got.Bits() != 24 {
				t.Errorf("%s: %s is not free", tc.reason, got)
			}
		})
	}
}

func TestParseRoutes(t *testing.T) {
	got, err := parseRoutes([]byte(`[{"dst":"default","gateway":"192.0.2.1"},{"dst":"192.0.2.0/24"},{"type":"local","dst":"192.0.2.2"}]`))
	if err != nil {
		t.Fatal(err)
	}
	want := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("192.0.2.2/32")}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	if _, err := parseRoutes([]byte("oops")); err == nil {
		t.Error("what is not JSON must be an error, or every network would seem free")
	}
}

func TestGuarded(t *testing.T) {
	cases := map[string]struct {
		reason string
		chain  string
		want   bool
	}{
		"unused":      {reason: "a filter nobody uses stays unused", chain: "-P FORWARD ACCEPT\n", want: false},
		"policy drop": {reason: "hosts could not reach each other", chain: "-P FORWARD DROP\n", want: true},
		"has rules":   {reason: "any rule might drop", chain: "-P INPUT ACCEPT\n-A INPUT -j ufw-before\n", want: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := guarded(tc.chain); got != tc.want {
				t.Errorf("%s: got %v", tc.reason, got)
			}
		})
	}
}
