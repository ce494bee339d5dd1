package ssh

import (
	"errors"
	"fmt"
	"strings"

	"slipway.dev/slipway/internal/fault"
)

// maxLine keeps below the kernel's limit of 128 KiB for one argument: sshd gives the whole line to a shell.
const maxLine = 120 << 10

// quote makes one command line that a POSIX login shell takes apart into exactly argv.
func quote(argv []string) (string, error) {
	var b strings.Builder
	for i, arg := range argv {
		if strings.IndexByte(arg, 0) >= 0 {
			return "", fault.NewBug(errors.New("cannot run a command: an argument holds a zero byte"))
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		quoteArg(&b, arg)
	}
	if b.Len() > maxLine {
		return "", fault.NewBug(fmt.Errorf("cannot run a command: its %d bytes are more than the %d that fit on one line", b.Len(), maxLine))
	}
	return b.String(), nil
}

// quoteArg puts everything between single quotes but quotes and backslashes, which it escapes outside of
// them: so fish, where a backslash means something between single quotes, agrees with POSIX.
func quoteArg(b *strings.Builder, arg string) {
	if arg == "" {
		b.WriteString("''")
		return
	}
	for len(arg) > 0 {
		n := strings.IndexAny(arg, `'\`)
		switch {
		case n == 0:
			b.WriteByte('\\')
			b.WriteByte(arg[0])
			arg = arg[1:]
			continue
		case n < 0:
			n = len(arg)
		}
		b.WriteByte('\'')
		b.WriteString(arg[:n])
		b.WriteByte('\'')
		arg = arg[n:]
	}
}
