package host

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestShorten(t *testing.T) {
	cases := map[string]struct {
		reason, text string
		max          int
		want         string
	}{
		"short":     {"what fits is not touched", "no such file", 20, "no such file"},
		"long":      {"what is cut says so", "no such file or directory", 12, "no such f..."},
		"runes":     {"no character is cut in two", strings.Repeat("ä", 10), 10, "äää..."},
		"escape":    {"nothing steers a terminal", "a\x1b[31mb\x1b]0;t\x07c\u009b2Jd\x9be", 99, "a[31mb]0;tc2Jde"},
		"lines":     {"one line stays one line", "a\r\n\tb\u2028c\u0085d", 99, "a   b c d"},
		"direction": {"text reads as it is stored", "a\u202eb\u2066c\u200bd\ufeffe", 99, "abcde"},
		"bytes":     {"what is no text goes", "a\xff\xc3b\x00\ufffd", 99, "ab"},
		"long junk": {"what goes does not count", strings.Repeat("\x1b", 1000) + "word", 4, "word"},
		"words":     {"other languages are text", "кириллица 日本 é", 99, "кириллица 日本 é"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := Shorten(c.text, c.max)
			if got != c.want || len(got) > c.max || !utf8.ValidString(got) {
				t.Errorf("%s: %q, want %q", c.reason, got, c.want)
			}
		})
	}
}
