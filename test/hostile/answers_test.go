package hostile

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/api/v1alpha1"
	"slipway.dev/slipway/internal/host"
)

// question is one thing that is asked of a host, and how its answer is read.
type question struct {
	// good is an answer as honest machines give it.
	good string
	// read decodes an answer.
	read func(r host.Result) (any, error)
	// raw says that names in the answer are used on the same host only, and so are kept as they are.
	raw bool
	// most bounds what is kept of an answer, in bytes; 0 means the size of the answer.
	most int
}

func asked[T any](decode func(host.Result) (T, error)) func(host.Result) (any, error) {
	return func(r host.Result) (any, error) { return decode(r) }
}

const goodFacts = "begin\t1700000000000000000\nhostname\tw1\nkernel\t6.1.0\nmachine\tx86_64\nmachineid\tabc\nos\tID=debian\nos\tVERSION_ID=\"12\"\n" +
	"os\tPRETTY_NAME='Debian GNU/Linux 12'\ncpus\t2\nmemtotal\t8000000\nmemlimit\tmax\ncgroup\t2\ndisk\tvda\t2097152\t0\nnic\teth0\t02:00:00:00:00:01\t1500\t1\n" +
	"address\teth0\t10.0.0.5/24\nroute\t4\tdefault via 10.0.0.1 dev eth0 metric 100\nfree\t/\t1000\t4096\ncapabilities\t0000000001200000\nfeature\toverlay\ntool\ttar\n" +
	"timezone\tEtc/UTC\nswap\ton\nfirewall\tufw\nselinux\tDisabled\nresolver\toptions\nvirtualization\tkvm\nend\t1700000000200000000\n"

func questions() map[string]question {
	now := time.Unix(1_700_000_000, 0)
	sum := strings.Repeat("ab", 32)
	return map[string]question{
		"facts":     {good: goodFacts, read: asked(func(r host.Result) (v1alpha1.HostFacts, error) { return host.DecodeFacts(r, now, now) }), most: 256 << 10},
		"digests":   {good: sum + "  /usr/bin/a\x00" + sum + "  /b c\x00", read: asked(host.DecodeDigests), raw: true},
		"tree":      {good: "f\x00644\x000\x000\x0012\x00/etc/a\x00\x00l\x00777\x000\x000\x003\x00/etc/l\x00/x\x00", read: asked(host.DecodeTree), raw: true},
		"units":     {good: "Id=a.service\nLoadState=loaded\nActiveState=active\nMainPID=7\nExecMainStatus=0\n\nId=b.service\nMainPID=0\n", read: asked(host.DecodeUnits)},
		"sysctls":   {good: "net.ipv4.ip_forward\t1\nkernel.panic\t10\n", read: asked(host.DecodeSysctls), raw: true},
		"modules":   {good: "overlay 1 0 - Live 0x0\n", read: asked(host.DecodeModules), raw: true},
		"processes": {good: "12\tkubelet\n", read: asked(host.DecodeProcesses), raw: true},
		"images":    {good: "REF TYPE DIGEST SIZE PLATFORMS LABELS\na:1 t sha256:" + sum + " 1 MiB linux/amd64 k=v\n", read: asked(host.DecodeImages), raw: true},
		"holder":    {good: "holder home 7\nepoch 7\n", read: asked(host.DecodeHolder)},
		"mounts":    {good: "22 1 0:5 / /var rw,nosuid - ext4 /dev/sda1 rw\n", read: asked(host.DecodeMounts), raw: true},
		"listening": {good: "  0: 0100007F:1538 00000000:0000 0A 0\n", read: asked(host.DecodeListening)},
		"links":     {good: `[{"ifname":"eth0","address":"02:00","mtu":1500,"flags":["UP"],"addr_info":[{"local":"10.0.0.1","prefixlen":24}]}]`, read: asked(host.DecodeLinks)},
		"rules":     {good: ":INPUT ACCEPT [0:0]\n-A INPUT -j X\n", read: asked(host.DecodeRules), raw: true},
		"addresses": {good: "10.0.0.1 STREAM a\n::1 STREAM b\n", read: asked(host.DecodeAddresses)},
		"reach": {good: "open\n", read: func(r host.Result) (any, error) {
			_, detail := host.DecodeReach(r)
			return detail, nil
		}, most: 200},
		"fence": {good: "slipway-fence: 7\n", read: func(r host.Result) (any, error) {
			for code := range 6 {
				if err := host.FencedError("w1", []string{"true"}, host.Result{Stderr: r.Stdout, Stdout: r.Stderr, ExitCode: 200 + code}); err != nil {
					return nil, err
				}
			}
			return nil, nil
		}},
	}
}

