package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode"
)

// TestLogger_HostileText: what hosts and people say stays text in the server's log, one line a record, in both formats.
func TestLogger_HostileText(t *testing.T) {
	const odd = "\x1b[2J\x1b]0;owned\x07\u202etxt\u009b31m\xff\r\nlevel=ERROR msg=forged\u2028\x7f"
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			var out bytes.Buffer
			log, err := logger(&out, format, "info")
			if err != nil {
				t.Fatal(err)
			}
			log.With(odd, odd).WithGroup(odd).Info(odd, "text", odd, "error", errors.New(odd), "bytes", []byte(odd), "any", struct{ A string }{odd})
			if n := strings.Count(out.String(), "\n"); n != 1 {
				t.Errorf("one record makes %d lines: %q", n, out.String())
			}
			for _, r := range strings.TrimSuffix(out.String(), "\n") {
				if !unicode.IsPrint(r) {
					t.Errorf("%q is in the log: %q", r, out.String())
				}
			}
			if format == "json" && !json.Valid(out.Bytes()) {
				t.Errorf("%q is no JSON", out.String())
			}
		})
	}
}
