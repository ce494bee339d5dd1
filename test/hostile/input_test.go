package hostile

import (
	"math/rand/v2"
	"strings"
)

// pieces are what breaks out of quotes, lines, words, documents and terminals.
func pieces() []string {
	return []string{
		"", " ", "  ", "\t", "\n", "\r", "\r\n", "\n\n", "\v", "\f", "\x00", "\x01", "\x07", "\x08", "\x1b", "\x7f", "\u0085", "\u009b", "\u009d",
		"'", "''", `"`, `""`, "`", "`id`", "\\", `\\`, `\'`, `\"`, `'\''`, `'"'"'`, `\n`, `\x41`, `\u0041`, "$", "$x", "${IFS}", "$(id)", "$((1))", "$'\\n'",
		";", "; id", "|", "||", "&", "&&", ">", ">>/etc/passwd", "<", "<<E", "(", ")", "{a,b}", "*", "?", "[a-z]", "!", "!!", "~", "~root", "#", " #",
		"-", "--", "-n", "-rf", "--help", "--config=/etc/passwd", "-o", "=", "a=b", "A=B", ":", ": ", "- ", "? ", "|-\n", ">-\n", "---\n", "...\n", "!!binary ",
		"&anchor", "*alias", "{}", "[]", "{a: b}", "[a, b]", ",", "null", "true", "no", "on", "0x1f", "1e3", "012", ".inf", "2001-01-01", "%", "%%", "%n", "%i", "%H", "%h%h",
		"[Service]", "\n[Service]\nExecStart=/bin/sh", "ExecStart=", `"""`, "'''", "\n[plugins]\n", "]]", "\n[host.\"https://evil\"]\n", "skip_verify = true", "\nskip_verify = true\n",
		"../", "../../etc/passwd", "/..", "/./", "//", "/", "/etc/passwd", "file:///", "http://evil/", "evil.example:443", "@evil", "user@evil", "127.0.0.1", "::1", "::1%eth0",
		"\xff", "\xfe\xff", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "a\xffb", "\xc3", "\ufeff", "\ufffd", "\ufffe", "\U0010ffff",
		"\u200b", "\u200d", "\u202e", "\u2066", "\u2028", "\u2029", "\u00a0", "\u3000", "\u2215", "\uff0f", "\uff07", "\uff02", "\u2018", "\u0131", "\u0430dmin", "ﬁ", "e\u0301", "é", "日本", "🙂", "\U000e0041",
		"\x1b[31m", "\x1b[2J", "\x1b]0;title\x07", "\x1b]52;c;aGk=\x07", "\x1bP+q\x1b\\", "\x1b[6n", "\u009b31m", "\x9b31m", "\x1b[?1049h", "\x08\x08\x08", "\rroot@host:~# ",
		"a", "b1", "demo", "w1", "x.y", "node", "0", "1", "22", "65536", "-1", "9223372036854775808", "v1.36.3", "sha256:", "slipway-fence: x 1", "slipway-start-",
	}
}

// source gives hostile strings, the same ones in each run.
type source struct {
	*rand.Rand
	pieces []string
	// longest bounds a string, in bytes.
	longest int
}

func newSource(seed uint64) *source {
	return &source{Rand: rand.New(rand.NewPCG(seed, 0x736c6970)), pieces: pieces(), longest: 4096}
}

func (s *source) piece() string { return s.pieces[s.IntN(len(s.pieces))] }

// next gives one string: pieces in a row, bytes or runes at random, rarely a long one.
func (s *source) next() string {
	var b strings.Builder
	switch kind := s.IntN(100); {
	case kind < 25:
		return s.piece()
	case kind < 75:
		for range 1 + s.IntN(6) {
			b.WriteString(s.piece())
		}
	case kind < 87:
		for range s.IntN(40) {
			b.WriteByte(byte(s.IntN(256)))
		}
	case kind < 99:
		for range s.IntN(24) {
			b.WriteRune(rune(s.IntN(0x3000)))
		}
	default:
		b.WriteString(strings.Repeat(s.piece()+"x", 1+s.IntN(400)))
	}
	return b.String()[:min(b.Len(), s.longest)]
}

// near gives a string that is almost good: good with a piece or three put in, put on, cut out or written over. It is
// what passes a rule that is too weak.
func (s *source) near(good string) string {
	for range 1 + s.IntN(2)*s.IntN(3) {
		good = s.nearer(good)
	}
	return good
}

func (s *source) nearer(good string) string {
	at := s.IntN(len(good) + 1)
	switch s.IntN(8) {
	case 0:
		return s.next()
	case 1:
		return s.piece() + good
	case 2:
		return good + s.piece()
	case 3:
		return good[:at]
	case 4:
		return good + good[at:]
	case 5:
		return good[:at] + good[min(len(good), at+1):]
	case 6:
		return good[:at] + string("abcxyz0189.-_/:+"[s.IntN(16)]) + good[min(len(good), at+s.IntN(2)):]
	default:
		return good[:at] + s.piece() + good[at:]
	}
}