// TestAnswers_HarmNobody: whatever a host answers, decoding it ends, keeps no more than was sent, and gives text that
// can be stored and shown. Errors name nothing that steers a terminal and are short.
func TestAnswers_HarmNobody(t *testing.T) {
	t.Parallel()
	each := size(30_000)
	for name, q := range questions() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := q.read(host.Result{Stdout: []byte(q.good)}); err != nil && name != "fence" {
				t.Fatalf("the good answer is refused: %v", err)
			}
			s, understood := newSource(uint64(len(name))<<8), 0
			for range each {
				answer := s.near(q.good)
				tried.add("answers of hosts", answer)
				got, err := q.read(host.Result{Stdout: []byte(answer)})
				if err != nil {
					if text := err.Error(); text != host.Clean(text, 1000) {
						t.Fatalf("%q gives the error %q", answer, text)
					}
					continue
				}
				understood++
				size := 0
				eachString(reflect.ValueOf(got), func(text string) {
					if size += len(text); !q.raw && text != host.Clean(text, 1<<20) {
						t.Fatalf("%q gives %q", answer, text)
					}
				})
				if most := max(q.most, len(answer)+256); size > most {
					t.Fatalf("an answer of %d bytes gives %d bytes of text", len(answer), size)
				}
			}
			if understood < each/50 && name != "fence" {
				t.Errorf("only %d answers were understood: the generator is too wild", understood)
			}
			if _, err := q.read(host.Result{Stdout: []byte(q.good), Truncated: true}); err == nil && q.most != 200 {
				t.Error("an answer without its beginning is believed")
			}
		})
	}
}

// eachString calls f with every string in v.
func eachString(v reflect.Value, f func(string)) {
	switch v.Kind() {
	case reflect.String:
		f(v.String())
	case reflect.Interface, reflect.Pointer:
		if !v.IsNil() {
			eachString(v.Elem(), f)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			eachString(v.Index(i), f)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			eachString(key, f)
			eachString(v.MapIndex(key), f)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			eachString(v.Field(i), f)
		}
	}
}

