// Package host owns the contract for touching one host: Reader looks, Writer changes behind the fence.
// It must never know what is being installed, and nothing outside it may build a shell string.
package host

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"

	"slipway.dev/slipway/api/v1alpha1"
)

// Reader reads one host and changes nothing on it.
type Reader interface {
	// ReadFile gives the content of a regular file of at most MaxFile bytes.
	// A missing file gives an error that is fs.ErrNotExist.
	ReadFile(ctx context.Context, path string) ([]byte, error)
	// Stat describes every path in one round trip, in the order given. A missing path has Exists false.
	Stat(ctx context.Context, paths ...string) ([]FileInfo, error)
	// Query runs one of the read-only queries that this package declares.
	// A query whose command ends with another code than 0 gives a *CommandError.
	Query(ctx context.Context, q Query) (Result, error)
}

// Writer reads and changes one host. Every change goes through the fence.
type Writer interface {
	Reader
	// WriteFile makes path hold exactly f, atomically, creating parent directories (mode 0755).
	WriteFile(ctx context.Context, path string, f File) error
	// Remove deletes files and directory trees; a missing path is fine.
	// It refuses relative paths, "/" and the top-level directories of the system, and never crosses a mount.
	Remove(ctx context.Context, paths ...string) error
	// Run runs one command to its end. Another exit code than 0 gives a *CommandError;
	// when a signal ended the command it comes inside a Transient error with the reason CommandKilled.
	// The command must leave no child behind that keeps its output open. Stdin that is cut off looks
	// like its end to the command, so a command that takes a stream must be able to tell (tar, ctr).
	// When the connection is lost before the exit code arrived the error is Transient with the reason OutcomeUnknown.
	Run(ctx context.Context, c Command) (Result, error)
}

// Session is one live connection to one host. It is safe for concurrent use.
type Session interface {
	Reader
	// Writer gives the changing half, bound to the fence token.
	Writer(Fence) Writer
	// Facts reads what the machine is, in one round trip.
	Facts(ctx context.Context) (v1alpha1.HostFacts, error)
	// DialContext opens a TCP connection from the host, as seen from there.
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Sessions gives the one shared connection of each host, by Host name, opening it when needed.
type Sessions interface {
	Session(ctx context.Context, host string) (Session, error)
}

// MaxFile is the largest file ReadFile gives, in bytes.
const MaxFile = 4 << 20

// File is what WriteFile makes.
type File struct {
	// Content is the whole content.
	Content []byte
	// Mode holds the permission bits; zero means 0644.
	Mode fs.FileMode
}

// Permissions gives the mode in force: Mode, or 0644 when it is zero.
func (f File) Permissions() fs.FileMode {
	if f.Mode == 0 {
		return 0o644
	}
	return f.Mode.Perm()
}

// FileInfo says what is at a path. Links are not followed.
type FileInfo struct {
	Path   string
	Exists bool
	// Mode holds type and permission bits.
	Mode fs.FileMode
	// UID and GID own the file.
	UID, GID int
	// Size is in bytes.
	Size int64
	// Target is where a symbolic link points.
	Target string
}

// Command is one program call on a host.
type Command struct {
	// Argv is the program and its arguments; no shell reads it.
	Argv []string
	// Stdin is streamed to the program; nil means no input.
	Stdin io.Reader
	// Env holds extra variables as NAME=value.
	Env []string
}

// Result is what a finished program left. Each stream keeps its last MaxOutput bytes.
type Result struct {
	Stdout, Stderr []byte
	ExitCode       int
	// Truncated says that the beginning of Stdout was dropped; decoders refuse such a result.
	Truncated bool
}

// MaxOutput bounds each output stream that is kept, in bytes: a hostile host cannot fill our memory.
const MaxOutput = 1 << 20

// CommandError says that a program ended with another exit code than 0. It keeps the evidence.
type CommandError struct {
	Argv   []string
	Result Result
}

// Error names the program, the exit code and the line by which it said what is wrong.
func (e *CommandError) Error() string {
	text := tellingLine(e.Result.Stderr)
	if text == "" {
		text = tellingLine(e.Result.Stdout)
	}
	name := "command"
	if len(e.Argv) > 0 {
		name = Clean(e.Argv[0], maxLine)
	}
	if text == "" {
		return fmt.Sprintf("%s ended with exit code %d", name, e.Result.ExitCode)
	}
	return fmt.Sprintf("%s ended with exit code %d: %s", name, e.Result.ExitCode, text)
}

// Fence is the right to change a host: who holds it and since which claim.
// A host refuses another owner and any epoch lower than the highest it has seen.
type Fence struct {
	// Owner is the identity of the Slipway installation.
	Owner string
	// Epoch grows with every claim of the host.
	Epoch int64
	// Adopt takes a host over from another owner; only an explicit wish of a person sets it.
	Adopt bool
}

// Holder is what a host remembers of its fence.
type Holder struct {
	Owner string
	Epoch int64
}
