// Package blob owns files that outlive a process: plans, previews, logs, bundles.
// It must never interpret what it keeps, and no other package may assume that a blob is a local file.
package blob

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// Store keeps named byte sequences. A name is slash-separated, such as operations/dev/demo/w1.jsonl.
// A prefix is a name or the folder of names: "a/b" stands for "a/b" and "a/b/c", never for "a/bc".
// Implementations are safe for concurrent use.
type Store interface {
	// Put makes name hold exactly content. After a crash it holds the old content or the new, never a mixture.
	Put(ctx context.Context, name string, content []byte) error
	// Open reads name. A missing blob gives an error that is fs.ErrNotExist. The caller closes it.
	Open(ctx context.Context, name string) (io.ReadSeekCloser, error)
	// Append adds content at the end of name and makes it when it is missing. One call is never torn by another,
	// but the last calls before a power cut may be lost.
	Append(ctx context.Context, name string, content []byte) error
	// List describes every blob under prefix in order of name; the empty prefix means all.
	List(ctx context.Context, prefix string) ([]Info, error)
	// Remove deletes every blob under prefix, which must not be empty. Nothing there is fine.
	Remove(ctx context.Context, prefix string) error
}

// Follower is a Store that can tell of growth while it happens.
type Follower interface {
	// Follow calls each with what name holds from offset (in bytes) on, and again with whatever is added,
	// until ctx ends or each fails, and gives that error. A blob that does not exist yet is waited for.
	Follow(ctx context.Context, name string, offset int64, each func([]byte) error) error
}

// Info describes one blob.
type Info struct {
	Name string
	// Size is in bytes.
	Size int64
	// Modified is when the content changed last.
	Modified time.Time
}

// maxName bounds a name, in bytes.
const maxName = 1024

// CheckName refuses names that are empty, too long, or could leave the store: absolute ones, "..", hidden parts.
func CheckName(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("cannot accept blob name %.60q: it must have 1 to %d bytes", name, maxName)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part[0] == '.' || len(part) > 255 {
			return fmt.Errorf("cannot accept blob name %q: every part needs 1 to 255 bytes and must not begin with '.'", name)
		}
	}
	for _, c := range []byte(name) {
		if c < ' ' || c == 0x7f || c == '\\' {
			return fmt.Errorf("cannot accept blob name %q: control characters and '\\' are not allowed", name)
		}
	}
	return nil
}