// TestAnswers_LiesOfFacts: a machine that lies as much as it can gives facts that the API stores: bounded lists, valid
// text, no number out of range.
func TestAnswers_LiesOfFacts(t *testing.T) {
	t.Parallel()
	l := newLand(t)
	now := time.Unix(1_700_000_000, 0)
	many := func(n int, line string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, line+"\n", i, i)
		}
		return b.String()
	}
	odd := "\x1b]0;x\x07\u202e\xff\x00" + strings.Repeat("é", 400)
	cases := map[string]struct {
		reason, lie string
		refused     bool
		check       func(f v1alpha1.HostFacts) error
	}{
		"a million network cards": {reason: "no list grows with what is said", lie: many(1_000_000, "nic\teth%d\t02:00:00:00:00:01\t1500\t1 %d"), check: func(f v1alpha1.HostFacts) error {
			return wrong(len(f.NICs) > 64, "%d cards", len(f.NICs))
		}},
		"cards that are there": {reason: "the list is cut, not refused", lie: many(5000, "nic\tdev%d\t%d\t1500\t1"), check: func(f v1alpha1.HostFacts) error {
			return wrong(len(f.NICs) != 64, "%d cards", len(f.NICs))
		}},
		"addresses":        {reason: "one card has few", lie: many(20_000, "address\teth0\t10.0.0.%d/24%.0d")},
		"disks":            {reason: "64 disks are enough", lie: many(100_000, "disk\tsd%d\t%d\t0")},
		"tools":            {reason: "tools too", lie: many(100_000, "tool\tx%d%d"), check: func(f v1alpha1.HostFacts) error { return wrong(len(f.Tools) > 128, "%d tools", len(f.Tools)) }},
		"features":         {reason: "and features", lie: many(100_000, "feature\tx%d%d")},
		"routes":           {reason: "and routes", lie: many(100_000, "route\t4\tdefault dev eth%d metric %d")},
		"file systems":     {reason: "only those asked for are kept", lie: many(10_000, "free\t/x%d\t1\t%d"), check: func(f v1alpha1.HostFacts) error { return wrong(len(f.FreeBytes) > 4, "%v", f.FreeBytes) }},
		"negative memory":  {reason: "a size is not negative", lie: "memlimit\t-1\nmemtotal\t-9223372036854775808\n", check: memory},
		"memory overflow":  {reason: "nor larger than there is", lie: "memtotal\t9223372036854775807\nmemlimit\t18446744073709551616\n", check: memory},
		"room overflow":    {reason: "nor the product of two", lie: "free\t/\t9223372036854775807\t9223372036854775807\nfree\t/usr\t1125899906842624\t16777216\n", check: room},
		"processors":       {reason: "nor their number", lie: "cpus\t2147483648\ncpus\t-1\n", check: func(f v1alpha1.HostFacts) error { return wrong(f.CPUs < 0, "%d processors", f.CPUs) }, refused: true},
		"the end of time":  {reason: "a clock that is very wrong is wrong in the direction it says", lie: "begin\t9223372036854775807\nend\t9223372036854775807\n", check: late},
		"time runs back":   {reason: "an end before the beginning is no answer", lie: "begin\t5\nend\t4\n", refused: true},
		"odd text":         {reason: "text is cut and cleaned", lie: "hostname\t" + odd + "\nkernel\t" + odd + "\nmachineid\t" + odd + "\ntimezone\t" + odd + "\nos\tPRETTY_NAME=\"" + odd + "\"\nfirewall\t" + odd + "\nselinux\t" + odd + "\nvirtualization\t" + odd + "\nnic\t" + odd + "\t" + odd + "\t1\t1\ndisk\t" + odd + "\t1\t1\ntool\t" + odd + "\nfeature\t" + odd + "\n"},
		"capabilities":     {reason: "a mask is a number", lie: "capabilities\tffffffffffffffffff\ncapabilities\t" + odd + "\n"},
		"message of today": {reason: "noise is no fact", lie: "Welcome to Debian!\n\n   * Documentation:\thttps://x\n\t\t\n\x1b[1mlast login\x1b[0m\n"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			begun := time.Now()
			// The last word counts, so the lie stands behind the truth, but before the end.
			truth, end, _ := strings.Cut(goodFacts, "end\t")
			got, err := host.DecodeFacts(host.Result{Stdout: []byte(truth + "end\t" + end + tc.lie)}, now, now)
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("%s: it took %s", tc.reason, took)
			}
			if err != nil {
				if !tc.refused || err.Error() != host.Clean(err.Error(), 300) {
					t.Errorf("%s: %v", tc.reason, err)
				}
				return
			}
			if tc.check != nil {
				if err := tc.check(got); err != nil {
					t.Errorf("%s: %v", tc.reason, err)
				}
			}
			h := goodRequest().Host
			h.Status = v1alpha1.HostStatus{Facts: &got, Conditions: []metav1.Condition{}}
			stored := h
			if err := l.kinds.admit(t.Context(), "Host", &h, &stored); err != nil {
				t.Errorf("%s: the API refuses the status: %v", tc.reason, err)
			}
			eachString(reflect.ValueOf(got), func(text string) {
				if len(text) > 253 || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
					t.Errorf("%s: %q", tc.reason, text)
				}
			})
			tried.add("lies in facts", tc.lie)
		})
	}
}

func wrong(is bool, format string, values ...any) error {
	if is {
		return fmt.Errorf(format, values...)
	}
	return nil
}

func memory(f v1alpha1.HostFacts) error {
	return wrong(f.MemoryBytes <= 0 || f.MemoryBytes > 1<<60, "%d bytes of memory", f.MemoryBytes)
}

func room(f v1alpha1.HostFacts) error {
	for path, free := range f.FreeBytes {
		if free < 0 {
			return fmt.Errorf("%d bytes free on %s", free, path)
		}
	}
	return nil
}

func late(f v1alpha1.HostFacts) error {
	if f.ClockSkewMillis <= 0 || f.ClockSkewMillis > math.MaxInt64/int64(time.Millisecond) {
		return errors.New(fmt.Sprint("a skew of ", f.ClockSkewMillis, " ms"))
	}
	return nil
}
