package secrettest

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
)

func TestCanaries(t *testing.T) {
	c := Canaries{}
	value := c.Mint("password")
	c.Lines("key", "-----BEGIN PRIVATE KEY-----\n"+strings.Repeat("k+/K", 16)+"\n-----END PRIVATE KEY-----\n")
	in64 := func(before string) string {
		return base64.StdEncoding.EncodeToString([]byte(before + value + "behind"))
	}
	for name, tc := range map[string]struct {
		reason, text string
		want         int
	}{
		"nothing":      {"a text without one is innocent", strings.Repeat("canary-", 1000), 0},
		"as it is":     {"the plain value shows", "x" + value + "y", 1},
		"at the end":   {"there is no text behind it", "x" + value, 1},
		"cut":          {"a part is another value", value[:len(value)-1], 0},
		"base64":       {"as Secrets are printed", in64(""), 1},
		"behind one":   {"base64 looks otherwise behind other bytes", in64("a"), 1},
		"behind two":   {"and once more", in64("ab"), 1},
		"in URLs":      {"with the other alphabet", base64.RawURLEncoding.EncodeToString([]byte("x" + strings.Repeat("k+/K", 16))), 1},
		"hexadecimal":  {"as dumps are printed", hex.EncodeToString([]byte(value)), 1},
		"line of PEM":  {"a key shows by one of its lines", "a\n" + strings.Repeat("k+/K", 16) + "\n", 1},
		"two of them":  {"each is named", value + strings.Repeat("k+/K", 16), 2},
		"a short text": {"a text may be shorter than any value", "x", 0},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.Found(tc.text)
			if len(got) != tc.want {
				t.Errorf("%s: found %q, want %d", tc.reason, got, tc.want)
			}
		})
	}
}
