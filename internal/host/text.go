package host

import (
	"bytes"
	"slices"
	"strings"
	"unicode"
)

// maxLine is how much an error says of what a program printed, in bytes.
const maxLine = 400

// Clean makes text that a machine sent safe to show and to store: valid UTF-8 on one line, without characters that
// steer a terminal, are invisible or change the direction of text, and at most max bytes.
func Clean(s string, max int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r) || unicode.Is(unicode.Z, r):
			return ' '
		case r == unicode.ReplacementChar || !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	s = strings.TrimSpace(s)
	if len(s) > max {
		s = strings.TrimSpace(strings.ToValidUTF8(s[:max], ""))
	}
	return s
}

// Shorten is Clean that ends with "..." where it had to cut.
func Shorten(s string, max int) string {
	if clean := Clean(s, len(s)); len(clean) <= max {
		return clean
	}
	return Clean(s, max-len("...")) + "..."
}

// lastLine gives the last line that a program printed, clean.
func lastLine(b []byte) string {
	b = bytes.TrimSpace(b)
	return Shorten(string(b[bytes.LastIndexByte(b, '\n')+1:]), maxLine)
}

// tellingLine gives, clean, the last line by which a program says that something is wrong, or else its last line: many
// end with a hint.
func tellingLine(b []byte) string {
	lines := bytes.Split(b, []byte("\n"))
	for _, line := range slices.Backward(lines) {
		line = bytes.TrimSpace(line)
		if prefix := []byte("error"); len(line) >= len(prefix) && bytes.EqualFold(line[:len(prefix)], prefix) {
			return Shorten(string(line), maxLine)
		}
	}
	return lastLine(b)
}
