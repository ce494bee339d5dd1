package secret_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"runtime"
	"strings"
	"testing"

	"slipway.dev/slipway/internal/secret"
)

// TestSet_Forms holds that a value is found however it is written.
func TestSet_Forms(t *testing.T) {
	const value = `p"ss<wörd> & 100%\/`
	asJSON, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	basic := func(user string) string { return base64.StdEncoding.EncodeToString([]byte(user + ":" + value + "!")) }
	cases := map[string]struct{ reason, text string }{
		"plain":       {"as it is", value},
		"json":        {"in an object that someone prints", string(asJSON)},
		"quoted":      {"Go quotes what it prints with %q", fmt.Sprintf("%q", value)},
		"query":       {"in a form or a URL's query", url.QueryEscape(value)},
		"path":        {"in a URL's path", url.PathEscape(value)},
		"base64":      {"in a Secret", base64.StdEncoding.EncodeToString([]byte(value))},
		"base64 raw":  {"without padding", base64.RawURLEncoding.EncodeToString([]byte(value))},
		"basic auth":  {"behind a user name of any length", basic("a")},
		"basic auth2": {"behind a user name of any length", basic("ab")},
		"basic auth3": {"behind a user name of any length", basic("abc")},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var set secret.Set
			set.Add([]byte(value))
			if got := set.Redact("<" + c.text + ">"); !strings.Contains(got, secret.Mask) || len(got) > len(secret.Mask)+20 {
				t.Errorf("Redact(%q) = %q: %s", c.text, got, c.reason)
			}
		})
	}
}

func TestSet_Words(t *testing.T) {
	var set secret.Set
	set.Add([]byte("root"), []byte("-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIQfoo\n-----END CERTIFICATE-----\n"))
	cases := map[string]struct{ reason, text, want string }{
		"word":        {"a short value is masked where it stands alone", "password root, refused", "password [redacted], refused"},
		"inside":      {"and is left where it is a part of a word", "unrooted roots", "unrooted roots"},
		"certificate": {"a certificate is for everyone", "MIIBszCCAVmgAwIBAgIQfoo", "MIIBszCCAVmgAwIBAgIQfoo"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := set.Redact(c.text); got != c.want {
				t.Errorf("Redact(%q) = %q, want %q: %s", c.text, got, c.want, c.reason)
			}
		})
	}
}

func TestSet_Owners(t *testing.T) {
	var set secret.Set
	masked := func(value string) bool { return !strings.Contains(set.Redact("<"+value+">"), value) }
	set.Keep("a", "1", []byte("first value"), []byte("shared value"))
	set.Keep("b", "1", []byte("shared value"))
	set.Keep("a", "1", []byte("not looked at"))
	if !masked("first value") || !masked("shared value") || masked("not looked at") {
		t.Error("the values of an owner are not masked, or the same version was read again")
	}
	set.Keep("a", "2", []byte("second value"))
	if masked("first value") || !masked("second value") || !masked("shared value") {
		t.Error("a new version did not replace the old one, or took another owner's value along")
	}
	set.Drop("a")
	if !masked("second value") {
		t.Error("the value of an owner that has just gone may still be printed by what is under way")
	}
	for i := range 300 {
		owner := fmt.Sprint("gone", i)
		set.Keep(owner, "1", []byte("value of "+owner))
		set.Drop(owner)
	}
	if masked("second value") || masked("value of gone0") || !masked("value of gone299") || !masked("shared value") {
		t.Error("what was dropped is kept for ever, or what was not is gone")
	}
	inner := set.Inner()
	inner.Add([]byte("inner value"))
	if got, want := inner.Redact("inner value, shared value"), "[redacted], [redacted]"; got != want {
		t.Errorf("inner set gave %q, want %q", got, want)
	}
	if masked("inner value") {
		t.Error("the outer set learned from the inner one")
	}
}

func TestCheckKey(t *testing.T) {
	random := make([]byte, 32)
	if _, err := rand.Read(random); err != nil {
		t.Fatal(err)
	}
	counting := make([]byte, 32)
	for i := range counting {
		counting[i] = byte(i)
	}
	cases := map[string]struct {
		reason string
		key    []byte
		want   string
	}{
		"random":     {"a random key is what we want", random, ""},
		"token":      {"so is a random token", []byte(rand.Text() + rand.Text()), ""},
		"empty":      {"an empty file is no key", nil, "empty"},
		"short":      {"16 bytes are too few", random[:16], "16 bytes"},
		"zero":       {"a disk full of zeros is no key", make([]byte, 32), "not random"},
		"one byte":   {"nor is one letter", []byte(strings.Repeat("x", 64)), "not random"},
		"kubernetes": {"the example of Kubernetes' documentation", []byte("abcdefghijklmnopqrstuvwxyz123456"), "example"},
		"slipway":    {"the example of ours", []byte("slipway-example-key-never-use-it"), "example"},
		"counting":   {"0, 1, 2 is a test's key", counting, "count"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			err := secret.CheckKey(c.key)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("CheckKey() = %v, want %q: %s", err, c.want, c.reason)
			}
		})
	}
}

// many gives a set that knows the credentials of n hosts: a password and a private key of 3 KB each.
func many(n int) (*secret.Set, uint64) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	set := &secret.Set{}
	for i := range n {
		key := make([]byte, 2300)
		rand.Read(key)
		set.Keep(fmt.Sprint("secret", i), "1", []byte(rand.Text()), pem(key))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	return set, after.HeapAlloc - before.HeapAlloc
}

func pem(key []byte) []byte {
	text := base64.StdEncoding.EncodeToString(key)
	out := "-----BEGIN OPENSSH PRIVATE KEY-----\n"
	for len(text) > 70 {
		out, text = out+text[:70]+"\n", text[70:]
	}
	return []byte(out + text + "\n-----END OPENSSH PRIVATE KEY-----\n")
}

func BenchmarkRedact(b *testing.B) {
	line := "cannot log in to host w17 (root@192.0.2.17:22): ssh: handshake failed: ssh: unable to authenticate, attempted methods [none publickey]"
	for _, n := range []int{0, 10, 10_000} {
		set, size := many(n)
		for name, text := range map[string]string{"line": line, "16KiB": strings.Repeat(line, 130)[:16<<10], "dashes": strings.Repeat("-", 4096)} {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				b.SetBytes(int64(len(text)))
				for b.Loop() {
					set.Redact(text)
				}
			})
		}
		b.Run(fmt.Sprintf("%d/keep", n), func(b *testing.B) {
			value := []byte(rand.Text())
			i := 0
			for b.Loop() {
				i++
				set.Keep("one", fmt.Sprint(i), value)
			}
			b.ReportMetric(float64(size)/1e6, "MB")
		})
	}
}
