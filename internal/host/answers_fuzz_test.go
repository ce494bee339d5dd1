package host

import (
	"strings"
	"testing"
	"time"
)

// fuzzAnswer fuzzes one decoder: it must end without a panic, and its errors must be safe to show.
func fuzzAnswer[T any](f *testing.F, decode func(Result) (T, error), seeds ...string) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		if _, err := decode(Result{Stdout: answer}); err != nil {
			if text := err.Error(); text != Clean(text, 1000) {
				t.Errorf("the error is %q", text)
			}
		}
	})
}

func FuzzFactsOfAHost(f *testing.F) {
	for _, s := range []string{goodFacts, "", "os\tPRETTY_NAME=\"", "os\tID='", "nic\t\t\t\t", "free\t/\t9223372036854775807\t9223372036854775807\n"} {
		f.Add([]byte(s), int64(1_700_000_000_000_000_000))
	}
	f.Fuzz(func(t *testing.T, answer []byte, now int64) {
		at := time.Unix(0, now)
		facts, err := DecodeFacts(Result{Stdout: answer}, at, at)
		if err != nil {
			return
		}
		if len(facts.NICs) > maxItems || len(facts.Disks) > maxItems || len(facts.Tools) > 2*maxItems || facts.MemoryBytes <= 0 || facts.CPUs <= 0 {
			t.Errorf("%d cards, %d disks, %d tools, %d bytes, %d processors", len(facts.NICs), len(facts.Disks), len(facts.Tools), facts.MemoryBytes, facts.CPUs)
		}
		for _, text := range []string{facts.Hostname, facts.Kernel, facts.MachineID, facts.OS.Name, facts.TimeZone} {
			if text != Clean(text, maxText) {
				t.Errorf("a fact is %q", text)
			}
		}
	})
}

func FuzzDecodeHolder(f *testing.F) {
	fuzzAnswer(f, DecodeHolder, "holder home 7\nepoch 7\n", "epoch 9\n", "holder  1", "epoch -1", "epoch 99999999999999999999", "holder a b c")
}

func FuzzDecodeDigests(f *testing.F) {
	fuzzAnswer(f, DecodeDigests, strings.Repeat("ab", 32)+"  /a\x00", "\x00\x00", "ab  /a")
}

func FuzzDecodeTree(f *testing.F) {
	fuzzAnswer(f, DecodeTree, "f\x00644\x000\x000\x0012\x00/etc/a\x00\x00", "l\x007777\x000\x000\x00-1\x00/x\x00/y\x00", "\x00\x00\x00\x00\x00\x00\x00")
}

func FuzzDecodeListing(f *testing.F) {
	fuzzAnswer(f, DecodeListing, "demo-daily-x1\x007\x001700000000.1234567890\x00", "a/b\x001\x001\x00", "a\x00-1\x00inf\x00", "\x00\x00\x00", "a\x001")
}

func FuzzDecodeUnits(f *testing.F) {
	fuzzAnswer(f, DecodeUnits, "Id=a.service\nMainPID=7\n\nId=b.service\n", "MainPID=x", "\n\n\n", "Id=\n")
}

func FuzzDecodeMounts(f *testing.F) {
	fuzzAnswer(f, DecodeMounts, "22 1 0:5 / /var rw - ext4 /dev/sda1 rw\n", `22 1 0:5 / /a\040b\777\0 rw - t s rw`, " - ")
}

func FuzzDecodeListening(f *testing.F) {
	fuzzAnswer(f, DecodeListening, " 0: 0100007F:1538 00000000:0000 0A\n", "0: 00000000000000000000000001000000:0050 x 0A", "0: :  0A")
}

func FuzzDecodeLinks(f *testing.F) {
	fuzzAnswer(f, DecodeLinks, `[{"ifname":"eth0","mtu":1500,"flags":["UP"],"addr_info":[{"local":"10.0.0.1","prefixlen":24}]}]`, `[{}]`, `null`, `[{"ifname":"a","addr_info":[{"local":"::1%x","prefixlen":-5}]}]`)
}

func FuzzDecodeImages(f *testing.F) {
	fuzzAnswer(f, DecodeImages, "REF TYPE DIGEST\na:1 t sha256:"+strings.Repeat("0", 64)+" 1 MiB linux/amd64 k=v,=,x\n", "a b c d")
}

func FuzzDecodeProcesses(f *testing.F) {
	fuzzAnswer(f, DecodeProcesses, "12\tkubelet\n", "\t\n", "99999999999\tx\n")
}

func FuzzDecodeSysctls(f *testing.F) {
	fuzzAnswer(f, DecodeSysctls, "net.ipv4.ip_forward\t1\n", "a\n", "\t\n")
}

func FuzzDecodeAddresses(f *testing.F) {
	fuzzAnswer(f, DecodeAddresses, "10.0.0.1 STREAM a\n::ffff:1.2.3.4 x\n", "fe80::1%\x1b x\n")
}

// FuzzFencedError: whatever a host prints instead of the fence's own refusal, the error names the host or the program
// and is safe to show.
func FuzzFencedError(f *testing.F) {
	for code := range 6 {
		f.Add(200+code, []byte("slipway-fence: x 1\n"), []byte("out"))
	}
	f.Add(137, []byte("\x1b[2J"), []byte("\xff"))
	f.Fuzz(func(t *testing.T, code int, errOut, out []byte) {
		err := FencedError("w1", []string{"systemctl"}, Result{ExitCode: code, Stderr: errOut, Stdout: out})
		if (err == nil) != (code == 0) {
			t.Fatalf("code %d gives %v", code, err)
		}
		if err == nil {
			return
		}
		if text := err.Error(); text != Clean(text, 1500) || !strings.Contains(text, "w1") && !strings.Contains(text, "systemctl") {
			t.Errorf("the error is %q", text)
		}
	})
}

// FuzzClean: what is shown of any text is shown again as it is, and within its bound.
func FuzzClean(f *testing.F) {
	f.Add("a\x1b[31m\u202e\xff\n", 10)
	f.Add(strings.Repeat("é", 100), 7)
	f.Fuzz(func(t *testing.T, text string, most int) {
		most = max(3, min(most, 1<<16))
		for _, got := range []string{Clean(text, most), Shorten(text, most)} {
			if len(got) > most || got != Clean(got, most) {
				t.Errorf("%q within %d is shown as %q", text, most, got)
			}
		}
	})
}
