package host

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/api/v1alpha1"
)

var clock = time.Unix(1_700_000_000, 0)

// goodFacts is a small machine whose clock is 100 ms ahead, seen over a round trip of 40 ms; its script
// runs for 200 ms.
const goodFacts = "begin\t1700000000120000000\nhostname\tw1\nkernel\t6.1.0\nmachine\tx86_64\nmachineid\tabc\n" +
	"os\tID=debian\nos\tVERSION_ID=\"12\"\nos\tPRETTY_NAME='Debian GNU/Linux 12'\ncpus\t2\nmemtotal\t8000000\n" +
	"memlimit\tmax\nmemlimit\t4187593114\nmemlimit\t9223372036854771712\ncgroup\t2\n" +
	"disk\tvda\t2097152\t0\ndisk\tsda\t4194304\t1\n" +
	"nic\teth0\t02:00:00:00:00:01\t1500\t1\nnic\tcni0\t02:00:00:00:00:02\t1450\t0\nnic\tflannel.1\tx\t1450\t0\nnic\tveth1\tx\t1450\t0\n" +
	"nic\teth1\t02:00:00:00:00:03\t1500\t1\nnic\tbond0\t02:00:00:00:00:04\t9000\t0\nnic\tbond1\tx\t9000\t0\nnic\tbr-ex\tx\t1500\t0\nnic\tbr-0123456789ab\tx\t1500\t0\n" +
	"address\tlo\t127.0.0.1/8\naddress\teth0\t10.0.0.5/24\naddress\teth0\tfe80::1/64\naddress\tcni0\t172.25.0.1/24\naddress\tbond0\tfd00::5/64\naddress\tbr-ex\t10.1.0.1/24\naddress\tveth1\t172.25.0.1/32\n" +
	"route\t4\tdefault via 10.0.0.1 dev eth1 metric 200\nroute\t4\tdefault via 10.0.0.1 dev eth0 proto dhcp metric 100\nroute\t6\tdefault via fd00::1 dev bond0\n" +
	"free\t/\t1000\t4096\nfree\t/etc\t1000\t4096\nfree\t/home\t1\t1\n" +
	"capabilities\t0000000001200000\nfeature\tvxlan\nfeature\toverlay\ntool\ttar\ntool\tip\n" +
	"timezone\tEurope/Berlin\nswap\ton\nfirewall\tufw\nselinux\tDisabled\nresolver\toptions\nvirtualization\tkvm\n" +
	"end\t1700000000320000000\n"

func TestDecodeFacts(t *testing.T) {
	want := v1alpha1.HostFacts{
		Hostname: "w1", MachineID: "abc", OS: v1alpha1.HostOS{ID: "debian", Version: "12", Name: "Debian GNU/Linux 12"},
		Kernel: "6.1.0", Architecture: "amd64", CPUs: 2, MemoryBytes: 4187593114, Memory: "3.9Gi",
		Disks: []v1alpha1.HostDisk{{Name: "sda", Bytes: 2 << 30, Rotational: true}, {Name: "vda", Bytes: 1 << 30}},
		NICs: []v1alpha1.HostNIC{{Name: "eth0", MAC: "02:00:00:00:00:01", MTU: 1500, Addresses: []string{"10.0.0.5/24"}},
			{Name: "eth1", MAC: "02:00:00:00:00:03", MTU: 1500}, {Name: "bond0", MAC: "02:00:00:00:00:04", MTU: 9000, Addresses: []string{"fd00::5/64"}},
			{Name: "br-ex", MAC: "x", MTU: 1500, Addresses: []string{"10.1.0.1/24"}}},
		DefaultRouteNIC: "eth0", FreeBytes: map[string]int64{"/": 4096000, "/etc": 4096000}, CgroupVersion: 2,
		Capabilities: []string{"CAP_SYS_ADMIN", "CAP_SYS_RESOURCE"}, Tools: []string{"ip", "tar"}, KernelFeatures: []string{"overlay", "vxlan"},
		TimeZone: "Europe/Berlin", ClockSkewMillis: 100, Swap: true, Firewall: "ufw", SELinux: "Disabled", ResolverOptions: true, Virtualization: "kvm",
	}
	got, err := DecodeFacts(Result{Stdout: []byte(goodFacts)}, clock, clock.Add(240*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDecodeFactsHostile(t *testing.T) {
	cases := map[string]struct {
		reason string
		output string
		cut    bool
	}{
		"Empty":     {reason: "nothing is no machine"},
		"Binary":    {reason: "garbage is no machine", output: strings.Repeat("\x00\xff\t\n", 1000)},
		"Cut":       {reason: "an answer that was cut off is refused", output: goodFacts, cut: true},
		"NoEnd":     {reason: "an answer without its end is refused", output: strings.Split(goodFacts, "end\t")[0]},
		"Backwards": {reason: "a clock that runs backwards is refused", output: goodFacts + "end\t1\n"},
		"NoMemory":  {reason: "a machine without memory is refused", output: strings.ReplaceAll(goodFacts, "mem", "nomem")},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got, err := DecodeFacts(Result{Stdout: []byte(tc.output), Truncated: tc.cut}, clock, clock); err == nil {
				t.Errorf("%s: got %+v", tc.reason, got)
			}
		})
	}
}

// FuzzDecodeFacts: whatever a host prints, the facts stay small enough to store and never panic.
func FuzzDecodeFacts(f *testing.F) {
	f.Add([]byte(goodFacts))
	f.Add([]byte(strings.Repeat("disk\tx\t9\t1\nnic\ta\tb\t1\t1\ntool\tx\naddress\ta\t10.0.0.1/8\n", 500) + goodFacts))
	f.Add([]byte("free\t/\t9223372036854775807\t9223372036854775807\ncpus\t-1\nmemtotal\t99999999999999999999\n"))
	f.Fuzz(func(t *testing.T, output []byte) {
		facts, err := DecodeFacts(Result{Stdout: output}, clock, clock)
		if err != nil {
			return
		}
		if len(facts.Disks) > 64 || len(facts.NICs) > 64 || len(facts.Tools) > 128 || len(facts.KernelFeatures) > 128 || len(facts.FreeBytes) > 4 {
			t.Errorf("the lists are too long: %d disks, %d cards, %d tools", len(facts.Disks), len(facts.NICs), len(facts.Tools))
		}
		for _, n := range facts.NICs {
			if len(n.Addresses) > 32 {
				t.Errorf("%d addresses on one card", len(n.Addresses))
			}
		}
		for _, text := range []string{facts.Hostname, facts.Kernel, facts.OS.Name, facts.TimeZone, facts.MachineID, facts.DefaultRouteNIC} {
			if len(text) > 253 || strings.ContainsAny(text, "\n\x00\x1b") {
				t.Errorf("%q is not fit to show", text)
			}
		}
		if facts.MemoryBytes <= 0 || facts.CPUs <= 0 {
			t.Errorf("%d bytes, %d processors", facts.MemoryBytes, facts.CPUs)
		}
		for path, free := range facts.FreeBytes {
			if free < 0 {
				t.Errorf("%s has %d bytes free", path, free)
			}
		}
	})
}

func TestFormatBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 1023: "1023", 1 << 30: "1Gi", 4187593114: "3.9Gi", 16 << 30: "16Gi", 512 << 20: "512Mi", 1 << 62: "4Ei"} {
		if got := FormatBytes(n); got != want {
			t.Errorf("%d is printed as %s, want %s", n, got, want)
		}
	}
}
